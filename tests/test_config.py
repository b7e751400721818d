"""The configuration is checked before any work, in words that help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from nuclr.config import Config, Task, load_config
from nuclr.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]
SCHEMA = REPOSITORY / "workflow" / "schemas" / "config.schema.json"


def test_config_yaml_is_the_defaults() -> None:
    assert load_config(REPOSITORY / "config.yaml") == Config()


def test_every_key_stands_in_config_yaml_with_its_description() -> None:
    lines = (REPOSITORY / "config.yaml").read_text().splitlines()

    def check(section: type[BaseModel], written: dict[str, Any]) -> None:
        assert list(written) == list(section.model_fields)
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                check(field.annotation, written[name])
            else:
                described = [line for line in lines if line.strip().startswith(f"{name}:")]
                assert any(str(field.description).split(";")[0] in line for line in described), name

    check(Config, yaml.safe_load("\n".join(lines)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pretrain": {"stepps": 3}}, "unknown key pretrain.stepps; did you mean steps?"),
        ({"pretrian": {}}, "unknown key pretrian; did you mean pretrain?"),
        ({"probe": {"tasks": [{"name": "a", "colum": "b"}]}}, "did you mean column?"),
        ({"pretrain": {"steps": 0}}, "pretrain.steps: Input should be greater than or equal to 1"),
        ({"dataset": "../up"}, "dataset: String should match pattern"),
        ({"dataset": "mine"}, "nwb.folder: data set mine needs either a folder of recordings"),
        (
            {"pretrain": {"pairs_per_step": 7}, "machine": {"devices": 4, "num_nodes": 2}},
            "pretrain.pairs_per_step: 7 pairs in a step are fewer than the 8 processes",
        ),
        ({"probe": {"protocols": ["leave_one_out"]}}, "probe.protocols.0: Input should be 'transductive'"),
    ],
)
def test_a_wrong_key_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def lists() -> Iterator[tuple[str, str]]:
    """Give each key of the configuration that is a list."""
    for section, top in Config.model_fields.items():
        if isinstance(top.annotation, type) and issubclass(top.annotation, BaseModel):
            for key, field in top.annotation.model_fields.items():
                if "list[" in str(field.annotation):
                    yield section, key


@pytest.mark.parametrize(("section", "key"), lists())
def test_one_item_stands_for_a_list_of_it(section: str, key: str) -> None:
    item: Any = {
        "animal_counts": 4,
        "ablations": "same_window",
        "protocols": "transductive",
        "baselines": "which_recording",
        "kinds": "knn",
        "centred": True,
    }.get(key, "good")
    alone, listed = ({section: {key: value}, "dataset": "simulated"} for value in (item, [item]))
    assert load_config(alone) == load_config(listed)
    jsonschema.validate(alone, json.loads(SCHEMA.read_text()))
    with pytest.raises(ConfigError, match=rf"{section}\.{key}(\.0)*: Input should be"):
        load_config({section: {key: [[]]}})


def test_a_class_of_one_value_needs_no_list() -> None:
    task = {"name": "ei", "classes": {"e": "Pyr", "i": ["PV", "Sst"]}}
    assert load_config({"probe.tasks": task}).probe.tasks == [
        Task(name="ei", column="ei", classes={"e": ["Pyr"], "i": ["PV", "Sst"]})
    ]


def test_a_class_may_have_a_dot_in_its_name() -> None:
    task = {"name": "layer", "classes": {"L2.3": ["2", "3"]}}
    for sources in (
        [{"probe": {"tasks": task}}],
        [{"probe.tasks": task}],
        [{}, json.dumps({"probe.tasks": task})],
    ):
        assert load_config(*sources).probe.tasks == [Task(column="layer", **task)]


def test_a_task_may_be_the_name_of_a_column() -> None:
    config = load_config(
        {"probe": {"tasks": ["layer", {"name": "ei", "column": "t", "classes": {"e": ["x"]}}]}}
    )
    assert config.probe.tasks == [
        Task(name="layer", column="layer"),
        Task(name="ei", column="t", classes={"e": ["x"]}),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n", "must contain keys and values"),
        ("!!python/object:os.system x", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "c.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_sections_are_inline_json_that_is_read_again() -> None:
    config = load_config({"pretrain": {"steps": 7}, "model": {"dim": 64}})
    text = config.sections("pretrain", "model")
    assert list(json.loads(text)) == ["model", "pretrain"]
    assert load_config(text) == config


def test_a_later_source_replaces_only_the_keys_that_it_holds() -> None:
    first = {"model": {"dim": 64, "heads": 2}, "pretrain": {"steps": 7}}
    config = load_config(first, '{"model": {"dim": 16}}', {"dataset": "nwb", "nwb": {"folder": "there"}})
    assert (config.model.dim, config.model.heads, config.pretrain.steps) == (16, 2, 7)
    assert config.dataset == "nwb"
    assert first == {"model": {"dim": 64, "heads": 2}, "pretrain": {"steps": 7}}
    assert load_config() == Config()


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("imaging.rate_hz=10", {"imaging": {"rate_hz": 10}}),
        ("imaging.keep_all = true", {"imaging": {"keep_all": True}}),
        ("pretrain.learning_rate=1e-3", {"pretrain": {"learning_rate": 0.001}}),
        ("sorter.keep=[good, mua]", {"sorter": {"keep": ["good", "mua"]}}),
        ("chunk.min_rate_hz=", {"chunk": {}}),
        ("nwb={region_column: area}", {"nwb": {"region_column": "area"}}),
        ("results=a=b", {"results": "a=b"}),
        ("nwb.licence=CC-BY-4.0", {"nwb": {"licence": "CC-BY-4.0"}}),
        ('{"sorter.sample_rate_hz": 30000}', {"sorter": {"sample_rate_hz": 30000}}),
        (
            '{"imaging.dff": false, "imaging": {"keep_all": true}}',
            {"imaging": {"dff": False, "keep_all": True}},
        ),
    ],
)
def test_one_key_is_set_by_its_name(source: str, same: dict[str, Any]) -> None:
    if source.endswith("="):  # YAML's null, which is no rate
        with pytest.raises(ConfigError, match=r"chunk\.min_rate_hz: Input should be a valid number"):
            load_config(source)
    else:
        assert load_config(source) == load_config(same)


def test_keys_and_files_are_given_together_and_the_last_one_wins(tmp_path: Path) -> None:
    file = tmp_path / "mine=1.yaml"
    file.write_text("pretrain.steps: 7\nmodel:\n  dim: 16\n")
    assert load_config(str(file), "pretrain.steps=9").pretrain.steps == 9
    config = load_config("pretrain.steps=9", str(file), "model.heads=2")
    assert (config.pretrain.steps, config.model.dim, config.model.heads) == (7, 16, 2)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (["imaging.rate=10"], "config: unknown key imaging.rate; did you mean rate_hz?"),
        (["rate_hz=10"], "unknown key rate_hz; did you mean imaging.rate_hz?"),
        (["seed=1"], "unknown key seed; did you mean simulated.seed or split.seed?"),
        (["pretrain.rate_hz=1"], "unknown key pretrain.rate_hz; did you mean imaging.rate_hz?"),
        (["imaging.rate_hz"], "imaging.rate_hz: no value is given; write imaging.rate_hz=VALUE (frame rate"),
        (["imaging=10"], "imaging: a section with keys of its own; set one of them, such as imaging.rate_hz"),
        (["imaging.rate_hz=[1"], "imaging.rate_hz: not valid YAML"),
        (["none.yml", "imaging.rate_hz=1"], "none.yml: cannot be read (No such file or directory); give the"),
        (["a=b.yaml"], "a=b.yaml: cannot be read (No such file or directory); give the path of a YAML file"),
        (["BINARY"], "not a text file; give the path of a YAML file"),
        (["GOOD", "model.dim=0"], "config: model.dim: Input should be greater"),
        (["model.dim=8", "BAD", "model.heads=2"], "bad.yaml: model.dim: Input should be greater"),
    ],
)
def test_what_is_wrong_with_a_setting_is_said_with_its_source(
    sources: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text("model:\n  heads: 2\n")
    (tmp_path / "bad.yaml").write_text("model:\n  dim: 0\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    given = {name.split(".")[0].upper(): str(tmp_path / name) for name in ("good.yaml", "bad.yaml", "binary")}
    with pytest.raises(ConfigError) as caught:
        load_config(*(given.get(source, source) for source in sources))
    assert said in str(caught.value)


def test_keys_of_the_command_line_may_be_text() -> None:
    """`snakemake --config "machine={workers: 4}"` hands over 4 as text."""
    text = load_config({"machine": {"workers": "4", "compile": "false", "devices": "2", "warm": "false"}})
    assert text == load_config({"machine": {"workers": 4, "compile": False, "devices": 2, "warm": False}})
    assert load_config({"machine": {"workers": "auto", "compile": "auto"}}) == Config()
    for wrong in ({"workers": "-1"}, {"workers": "many"}, {"compile": "maybe"}):
        with pytest.raises(ConfigError, match="must be auto"):
            load_config({"machine": wrong})


def test_the_small_configurations_are_valid() -> None:
    for path in sorted((REPOSITORY / "config").glob("*.yaml")):
        load_config(path)


def test_the_published_schema_is_that_of_the_code() -> None:
    """Editors complete config.yaml by it. To write it again: python tests/test_config.py."""
    schema = json.loads(SCHEMA.read_text())
    assert schema == Config.model_json_schema()
    for path in (REPOSITORY / "config.yaml", *(REPOSITORY / "config").glob("*.yaml")):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(Config.model_json_schema(), indent=2) + "\n")


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("no_population_context", ("model", "across_units", False)),
        ("no_unit_dropout", ("views", "unit_dropout", 1.0)),
        ("same_window", ("views", "distance_s", 0.0)),
        ("shuffled_units", ("views", "shuffle_units", True)),
    ],
)
def test_an_ablation_is_one_key(name: str, differs: tuple[str, str, object]) -> None:
    whole, without = Config().model_dump(), Config().ablated(name).model_dump()
    section, key, value = differs
    assert whole[section][key] != value
    whole[section][key] = value
    assert whole == without


def test_no_ablation_is_the_whole_and_an_unknown_one_is_refused() -> None:
    assert Config().ablated("") == Config()
    with pytest.raises(ConfigError, match="unknown ablation dropout; use one of no_population_context"):
        Config().ablated("dropout")
