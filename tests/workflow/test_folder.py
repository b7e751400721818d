"""A folder of recordings, given by its name alone: the workflow runs on what it finds there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from snakemake_run import planned, snakemake
from strategies import new_nwb, poisson_trains, save_nwb, write_traces, write_units

from nuclr.data.splits import read_splits

pytestmark = pytest.mark.workflow
# Nothing but the size of the work: what is tested on what, is left open.
SHORT = {
    "dataset": "nwb",
    "model": {"dim": 8, "heads": 2},
    "views": {"window_s": 4, "distance_s": 10},
    "pretrain": {"steps": 3},
    "scaling": {"seeds": 1},
    "probe": {"bootstrap": 10, "label_halvings": 0, "baselines": ["which_recording"]},
}


def configured(folder: Path, **more: dict[str, object]) -> Path:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({**SHORT, "nwb": {"folder": str(folder / "nwb")}, **more}))
    return path


def write_animal(folder: Path, animal: str, labelled: bool = True) -> None:
    write_units(
        folder / "nwb" / f"{animal}.nwb",
        poisson_trains(24, 30.0, seed=len(animal) + ord(animal[-1])),
        animal=animal,
        obs_intervals=[[0.0, 30.0]],
        regions=["CA1", "VISp"] * 12 if labelled else None,
    )


def test_four_animals_and_files_that_hold_nothing(tmp_path: Path) -> None:
    for animal in "abcd":
        write_animal(tmp_path, animal)
    save_nwb(new_nwb("a"), tmp_path / "nwb" / "lfp.nwb")
    write_traces(tmp_path / "nwb" / "imaged.nwb", np.ones((300, 3)), rate=10.0, animal="e")
    config = configured(tmp_path)
    dry = snakemake(tmp_path, "-n", configfile=config)
    assert planned(dry)["pretrain"] == 4  # untrained, and of 1, 2 and 4 animals
    said = (
        "nuclr: probe.tasks: brain_region",
        "nuclr: split: test_animals: 0, label_animals: 0 (of 4 animals with labels",
        "nuclr: probe.protocols: transductive_zero_shot, transductive",
        "nuclr: left out: imaged.nwb (calcium imaging with frames of 0.1 s, but 4 of 5 recordings are spikes",
    )
    assert all(line in dry.stdout for line in said)
    config = configured(tmp_path, scaling={"seeds": 1, "animal_counts": [4]})  # two runs will do
    done = snakemake(tmp_path, configfile=config)
    assert done.returncode == 0, done.stdout
    results = tmp_path / "results" / "nwb"
    assert "figure: results/nwb/scaling/brain_region.transductive_zero_shot.png" in done.stdout
    assert done.stdout.count("nuclr: left out: imaged.nwb") == 2  # at the start and at the end
    page = (results / "report.html").read_text()
    assert all(line.removeprefix("nuclr: ").partition(" (")[0] in page for line in said)
    assert "lfp.nwb" in page
    assert {path.name for path in (results / "populations").iterdir()} == set("abcd")


def test_twelve_animals_of_which_some_have_labels(tmp_path: Path) -> None:
    for animal in "abcdefghijkl":
        write_animal(tmp_path, animal, labelled=animal < "k")
    config = configured(tmp_path)
    assert planned(snakemake(tmp_path, "-n", configfile=config))["pretrain"] == 5
    done = snakemake(tmp_path, "--until", "split", configfile=config)
    assert done.returncode == 0, done.stdout
    splits = read_splits(tmp_path / "results" / "nwb" / "splits.json")
    assert (len(splits.test), len(splits.label)) == (3, 2)
    # Those without labels learn, and are neither tested nor among the first of an order.
    assert {"k", "l"} == set(splits.orders[0][-2:])


def test_without_labels_there_are_embeddings_and_their_map(tmp_path: Path) -> None:
    for animal in "abc":
        write_animal(tmp_path, animal, labelled=False)
    done = snakemake(tmp_path, configfile=configured(tmp_path, scaling={"seeds": 1, "animal_counts": [3]}))
    assert done.returncode == 0, done.stdout
    results = tmp_path / "results" / "nwb"
    assert "nuclr: probe.tasks: none (no column of labels in the recordings)" in done.stdout
    assert len(pd.read_parquet(results / "runs" / "n3-s0" / "embeddings.parquet")) == 72
    for made in ("runs/n3-s0/README.md", "figures/embedding.png", "report.html"):
        assert (results / made).exists()
    assert not (results / "scaling").exists()
    again = snakemake(tmp_path, "probe_all", configfile=tmp_path / "c.yaml")
    assert again.returncode == 0, again.stdout


def test_one_animal_is_told_what_it_can_do(tmp_path: Path) -> None:
    write_animal(tmp_path, "a")
    done = snakemake(tmp_path, "-n", configfile=configured(tmp_path))
    assert done.returncode != 0
    assert (
        "only one animal (a), so no other animal can be tested. Use `nuclr pretrain` and `nuclr embed`"
        in done.stdout
    )
    assert "Traceback" not in done.stdout


def test_a_damaged_file_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    for animal in "abc":
        write_animal(tmp_path, animal)
    # Found when it is chunked: its table is whole.
    write_units(tmp_path / "nwb" / "d.nwb", [np.array([1.0, np.nan, 9.0])] * 12, animal="d")
    (tmp_path / "nwb" / "e.nwb").write_bytes((tmp_path / "nwb" / "a.nwb").read_bytes()[:9000])
    refused = snakemake(tmp_path, "-n", configfile=configured(tmp_path))
    assert refused.returncode != 0
    assert "e.nwb: damaged, truncated, or not an NWB file" in refused.stdout
    assert "(or leave it out with nwb.on_damaged: leave_out)" in refused.stdout
    nwb = {"folder": str(tmp_path / "nwb"), "on_damaged": "leave_out"}
    done = snakemake(
        tmp_path, configfile=configured(tmp_path, nwb=nwb, scaling={"seeds": 1, "animal_counts": [2]})
    )
    assert done.returncode == 0, done.stdout
    page = (tmp_path / "results" / "nwb" / "report.html").read_text()
    assert "left out: e.nwb (damaged, truncated, or not an NWB file" in page
    assert "left out: recording d (" in page
