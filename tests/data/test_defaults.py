"""What a configuration leaves open is chosen by the recordings, and said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nuclr.config import Config, load_config
from nuclr.data.defaults import completed, completed_probe, labelled_animals, tasks_of
from nuclr.data.recording import Recording
from nuclr.data.splits import make_splits
from nuclr.errors import SplitError

BOTH = {"cell_type": {"E": 20, "I": 15}, "brain_region": {"CA1": 15, "V1": 20}}


def animals(number: int, labels: dict[str, dict[str, int]] | None = None) -> list[Recording]:
    return [
        Recording(Path(f"{i}.nwb"), f"{i}", f"m{i}", labels=BOTH if labels is None else labels)
        for i in range(number)
    ]


@pytest.mark.parametrize(
    ("number", "apart", "protocols"),
    [
        (2, (0, 0), ["transductive_zero_shot", "transductive"]),
        (4, (0, 0), ["transductive_zero_shot", "transductive"]),
        (7, (0, 0), ["transductive_zero_shot", "transductive"]),
        (8, (3, 2), ["inductive_zero_shot", "transductive"]),
        (12, (3, 3), ["inductive_zero_shot", "transductive"]),
        (60, (15, 15), ["inductive_zero_shot", "transductive"]),
        (139, (32, 16), ["inductive_zero_shot", "transductive"]),
    ],
)
def test_what_is_set_apart_suits_the_number_of_animals(
    number: int, apart: tuple[int, int], protocols: list[str]
) -> None:
    config, said = completed(Config(), animals(number), ())
    assert (config.split.test_animals, config.split.label_animals) == apart
    assert config.probe.protocols == protocols
    assert [task.name for task in config.probe.tasks or []] == ["brain_region", "cell_type"]
    assert [line.partition(":")[0] for line in said] == ["probe.tasks", "split", "probe.protocols"]
    drawn = make_splits([one.animal for one in animals(number)], *apart, seed=0)
    assert len(drawn.orders[0]) >= 2


def test_what_is_given_stays() -> None:
    given = {
        "split": {"test_animals": 1, "label_animals": 0},
        "probe": {"tasks": ["layer"], "protocols": ["transductive"]},
    }
    config, said = completed(load_config(given), animals(4), ())
    assert config == load_config(given)
    assert said == []


def test_of_half_a_split_the_rest_is_chosen() -> None:
    config, _ = completed(load_config({"split": {"test_animals": 5}}), animals(12), ())
    assert (config.split.test_animals, config.split.label_animals) == (5, 3)


def test_without_labels_nothing_is_tested_and_all_animals_train() -> None:
    config, said = completed(Config(), animals(12, {}), ())
    assert config.probe.tasks == []
    assert (config.split.test_animals, config.split.label_animals) == (0, 0)
    assert said[0] == "probe.tasks: none (no column of labels in the recordings)"
    assert len(said) == 2


def test_one_animal_alone_is_told_what_it_can_do() -> None:
    with pytest.raises(SplitError, match=r"only one animal \(m0\), .* `nuclr embed` .* \[transductive\]"):
        completed(Config(), animals(1), ())
    config, _ = completed(load_config({"probe": {"protocols": ["transductive"]}}), animals(1), ())
    assert [task.name for task in config.probe.tasks or []] == ["brain_region", "cell_type"]


def test_a_column_is_a_task_where_several_animals_have_two_classes_of_it() -> None:
    one_each = [
        Recording(
            Path(), f"{i}", f"m{i}", labels={"sex": {"FM"[i % 2]: 30}, "shank": {f"{i}a": 20, f"{i}b": 20}}
        )
        for i in range(4)
    ]
    rare = Recording(
        Path(), "x", "x", labels={"layer": {"L2": 3, "L5": 40}, "type": {"unknown": 50, "root": 50}}
    )
    assert tasks_of([*one_each, rare]) == (
        [],
        "columns with two classes of 10 units or more in several animals; not sex, shank, layer, type",
    )


def test_names_of_tasks_are_safe() -> None:
    named = animals(3, {"Cell type (final)": {"E": 20, "I": 20}})
    (task,), _ = tasks_of(named)
    assert (task.name, task.column) == ("Cell-type-final", "Cell type (final)")


def test_animals_with_labels_are_tested_first() -> None:
    some = [*animals(10), *(Recording(Path(), f"u{i}", f"u{i}") for i in range(30))]
    assert labelled_animals(some) == {f"m{i}" for i in range(10)}
    config, _ = completed(Config(), some, ())
    assert (config.split.test_animals, config.split.label_animals) == (3, 2)
    splits = make_splits([one.animal for one in some], 3, 2, 0, labelled=labelled_animals(some))
    assert all(name.startswith("m") for name in (*splits.test, *splits.label))


def test_a_table_of_units_has_the_tasks_of_its_columns() -> None:
    units = pd.DataFrame(
        {
            "unit_id": [str(i) for i in range(80)],
            "animal": ["a"] * 40 + ["b"] * 40,
            "quality": ["good", "mua"] * 40,
            "fast": [True, False] * 40,
            "depth_um": range(80),
        }
    )
    made = completed_probe(Config().probe, units, apart=True)
    assert [task.column for task in made.tasks or []] == ["fast"]
    assert made.protocols == ["inductive_zero_shot", "transductive"]
