"""Scores, and what they would be by chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted import predictions
from sklearn.metrics import f1_score, precision_recall_fscore_support

from nuclr.evaluation.metrics import (
    by_class,
    calibration_error,
    chance,
    confusion_by_animal,
    confusions,
    macro_f1,
    permutation_p,
    resampled_scores,
    summary,
    within_recordings,
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


def test_without_a_recording_of_two_classes_there_is_no_score_inside_recordings() -> None:
    made = predictions(0.5)
    assert np.isnan(within_recordings(made.assign(population=made["label"])))


def test_seeds_that_disagree_widen_the_interval() -> None:
    def width(scores: list[float]) -> float:
        stack = [
            confusion_by_animal(predictions(right, seed), ["x", "y", "z"], [f"a{i}" for i in range(6)])
            for seed, right in enumerate(scores)
        ]
        return float(np.ptp(np.percentile(resampled_scores(np.stack(stack), 400), [2.5, 97.5])))

    assert width([0.2, 0.5, 0.8]) > 2 * width([0.5, 0.5, 0.5])


def test_chance_is_what_guessing_gets() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["x", "y", "z"], 200_000, p=[0.7, 0.2, 0.1])
    guess = rng.choice(["x", "y", "z"], 200_000)
    assert chance(labels) == pytest.approx(f1_score(labels, guess, average="macro"), abs=0.005)


def test_scores_of_single_classes_are_those_of_scikit_learn() -> None:
    made = predictions(0.4)
    table = by_class(made)
    expected = precision_recall_fscore_support(made["label"], made["predicted"], labels=table["class"])
    for name, values in zip(("precision", "recall", "f1", "units"), expected, strict=True):
        np.testing.assert_allclose(table[name], values)


def test_a_p_value_is_uniform_where_nothing_is_known_and_small_where_something_is() -> None:
    null = [permutation_p(confusions([predictions(0.0, seed)])[0].sum(0)[None], 99) for seed in range(60)]
    assert 0.35 < np.mean(null) < 0.65
    assert min(null) < 0.2 < 0.8 < max(null)
    assert permutation_p(confusions([predictions(0.3)])[0].sum(0)[None], 199) == 1 / 200


def test_knowing_the_recording_alone_is_nothing_inside_recordings() -> None:
    """Each recording has a class that it mostly is of, and that is what is predicted."""
    rng = np.random.default_rng(0)
    recording = np.repeat([0, 1, 2], 100)
    label = np.where(rng.random(300) < 0.8, recording, rng.integers(0, 3, 300))
    table = pd.DataFrame(
        {"label": label.astype(str), "predicted": recording.astype(str), "animal": recording}
    )
    by_recording = confusions([table])[0]
    assert permutation_p(by_recording.sum(0)[None], 199) == 1 / 200
    assert permutation_p(by_recording, 199) == 1


def test_calibration_is_zero_where_confidence_is_frequency() -> None:
    confidence = np.repeat([0.55, 0.85], 100)
    right = np.concatenate([np.arange(100) < 55, np.arange(100) < 85])
    assert calibration_error(confidence, right) == pytest.approx(0)
    assert calibration_error(np.ones(200), right) == pytest.approx(0.3)


def test_a_summary_is_whole() -> None:
    made = predictions(0.5).assign(confidence=0.5)
    found = summary(made, 200)
    assert found["low"] < found["macro_f1"] < found["high"]
    assert found["units"] == len(made)
    assert found["chance"] == pytest.approx(1 / 3, abs=0.01)
    assert found["p_value"] == found["p_within"] == 1 / 201
