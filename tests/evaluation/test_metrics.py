"""Scores, and what they would be by chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted import predictions
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from nuclr.evaluation.metrics import (
    by_class,
    calibration_error,
    chance,
    confusions,
    gain_over,
    interval,
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
    (counts,) = confusions([made])
    classes = sorted(set(made["label"]) | set(made["predicted"]))
    assert counts.shape == (2, len(classes), len(classes))
    for animal, own in zip(("a0", "a1"), counts, strict=True):
        of_it = made[made["animal"] == animal]
        np.testing.assert_array_equal(
            own, confusion_matrix(of_it["label"], of_it["predicted"], labels=classes)
        )
    expected = f1_score(
        made["label"], made["predicted"], labels=sorted(set(made["label"])), average="macro", zero_division=0
    )
    assert macro_f1(counts.sum(0)) == pytest.approx(expected)


def test_without_a_recording_of_two_classes_there_is_no_score_inside_recordings() -> None:
    made = predictions(0.5)
    assert np.isnan(within_recordings(made.assign(population=made["label"])))


def test_seeds_that_disagree_widen_the_interval() -> None:
    def width(scores: list[float]) -> float:
        stack = confusions([predictions(right, seed) for seed, right in enumerate(scores)])
        return float(np.ptp(np.percentile(resampled_scores(stack, 400), [2.5, 97.5])))

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
    assert found["p_within"] == 1 / 201
    assert found["test_animals"] == 6


@pytest.mark.parametrize("animals", [1, 2])
def test_of_fewer_than_three_animals_there_is_a_score_and_no_interval(animals: int) -> None:
    found = summary(predictions(0.5, animals=animals).assign(confidence=0.5), 50)
    assert found["test_animals"] == animals
    assert found["macro_f1"] > 0.4
    assert np.isnan([found["low"], found["high"]]).all()
    stack = confusions([predictions(0.5, animals=animals)])
    assert np.isnan(gain_over(stack, stack[0], 50)[1:]).all()


def cohort(rng: np.random.Generator, animals: int, of: tuple[float, ...] = (0.7,)) -> np.ndarray:
    """Count what some probes say of animals drawn at random, ``(probe, animal, class, class)``.

    Animals differ in how many units they have, in which classes these are of, and in how often they are
    recognised: by ``of`` of each probe, and the same of the animal for all probes.
    """
    units = np.maximum(5, 60 * np.exp(0.5 * rng.standard_normal(animals))).astype(int)
    labels = rng.multinomial(units, rng.dirichlet([2, 2, 2], animals))
    wrong = rng.dirichlet([1, 1, 1], animals)
    own = 0.8 * rng.standard_normal(animals)
    counts = np.empty((len(of), animals, 3, 3))
    for made, offset in zip(counts, of, strict=True):
        logit = offset + own + (0.4 * rng.standard_normal(animals) if len(of) > 1 else 0)
        right = 1 / (1 + np.exp(-logit))[:, None]
        for k in range(3):
            made[:, k] = rng.multinomial(labels[:, k], right * np.eye(3)[k] + (1 - right) * wrong)
    return counts


def percentiles(drawn: np.ndarray, *_: object, **__: object) -> tuple[float, float]:
    """The interval that was here before."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return low, high


TRIALS = 200


@pytest.mark.parametrize("animals", [3, 6, 12, 32])
def test_intervals_hold_the_score_of_all_animals_however_few_were_tested(animals: int) -> None:
    rng = np.random.default_rng(0)
    truth = float(macro_f1(cohort(rng, 20_000)[0].sum(axis=0)))
    held, before, width = 0, 0, 0.0
    for trial in range(TRIALS):
        stack = cohort(rng, animals)
        drawn, score = resampled_scores(stack, 200, trial), float(macro_f1(stack[0].sum(axis=0)))
        low, high = interval(drawn, score, animals)
        held, width = held + (low <= truth <= high), width + (high - low) / TRIALS
        less, more = percentiles(drawn)
        before += less <= truth <= more
    assert held >= 0.9 * TRIALS
    if animals <= 6:
        assert before < 0.9 * TRIALS
    # An interval that holds everything would be right, and say nothing.
    assert width < {3: 0.7, 6: 0.4, 12: 0.25, 32: 0.15}[animals]


@pytest.mark.parametrize("animals", [3, 6, 12, 32])
def test_intervals_of_a_gain_hold_that_of_all_animals(animals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def trials() -> int:
        rng = np.random.default_rng(1)
        mine, control = cohort(rng, 20_000, (0.9, 0.5)).sum(axis=1)
        truth = float(macro_f1(mine) - macro_f1(control))
        held = 0
        for _ in range(TRIALS):
            mine, control = cohort(rng, animals, (0.9, 0.5))
            _, low, high = gain_over(mine[None], control, 200)
            held += low <= truth <= high
        return held

    assert trials() >= 0.9 * TRIALS
    if animals <= 6:
        monkeypatch.setattr("nuclr.evaluation.metrics.interval", percentiles)
        assert trials() < 0.9 * TRIALS


def test_animals_that_no_run_was_tested_on_do_not_narrow_an_interval_of_a_gain() -> None:
    stack = cohort(np.random.default_rng(2), 4, (0.9, 0.5))
    empty = np.zeros((2, 28, 3, 3))
    alone = gain_over(stack[:1], stack[1], 100)
    assert gain_over(
        np.concatenate([stack, empty], axis=1)[:1], np.concatenate([stack, empty], axis=1)[1], 100
    ) == (alone)


def test_what_clusters_by_animal_is_significant_no_more_often_than_it_says() -> None:
    """Labels and predictions depend on the animal, and on nothing else in common."""
    rng = np.random.default_rng(0)
    found: dict[str, list[bool]] = {}
    over_all_units = []
    for _ in range(150):
        said = [
            np.concatenate([rng.choice(3, 30, p=shares) for shares in rng.dirichlet([1, 1, 1], 6)])
            for _ in range(2)
        ]
        table = pd.DataFrame({"animal": np.repeat(np.arange(6), 30).astype(str), "confidence": 0.5})
        table = table.assign(
            population=table["animal"], label=said[0].astype(str), predicted=said[1].astype(str)
        )
        for name, value in summary(table, 99).items():
            if name.startswith("p_"):
                found.setdefault(name, []).append(value < 0.05)
        over_all_units.append(permutation_p(confusions([table])[0].sum(axis=0)[None], 99) < 0.05)
    assert set(found) == {"p_within"}
    assert np.mean(found["p_within"]) <= 0.08
    assert np.mean(over_all_units) > 0.1
