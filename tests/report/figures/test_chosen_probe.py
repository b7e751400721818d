"""Test that held-out label animals choose the probe of each representation, and test animals do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labelled import ANIMALS, SPLITS

from nuclr.config import Probe, Task
from nuclr.evaluation.probe import probe_all
from nuclr.evaluation.score_tables import card_scores
from nuclr.report.figures.curves import write_scaling
from nuclr.representation.embeddings import write_embeddings

KINDS = np.array(["x", "y", "z"])
OPTIONS = Probe(
    tasks=[Task(name="kind", column="kind")],
    protocols=["inductive_zero_shot"],
    label_halvings=0,
    bootstrap=20,
)


def units(of_one_kind: list[str]) -> pd.DataFrame:
    """Make units with equal numbers of each class, but nine of ten of one class in some animals."""
    animal = np.repeat(ANIMALS, 60)
    kind = np.where(np.isin(animal, of_one_kind) & (np.arange(480) % 10 > 0), "x", np.resize(KINDS, 480))
    table = pd.DataFrame({"unit_id": [f"u{i}" for i in range(480)], "animal": animal, "kind": kind})
    return table.assign(population=animal, recording=animal)


def features(table: pd.DataFrame, step_of: dict[str, np.ndarray]) -> np.ndarray:
    """Make features that encode the class, shifted by a constant in each animal."""
    kind = (table["kind"].to_numpy(str)[:, None] == np.resize(KINDS, 6)) * ([1] * 3 + [0] * 3)
    noise = 0.1 * np.random.default_rng(0).standard_normal(kind.shape)
    return (kind + np.stack([step_of[animal] for animal in table["animal"]]) + noise).astype(np.float32)


def steps(size: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {animal: size * rng.standard_normal(6) for animal in ANIMALS}


def probed(
    folder: Path, table: pd.DataFrame, vectors: np.ndarray, options: Probe = OPTIONS, **record: Any
) -> Path:
    path = folder / record.get("baseline", "n2-s0") / "embeddings.parquet"
    write_embeddings(path, table, vectors, np.ones(len(table), int), record)
    probe_all(path, SPLITS, 2, 0, options, path.with_name("probes"))
    return path.with_name("probes")


PRETRAINED: dict[str, Any] = {"animals": SPLITS.pretraining(2, 0), "seed": 0}


def curve_of(folder: Path, probes: list[Path]) -> pd.DataFrame:
    write_scaling(probes, "kind", "inductive_zero_shot", folder / "out", resamples=20)
    return pd.read_csv(folder / "out.csv").set_index("representation")


def test_every_representation_has_the_probe_that_label_animals_choose(tmp_path: Path) -> None:
    """The features of one baseline are shifted in each animal and need centring; the others do not."""
    table = units(of_one_kind=[])
    still, moved = features(table, steps(0.0)), features(table, steps(3.0))
    curve = curve_of(
        tmp_path,
        [
            probed(tmp_path, table, still, **PRETRAINED),
            probed(tmp_path, table, moved, baseline="population"),
            probed(tmp_path, table, still, baseline="single_neuron"),
        ],
    )
    assert curve["probes"].to_dict() == {
        "nuclr": "linear",
        "population": "linear, centred",
        "single_neuron": "linear",
    }
    assert (curve["macro_f1"] > 0.95).all()
    assert curve.loc["population", "plain_macro_f1"] < 0.8
    assert (curve["macro_f1"] == curve["plain_macro_f1"]).to_dict()["nuclr"]


@pytest.fixture
def misled(tmp_path: Path) -> Path:
    """Probe features for which centring is better in label animals, and worse in test animals.

    Test animals have the same shift as the first label animal. Nine in ten of their units are of one class,
    so that their mean contains information about the class.
    """
    table = units(of_one_kind=SPLITS.test)
    step_of = steps(3.0)
    return probed(
        tmp_path,
        table,
        features(table, step_of | dict.fromkeys(SPLITS.test, step_of[SPLITS.label[0]])),
        **PRETRAINED,
    )


def test_test_animals_have_no_part_in_the_choice(misled: Path, tmp_path: Path) -> None:
    row = curve_of(tmp_path, [misled]).loc["nuclr"]
    assert row["probes"] == "linear, centred"
    assert row["macro_f1"] < row["plain_macro_f1"] - 0.1


def test_a_card_states_the_score_of_the_chosen_probe_and_the_plain_one(misled: Path, tmp_path: Path) -> None:
    row = curve_of(tmp_path, [misled]).loc["nuclr"]
    (score,) = card_scores(misled)
    assert score["macro_f1"] == pytest.approx(row["macro_f1"], abs=1e-5)
    plain = f"{row['plain_macro_f1']:.3f}"
    assert score["protocol"] == f"inductive_zero_shot; probe: linear, centred (plain: {plain})"


def test_of_one_probe_a_card_states_no_other(tmp_path: Path) -> None:
    table = units(of_one_kind=[])
    options = OPTIONS.model_copy(update={"centred": [False]})
    (score,) = card_scores(probed(tmp_path, table, features(table, steps(0.0)), options, **PRETRAINED))
    assert (score["protocol"], score["units"]) == ("inductive_zero_shot", 120)
    assert score["macro_f1"] > 0.95


def test_what_centring_takes_away_is_not_centred(tmp_path: Path) -> None:
    """The which-recording control has only the identity of the recording, which centring would remove."""
    table = units(of_one_kind=[])
    options = OPTIONS.model_copy(update={"protocols": ["transductive"]})
    vectors = np.eye(len(ANIMALS), dtype=np.float32)[np.repeat(np.arange(len(ANIMALS)), 60)]
    probed(tmp_path, table, vectors, options, baseline="which_recording")
    scores = pd.read_csv(tmp_path / "which_recording" / "probes" / "scores.csv")
    assert not scores["centred"].any()
