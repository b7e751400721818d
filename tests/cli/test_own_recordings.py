"""One's own recordings, from files to what units are, by the package as its wheel installs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sorted_folders import write_phy
from strategies import poisson_trains, write_traces, write_units
from warm import warm

import nuclr
from nuclr.config import load_config
from nuclr.representation.embeddings import read_embeddings

REPOSITORY = Path(__file__).parents[2]
CONFIG = json.dumps(
    {
        "model": {"dim": 16, "heads": 2},
        "views": {"window_s": 4, "distance_s": 10},
        "pretrain": {"steps": 5},
    }
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with the package as its wheel installs it; libraries are loaded once for all commands."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip"]
    wheel = [*pip, "wheel", "-q", "--no-deps", str(REPOSITORY), "-w", str(folder / "wheel")]
    made = subprocess.run(wheel, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no wheel can be built here: {made.stderr.strip().splitlines()[-1]}")
    (file,) = (folder / "wheel").glob("nuclr-*.whl")
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--target", str(folder / "site"), str(file)], check=True
    )
    site = folder / "site"
    with warm(folder, "-P", PYTHONPATH=str(site)) as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUCLR_WARM", place)
        yield site


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Path:
    """Give a folder with recordings, a model of them, and its embeddings."""
    folder = tmp_path_factory.mktemp("own")
    for i, animal in enumerate(("a", "b", "c")):
        trains = poisson_trains(16, 30.0, rate_hz=3.0, seed=i) + poisson_trains(
            16, 30.0, rate_hz=20.0, seed=i
        )
        regions = ["CA1"] * 16 + ["VISp"] * 16
        write_units(
            folder / "mine" / f"{animal}.nwb",
            trains,
            animal=animal,
            obs_intervals=[[0.0, 30.0]],
            regions=regions,
        )
    write_phy(folder / "monday" / "phy", poisson_trains(14, 30.0))
    said = run(folder, installed, "pretrain", "mine", "-o", "model/model.safetensors", "-c", CONFIG)
    assert "model/model.safetensors: all animals, seed 0" in said
    run(folder, installed, "embed", "mine", "--model", "model/model.safetensors", "-o", "e.parquet")
    return folder


def nuclr_(folder: Path, installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command line: nothing of the repository is on its path."""
    code = (
        f"import nuclr; assert nuclr.__file__.startswith({str(installed)!r}), nuclr.__file__\n"
        "from nuclr.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def run(folder: Path, installed: Path, *arguments: str) -> str:
    result = nuclr_(folder, installed, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_what_the_wheel_brings(installed: Path) -> None:
    for name in (
        "py.typed",
        "__init__.pyi",
        "report/pages/assets/results.html.j2",
        "report/figures/style.mplstyle",
    ):
        assert (installed / "nuclr" / name).is_file()
    assert list((installed / "nuclr" / "data" / "archives" / "manifests").glob("*.tsv"))


def test_from_recordings_to_answers(folder: Path, installed: Path) -> None:
    run(folder, installed, "embed", "monday/phy", "--model", "model/model.safetensors", "-o", "phy.parquet")
    units, vectors, record = read_embeddings(folder / "phy.parquet")
    assert units["unit_id"].tolist()[:2] == ["monday_phy_10", "monday_phy_12"]
    assert np.isfinite(vectors).all()
    labels = read_embeddings(folder / "e.parquet")[0][["unit_id", "brain_region"]]
    labels.rename(columns={"brain_region": "area"}).to_csv(folder / "labels.csv", index=False)
    train = [
        "train-probe",
        "e.parquet",
        "--labels",
        "labels.csv",
        "--column",
        "area",
        "-o",
        "probe.safetensors",
    ]
    said = run(folder, installed, *train)
    assert "CA1: 48 units, F1 " in said
    assert "), chance 0.500, accuracy " in said
    assert ", not centred" in said
    assert "measured on other animals, in 3 groups" in said
    assert "transductive zero-shot (3 of 3 labelled animals in pretraining): These animals" in said
    predict = ["predict", "phy.parquet", "--probe", "probe.safetensors", "-o", "what.csv", "--sure", "0.5"]
    assert "of 14 units answered" in run(folder, installed, *predict)
    what = pd.read_csv(folder / "what.csv", keep_default_na=False)
    assert set(what["predicted"]) <= {"", "CA1", "VISp"}
    np.testing.assert_allclose(what[["p_CA1", "p_VISp"]].sum(axis=1), 1, atol=1e-5)
    labels[~labels["unit_id"].str.startswith("c_")].to_csv(folder / "two.csv", index=False)
    two = ["--labels", "two.csv", "--column", "brain_region", "-o", "two.safetensors"]
    said = run(folder, installed, "train-probe", "e.parquet", *two)
    assert "2 of 3 animals have labels; no others train and test the probe" in said
    assert "The interval is over units of 2 animals, so it is too narrow for other animals" in said
    kept = json.loads((folder / "probe.json").read_text())
    assert kept["model"] == record["model"]
    assert set(kept["inputs"]) == {"e.parquet", "labels.csv"}
    run(folder, installed, "card", "model", "--probe", "probe.safetensors", "-o", "model/README.md")
    card = (folder / "model" / "README.md").read_text()
    for said in (
        "| Animals | 3: a, b, c |",
        "5 steps of 2 pairs",
        "| area | transductive zero-shot (3 of 3 labelled animals in pretraining); other animals, in 3 "
        "groups | 96 | {macro_f1:.3f} ({low:.3f} to {high:.3f}; 3 animals) |  "
        "| 0.500 |".format(**kept["scores"]),
        "## Licence of the data",
        "## Intended use",
    ):
        assert said in card


def test_the_api_gives_what_the_command_line_does(folder: Path, tmp_path: Path) -> None:
    model = nuclr.load_model(folder / "model" / "model.safetensors")
    config = json.loads(CONFIG)
    again = nuclr.pretrain(folder / "mine", str(tmp_path / "model.safetensors"), config=config)
    assert nuclr.load_model(again).sha256 == model.sha256
    assert {"config.json", "metrics.csv", "README.md"} <= {path.name for path in tmp_path.iterdir()}
    with pytest.raises(nuclr.NuclrError, match="nowhere: does not exist"):
        nuclr.pretrain([tmp_path / "nowhere"], tmp_path / "none" / "model.safetensors")
    units, vectors, _ = read_embeddings(folder / "e.parquet")
    made = model.embed(nuclr.read(folder / "mine", bin_s=model.bin_s))
    assert made.units["unit_id"].tolist() == units["unit_id"].tolist()
    np.testing.assert_allclose(made.vectors, vectors, atol=1e-6)
    first, *_ = nuclr.read(folder / "mine", bin_s=model.bin_s)
    assert len(model.embed(first).units) == len(first.units)
    probe = nuclr.train_probe(made, "brain_region")
    answers = probe.predict(made, sure=0.5)
    assert answers["unit_id"].tolist() == units["unit_id"].tolist()
    np.testing.assert_allclose(answers[["p_CA1", "p_VISp"]].sum(axis=1), 1, atol=1e-5)
    assert (model.modality, model.bin_s) == ("spikes", 0.02)
    with pytest.raises(AttributeError, match="no attribute nothing"):
        nuclr.nothing  # noqa: B018


def test_units_that_fire_less_than_what_a_model_learned_from_are_not_embedded(
    folder: Path, installed: Path
) -> None:
    # Half of each file's units fire at 3 Hz, half at 20.
    config = json.dumps(json.loads(CONFIG) | {"chunk": {"min_rate_hz": 10}})
    run(folder, installed, "pretrain", "mine", "-o", "fast/model.safetensors", "-c", config)
    model = nuclr.load_model(folder / "fast")
    assert model.min_rate_hz == 10
    assert "units of at least 10 Hz" in (folder / "fast" / "README.md").read_text()
    embed = ["embed", "mine/a.nwb", "--model", "fast", "-o", "fast.parquet"]
    said = nuclr_(folder, installed, *embed).stderr
    assert "the model was trained on units of at least 10 Hz; units with lower rates are left out" in said
    assert "16 of 32 units fire less than chunk.min_rate_hz = 10; left out" in said
    (population,) = nuclr.read(folder / "mine" / "a.nwb", bin_s=model.bin_s, min_rate_hz=model.min_rate_hz)
    embedded = read_embeddings(folder / "fast.parquet")[0]
    assert embedded["unit_id"].tolist() == population.units["unit_id"].tolist()
    # Whoever wants them all says so.
    run(folder, installed, *embed, "-c", '{"chunk": {"min_rate_hz": 0}}')
    assert len(read_embeddings(folder / "fast.parquet")[0]) == 32
    nothing = nuclr_(folder, installed, *embed[:-1], "x", "-c", '{"chunk": {"min_rate_hz": 99}}')
    assert nothing.returncode == 1
    assert "no unit fires at chunk.min_rate_hz = 99 or more; left out" in nothing.stderr
    assert "nuclr: error: nothing to embed: the recordings contain no usable unit" in nothing.stderr
    assert not list(folder.glob("x*"))


def test_a_second_pretraining_uses_the_stores_that_are_there(folder: Path, installed: Path) -> None:
    (store,) = (folder / "model" / "populations" / "a").glob("*.zarr")
    before = store.stat().st_mtime_ns
    run(folder, installed, "pretrain", "mine", "-o", "model/again.safetensors", "-c", CONFIG)
    assert store.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["embed", "traces.nwb", "--model", "M", "-o", "x"],
            "contains calcium imaging with frames of 0.5 s, but the model reads spikes",
        ),
        (
            ["embed", "none.nwb", "--model", "M", "-o", "x"],
            "none.nwb: does not exist; give a population store",
        ),
        (
            ["embed", "labels.txt", "--model", "M", "-o", "x"],
            "labels.txt: not recognised; give a population store",
        ),
        (
            ["embed", "mine", "--model", "M", "-o", "x", "-c", "GPU"],
            "machine.accelerator is gpu, but this process sees no",
        ),
        (
            ["pretrain", "mine", "-o", "x/m.safetensors", "-c", "GPU"],
            "machine.accelerator is gpu, but this process sees no",
        ),
        (["pretrain", "mine", "-o", "x/m.safetensors", "--animals", "2"], "give both --splits and --animals"),
        (
            ["train-probe", "e.parquet", "--column", "cell_type", "-o", "P"],
            "no column cell_type; there are unit_id",
        ),
        (
            ["train-probe", "e.parquet", "--column", "brain_regio", "-o", "P"],
            "did you mean brain_region?",
        ),
        (
            [
                "train-probe",
                "e.parquet",
                "--column",
                "brain_region",
                "--kinds",
                "linear,tree",
                "-o",
                "P",
            ],
            "--kinds: unknown kind tree; choose from linear, knn, mlp",
        ),
        (
            [
                "train-probe",
                "e.parquet",
                "--column",
                "brain_region",
                "--centred",
                "maybe",
                "-o",
                "P",
            ],
            "--centred: maybe is not one of choose, yes, no",
        ),
        (
            ["predict", "e.parquet", "--probe", "p.safetensors", "--along-probe", "-o", "x"],
            "the embeddings have no depths in a column depth_um",
        ),
        (["suggest", "e.parquet", "-n", "100000", "-o", "x"], "suggest: 100000 units are requested"),
        (
            ["train-probe", "model/model.safetensors", "--column", "a", "-o", "P"],
            "is not a parquet file; give the one that `nuclr embed` writes",
        ),
        (
            ["predict", "other.parquet", "--probe", "p.safetensors", "-o", "x"],
            "the probe reads embeddings of model",
        ),
        (
            ["predict", "e.parquet", "other.parquet", "--probe", "p.safetensors", "-o", "x"],
            "embedded by another model than e",
        ),
        (
            ["predict", "e.parquet", "e.parquet", "--probe", "p.safetensors", "-o", "x"],
            "occurs twice in the embeddings",
        ),
        (
            ["export-bwb", "e.parquet", "--probe", "p.safetensors", "-o", "x"],
            "the benchmark expects Cosmos regions",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    folder: Path, installed: Path, arguments: list[str], said: str
) -> None:
    if not (folder / "p.safetensors").exists():
        write_traces(folder / "traces.nwb", np.random.default_rng(0).random((400, 12)))
        (folder / "labels.txt").write_text("")
        train = ["train-probe", "e.parquet", "--column", "brain_region"]
        run(folder, installed, *train, "-o", "p.safetensors")
        other = ["pretrain", "mine", "-o", "other/model.safetensors", "-c", CONFIG, "--seed", "1"]
        run(folder, installed, *other)
        run(folder, installed, "embed", "mine", "--model", "other/model.safetensors", "-o", "other.parquet")
    given = {
        "M": "model/model.safetensors",
        "P": "x.safetensors",
        "GPU": '{"machine": {"accelerator": "gpu"}}',
    }
    result = nuclr_(folder, installed, *(given.get(word, word) for word in arguments))
    assert result.returncode == 1, result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("nuclr: error: ")]
    assert len(errors) == 1, result.stderr
    assert said in errors[0]
    assert not list(folder.glob("x*"))


def test_frames_of_another_rate_are_refused(folder: Path, installed: Path) -> None:
    rng = np.random.default_rng(0)
    for name, rate in (("slow", 2.0), ("fast", 5.0)):
        traces = rng.random((int(200 * rate), 14)).astype(np.float32)
        write_traces(folder / f"{name}.nwb", traces, rate=rate)
    config = load_config(CONFIG, {"views": {"patch": 4}}).sections("model", "views", "pretrain")
    run(folder, installed, "pretrain", "slow.nwb", "-o", "calcium/model.safetensors", "-c", config)
    embed = ["embed", "fast.nwb", "--model", "calcium/model.safetensors", "-o", "x"]
    assert (
        "frames of 0.2 s, but the model reads calcium imaging with frames of 0.5 s"
        in nuclr_(folder, installed, *embed).stderr
    )
