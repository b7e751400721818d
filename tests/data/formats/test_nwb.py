"""Recordings of every kind are read from NWB files that pynwb wrote; bad ones are refused by name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO
from strategies import new_nwb, poisson_trains, save_nwb, span_lists, write_traces, write_units

import nuclr
from nuclr.config import Chunk, Nwb, Reading
from nuclr.data import formats
from nuclr.data.chunk import chunk_recording
from nuclr.data.formats import nwb
from nuclr.data.formats.nwb.file import opened
from nuclr.data.recording import SpikeTrains, Traces, distinct, intersect_spans, safe_name
from nuclr.data.store import stores
from nuclr.errors import DataError, NuclrError


def read_populations(path: Path, unit_columns: list[str] | None = None, **named: Any) -> formats.Raw:
    return nwb.read_populations(path, Reading(nwb=Nwb(unit_columns=unit_columns or [], **named)))


def spikes(path: Path, **options: Any) -> list[SpikeTrains]:
    found = read_populations(path, **options)
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


def test_probes_whose_names_differ_by_other_signs_alone_are_populations_of_their_own(tmp_path: Path) -> None:
    path = write_units(
        tmp_path / "a.nwb",
        poisson_trains(6, 20.0),
        regions=["x"] * 6,
        probes=["probe 1", "probe-1", "\u5de6", "\u53f3", "Probe-1", "probe-1-2"],
    )
    found = spikes(path)
    assert [one.population for one in found] == [
        "Probe-1", "probe-1-3", "probe-1-4", "probe-1-2", "unnamed", "unnamed-2",
    ]  # fmt: skip
    names = chunk_recording(found, tmp_path / "out", dataset="d", animal="a", recording="r", options=Chunk())
    assert len(names) == len(stores(tmp_path / "out")) == 6


@given(st.lists(st.text(max_size=4) | st.sampled_from(["a", "A", "a-2", "a 2", "a-2-2"])))
def test_no_two_names_are_one_whatever_they_were(names: list[str]) -> None:
    safe = [safe_name(name) for name in names]
    made = distinct(safe)
    assert len({name.lower() for name in made}) == len(names)
    assert [safe_name(name) for name in made] == made
    assert all(new.startswith(old) for old, new in zip(safe, made, strict=True))
    if len({name.lower() for name in safe}) == len(names):
        assert made == safe


SEVERAL = ["left/dff", "right/dff", "right/d ff", "left/d-ff"]


def test_series_of_the_same_rois_are_the_same_cells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (only,) = read_populations(write_traces(tmp_path / "a.nwb", np.ones((4, 2)), more=SEVERAL))
    assert len(only.units) == 2
    assert "of several series of the same ROIs" in caplog.text
    assert "nwb.series names another" in caplog.text


def test_series_of_one_name_are_populations_of_their_own(tmp_path: Path) -> None:
    path = write_traces(tmp_path / "a.nwb", np.ones((4, 2)), more=SEVERAL)
    named: Any = {"series": ["dff", "d ff", "d-ff"], "planes": "apart"}
    found = read_populations(path, **named)
    assert {one.population for one in found} == {"dff", "dff-2", "dff-3", "d-ff", "d-ff-2"}
    ids = [unit for one in found for unit in one.units["unit_id"]]
    assert len(set(ids)) == len(ids) == 10
    again = read_populations(path, **named)
    assert [one.population for one in again] == [one.population for one in found]


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


def test_without_observation_intervals_the_session_is_from_its_first_spike_to_its_last(
    tmp_path: Path,
) -> None:
    (only,) = spikes(write_units(tmp_path / "a.nwb", [np.array([1.5, 9.0]), np.array([2.0])]))
    np.testing.assert_allclose(only.valid_spans, [[1.0, 9.0]])
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
    np.testing.assert_array_equal(only.read(0, only.count), traces.T)


def test_unevenly_spaced_frames_are_refused(tmp_path: Path) -> None:
    times = np.array([0.0, 0.5, 1.0, 9.0])
    path = write_traces(tmp_path / "a.nwb", np.ones((4, 2)), timestamps=times)
    with pytest.raises(DataError, match=r"a\.nwb: frames of dff are not evenly spaced"):
        read_populations(path)


def test_a_file_with_neither_units_nor_dff_is_refused(tmp_path: Path) -> None:
    path = save_nwb(new_nwb(), tmp_path / "empty.nwb")
    with pytest.raises(DataError, match=r"empty\.nwb: contains neither units nor dF/F"):
        read_populations(path)


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(2, 9.0), columns={"area": ["x", "y"]})
    with pytest.raises(DataError, match=r"a\.nwb: no column cell_type .* the columns are area, spike_times"):
        read_populations(path, ["cell_type"])


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = write_units(tmp_path / "cut.nwb", poisson_trains(20, 60.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(
        DataError, match=r"cut\.nwb: damaged, truncated, or not an NWB file .* download or write it again"
    ):
        read_populations(path)


def test_times_in_samples_are_refused(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", [np.array([30_000.0, 90_000_000.0])])
    with pytest.raises(DataError, match="times must be in seconds"):
        read_populations(path)


def test_a_session_tiled_by_trials_is_one_span(tmp_path: Path) -> None:
    trials = [[0.1 * k, 0.1 * (k + 1)] for k in range(200)]  # of which most touch but for rounding
    path = write_units(tmp_path / "a.nwb", poisson_trains(3, 20.0), obs_intervals=trials)
    (only,) = spikes(path)
    np.testing.assert_allclose(only.valid_spans, [[0.0, 20.0]])


def test_observed_intervals_may_overlap_and_come_in_any_order(tmp_path: Path) -> None:
    nwb = new_nwb()
    nwb.add_unit(spike_times=[6.0], obs_intervals=[[12.0, 20.0], [0.0, 8.0], [5.0, 9.0], [9.0, 9.0]])
    (only,) = spikes(save_nwb(nwb, tmp_path / "a.nwb"))
    np.testing.assert_allclose(only.valid_spans, [[0.0, 9.0], [12.0, 20.0]])


@pytest.mark.parametrize("bad", [[[5.0, 3.0]], [[0.0, np.nan]], [[0.0, np.inf]]])
def test_observed_intervals_that_are_none_are_refused_by_unit(tmp_path: Path, bad: list[list[float]]) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(2, 20.0), obs_intervals=bad)
    with pytest.raises(
        DataError, match=r"a\.nwb: obs_intervals of unit 0: an interval is not finite, ends before"
    ):
        read_populations(path)


def write_observed(path: Path, observed: dict[str, list[list[list[float]]]]) -> Path:
    """Write probes whose units were each observed at the traces have frame times."""
    nwb = new_nwb()
    device = nwb.create_device("device")
    for number, (probe, units) in enumerate(observed.items()):
        group = nwb.create_electrode_group(probe, description="", location="", device=device)
        nwb.add_electrode(location="x", group=group)
        for spans in units:
            # pynwb takes no empty list for "never observed".
            obs_intervals = np.asarray(spans, dtype=float).reshape(-1, 2)
            nwb.add_unit(
                spike_times=np.arange(1.0, 99.0, 0.1), electrodes=[number], obs_intervals=obs_intervals
            )
    return save_nwb(nwb, path)


def test_the_units_of_one_probe_do_not_cut_the_spans_of_another(tmp_path: Path) -> None:
    observed = {"a": [[[0.0, 100.0]]] * 2, "b": [[[0.0, 30.0]]] * 2}
    a, b = spikes(write_observed(tmp_path / "a.nwb", observed))
    np.testing.assert_allclose(a.valid_spans, [[0.0, 100.0]])
    np.testing.assert_allclose(b.valid_spans, [[0.0, 30.0]])


def test_a_unit_observed_for_far_less_than_the_rest_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_observed(tmp_path / "a.nwb", {"a": [[[0.0, 100.0]], [[0.0, 10.0]], [[5.0, 100.0]]]})
    (only,) = spikes(path)
    np.testing.assert_allclose(only.valid_spans, [[5.0, 100.0]])
    assert only.units["unit_id"].tolist() == ["mouse_session_0", "mouse_session_2"]
    assert "population a: 1 unit observed for less than half as long as the others" in caplog.text


def test_units_that_were_never_observed_together_are_refused(tmp_path: Path) -> None:
    path = write_observed(tmp_path / "a.nwb", {"a": [[[0.0, 50.0]], [[50.0, 100.0]]]})
    with pytest.raises(DataError, match="population a: the units were never observed at the same time"):
        read_populations(path)


def test_a_probe_of_which_nothing_is_said_has_the_whole_session(tmp_path: Path) -> None:
    a, b = spikes(write_observed(tmp_path / "a.nwb", {"a": [[[0.0, 50.0]]], "b": [[]]}))
    np.testing.assert_allclose(a.valid_spans, [[0.0, 50.0]])
    np.testing.assert_allclose(b.valid_spans, [[1.0, 98.9]])


def test_invalid_times_over_everything_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_observed(tmp_path / "a.nwb", {"a": [[[0.0, 100.0]]], "b": [[[0.0, 30.0]]]})

    def invalidate(stop: float) -> None:
        with NWBHDF5IO(str(path), "a") as io:
            nwb = io.read()
            nwb.add_invalid_time_interval(start_time=0.0, stop_time=stop)
            io.write(nwb)

    invalidate(40.0)
    (a,) = spikes(path)
    assert a.population == "a"
    assert "population b: invalid_times cover the whole session; left out" in caplog.text
    with h5py.File(path, "a") as file:
        file["intervals/invalid_times/stop_time"][0] = 200.0
    with pytest.raises(DataError, match="invalid_times cover the whole recording"):
        read_populations(path)
    with h5py.File(path, "a") as file:
        file["intervals/invalid_times/stop_time"][0] = -1.0
    with pytest.raises(DataError, match="invalid_times: an interval is NaN or ends before it begins"):
        read_populations(path)


def test_an_error_of_ours_is_not_called_a_damaged_file(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(2, 9.0))
    with pytest.raises(ZeroDivisionError), opened(path):
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["units", "traces"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_content_ends_in_a_traceback(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    """One dataset of a good file is cut, lengthened, moved out of range, made text, or not there at all."""
    path = tmp_path / f"{kind}.nwb"
    if kind == "units":
        write_units(
            path,
            poisson_trains(3, 12.0),
            regions=["x", "y", "x"],
            probes=["a", "b", "a"],
            obs_intervals=[[0.0, 12.0]],
            columns={"label": ["p", "q", "r"]},
        )
    else:
        write_traces(path, np.ones((6, 2)), columns={"label": ["p", "q"]})
    places: list[str] = []
    with h5py.File(path, "a") as file:
        file.visititems(lambda name, item: places.append(name) if isinstance(item, h5py.Dataset) else None)
        place = data.draw(
            st.sampled_from([name for name in places if not name.startswith("specifications")]), label="place"
        )
        old, attributes = file[place][()], dict(file[place].attrs)
        change = data.draw(
            st.sampled_from(["cut", "lengthen", "empty", "far", "nan", "text", "flat", "gone"])
        )
        flat = np.atleast_1d(old)
        new: Any = {
            "cut": lambda: flat[:-1],
            "lengthen": lambda: np.concatenate([flat, flat]),
            "empty": lambda: flat[:0],
            "far": lambda: np.full(flat.shape, 10**6),
            "nan": lambda: np.full(flat.shape, np.nan),
            "text": lambda: np.full(flat.shape, b"text"),
            "flat": lambda: np.stack([flat, flat], axis=-1) if flat.dtype.kind in "iuf" else flat,
            "gone": lambda: None,
        }[change]()
        del file[place]
        if new is not None:
            made = file.create_dataset(place, data=new)
            for name, value in attributes.items():
                made.attrs[name] = value
    with suppress(NuclrError):
        found = read_populations(path, ["label"])
        chunk_recording(
            found, tmp_path / "out", dataset="d", animal="a", recording="r", options=Chunk(min_rate_hz=0)
        )


@pytest.mark.parametrize("column", ["rel_y", "probe_vertical_position"])
def test_units_lie_where_their_electrodes_do(tmp_path: Path, column: str) -> None:
    nwb = new_nwb()
    device = nwb.create_device("device")
    group = nwb.create_electrode_group("probe", description="", location="", device=device)
    if column != "rel_y":
        nwb.add_electrode_column(column, "um from the tip")
    for depth in (40.0, 20.0, np.nan):
        nwb.add_electrode(location="CA1", group=group, **{column: depth})
    for unit, times in enumerate(poisson_trains(3, 10.0)):
        nwb.add_unit(spike_times=times, electrodes=[unit])
    (population,) = nuclr.read(save_nwb(nwb, tmp_path / "a.nwb"))
    np.testing.assert_array_equal(population.units["depth_um"], [40.0, 20.0, np.nan])


def test_what_units_say_of_their_depth_counts_before_their_electrodes(tmp_path: Path) -> None:
    trains = poisson_trains(3, 10.0)
    told = write_units(tmp_path / "a.nwb", trains, columns={"depth_um": [5.0, 7.0, 6.0]})
    (population,) = nuclr.read(told)
    assert population.units["depth_um"].tolist() == [5.0, 7.0, 6.0]
    (without,) = nuclr.read(write_units(tmp_path / "b.nwb", trains, regions=["CA1"] * 3))
    assert "depth_um" not in without.units
