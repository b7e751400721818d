"""The workflow on public data sets: planned without a network, and run against servers of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from archives import bugeon_session, steinmetz_session, tarred, zipped
from servers import dandi, figshare, serving
from snakemake_run import planned, snakemake
from strategies import poisson_trains, write_units

from nuclr.data.archives.manifests import manifest

pytestmark = pytest.mark.workflow


def write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("dataset", "counts"),
    [
        ("steinmetz_2019", {"download": 39, "chunk": 39, "pretrain": 15, "scaling": 3}),
        ("bugeon_2022", {"download_all": 1, "chunk": 17, "pretrain": 12, "scaling": 6}),
        ("ibl_brain_wide_map", {"download": 459, "chunk": 459, "pretrain": 27, "scaling": 2}),
        (
            "allen_visual_coding",
            {"allen_links": 1, "download": 58, "chunk": 58, "pretrain": 21, "scaling": 4},
        ),
    ],
)
def test_a_whole_analysis_is_planned_before_anything_is_downloaded(
    tmp_path: Path, dataset: str, counts: dict[str, int]
) -> None:
    nowhere = dict.fromkeys(("figshare", "alyx", "dandi"), "http://127.0.0.1:9")
    config = write(tmp_path / "c.yaml", {"dataset": dataset, "download": nowhere})
    jobs = planned(snakemake(tmp_path, "-n", configfile=config))
    assert counts.items() <= jobs.items()


def test_the_published_split_plans_its_own_sets(tmp_path: Path) -> None:
    """Four sets and the untrained encoder, three seeds each, two protocols, one task."""
    config = write(tmp_path / "c.yaml", {"dataset": "ibl_brain_wide_map", "split": {"by": "paper"}})
    jobs = planned(snakemake(tmp_path, "-n", configfile=config))
    # Four sessions are in none of the sets.
    assert {"download": 455, "chunk": 455, "pretrain": 15, "scaling": 2}.items() <= jobs.items()


def test_from_one_archive_to_the_figure_and_no_raw_file_is_kept(tmp_path: Path) -> None:
    """All 17 sessions of Bugeon et al., small; the connection breaks on the way."""
    sessions = [row["session"].split("/") for row in manifest("bugeon_2022")]
    files = {n: c for animal, date in sessions for n, c in bugeon_session(animal, date, frames=140).items()}
    with serving() as server:
        figshare(server, 19448531, {"Bugeon et al 2022 v2.zip": zipped(files)})
        server.faults["/files/19448531/0"] = ["cut", 503, "reset"]
        config = {
            "dataset": "bugeon_2022",
            "download": {"figshare": server.address, "keep_raw": False},
            "model": {"dim": 8, "heads": 2, "dim_head": 4},
            "views": {"window_s": 7, "distance_s": 10, "unit_dropout": 0.95},
            "pretrain": {"steps": 3, "pairs_per_step": 2},
            "machine": {"workers": 0},
            "scaling": {"animal_counts": [4], "seeds": 1},
            "probe": {"bootstrap": 10, "baselines": ["single_neuron"], "folds": 2},
        }
        done = snakemake(tmp_path, configfile=write(tmp_path / "c.yaml", config))
        again = snakemake(tmp_path, "-n", configfile=tmp_path / "c.yaml")
    assert done.returncode == 0, done.stdout
    results = tmp_path / "results" / "bugeon_2022"
    for task in ("ei", "subclass", "class"):
        assert (results / "scaling" / f"{task}.transductive_zero_shot.png").stat().st_size > 0
    assert pd.read_parquet(results / "units.parquet")["ei"].value_counts().to_dict() == {
        "IN": 8 * 17,
        "EC": 5 * 17,
        "": 17,
    }
    assert "experiment Natural Scenes/02 has traces of shape (140, 9)" in done.stdout
    assert [path.name for path in (results / "raw").iterdir()] == [".downloads"]
    assert not list((results / "raw" / ".downloads").iterdir())
    assert planned(again) == {}


def test_a_session_that_cannot_be_had_fails_alone_or_is_left_out(tmp_path: Path) -> None:
    names = ["Cori_2016-12-14", "Cori_2016-12-17", "Muller_2017-01-07"]
    stores = [f"results/steinmetz_2019/populations/{name}" for name in names]
    with serving() as server:
        archives = {f"{name}.tar": tarred(steinmetz_session(name)) for name in names[1:]}
        figshare(server, 9598406, {f"{names[0]}.tar": b"lost", **archives})
        del server.files["/files/9598406/0"]
        download: dict[str, Any] = {"figshare": server.address, "tries": 2}
        config = write(tmp_path / "c.yaml", {"dataset": "steinmetz_2019", "download": download})
        done = snakemake(tmp_path, *stores, configfile=config)
        assert done.returncode != 0
        assert f"recording {names[0]}: " in done.stdout
        assert (
            "the server answered 404 Not Found; check whether the address is correct or has moved"
            in done.stdout
        )
        there = [(tmp_path / store).exists() for store in stores]
        assert there == [False, True, True]
        download["go_on_without"] = True
        write(config, {"dataset": "steinmetz_2019", "download": download})
        done = snakemake(tmp_path, *stores, configfile=config)
    assert done.returncode == 0, done.stdout
    assert "left out (download.go_on_without)" in done.stdout
    note = json.loads((tmp_path / stores[0] / "left_out.json").read_text())
    assert note["animal"] == "Cori"
    assert list((tmp_path / stores[1]).glob("*.zarr"))


def test_an_analysis_goes_to_its_figure_without_a_file_that_cannot_be_had(tmp_path: Path) -> None:
    """A dandiset of five animals, one of whose files is lost; it is done without only when told to."""
    pytest.importorskip("dandi", reason="the dandi client is not installed: pip install nuclr[dandi]")
    contents = {}
    for seed, animal in enumerate("abcde"):
        file = write_units(
            tmp_path / "made" / f"{animal}.nwb",
            poisson_trains(14, 30.0, seed=seed),
            animal=animal,
            obs_intervals=[[0.0, 30.0]],
            regions=["CA1", "VISp"] * 7,
        )
        contents[f"sub-{animal}/sub-{animal}.nwb"] = file.read_bytes()
    config: dict[str, Any] = {
        "dataset": "mine",
        "nwb": {"dandi": ["000006"]},
        "split": {"test_animals": 0, "label_animals": 0},
        "model": {"dim": 16, "heads": 2},
        "views": {"window_s": 4, "distance_s": 10, "unit_dropout": 0.9},
        "pretrain": {"steps": 5},
        "scaling": {"animal_counts": [5], "seeds": 1},
        "probe": {
            "protocols": ["transductive_zero_shot"],
            "tasks": ["brain_region"],
            "baselines": [],
            "bootstrap": 10,
        },
    }
    with serving() as server:
        dandi(server, "000006", contents)
        lost = next(path for path in server.files if path.startswith("/blobs/") and path.endswith("2"))
        del server.files[lost]
        config["download"] = {"dandi": server.address, "tries": 2}
        done = snakemake(tmp_path, configfile=write(tmp_path / "c.yaml", config))
        assert done.returncode != 0
        assert "recording sub-c: " in done.stdout
        stores = tmp_path / "results" / "mine" / "populations"
        assert sorted(path.name for path in stores.iterdir()) == ["sub-a", "sub-b", "sub-d", "sub-e"]
        config["download"]["go_on_without"] = True
        done = snakemake(tmp_path, configfile=write(tmp_path / "c.yaml", config))
    assert done.returncode == 0, done.stdout
    assert "nuclr: warning: no recording of c could be used: 1 of 5 animals are missing" in done.stdout
    assert "figure: results/mine/scaling/brain_region.transductive_zero_shot.png" in done.stdout
    fit = json.loads((tmp_path / "results/mine/scaling/brain_region.transductive_zero_shot.json").read_text())
    assert fit["runs"]["n5-s0"]["animals"] == 5
    model = json.loads((tmp_path / "results/mine/runs/n5-s0/config.json").read_text())
    assert (sorted(model["animals"]), model["left_out"]) == (["a", "b", "d", "e"], ["c"])
