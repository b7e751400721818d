"""Subcommands print what they did, and one line where they cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import done, libraries_loaded_once, nuclr
from strategies import poisson_trains, write_units

from nuclr.representation.embeddings import read_embeddings

CONFIG = (
    '{"model": {"dim": 16, "heads": 2}, "views": {"window_s": 4, "distance_s": 10}, '
    '"pretrain": {"steps": 5}, "split": {"test_animals": 1, "label_animals": 1}, '
    '"simulated": {"animals": 4, "units": 20, "duration_s": 40}, "results": "."}'
)


@pytest.fixture(scope="module", autouse=True)
def libraries_are_loaded_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with libraries_loaded_once(tmp_path_factory.mktemp("cli")):
        yield


def test_every_step_by_hand(tmp_path: Path) -> None:
    assert "4 recordings" in done(tmp_path, "simulate", "-o", "simulated/raw", "-c", CONFIG)
    for i in range(4):
        source = f"simulated/raw/sim00{i}.nwb"
        assert f"sim00{i}/probe" in done(tmp_path, "chunk", source, "-o", f"stores/sim00{i}", "-c", CONFIG)
    said = done(
        tmp_path, "catalog", "stores", "--units", "u.parquet", "--populations", "p.parquet", "-c", CONFIG
    )
    assert "4 animals, 4 populations, 80 units, 2.7 minutes" in said
    assert "cell_type: " in said
    assert "1 test, 1 label, 2 pretraining" in done(tmp_path, "split", "-o", "splits.json", "-c", CONFIG)
    pretrain = ["pretrain", "stores", "--splits", "splits.json", "--animals", "2", "--checkpoints", "ck"]
    for name in ("one", "two"):
        done(tmp_path, *pretrain, "-o", f"{name}/model.safetensors", "-c", CONFIG)
        done(tmp_path, "embed", "stores", "--model", f"{name}/model.safetensors", "-o", f"{name}/e.parquet")
    done(tmp_path, *pretrain, "--seed", "1", "--no-card", "-o", "three/model.safetensors", "-c", CONFIG)
    # In the workflow a rule of its own writes the card, with the scores.
    assert "| Animals | 2: " in (tmp_path / "one" / "README.md").read_text()
    assert not (tmp_path / "three" / "README.md").exists()
    done(tmp_path, "embed", "stores", "--model", "three/model.safetensors", "-o", "three/e.parquet")
    one, two, three = (read_embeddings(tmp_path / name / "e.parquet")[1] for name in ("one", "two", "three"))
    assert (one == two).all()
    assert not (one == three).all()
    probe = ["probe", "one/e.parquet", "--splits", "splits.json", "--animals", "2"]
    assert "inductive_zero_shot" in done(tmp_path, *probe, "-o", "one/probes", "-c", CONFIG)
    done(tmp_path, "baseline", "stores", "--name", "single_neuron", "-o", "single_neuron/e.parquet")
    said = done(
        tmp_path,
        *("scaling", "one/probes", "--task", "cell_type", "--protocol", "transductive", "-o", "fig"),
    )
    assert "fig.png" in said
    assert (tmp_path / "fig.svg").exists()


def test_any_nwb_file_is_chunked_without_a_configuration(tmp_path: Path) -> None:
    write_units(tmp_path / "mine.nwb", poisson_trains(3, 9.0))
    assert "mine.nwb: mine/all" in done(tmp_path, "chunk", "mine.nwb", "-o", "stores/mine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chunk", "none.nwb", "-o", "out"], "none.nwb"),
        (["chunk", "cut.nwb", "-o", "out"], "cut.nwb: damaged, truncated, or not an NWB file"),
        (
            [
                "chunk",
                "good.nwb",
                "-o",
                "out",
                "-c",
                '{"nwb": {"unit_columns": ["depth"]}, "source": "nwb", "dataset": "d"}',
            ],
            "nwb.folder",
        ),
        (["embed", "stores", "--model", "none.safetensors", "-o", "e"], "none.safetensors: does not exist"),
        (["split", "-o", "s", "-c", '{"split": {"test_animal": 3}}'], "did you mean test_animals?"),
        (["simulate", "-o", "good.nwb/below", "-c", CONFIG], "cannot be written"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], said: str) -> None:
    write_units(tmp_path / "good.nwb", poisson_trains(3, 9.0))
    content = (tmp_path / "good.nwb").read_bytes()
    (tmp_path / "cut.nwb").write_bytes(content[: len(content) // 2])
    result = nuclr(tmp_path, *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("nuclr: error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.nwb", "good.nwb"]


def test_help_names_every_subcommand(tmp_path: Path) -> None:
    said = done(tmp_path, "--help")
    for name in (
        "simulate",
        "chunk",
        "catalog",
        "split",
        "import-checkpoint",
        "pretrain",
        "embed",
        "baseline",
        "probe",
        "scaling",
    ):
        assert name in said


def test_devices_of_the_command_go_before_those_of_the_configuration(tmp_path: Path) -> None:
    words = ["pretrain", "stores", "--splits", "s.json", "--animals", "1", "-o", "m", "--checkpoints", "c"]
    result = nuclr(tmp_path, *words, "--devices", "0", "-c", '{"machine": {"devices": 2}}')
    assert result.returncode == 1
    assert "machine.devices: Input should be greater than or equal to 1" in result.stderr
    result = nuclr(tmp_path, *words, "--num-nodes", "0", "-c", CONFIG)
    assert "machine.num_nodes: Input should be greater than or equal to 1" in result.stderr


def test_recordings_can_be_looked_at(tmp_path: Path) -> None:
    for animal in ("a", "b"):
        write_units(
            tmp_path / "nwb" / f"{animal}.nwb",
            poisson_trains(5, 30.0),
            animal=animal,
            obs_intervals=[[0.0, 30.0]],
            regions=["CA1", "CA1", "VISp", "CA1", "SUB"],
        )
    said = done(tmp_path, "inspect", "nwb", "--picture", "raster", "--population", "b/probe")
    assert "2 animals, 2 populations, 10 units, 1.0 minutes" in said
    assert "brain_region: CA1 6, VISp 2, SUB 2; 0 units without a label" in said
    assert (tmp_path / "raster.png").stat().st_size > 0
    said = done(tmp_path, "inspect", "nwb", "--html", "--population", "b/probe")
    assert re.search(r"activity\.html: b/probe, 5 units in bins of 0\.02 s, [0-9.]+ kB; open it", said)
    assert "not shown" not in said
    assert "Activity of b/probe" in (tmp_path / "activity.html").read_text()
    said = done(tmp_path, "inspect", "nwb", "-o", "other.html")
    assert "1 population not shown; choose one with --population" in said
    assert "Activity of a/probe" in (tmp_path / "other.html").read_text()
    result = nuclr(tmp_path, "inspect", "nwb", "--picture", "raster", "--population", "c")
    assert result.returncode == 1
    assert "there is no population c; the recordings contain a/probe, b/probe" in result.stderr


def test_a_silent_recording_is_shown_and_its_units_are_embedded_as_never_active(tmp_path: Path) -> None:
    silence = [np.zeros(0), np.zeros(0)]
    write_units(tmp_path / "silent.nwb", silence, obs_intervals=[[0.0, 30.0]])
    assert "1 animal, 1 population, 2 units, 0.0 minutes" in done(
        tmp_path, "inspect", "silent.nwb", "--html", "--picture", "silent"
    )
    assert (tmp_path / "silent.png").stat().st_size > 0
    assert "no unit is active" in (tmp_path / "activity.html").read_text()
    write_units(tmp_path / "nwb" / "a.nwb", poisson_trains(12, 30.0), obs_intervals=[[0.0, 30.0]])
    done(tmp_path, "pretrain", "nwb", "-o", "m/model.safetensors", "-c", CONFIG)
    said = done(tmp_path, "embed", "silent.nwb", "--model", "m", "-o", "e.parquet")
    assert "e.parquet: 2 units, 2 of them never active" in said


def test_units_that_are_all_left_out_are_no_traceback(tmp_path: Path) -> None:
    write_units(tmp_path / "a.nwb", poisson_trains(5, 30.0), obs_intervals=[[0.0, 30.0]])
    result = nuclr(tmp_path, "inspect", "a.nwb", "-c", '{"chunk": {"min_rate_hz": 99}}')
    assert result.returncode == 1
    assert "no unit fires at chunk.min_rate_hz = 99 or more; left out" in result.stderr
    assert "nuclr: error: a.nwb: no units are left to show" in result.stderr
