"""NEMO brings a unit's waveform and autocorrelogram together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategies import population

from nuclr.config import load_config
from nuclr.data.population import Population
from nuclr.errors import ConfigError, DataError
from nuclr.representation import nemo as module
from nuclr.representation.baselines import baseline_table
from nuclr.representation.nemo import DECILES, LAGS, acg_image, as_template


def of_two_kinds(seed: int, animal: str) -> Population:
    """Make narrow waveforms with bursts, and wide ones without."""
    rng = np.random.default_rng(seed)
    made = population(units=40, bins=3000, animal=animal, recording=animal, seed=seed)
    kind = np.arange(40) % 2
    activity = rng.poisson(0.05, (40, 3000))
    bursts = rng.random((20, 3000)) < 0.01
    activity[kind == 1] = sum(np.roll(bursts, lag, axis=1) for lag in range(4))
    width = np.where(kind == 1, 2.0, 6.0)[:, None]
    shape = -np.exp(-(((np.arange(60) - 30) / width) ** 2)) + 0.05 * rng.standard_normal((40, 60))
    return replace(made, activity=activity.astype(np.uint8), waveforms=(50 * shape).astype(np.float32))


def test_a_burst_shows_at_its_lags_and_a_silent_unit_is_nothing() -> None:
    counts = np.zeros(4000, np.uint8)
    counts[::50] = 1
    image = acg_image(counts, 0.02)
    assert image.shape == (DECILES, LAGS)
    # The next spike comes after 1 s, in the upper half of lags up to 2 s.
    assert image[:, : LAGS // 2].max() == 0
    np.testing.assert_array_equal(acg_image(np.zeros(100, np.uint8), 0.02), 0)
    flat = acg_image(np.random.default_rng(0).poisson(0.5, 40_000), 0.02)
    assert flat[:, LAGS // 2 :].mean() == pytest.approx(1, abs=0.05)


def test_templates_have_one_length_and_height() -> None:
    made = as_template(np.stack([np.linspace(0, -30, 40), np.zeros(40)]))
    assert made.shape == (2, 90)
    assert np.abs(made).max(axis=1).tolist() == [1, 0]


def test_what_belongs_together_is_near_in_animals_it_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 60)
    populations = [of_two_kinds(i, animal) for i, animal in enumerate("ab")]
    assert populations[1].waveforms is not None
    populations[1].waveforms[3] = np.nan

    def embedded() -> np.ndarray:
        return baseline_table("nemo", populations, {"a/probe"})[1]

    made = embedded()
    assert made.shape == (80, 500)
    assert np.isnan(made[43]).all()
    new = np.delete(made[40:], 3, axis=0)
    kind = np.delete(np.arange(40) % 2, 3)
    apart = np.linalg.norm(new[:, None] - new, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kind[apart.argmin(axis=1)] == kind).mean() > 0.9
    np.testing.assert_array_equal(made, embedded())


def test_without_waveforms_it_says_what_to_do() -> None:
    with pytest.raises(
        DataError, match=r"its store has no waveforms, which the baseline nemo needs; set chunk\.waveforms"
    ):
        baseline_table("nemo", [population()], {"session/probe"})
    with pytest.raises(ConfigError, match=r"nemo needs waveforms; set chunk\.waveforms: true"):
        load_config({"probe": {"baselines": ["nemo"]}})
