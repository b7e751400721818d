"""Scores and their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from nuclr.evaluation.scaling import (
    Scored,
    animal_deviations,
    confusion_by_animal,
    macro_f1,
    resampled_scores,
    scaling_table,
)


def predictions(right: float, seed: int = 0, animals: int = 6, units: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.choice(["x", "y", "z"], animals * units)
    wrong = rng.choice(["x", "y", "z"], animals * units)
    return pd.DataFrame(
        {
            "animal": np.repeat([f"a{i}" for i in range(animals)], units),
            "label": label,
            "predicted": np.where(rng.random(len(label)) < right, label, wrong),
        }
    )


@settings(max_examples=30)
@given(st.integers(0, 99), st.floats(0, 1))
def test_macro_f1_from_confusions_is_that_of_scikit_learn(seed: int, right: float) -> None:
    made = predictions(right, seed, animals=2, units=9)
    classes = sorted(set(made["label"]) | set(made["predicted"]))
    counts = confusion_by_animal(made, classes, ["a0", "a1"])
    assert counts.sum() == len(made)
    expected = f1_score(
        made["label"], made["predicted"], labels=sorted(set(made["label"])), average="macro", zero_division=0
    )
    assert macro_f1(counts.sum(0)) == pytest.approx(expected)


def test_the_interval_is_over_animals_not_units() -> None:
    """Animals that are right or wrong as a whole make the interval wide, however many units they have."""
    rows = []
    for i in range(8):
        label = np.tile(["x", "y"], 500)
        swapped = np.where(label == "x", "y", "x")
        rows.append(
            pd.DataFrame({"animal": f"a{i}", "label": label, "predicted": swapped if i % 2 else label})
        )
    _, curve = scaling_table([Scored("nuclr", 1, 0, pd.concat(rows))], 500)
    assert curve["high"].iloc[0] - curve["low"].iloc[0] > 0.4
    assert curve["macro_f1"].iloc[0] == pytest.approx(0.5)


def test_seeds_that_disagree_widen_the_interval() -> None:
    def width(scores: list[float]) -> float:
        stack = [
            confusion_by_animal(predictions(right, seed), ["x", "y", "z"], [f"a{i}" for i in range(6)])
            for seed, right in enumerate(scores)
        ]
        return float(np.ptp(np.percentile(resampled_scores(np.stack(stack), 400), [2.5, 97.5])))

    assert width([0.2, 0.5, 0.8]) > 2 * width([0.5, 0.5, 0.5])


def test_the_same_resampling_gives_the_same_interval() -> None:
    scored = [Scored("nuclr", n, s, predictions(0.5, n + s)) for n in (1, 2) for s in (0, 1)]
    pd.testing.assert_frame_equal(scaling_table(scored, 100)[1], scaling_table(scored[::-1], 100)[1])


def test_a_run_is_a_row_and_a_count_is_a_point() -> None:
    scored = [Scored("nuclr", n, s, predictions(0.2 * n, s)) for n in (1, 2, 4) for s in (0, 1)]
    scored.append(Scored("single_neuron", 0, 0, predictions(0.3)))
    runs, curve = scaling_table(scored, 50)
    assert len(runs) == 7
    mine = curve[curve["representation"] == "nuclr"]
    assert mine["animals"].tolist() == [1, 2, 4]
    assert mine["seeds"].tolist() == [2, 2, 2]
    assert (mine["low"] <= mine["macro_f1"]).all()
    assert (mine["macro_f1"] <= mine["high"]).all()
    assert mine["macro_f1"].is_monotonic_increasing


def test_deviations_are_those_of_other_animals_alike_for_all_runs() -> None:
    same = predictions(0.5, 0)
    deviations = animal_deviations([Scored("nuclr", 1, 0, same), Scored("nuclr", 2, 0, same)], 300)
    np.testing.assert_array_equal(deviations[:, 0], deviations[:, 1])
    spread = np.ptp(np.percentile(deviations[:, 0], [2.5, 97.5]))
    _, curve = scaling_table([Scored("nuclr", 1, 0, same)], 300)
    assert spread == pytest.approx(curve["high"].iloc[0] - curve["low"].iloc[0], rel=0.15)
