"""The simulation is what its docstring says, and is read like any recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nuclr.config import Nwb, Reading
from nuclr.data.archives.simulated import (
    LABELS,
    STEP_S,
    SimulationSpec,
    ornstein_uhlenbeck,
    simulate,
    simulate_recording,
)
from nuclr.data.formats.nwb import read_populations, subject_of
from nuclr.data.recording import SpikeTrains

SPEC = SimulationSpec(units=40, duration_s=60.0)


def test_the_same_numbers_give_the_same_spikes() -> None:
    first, again, other = (simulate_recording(SPEC, 3, seed) for seed in (1, 1, 2))
    for one, two in zip(first.spike_times, again.spike_times, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(len(a) != len(b) for a, b in zip(first.spike_times, other.spike_times, strict=True))


def test_spikes_are_sorted_and_inside_the_recording() -> None:
    for times in simulate_recording(SPEC, 0, 0).spike_times:
        assert (np.diff(times) >= 0).all()
        assert not len(times) or (times[0] >= 0 and times[-1] <= SPEC.duration_s)


def test_the_fluctuation_has_unit_variance_and_its_time_constant() -> None:
    x = ornstein_uhlenbeck(2_000_000, 1.0, np.random.default_rng(0))
    assert abs(x.std() - 1) < 0.05
    lag = round(1.0 / STEP_S)
    assert abs((x[lag:] * x[:-lag]).mean() - np.exp(-1)) < 0.05


def test_followers_go_with_the_population_and_opponents_against_it() -> None:
    spec = SimulationSpec(units=120, duration_s=300.0, tau_sd=0.0, coupling_sd=0.0, gain_sd=0.0)
    made = simulate_recording(spec, 0, 0)
    counts = np.stack([np.histogram(t, np.arange(0, 301, 1.0))[0] for t in made.spike_times])
    z = counts - counts.mean(1, keepdims=True)
    z /= z.std(1, keepdims=True) + 1e-9
    followers = z[(made.units["cell_type"] == "follower").to_numpy()].mean(0)
    with_followers = z @ followers / z.shape[1]
    kinds = made.units["cell_type"].to_numpy()
    means = [with_followers[kinds == kind].mean() for kind in ("follower", "indifferent", "opponent")]
    assert means[0] > means[1] + 0.1
    assert means[1] > means[2] + 0.1


def test_a_unit_rate_does_not_give_its_type_away() -> None:
    """Inside an animal: over animals, chance shares of types in busy and quiet ones would be taken for it."""
    found = []
    for animal in range(60):
        made = simulate_recording(SimulationSpec(), animal, 0)
        rates = [len(times) for times in made.spike_times]
        kinds = made.units["cell_type"].map({"opponent": 0, "indifferent": 1, "follower": 2})
        found.append(spearmanr(rates, kinds).statistic)
    assert abs(np.mean(found)) < 0.1


def test_recordings_are_read_back_through_the_nwb_source(tmp_path: Path) -> None:
    (path,) = simulate(SPEC, 1, 7, tmp_path)
    made = simulate_recording(SPEC, 0, 7)
    (read,) = read_populations(path, Reading(nwb=Nwb(unit_columns=list(LABELS))))
    assert isinstance(read, SpikeTrains)
    assert subject_of(path) == "sim000"
    assert read.origin == "simulated"
    for mine, written in zip(read.spikes.trains(), made.spike_times, strict=True):
        np.testing.assert_array_equal(mine, written)
    for column in ("cell_type", "brain_region"):
        assert read.units[column].tolist() == made.units[column].tolist()
    np.testing.assert_array_equal(read.valid_spans, [[0.0, SPEC.duration_s]])
