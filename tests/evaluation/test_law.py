"""The law is found again, and its intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclr.evaluation.law import fit_power_law, power_law

COUNTS = np.repeat([1, 2, 4, 8, 16], 8)


def noisy(a: float, b: float, c: float, noise: float, seed: int) -> np.ndarray:
    return 1 - power_law(COUNTS, a, b, c) + np.random.default_rng(seed).normal(0, noise, len(COUNTS))


@settings(max_examples=40)
@given(st.floats(0.1, 0.6), st.floats(0.2, 1.5), st.floats(0.0, 0.3))
def test_a_law_is_found_again(a: float, b: float, c: float) -> None:
    animals = np.repeat([1, 2, 4, 8, 16, 32], 2)
    fit = fit_power_law(animals, 1 - power_law(animals, a, b, c), resamples=20)
    np.testing.assert_allclose(
        power_law(animals, fit["a"], fit["b"], fit["c"]), power_law(animals, a, b, c), atol=2e-3
    )
    assert 0 <= fit["c"] <= 1


@pytest.mark.parametrize(
    ("a", "b", "c", "noise"), [(0.3, 0.5, 0.1, 0.02), (0.4, 0.3, 0.0, 0.01), (0.3, 1.0, 0.05, 0.02)]
)
def test_intervals_hold_the_truth_in_95_of_100_trials(a: float, b: float, c: float, noise: float) -> None:
    held, told, foreseen = 0, 0, 0
    for seed in range(200):
        fit = fit_power_law(COUNTS, noisy(a, b, c, noise, seed), resamples=500)
        low, high = fit["intervals"]["b"]
        held += low <= b <= high
        told += high < 3
        twice = fit["predictions"][0]
        foreseen += twice["low"] <= 1 - power_law(np.array(32.0), a, b, c) <= twice["high"]
    # 190 of 200, with one standard deviation of chance (3.1).
    assert held >= 187
    assert foreseen >= 187
    # An interval that holds everything would be right, and say nothing.
    assert told >= 190


def test_a_prediction_lies_in_its_interval() -> None:
    fit = fit_power_law(COUNTS, noisy(0.3, 0.5, 0.1, 0.02, 0))
    assert [one["animals"] for one in fit["predictions"]] == [32, 64]
    for one in fit["predictions"]:
        assert one["low"] < one["macro_f1"] < one["high"]


def test_other_test_animals_widen_the_intervals() -> None:
    scores = noisy(0.3, 0.5, 0.1, 0.02, 0)
    shifts = np.random.default_rng(0).normal(0, 0.1, (500, 1)) * np.ones((1, len(COUNTS)))

    def width(fit: dict[str, object], name: str) -> float:
        low, high = fit["intervals"][name]  # type: ignore[index]
        return float(high - low)

    alone, among = fit_power_law(COUNTS, scores, resamples=500), fit_power_law(COUNTS, scores, shifts)
    assert width(among, "c") > 1.5 * width(alone, "c")
    # A shift of all runs together says nothing of the exponent.
    assert width(among, "b") < 1.3 * width(alone, "b")


def test_the_criterion_prefers_the_law_that_made_the_scores() -> None:
    def preferred(scores: np.ndarray) -> str:
        aic = fit_power_law(COUNTS, scores, resamples=20)["aic"]
        return min(aic, key=aic.get)

    noise = np.random.default_rng(0).normal(0, 0.01, len(COUNTS))
    assert preferred(noisy(0.4, 1.0, 0.1, 0.01, 0)) == "power_law"
    assert preferred(0.3 + 0.08 * np.log(COUNTS) + noise) == "line_in_log_n"
    assert preferred(0.5 + noise) == "constant"


def test_three_counts_are_too_few_for_a_law() -> None:
    fit = fit_power_law(np.array([1, 2, 4]), np.array([0.2, 0.3, 0.4]))
    assert "3 animal counts" in fit["refused"]
