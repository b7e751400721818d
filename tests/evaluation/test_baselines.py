"""Baselines measure what they are called after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import population, populations

from nuclr.data.population import Population
from nuclr.errors import ConfigError
from nuclr.evaluation.baselines import BASELINES, baseline_table, population_correlation, rebin, single_neuron


@settings(max_examples=25)
@given(populations())
def test_every_unit_has_finite_features_whatever_the_recording(made: Population) -> None:
    for compute in BASELINES.values():
        features = compute(made)
        assert len(features) == len(made.units)
        assert np.isfinite(features).all()


def test_single_neuron_features_do_not_depend_on_the_other_units() -> None:
    made = population(units=12)
    alone = replace(made, activity=np.asarray(made.activity)[:1], units=made.units[:1])
    np.testing.assert_allclose(single_neuron(made)[0], single_neuron(alone)[0])
    # Reversing the others' time leaves them alone, but not what they share.
    activity = np.asarray(made.activity).copy()
    activity[1:] = activity[1:, ::-1]
    changed = replace(made, activity=activity)
    np.testing.assert_allclose(single_neuron(made)[0], single_neuron(changed)[0])
    assert np.abs(population_correlation(made)[0] - population_correlation(changed)[0]).max() > 1e-3


def test_rate_comes_first() -> None:
    made = population(units=3, rate=0.2)
    rate = np.asarray(made.activity).mean(1) / made.bin_s
    np.testing.assert_allclose(np.exp(single_neuron(made)[:, 0]) - 0.1, rate)


def test_rebinning_stays_inside_valid_spans() -> None:
    made = population(units=2, bins=100, spans=[(0.0, 0.5), (1.0, 2.0)])
    activity = np.asarray(made.activity)
    expected = np.concatenate([activity[:, 0:25], activity[:, 50:100]], axis=1)[:, :]
    np.testing.assert_array_equal(rebin(made, made.bin_s), expected)
    assert rebin(made, 0.4).shape == (2, 1 + 2)


def test_which_recording_is_one_column_a_population() -> None:
    units, features, windows = baseline_table(
        "which_recording", [population(units=3), population(units=2, recording="b")]
    )
    np.testing.assert_array_equal(features, [[0, 1]] * 3 + [[1, 0]] * 2)
    assert len(units) == len(windows) == 5


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are single_neuron"):
        baseline_table("nemo", [population()])
