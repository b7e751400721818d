"""From a recording to what its units are in one command, by a model that comes along or is shared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import done, libraries_loaded_once, nuclr, refused
from hub_server import TOKEN, Hub, serving_hub
from sklearn.metrics import f1_score
from strategies import write_traces

from nuclr.sharing.layout import MODEL_IN_THE_BOX
from nuclr.sharing.loaded import load_model
from nuclr.sharing.publishing import check


@pytest.fixture(scope="module", autouse=True)
def libraries_are_loaded_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with libraries_loaded_once(tmp_path_factory.mktemp("cli")):
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    said = done(folder, "demo")
    assert "nuclr_demo/report.html: open it in a browser" in said
    return folder


def test_the_demo_tells_regions_and_types_of_a_new_animal(demo: Path) -> None:
    units = pd.read_csv(demo / "nuclr_demo" / "units.csv", keep_default_na=False)
    assert len(units) == 80
    for task in ("brain_region", "cell_type"):
        told = units[units[f"{task}_predicted"] != ""]
        assert len(told) > 40
        assert f1_score(told[task], told[f"{task}_predicted"], average="macro") > 0.8
    alone = (units["brain_region_predicted"] == units["brain_region"]).mean()
    assert (units["brain_region_along_probe"] == units["brain_region"]).mean() >= alone
    page = (demo / "nuclr_demo" / "report.html").read_text()
    assert "recording.nwb" in page
    assert "pretrained on recordings of 16 animals (simulated)" in page
    assert 'role="alert"' not in page
    assert "Protocol: inductive zero-shot. None of the 40 labelled animals was in pretraining" in page
    alone = units.filter(regex="^brain_region_p_").idxmax(axis=1).str.removeprefix("brain_region_p_")
    same = (alone == units["brain_region"]).sum()
    assert f"agrees with the label in the recording for {same} of 80 units, and the answer for" in page
    assert "The intervals of boundaries are too narrow" in page


def test_a_model_of_simulated_recordings_warns_of_its_answers(demo: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(MODEL_IN_THE_BOX), "-o", "mine"]
    result = nuclr(tmp_path, "identify", str(demo / "nuclr_demo" / "recording.nwb"), *arguments)
    assert result.returncode == 0
    said = "the model was trained on simulated recordings only"
    assert result.stderr.count(said) == 1
    assert said in (tmp_path / "mine" / "report.html").read_text()


def test_the_model_in_the_box_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in MODEL_IN_THE_BOX.rglob("*") if path.is_file()) < 1_000_000
    assert len(check(MODEL_IN_THE_BOX)) == 11
    with_probes = load_model(MODEL_IN_THE_BOX)
    assert set(with_probes.probes()) == set(with_probes.rates()) == {"brain_region", "cell_type"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setenv("NUCLR_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        # What was loaded before it was told of this server would ask the real one.
        monkeypatch.delenv("NUCLR_WARM", raising=False)
        yield server


def test_a_model_is_published_and_used_by_somebody_else(
    demo: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(MODEL_IN_THE_BOX)
    assert "nothing was" in done(tmp_path, "publish", folder, "hf://lab/sim", "--dry-run")
    assert not hub.repositories
    assert "create one with write access" in refused(tmp_path, "publish", folder, "hf://lab/sim")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "for you alone to see" in done(tmp_path, "publish", folder, "hf://lab/sim")
    recording = str(demo / "nuclr_demo" / "recording.nwb")
    said = done(tmp_path, "identify", recording, "--model", "hf://lab/sim", "-o", "found")
    assert "brain region: " in said
    commit = hub.repositories["lab/sim"].revisions["main"]
    assert commit in (tmp_path / "found" / "report.html").read_text()
    at_home = pd.read_csv(demo / "nuclr_demo" / "units.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "found" / "units.csv"), at_home)


def test_what_cannot_be_is_said_in_one_line(demo: Path, tmp_path: Path) -> None:
    recording = str(demo / "nuclr_demo" / "recording.nwb")
    shutil.copytree(MODEL_IN_THE_BOX, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "probes")
    identify = ("identify", recording, "-o", "out", "--model")
    assert "the model has no probe" in refused(tmp_path, *identify, "bare")
    assert "nowhere: does not exist" in refused(tmp_path, *identify, "nowhere")
    write_traces(tmp_path / "traces.nwb", np.random.default_rng(0).random((400, 12)))
    calcium = ("identify", "traces.nwb", "-o", "out", "--model", str(MODEL_IN_THE_BOX))
    assert "but the model reads spikes" in refused(tmp_path, *calcium)
    assert "not a folder" in refused(tmp_path, "publish", "nowhere", "hf://lab/sim")
    assert "not an address on the Hugging Face Hub" in refused(tmp_path, "publish", "bare", "lab/sim")
    card = tmp_path / "bare" / "README.md"
    card.write_text(card.read_text().replace("license: mit\n", ""))
    assert "the model card lacks the licence" in refused(tmp_path, "publish", "bare", "hf://lab/sim")
    (tmp_path / "bare" / "model.safetensors").write_bytes(b"x")
    assert "its hash is not the one in config.json" in refused(tmp_path, *identify, "bare")
    assert not list((tmp_path / "out").glob("*"))
