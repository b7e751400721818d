"""Spikes kept by time are counted as those kept by unit, whatever the shards and the order."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import poisson_trains, span_lists, write_units

from nuclr.config import Chunk
from nuclr.data.access.columns import Column
from nuclr.data.chunk import bin_spikes, silences
from nuclr.data.recording import SpikeTrains, intersect_spans, remove_spans
from nuclr.data.spikes import SpikesByTime, SpikesByUnit
from nuclr.errors import DataError


def by_time(
    folder: Path, trains: list[np.ndarray], ids: list[int], *, shuffle: bool = False, column: bool = False
) -> SpikesByTime:
    """Write trains in ALF, cluster ``ids[i]`` for train i, beside spikes of a cluster that is no unit."""
    times = np.concatenate([*trains, np.linspace(0.1, 3, 40)])
    clusters = np.concatenate([np.repeat(ids, [len(t) for t in trains]), np.full(40, 3)])
    order = np.random.default_rng(0).permutation(len(times)) if shuffle else np.argsort(times)
    for name, values in (("times", times[order]), ("clusters", clusters[order].astype(np.uint32))):
        np.save(folder / f"spikes.{name}.npy", values[:, None] if column else values)
    return SpikesByTime(
        Column(folder / "spikes.times.npy"), Column(folder / "spikes.clusters.npy"), np.array(ids)
    )


def by_unit(path: Path) -> SpikesByUnit:
    """Find the trains of a Units table."""
    with h5py.File(path) as file:
        stops = file["units/spike_times_index"][:].astype(np.int64)
    return SpikesByUnit(Column(path, dataset="units/spike_times"), np.r_[0, stops[:-1]], stops)


def trains_of(spikes: SpikesByTime | SpikesByUnit, path: Path, units: int, duration_s: float) -> SpikeTrains:
    table = pd.DataFrame({"unit_id": [f"u{i}" for i in range(units)]})
    return SpikeTrains(path, "p", table, spikes, np.array([[0.0, duration_s]]))


@settings(max_examples=15)
@given(
    st.floats(3, 30),
    st.floats(0.5, 9),
    st.booleans(),
    st.booleans(),
    st.sampled_from([13, 2**19]),
    st.integers(0, 99),
)
def test_by_time_is_by_unit(
    tmp_path_factory: pytest.TempPathFactory,
    duration_s: float,
    shard_s: float,
    shuffle: bool,
    column: bool,
    part: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("spikes")
    trains = poisson_trains(4, duration_s * 1.1, rate_hz=8, seed=seed)
    options = Chunk(chunk_s=shard_s, shard_s=shard_s, min_rate_hz=7.5)
    path = write_units(folder / "a.nwb", trains)
    unit = bin_spikes(trains_of(by_unit(path), path, 4, duration_s), options)
    alf = by_time(folder, trains, [5, 0, 9, 2], shuffle=shuffle, column=column)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuclr.data.spikes.PART", part)  # spikes read at a time
        time = bin_spikes(trains_of(alf, folder, 4, duration_s), options)
        np.testing.assert_array_equal(np.asarray(unit[0]), np.asarray(time[0]))
    np.testing.assert_array_equal(unit[1], time[1])


def test_a_dense_bin_widens_the_type_and_a_file_out_of_order_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alf = by_time(tmp_path, [np.linspace(1.0, 1.019, 300), np.array([5.0, 7.5])], [1, 0], shuffle=True)
    activity, _, _ = bin_spikes(trains_of(alf, tmp_path, 2, 6.0), Chunk())
    assert activity.dtype == np.uint16
    assert int(np.asarray(activity)[0, 50]) == 300
    assert "spike times of 1 file were not in ascending order; they were sorted" in caplog.text
    assert "1 of 302 spikes is outside the session" in caplog.text


def test_a_damaged_pair_of_files_is_refused(tmp_path: Path) -> None:
    alf = by_time(tmp_path, [np.array([1.0, np.nan])], [0])
    with pytest.raises(DataError, match=r"spikes\.times\.npy: spike times contain NaN"):
        bin_spikes(trains_of(alf, tmp_path, 1, 6.0), Chunk())
    np.save(alf.clusters.path, np.zeros(3, np.uint32))
    with pytest.raises(
        DataError, match=r"42 spike times, but 3 entries in spikes\.clusters\.npy; copy or download both"
    ):
        bin_spikes(trains_of(alf, tmp_path, 1, 6.0), Chunk())


def test_seconds_in_which_a_whole_probe_is_silent_are_not_valid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trains = [t[(t < 10) | (t > 13)] for t in poisson_trains(20, 60.0)]
    path = write_units(tmp_path / "a.nwb", trains)
    raw = trains_of(by_unit(path), path, 20, 60.0)
    _, _, spans = bin_spikes(raw, Chunk())
    np.testing.assert_array_equal(spans, [[0, 9], [14, 60]])
    assert "population p: all units are silent for 5 s, which are not used" in caplog.text


def test_the_silences_of_a_few_sparse_units_are_chance() -> None:
    sparse = np.random.default_rng(0).poisson(2.0, 3000)
    assert (sparse == 0).sum() > 300
    assert not len(silences(sparse, np.array([[0.0, 3000.0]]), 0.0))
    sparse[1000:1020] = 0
    np.testing.assert_array_equal(silences(sparse, np.array([[0.0, 3000.0]]), 0.0), [[999, 1021]])


def test_a_dead_probe_is_silent_throughout_and_bursts_are_not() -> None:
    whole = np.array([[2.0, 102.0]])
    np.testing.assert_array_equal(silences(np.zeros(100, int), whole, 2.0), [[1, 103]])
    bursts = np.zeros(100, int)
    bursts[::10] = 500
    assert not len(silences(bursts, whole, 2.0))


def test_seconds_outside_the_valid_spans_are_passed_over() -> None:
    counts = np.full(30, 100)
    counts[10:15] = 0
    assert not len(silences(counts, np.array([[0.0, 10.5], [14.5, 30.0]]), 0.0))


@given(span_lists(), span_lists())
def test_removing_spans_is_taking_their_points_away(a: np.ndarray, b: np.ndarray) -> None:
    def points(spans: np.ndarray) -> set[int]:
        return {t for start, stop in spans for t in range(int(start), int(stop))}

    shuffled = np.concatenate([b[::-1], b[:1]])
    left = remove_spans(a, shuffled)
    assert points(left) == points(a) - points(b)
    np.testing.assert_array_equal(left, intersect_spans(left, a))
