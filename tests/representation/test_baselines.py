"""Baselines measure what they are called after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import population, populations

from nuclr.config import JOINED
from nuclr.data.population import Population, summary_of
from nuclr.errors import ConfigError
from nuclr.representation.baselines import (
    FEATURES,
    INTERVAL_BINS,
    autocorrelogram,
    baseline_table,
    events,
    features_of,
    interval_counts,
    interval_edges,
    isi_histogram,
    lolcat_windows,
    population_correlation,
    rate_regularity,
    rebin,
)


@settings(max_examples=25)
@given(populations())
def test_every_unit_has_finite_features_whatever_the_recording(made: Population) -> None:
    # What is never above 0 is no dF/F: it is refused, by name.
    assume(summary_of(made).scale > 0)
    for name in {*FEATURES, *JOINED} - {"nemo"}:
        features = features_of(name, made)
        assert len(features) == len(made.units)
        assert np.isfinite(features).all()


def test_single_neuron_features_do_not_depend_on_the_other_units() -> None:
    made = population(units=12)
    alone = replace(made, activity=np.asarray(made.activity)[:1], units=made.units[:1])
    np.testing.assert_allclose(features_of("single_neuron", made)[0], features_of("single_neuron", alone)[0])
    # Reversing the others' time leaves them alone, but not what they share.
    activity = np.asarray(made.activity).copy()
    activity[1:] = activity[1:, ::-1]
    changed = replace(made, activity=activity)
    np.testing.assert_allclose(
        features_of("single_neuron", made)[0], features_of("single_neuron", changed)[0]
    )
    assert np.abs(population_correlation(made)[0] - population_correlation(changed)[0]).max() > 1e-3


def test_rate_comes_first() -> None:
    made = population(units=3, rate=0.2)
    rate = np.asarray(made.activity).mean(1) / made.bin_s
    np.testing.assert_allclose(np.exp(rate_regularity(made)[:, 0]) - 0.1, rate)


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


def test_what_a_stopped_baseline_had_finished_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [population(units=3, bins=400, recording=name) for name in "abc"]
    whole = baseline_table("single_neuron", made)[1]
    computed: list[str] = []

    def counted(name: str, compute: Callable[[Population], np.ndarray]) -> None:
        def count(one: Population) -> np.ndarray:
            computed.append(f"{name} {one.recording}")
            if stop and one.recording == "c":
                raise KeyboardInterrupt
            return compute(one)

        monkeypatch.setitem(FEATURES, name, count)

    for name, compute in list(FEATURES.items()):
        counted(name, compute)
    monkeypatch.setattr("nuclr.representation.baselines.BYTES_AT_ONCE", 1)  # one after the other
    stop = True
    with pytest.raises(KeyboardInterrupt):
        baseline_table("single_neuron", made, kept=tmp_path)
    stop = False
    computed.clear()
    np.testing.assert_array_equal(baseline_table("single_neuron", made, kept=tmp_path)[1], whole)
    assert {name.split()[1] for name in computed} == {"c"}
    # What another baseline has in common with it is there.
    computed.clear()
    both = baseline_table("population", made, kept=tmp_path)[1]
    assert computed == [f"population_correlation {name}" for name in "abc"]
    np.testing.assert_array_equal(both[:, : whole.shape[1]], whole)
    # Of another content of the same name there is nothing.
    other = [replace(one, source={"sha256": "other"}) for one in made]
    computed.clear()
    baseline_table("isi_histogram", other, kept=tmp_path)
    assert len(computed) == 3
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".npy" or path.name.startswith(".")]


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of rate_regularity"):
        baseline_table("tuning", [population()])


def trains(*times: list[int], bins: int = 4000) -> Population:
    """Make units that fire in given bins."""
    made = population(units=len(times), bins=bins)
    activity = np.zeros((len(times), bins), np.uint8)
    for unit, own in enumerate(times):
        np.add.at(activity[unit], own, 1)
    return replace(made, activity=activity)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=30))
def test_intervals_are_those_of_the_spikes(times: list[int]) -> None:
    made = trains(times)
    expected = np.histogram(np.diff(sorted(times)) * 0.02, [*interval_edges(0.02)[:-1], np.inf])[0]
    np.testing.assert_array_equal(interval_counts(np.asarray(made.activity), 0.02)[0], expected)


def test_intervals_do_not_reach_across_a_gap_and_a_silent_unit_has_none() -> None:
    made = replace(trains([0, 10, 2000, 2010], []), valid_spans=np.array([(0.0, 20.0), (40.0, 80.0)]))
    shares = isi_histogram(made) ** 2
    assert np.count_nonzero(shares[0]) == 1
    assert shares.sum(axis=1).tolist() == [1, 0]


def test_a_regular_unit_is_told_from_a_random_one_of_its_rate() -> None:
    rng = np.random.default_rng(0)
    made = trains(list(range(0, 4000, 20)), sorted(rng.choice(4000, 200, replace=False).tolist()))
    regular, random = rate_regularity(made)
    assert regular[0] == pytest.approx(random[0])
    assert (regular[3:] < random[3:] - 1).all()
    assert autocorrelogram(made)[0].max() > 0.9 > 0.3 > autocorrelogram(made)[1].max()


def test_calcium_events_are_rises() -> None:
    made = population(units=2, bins=300, modality="calcium", bin_s=0.2)
    activity = np.zeros((2, 300), np.float32)
    activity[0, [50, 51, 52, 100]] = 1.0
    assert np.argwhere(events(replace(made, activity=activity))).tolist() == [[0, 50], [0, 100]]


def test_lolcats_windows_are_histograms_of_three_seconds() -> None:
    made = trains(list(range(0, 300, 10)), [])
    windows = lolcat_windows(made).reshape(2, -1, INTERVAL_BINS)
    # Two whole windows of 150 bins hold spikes; the silent unit has none.
    np.testing.assert_allclose(windows[0].sum(axis=1)[:3], [1, 1, 0])
    assert not windows[1].any()
