"""Recordings of every kind are read from NWB files that pynwb wrote; bad ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from strategies import new_nwb, poisson_trains, save_nwb, span_lists, write_traces, write_units

from nuclr.data.recording import SpikeTrains, Traces
from nuclr.data.sources.nwb import find_recordings, read_populations
from nuclr.data.spans import intersect_spans
from nuclr.errors import DataError


def spikes(path: Path, **options: object) -> list[SpikeTrains]:
    found = read_populations(path, **options)  # type: ignore[arg-type]
    assert all(isinstance(one, SpikeTrains) for one in found)
    return found  # type: ignore[return-value]


def test_spike_times_come_back_as_written(tmp_path: Path) -> None:
    trains = poisson_trains(5, 20.0)
    (only,) = spikes(write_units(tmp_path / "a.nwb", trains))
    for mine, written in zip(only.spikes.trains(), trains, strict=True):
        np.testing.assert_array_equal(mine, written)
    assert only.units["unit_id"].tolist() == [f"mouse_session_{i}" for i in range(5)]


def test_each_electrode_group_is_a_population(tmp_path: Path) -> None:
    trains = poisson_trains(4, 20.0)
    path = write_units(
        tmp_path / "a.nwb", trains, regions=["CA1", "CA1", "VISp", "TH"], probes=["p1", "p0", "p1", "p0"]
    )
    first, second = spikes(path)
    assert (first.population, second.population) == ("p0", "p1")
    assert first.units["brain_region"].tolist() == ["CA1", "TH"]
    assert second.units["brain_region"].tolist() == ["CA1", "VISp"]
    np.testing.assert_array_equal(next(second.spikes.trains()), trains[0])


def test_the_region_may_be_a_unit_column_and_labels_are_kept(tmp_path: Path) -> None:
    path = write_units(
        tmp_path / "a.nwb",
        poisson_trains(2, 20.0),
        columns={"area": ["CA1", "CA3"], "quality": [0.5, 0.9], "other": ["x", "y"]},
    )
    (only,) = spikes(path, unit_columns=["quality"], region_column="area")
    assert only.units.columns.tolist() == ["unit_id", "quality", "brain_region"]
    assert only.units["brain_region"].tolist() == ["CA1", "CA3"]
    assert only.units["quality"].tolist() == [0.5, 0.9]


def test_valid_spans_are_those_of_all_units(tmp_path: Path) -> None:
    nwb = new_nwb()
    for spans in ([[0.0, 10.0], [20.0, 30.0]], [[5.0, 25.0]]):
        nwb.add_unit(spike_times=[6.0], obs_intervals=spans)
    nwb.add_invalid_time_interval(start_time=6.5, stop_time=7.0)
    (only,) = spikes(save_nwb(nwb, tmp_path / "a.nwb"))
    np.testing.assert_allclose(only.valid_spans, [[5.0, 6.5], [7.0, 10.0], [20.0, 25.0]])


def test_without_observation_intervals_the_session_ends_with_its_last_spike(tmp_path: Path) -> None:
    (only,) = spikes(write_units(tmp_path / "a.nwb", [np.array([1.0, 9.0]), np.array([2.0])]))
    np.testing.assert_allclose(only.valid_spans, [[0.0, 9.0]])
    assert only.valid_spans[0, 1] > 9.0


@given(span_lists(), span_lists())
def test_intersecting_spans_is_the_intersection_of_their_points(a: np.ndarray, b: np.ndarray) -> None:
    def points(spans: np.ndarray) -> set[int]:
        return {t for start, stop in spans for t in range(int(start), int(stop))}

    assert points(intersect_spans(a, b)) == points(a) & points(b)


def test_dff_is_read_with_its_labels(tmp_path: Path) -> None:
    traces = np.arange(12.0).reshape(4, 3)
    (only,) = read_populations(
        write_traces(tmp_path / "a.nwb", traces, columns={"kind": ["s", "m", ""]}), ["kind"]
    )
    assert isinstance(only, Traces)
    assert only.frame_s == 0.5
    np.testing.assert_allclose(only.valid_spans, [[0.0, 2.0]])
    assert only.units["kind"].tolist() == ["s", "m", ""]
    (frames,) = only.frames
    np.testing.assert_array_equal(frames.read(0, frames.count), traces)


def test_unevenly_spaced_frames_are_refused(tmp_path: Path) -> None:
    times = np.array([0.0, 0.5, 1.0, 9.0])
    path = write_traces(tmp_path / "a.nwb", np.ones((4, 2)), timestamps=times)
    with pytest.raises(DataError, match=r"a\.nwb: frames of dff are not evenly spaced"):
        read_populations(path)


def test_a_file_with_neither_units_nor_dff_is_refused(tmp_path: Path) -> None:
    path = save_nwb(new_nwb(), tmp_path / "empty.nwb")
    with pytest.raises(DataError, match=r"empty\.nwb: neither units nor dF/F"):
        read_populations(path)


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(2, 9.0), columns={"area": ["x", "y"]})
    with pytest.raises(DataError, match=r"a\.nwb: no column cell_type .* it has area, spike_times"):
        read_populations(path, ["cell_type"])


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = write_units(tmp_path / "cut.nwb", poisson_trains(20, 60.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"cut\.nwb: not a whole NWB file .* fetch or write it again"):
        find_recordings(tmp_path)
    with pytest.raises(DataError, match=r"cut\.nwb: not a whole NWB file"):
        read_populations(path)


def test_times_in_samples_are_refused(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", [np.array([30_000.0, 90_000_000.0])])
    with pytest.raises(DataError, match="spike times must be in seconds"):
        read_populations(path)


def test_a_file_without_a_subject_is_refused(tmp_path: Path) -> None:
    write_units(tmp_path / "a.nwb", poisson_trains(2, 9.0), animal=None)
    with pytest.raises(DataError, match=r"a\.nwb: no subject_id"):
        find_recordings(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.nwb file there; set nwb\.folder"):
        find_recordings(tmp_path)


def test_recordings_of_the_same_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_units(tmp_path / folder / "a.nwb", poisson_trains(1, 9.0))
    with pytest.raises(DataError, match="would both be recording a"):
        find_recordings(tmp_path)


def test_recordings_are_found_at_any_depth_with_safe_names(tmp_path: Path) -> None:
    write_units(tmp_path / "deep" / "er" / "my file (1).nwb", poisson_trains(1, 9.0), animal="M 1")
    (tmp_path / "deep" / "._my file (1).nwb").write_bytes(b"left there by another system")
    (found,) = find_recordings(tmp_path)
    assert found.recording == "my-file-1"
    assert found.animal == "M 1"
