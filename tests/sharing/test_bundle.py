"""A run of the workflow becomes a folder that can be shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_model import recorded, write_shared

import nuclr
from nuclr.config import Probe, Task
from nuclr.data.splits import Splits
from nuclr.errors import DataError
from nuclr.representation.embeddings import write_embeddings
from nuclr.sharing.bundle import bundle
from nuclr.sharing.layout import shared_files

SPLITS = Splits(test=["m0", "m1"], label=["m2", "m3"], orders=[["m4", "m5"]])
TASKS = [
    Task(name="area", column="brain_region", classes={"cortex": ["VISp"], "hippocampus": ["CA1"]}),
    Task(name="species"),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_shared(tmp_path / "n2-s0", ())
    model = nuclr.load_model(folder)
    units, vectors, windows = model.embed([recorded(f"m{i}", seed=i) for i in range(6)])
    record = {"model": model.sha256, "datasets": ["mice"]}
    write_embeddings(folder / "embeddings.parquet", units.assign(species="mouse"), vectors, windows, record)
    return folder


def test_its_probes_learn_from_animals_that_pretraining_never_saw(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (made,) = bundle(run, Probe(tasks=TASKS), SPLITS, tmp_path / "model")
    assert made == tmp_path / "model" / "probes" / "area.safetensors"
    assert "species: no probe is trained for this task" in caplog.text
    model = nuclr.load_model(tmp_path / "model")
    probe = model.probes()["area"]
    assert probe.classes == ("cortex", "hippocampus")
    assert probe.record["learned_from"]["animals"] == ["m0", "m1", "m2", "m3"]
    assert probe.record["datasets"] == ["mice"]
    assert len(shared_files(tmp_path / "model")) == 7
    found = model.identify(recorded("new", seed=9)).units
    told = found[found["area_predicted"] != ""]
    assert (
        told["area_predicted"].map({"cortex": "VISp", "hippocampus": "CA1"}) == told["brain_region"]
    ).all()


def test_where_nobody_was_kept_apart_all_are_learned_from(run: Path, tmp_path: Path) -> None:
    everybody = Splits(test=[], label=[], orders=[[f"m{i}" for i in range(6)]])
    bundle(run, Probe(tasks=TASKS[:1]), everybody, tmp_path / "model")
    learned = nuclr.load_model(tmp_path / "model").probes()["area"].record["learned_from"]
    assert learned["animals"] == [f"m{i}" for i in range(6)]


def test_a_run_that_is_not_whole_is_refused_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    (run / "README.md").unlink()
    with pytest.raises(DataError, match=r"missing README\.md"):
        bundle(run, Probe(tasks=TASKS), SPLITS, tmp_path / "model")
    assert not (tmp_path / "model").exists()
