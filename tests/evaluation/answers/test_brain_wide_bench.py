"""Submissions are scored by the benchmark's own package, on made-up ground truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclr.errors import DataError
from nuclr.evaluation.answers.brain_wide_bench import (
    COSMOS,
    cosmos_probabilities,
    over_neighbours,
    write_submission,
)

# It pins versions that exclude ours, so it is used without what it asks for.
PACKAGE = "ibl-bwb-eval==0.1.0"
TRUTH = """
import sys
import numpy as np, torch
from ibl_bwb_eval.entity_ids import encode_entity_ids
from ibl_bwb_eval.tasks import COSMOS_LABELS, check_ts3_label_order
from pathlib import Path
from safetensors.torch import save_file
rows = [line.split() for line in open(sys.argv[1])]
path = Path(sys.argv[2]) / "ts3-unit_cosmos" / "ground_truth.safetensors"
path.parent.mkdir(parents=True)
targets = torch.tensor([COSMOS_LABELS.index(region) for _, region in rows])
ids = encode_entity_ids(np.array([unit for unit, _ in rows]))
save_file({"targets": targets, "entity_ids": ids}, path, metadata={"label_names": ",".join(COSMOS_LABELS)})
"""
POOL = """
import sys
import numpy as np
from ibl_bwb_eval.multi_unit import multi_unit_prediction
given = np.load(sys.argv[1])
np.save(sys.argv[2], multi_unit_prediction(given["p"], given["depth"], given["probe"]))
"""


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give an environment in which the benchmark's package can be imported."""
    folder = tmp_path_factory.mktemp("bwb")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), PACKAGE]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"{PACKAGE} cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    return {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "120"}


def run(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def predictions(units: int = 300, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Give probabilities that are right for most units, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(COSMOS), units)
    logits = 2.0 * np.eye(len(COSMOS))[truth] + rng.standard_normal((units, len(COSMOS)))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "unit_id": [f"{i:08x}-unit-{'x' * (i % 3)}" for i in range(units)],
            "population": rng.choice(["s1/probe00", "s1/probe01", "s2/probe00"], units),
            "depth_um": rng.uniform(0, 1500, units),
        }
    )
    # In another order, as a probe's classes are.
    columns = {f"p_{name}": probability[:, i] for i, name in reversed(list(enumerate(COSMOS)))}
    return table.assign(**columns), truth


def test_the_benchmarks_own_scorer_takes_a_submission(scorer: dict[str, str], tmp_path: Path) -> None:
    table, truth = predictions()
    for seed in (43, 44):
        written = write_submission(
            tmp_path / "predictions", "nuclr", seed, table.sample(frac=1, random_state=seed)
        )
    assert [path.parent.parent.name for path in written] == ["nuclr", "nuclr-multi-unit"]
    rows = "".join(f"{unit} {COSMOS[k]}\n" for unit, k in zip(table["unit_id"], truth, strict=True))
    (tmp_path / "truth.txt").write_text(rows)
    run(scorer, "-c", TRUTH, str(tmp_path / "truth.txt"), str(tmp_path / "truth"))
    arguments = ["--pred_dir", str(tmp_path / "predictions"), "--gt_dir", str(tmp_path / "truth")]
    said = run(scorer, "-m", "ibl_bwb_eval.scoring.ts3", *arguments)
    assert "Error" not in said
    assert "nuclr-multi-unit" in said
    said = run(
        scorer,
        "-c",
        "import sys; from ibl_bwb_eval.scoring.ts3 import score_dir\n"
        "print(score_dir(*sys.argv[1:])['nuclr', 43]['macro/f1-score'])",
        *arguments[1::2],
    )
    best = cosmos_probabilities(table).argmax(axis=1)
    f1 = [
        2 * ((best == k) & (truth == k)).sum() / ((best == k).sum() + (truth == k).sum())
        for k in range(len(COSMOS))
    ]
    assert float(said) == pytest.approx(np.mean(f1), abs=1e-6)


def test_pooling_is_the_benchmarks(scorer: dict[str, str], tmp_path: Path) -> None:
    table, _ = predictions(seed=3)
    probability = cosmos_probabilities(table)
    depth, probe = table["depth_um"].to_numpy(), table["population"].to_numpy(str)
    np.savez(tmp_path / "given.npz", p=probability, depth=depth, probe=probe)
    run(scorer, "-c", POOL, str(tmp_path / "given.npz"), str(tmp_path / "pooled.npy"))
    np.testing.assert_allclose(
        over_neighbours(probability, depth, probe), np.load(tmp_path / "pooled.npy"), atol=1e-6
    )


def test_classes_that_a_probe_does_not_know_get_nothing() -> None:
    table = pd.DataFrame({"p_TH": [0.25, np.nan, 0.75], "p_CB": [0.75, np.nan, 0.25]})
    probability = cosmos_probabilities(table)
    assert probability[:, COSMOS.index("TH")].tolist() == [0.25, 0.5, 0.75]
    assert probability.sum(axis=1).tolist() == [1, 1, 1]
    assert not probability[:, COSMOS.index("HY")].any()


def test_what_the_benchmark_would_refuse_is_refused_here(tmp_path: Path) -> None:
    table, _ = predictions(4)
    for changed, said in (
        (table.rename(columns={"p_TH": "p_thalamus"}), "tells thalamus apart, the benchmark wants Cosmos"),
        (table.filter(regex="^[^p]").assign(population="a"), "tells nothing apart"),
        (table.assign(unit_id=["a", "b", "a", "c"]), "unit_id a occurs twice"),
        (table.assign(unit_id=["a", "b", "é", "c"]), "ids must be ASCII"),
        (table.assign(unit_id=["a", "b", "", "c"]), "ids must be ASCII and not empty"),
        (table.drop(columns="depth_um"), "no column depth_um"),
        (table.assign(depth_um=[0, 1, np.nan, 2]), "is not known"),
    ):
        with pytest.raises(DataError, match=said):
            write_submission(tmp_path / "p", "nuclr", 43, changed)
    assert not (tmp_path / "p").exists()
    assert len(write_submission(tmp_path / "p", "nuclr", 43, table.drop(columns="depth_um"), depth=None)) == 1
