"""The workflow itself, end to end, in the small configuration."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from snakemake_run import REPOSITORY, SMALL, planned, snakemake
from strategies import poisson_trains, write_units

import nuclr

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workflow")
    # Two pretended GPUs, which cost nothing where there is none: each job gets one of its own.
    done = snakemake(folder, "--resources", "gpu=2", CUDA_VISIBLE_DEVICES="pretended-a,pretended-b")
    assert done.returncode == 0, done.stdout
    assert "figure: results/simulated/scaling/cell_type.inductive_zero_shot.png" in done.stdout
    assert "profiles/default for setting default command line arguments" in done.stdout
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """Give a copy that a test may change; Snakemake goes by dates, so these are kept."""
    shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copy2)
    for path in (tmp_path / "copy").rglob("*"):
        original = finished / path.relative_to(tmp_path / "copy")
        os.utime(path, ns=(original.stat().st_atime_ns, original.stat().st_mtime_ns))
    return tmp_path / "copy"


def test_figure_table_and_fit_are_there(finished: Path) -> None:
    scaling = finished / "results" / "simulated" / "scaling"
    for task in ("cell_type", "brain_region"):
        for protocol in ("inductive_zero_shot", "transductive", "transductive_zero_shot"):
            stem = f"{task}.{protocol}"
            for suffix in (".png", ".svg", ".csv", ".runs.csv", ".json", ".labels.png", ".confusion.csv"):
                assert (scaling / f"{stem}{suffix}").stat().st_size > 0
    curve = pd.read_csv(scaling / "cell_type.inductive_zero_shot.csv")
    assert set(curve["representation"]) == {
        *("nuclr", "untrained", "single_neuron", "population", "no_population_context"),
    }
    assert curve.loc[curve["representation"] == "nuclr", "animals"].tolist() == [1, 2, 3, 4]
    fit = json.loads((scaling / "cell_type.inductive_zero_shot.json").read_text())
    assert {"a", "b", "c"} <= set(fit["fit"])
    assert fit["runs"]["n4-s0"]["model"]
    loo = pd.read_csv(scaling / "cell_type.transductive_zero_shot.csv")
    assert loo.loc[loo["representation"] == "nuclr", "animals"].tolist() == [2, 3, 4]
    assert "which_recording" in set(loo["representation"])


def test_every_unit_is_on_a_page_that_the_report_links_to(finished: Path) -> None:
    results = finished / "results" / "simulated"
    assert '<a href="explore.html">' in (results / "report.html").read_text()
    page = (results / "explore.html").read_text()
    units = len(pd.read_parquet(results / "runs" / "n4-s0" / "embeddings.parquet"))
    assert f"{units} units" in page
    assert "trained on 4 animals and untrained" in page


def test_all_probes_are_one_table_and_the_page_shows_them(finished: Path) -> None:
    results = finished / "results" / "simulated"
    table = pd.read_parquet(results / "probes.parquet")
    assert set(table["protocol"]) == {"inductive_zero_shot", "transductive", "transductive_zero_shot"}
    assert sorted(table["label_share"].unique()) == [0.25, 0.5, 1]
    assert not table.duplicated([*table.columns[: table.columns.get_loc("validation_macro_f1")]]).any()
    page = (results / "report.html").read_text()
    assert page.count(' download="') == 6 * 5 * 3  # png, svg and csv
    # All steps were measured, and every input is named by its hash.
    for step in ("simulate", "chunk", "pretrain", "embed", "baseline", "probe", "scaling"):
        assert f"<td>{step}</td>" in page
    hashes = pd.read_parquet(results / "populations.parquet")["sha256"]
    assert all(one in page for one in hashes)


def test_snakemakes_own_report_has_the_figures_with_captions(finished: Path, tmp_path: Path) -> None:
    done = snakemake(finished, "--report", str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stdout
    page = (tmp_path / "report.html").read_text()
    assert "cell_type.inductive_zero_shot.labels.png" in page
    assert "macro-F1, with 95 % intervals over seeds" in page


def test_every_run_had_one_gpu_and_the_untrained_encoder_none(finished: Path) -> None:
    logs = {path.stem: path.read_text() for path in finished.rglob("logs/pretrain/*.log")}
    taken = {run: re.findall(r"using GPU (.+)", text) for run, text in logs.items()}
    assert taken.pop("n0-s0") == []
    assert all(gpus in (["pretended-a"], ["pretended-b"]) for gpus in taken.values()), taken


def test_no_test_or_label_animal_was_pretrained_on(finished: Path) -> None:
    results = finished / "results" / "simulated"
    splits = json.loads((results / "splits.json").read_text())
    for path in sorted(results.glob("runs/n*-s*/config.json")):
        record = json.loads(path.read_text())
        assert not set(record["animals"]) & {*splits["test"], *splits["label"]}
        assert {Path(name).parts[0] for name in record["inputs"]} == set(record["animals"])


def test_its_largest_run_is_a_model_that_can_be_used(finished: Path) -> None:
    results = finished / "results" / "simulated"
    model = nuclr.load_model(results / "model")
    assert model.sha256 == json.loads((results / "runs" / "n4-s0" / "config.json").read_text())["sha256"]
    splits = json.loads((results / "splits.json").read_text())
    for probe in model.probes().values():
        assert set(probe.record["learned_from"]["animals"]) <= {*splits["test"], *splits["label"]}
    found = model.identify(model.read(results / "raw" / "sim000.nwb"))
    assert set(found.answers) == {"brain_region", "cell_type"}


def test_a_second_run_does_nothing(finished: Path) -> None:
    assert planned(snakemake(finished, "-n")) == {}
    assert planned(snakemake(finished, "-n", "probe_all")) in ({}, {"probe_all": 1})


def test_another_seed_adds_only_its_runs(finished: Path, tmp_path: Path) -> None:
    more = yaml.safe_load(SMALL.read_text())
    more["scaling"]["seeds"] = 2
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(more))
    jobs = planned(snakemake(finished, "-n", configfile=tmp_path / "more.yaml"))
    again = {"scaling": 6, "collect": 1, "overview": 1, "page": 1, "scaling_analysis": 1}
    # The baselines are tested on the panel of every seed, so they read the new seed's animals as well.
    baselines = {"baseline": 3, "probe_baseline": 3}
    assert jobs == {"pretrain": 6, "embed": 6, "probe": 6, "card": 4, **baselines, **again}


def test_other_bootstrap_trains_nothing_again(finished: Path, tmp_path: Path) -> None:
    other = yaml.safe_load(SMALL.read_text())
    other["probe"]["bootstrap"] = 60
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    jobs = planned(snakemake(finished, "-n", configfile=tmp_path / "other.yaml"))
    assert "pretrain" not in jobs
    assert "chunk" not in jobs
    assert "embed" not in jobs


def test_other_probes_hide_no_change_of_what_is_trained(finished: Path, tmp_path: Path) -> None:
    """Of a job with an ancient input that is made again, Snakemake looks at nothing else."""
    other = yaml.safe_load(SMALL.read_text())
    other["probe"]["min_units"] = 9
    other["pretrain"] = {**other.get("pretrain", {}), "steps": 21}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    jobs = planned(snakemake(finished, "-n", configfile=tmp_path / "other.yaml"))
    assert (jobs["catalog"], jobs["pretrain"], jobs["embed"]) == (1, 6, 6)


def test_another_way_to_carry_it_out_trains_nothing_again(finished: Path, tmp_path: Path) -> None:
    other = yaml.safe_load(SMALL.read_text())
    other["machine"] = {"workers": 2, "checkpoint_minutes": 1}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    # The page says how, so it is written again.
    jobs = planned(snakemake(finished, "-n", configfile=tmp_path / "other.yaml"))
    assert jobs == {"page": 1, "scaling_analysis": 1}


def test_a_killed_job_goes_on_from_its_checkpoint(copy: Path, tmp_path: Path) -> None:
    """Snakemake deletes what a killed job has declared; checkpoints are not declared."""
    longer = yaml.safe_load(SMALL.read_text())
    longer["pretrain"] = {"steps": 300, "probe_every": 100}
    longer["machine"] = {"checkpoint_every": 20}
    (tmp_path / "longer.yaml").write_text(yaml.safe_dump(longer))
    model = "results/simulated/runs/n1-s0/model.safetensors"
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(snakemake, copy, model, configfile=tmp_path / "longer.yaml")
        waiting = time.monotonic()
        while not list(copy.rglob("step-*.ckpt")):
            assert time.monotonic() - waiting < 120
            assert not killed.done(), killed.result().stdout
            time.sleep(0.02)
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = process.info["cmdline"] or []
            if "pretrain" in words and model in words and process.info["cwd"] == str(copy):
                process.kill()
        assert killed.result().returncode != 0
    assert not (copy / model).exists()
    done = snakemake(copy, model, configfile=tmp_path / "longer.yaml")
    assert done.returncode == 0, done.stdout
    assert (copy / model).exists()
    log = (copy / "results/simulated/logs/pretrain/n1-s0.log").read_text()
    assert "resuming from step-" in log
    assert "macro-F1 of the label animals" in log


def test_a_deleted_store_makes_only_what_depends_on_it(copy: Path) -> None:
    results = copy / "results" / "simulated"
    splits = json.loads((results / "splits.json").read_text())
    last = splits["orders"][0][3]
    shutil.rmtree(results / "populations" / last)
    jobs = planned(snakemake(copy, "-n"))
    # Of 6 encoders only those of all four animals were trained on it. They and all that stands
    # beside the largest runs is embedded with it.
    assert jobs["chunk"] == 1
    assert jobs["pretrain"] == 2
    assert jobs["embed"] == 3
    assert jobs["baseline"] == 3
    assert "simulate" not in jobs
    assert "split" not in jobs


def test_a_folder_of_nwb_files_goes_to_the_figure_and_warnings_are_repeated(tmp_path: Path) -> None:
    """Three animals; one has spike times out of order, one a second probe with few units."""
    for i, animal in enumerate(("a", "b", "c")):
        trains = poisson_trains(18, 30.0, seed=i)
        if animal == "b":
            trains[3] = trains[3][::-1]
        probes = ["left"] * 14 + (["right"] * 4 if animal == "c" else ["left"] * 4)
        write_units(
            tmp_path / "nwb" / f"{animal}.nwb",
            trains,
            animal=animal,
            obs_intervals=[[0.0, 30.0]],
            regions=["CA1", "VISp"] * 9,
            probes=probes,
        )
    config = {
        "dataset": "mine",
        "nwb": {"folder": str(tmp_path / "nwb")},
        "split": {"test_animals": 0, "label_animals": 0},
        "model": {"dim": 16, "heads": 2},
        "views": {"window_s": 4, "distance_s": 10, "unit_dropout": 0.9},
        "pretrain": {"steps": 5},
        "scaling": {"animal_counts": [3], "seeds": 1},
        "probe": {
            "protocols": ["transductive", "transductive_zero_shot"],
            "tasks": ["brain_region"],
            "baselines": ["which_recording"],
            "bootstrap": 10,
        },
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(tmp_path, configfile=tmp_path / "c.yaml")
    assert done.returncode == 0, done.stdout
    assert "figure: results/mine/scaling/brain_region.transductive_zero_shot.png" in done.stdout
    assert "nuclr: warning: " in done.stdout
    assert "b.nwb: spike times of 1 unit were not in ascending order; they were sorted" in done.stdout
    assert "population c/right has 4 units, fewer than views.min_units = 11: it is skipped" in done.stdout
    # A recording that comes later is seen, and the animals are split again.
    write_units(tmp_path / "nwb" / "d.nwb", poisson_trains(12, 30.0), animal="d", obs_intervals=[[0.0, 30.0]])
    jobs = planned(snakemake(tmp_path, "-n", configfile=tmp_path / "c.yaml"))
    assert (jobs["split"], jobs["chunk"], jobs["pretrain"]) == (1, 1, 2)
    units = pd.read_parquet(tmp_path / "results" / "mine" / "units.parquet")
    assert units.groupby("population").size().to_dict() == {
        "a/left": 18,
        "b/left": 18,
        "c/left": 14,
        "c/right": 4,
    }


def test_nothing_is_left_of_a_step_that_fails_and_its_error_is_shown(tmp_path: Path) -> None:
    raw = tmp_path / "nwb"
    for animal in ("a", "b", "c"):
        trains = poisson_trains(12, 30.0)
        if animal == "b":
            trains[3][5] = float("nan")
        write_units(raw / f"{animal}.nwb", trains, animal=animal, obs_intervals=[[0.0, 30.0]])
    config = {
        "dataset": "mine",
        "nwb": {"folder": str(raw)},
        "split": {"test_animals": 0, "label_animals": 0},
        # What does not depend on the step that fails is done all the same, and should be little.
        "pretrain": {"steps": 3},
        "scaling": {"animal_counts": [1], "seeds": 1},
        "probe": {"protocols": ["transductive"], "tasks": ["brain_region"], "baselines": []},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(tmp_path, configfile=tmp_path / "c.yaml")
    assert done.returncode != 0
    assert (
        "b.nwb: unit b_session_3: spike times contain NaN or infinity; correct or remove the unit"
        in done.stdout
    )
    left = [path.name for path in (tmp_path / "results" / "mine" / "populations").iterdir()]
    assert "b" not in left
    assert not [name for name in left if "partial" in name]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["pretrain={stepps: 3}"], "unknown key pretrain.stepps; did you mean steps?"),
        (["scaling={animal_counts: [1, 9]}"], "9 animals requested, but only 4 are left for pretraining"),
        (["dataset=mine"], "nwb.folder: data set mine needs either a folder of recordings"),
        (["dataset=mine", "nwb={folder: nowhere}"], "nowhere: no such folder; set nwb.folder"),
    ],
)
def test_a_wrong_configuration_stops_before_any_work(tmp_path: Path, settings: list[str], said: str) -> None:
    done = snakemake(tmp_path, "--config", *settings)
    assert done.returncode != 0
    assert said in done.stdout
    assert not (tmp_path / "results").exists()


def test_results_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file is in the way")
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert "results is not a folder; choose another folder with the key results" in done.stdout


def test_the_picture_of_the_rules_shows_all_of_them() -> None:
    """To draw it again: snakemake --rulegraph | tred | dot -Tsvg > docs/rulegraph.svg."""
    picture = (REPOSITORY / "docs" / "rulegraph.svg").read_text()
    drawn = re.findall(r"<text [^>]*>(\w+)</text>", picture)
    assert sorted(drawn) == sorted(planned(snakemake(REPOSITORY, "-n", configfile=None)))


def test_the_linter_finds_nothing_but_the_one_environment() -> None:
    """All rules share the environment of pyproject.toml, so none names one of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"], cwd=REPOSITORY, capture_output=True, text=True
    )
    titles = re.findall(r"^    \* (.+)$", done.stdout + done.stderr, re.M)
    assert set(titles) == {"Specify a conda environment or container for each rule.:"}
