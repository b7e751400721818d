"""A subcommand loads what it needs and no more: starting would else take longer than working."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from labelled import SPLITS, features_of, units
from small_run import SMALL
from strategies import poisson_trains, population, write_units

from nuclr.config import load_config
from nuclr.data.splits import make_splits, write_splits
from nuclr.data.store import stores, write_population
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.answers.saved_probe import save_probe
from nuclr.model.tensor_files import read_record
from nuclr.representation.embeddings import Embeddings, write_embeddings
from nuclr.training.run import Cohort, pretrain_run

HEAVY = (
    "dask.array",
    "distributed",
    "lightning",
    "matplotlib",
    "pandas",
    "pynwb",
    "requests",
    "scipy.stats",
    "sklearn",
    "torch",
    "zarr",
)
RUN = """
import sys
from nuclr.cli import main
sys.argv = ["nuclr", *{arguments}]
try:
    main()
finally:
    print("loaded", *(name for name in {heavy} if name in sys.modules))
"""
PLANS = """
import sys
from nuclr.config import load_config
from nuclr.data.plan import make_plan
for dataset in ("simulated", "steinmetz_2019", "bugeon_2022", "ibl_brain_wide_map", "allen_visual_coding"):
    make_plan(load_config({{"dataset": dataset}}))
print("loaded", *(name for name in {heavy} if name in sys.modules))
"""
CONFIG = json.dumps({**SMALL, "pretrain": {"steps": 2, "pairs_per_step": 2}})
TASKS = json.dumps({"probe": {"tasks": [{"name": "kind"}], "protocols": ["transductive"], "bootstrap": 10}})
PRETRAIN = ("pretrain", "stores", "--splits", "two.json", "-c", CONFIG)
# Each with what it may load of these; matplotlib and scipy.stats are loaded by Lightning.
MAY_LOAD = {
    ("--version",): "",
    ("inspect", "a.nwb"): "dask.array pandas zarr",
    ("inspect", "stores"): "dask.array pandas zarr",
    ("inspect", "a.nwb", "--html"): "dask.array pandas zarr",
    ("chunk", "a.nwb", "-o", "chunked"): "dask.array pandas zarr",
    ("split", "-o", "split.json", "-c", '{"dataset": "simulated"}'): "",
    (*PRETRAIN, "--animals", "0", "-o", "zero/model.safetensors"): "dask.array pandas zarr torch",
    (*PRETRAIN, "--animals", "2", "-o", "two/model.safetensors"): (
        "dask.array pandas zarr torch lightning matplotlib scipy.stats"
    ),
    ("embed", "a.nwb", "--model", "model.safetensors", "-o", "a.parquet"): "dask.array pandas zarr torch",
    ("embed", "stores", "--model", "model.safetensors", "-o", "b.parquet"): "dask.array pandas zarr torch",
    ("probe", "kinds.parquet", "--splits", "eight.json", "--animals", "4", "-o", "probes", "-c", TASKS): (
        "pandas scipy.stats sklearn"
    ),
    ("train-probe", "kinds.parquet", "--column", "kind", "-o", "new.safetensors"): (
        "pandas scipy.stats sklearn"
    ),
    ("predict", "kinds.parquet", "--probe", "probe.safetensors", "-o", "predicted.csv"): "pandas",
    ("explore", "kinds.parquet", "--recordings", "stores", "-o", "explore.html"): (
        "dask.array pandas zarr scipy.stats sklearn"
    ),
    ("card", "model.safetensors", "-o", "card.md"): "",
    ("card", "model.safetensors", "--probe", "probe.safetensors", "-o", "card.md"): "",
}


def loaded_by(folder: Path, code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("loaded"))
    return set(line.split()[1:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a recording, two stores, a model, embeddings and a probe."""
    folder = tmp_path_factory.mktemp("imports")
    write_units(folder / "a.nwb", poisson_trains(3, 9.0), animal="a")
    for animal in ("a", "b"):
        made = population(animal=animal, recording=animal)
        write_population(made, folder / "stores" / animal / "probe.zarr", chunk_s=10, shard_s=60)
    write_splits(folder / "two.json", make_splits(["a", "b"], 0, 0, 0))
    write_splits(folder / "eight.json", SPLITS)
    model = folder / "model.safetensors"
    cohort = Cohort(stores(folder / "stores"), [])
    pretrain_run(cohort, load_config(SMALL), 0, output=model, checkpoints=folder / "checkpoints")
    sha256 = read_record(model, "model", "")["sha256"]
    table = units()
    made = Embeddings(table, features_of(table), np.ones(len(table), int), sha256)
    write_embeddings(folder / "kinds.parquet", *made, {"model": sha256})
    save_probe(folder / "probe.safetensors", train_probe(made, "kind"))
    return folder


@pytest.mark.parametrize("arguments", MAY_LOAD, ids=lambda arguments: " ".join(arguments[:6])[:60])
def test_a_subcommand_loads_what_it_needs_alone(folder: Path, arguments: tuple[str, ...]) -> None:
    code = RUN.format(arguments=arguments, heavy=HEAVY)
    assert loaded_by(folder, code) <= set(MAY_LOAD[arguments].split())


def test_a_picture_loads_what_draws_it(folder: Path) -> None:
    arguments = ("inspect", "a.nwb", "--picture", "raster")
    assert "matplotlib" in loaded_by(folder, RUN.format(arguments=arguments, heavy=HEAVY))


def test_plans_of_public_data_sets_load_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_by(tmp_path, PLANS.format(heavy=HEAVY)) == set()
