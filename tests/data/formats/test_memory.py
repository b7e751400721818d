"""What people hold in notebooks becomes the population that the same recording in a file is."""

from __future__ import annotations

import logging
from collections import UserDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, NWBFile
from strategies import new_nwb, poisson_trains, save_nwb, write_traces, write_units

import nuclr
from nuclr.config import Views
from nuclr.data.population import Population
from nuclr.errors import DataError, NothingToLearn
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.saved import SavedModel
from nuclr.sharing.loaded import Model

TRAINS = poisson_trains(12, 20.0)
LABELS = {"brain_region": ["CA1"] * 6 + ["VISp"] * 6}
DFF = np.random.default_rng(0).normal(size=(12, 200)).astype(np.float32)


def model(modality: str = "spikes", bin_s: float = 0.02, min_rate_hz: float = 0.0) -> Model:
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec(patch=10, tokens=5, dim=16, heads=2, dim_head=8)).eval()
    views = Views(window_s=50 * bin_s, patch=10).model_dump()
    record = {"modality": modality, "bin_s": bin_s, "min_rate_hz": min_rate_hz, "config": {"views": views}}
    return Model(SavedModel(encoder, record, "hash"))


def same(one: Population, other: Population) -> None:
    np.testing.assert_array_equal(np.asarray(one.activity), np.asarray(other.activity))
    np.testing.assert_allclose(one.valid_spans, other.valid_spans)
    assert (one.modality, one.start_s) == (other.modality, other.start_s)
    assert one.bin_s == pytest.approx(other.bin_s)


# As pynapple 0.11 has them.
class IntervalSet:
    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, float)


class Ts:
    def __init__(self, t: np.ndarray, support: Any = ((0.0, 1.0),)) -> None:
        self.t = t
        self.time_support = IntervalSet(support)

    def times(self) -> np.ndarray:
        return self.t


class TsGroup(UserDict):  # type: ignore[type-arg]
    def __init__(self, trains: dict[int, np.ndarray], support: Any, metadata: dict[str, Any]) -> None:
        super().__init__({unit: Ts(own) for unit, own in trains.items()})
        self.time_support = IntervalSet(support)
        self.metadata = pd.DataFrame({"rate": [1.0] * len(trains), **metadata}, index=list(trains))
        self.metadata_columns = list(self.metadata.columns)


class TsdFrame:
    def __init__(self, t: np.ndarray, d: np.ndarray, support: Any, metadata: dict[str, Any]) -> None:
        self.t, self.d, self.values, self.time_support = t, d, d, IntervalSet(support)
        self.columns = pd.Index([f"roi{i}" for i in range(d.shape[1])])
        self.metadata = pd.DataFrame(metadata, index=self.columns)
        self.metadata_columns = list(self.metadata.columns)


# As neo 0.14 has them.
class Quantity:
    def __init__(self, magnitude: Any, units: str) -> None:
        self.magnitude, self.units = np.asarray(magnitude, float), units

    def rescale(self, units: str) -> Quantity:
        assert units == "s"
        return Quantity(self.magnitude * {"ms": 1e-3, "s": 1.0}[self.units], "s")

    def __float__(self) -> float:
        return float(self.magnitude)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self.magnitude


class SpikeTrain(Quantity):
    def __init__(self, times: Any, units: str, t_stop: float, name: str | None, **annotations: Any) -> None:
        super().__init__(times, units)
        self.t_start, self.t_stop = Quantity(0.0, units), Quantity(t_stop, units)
        self.name, self.annotations = name, annotations


class Segment:
    def __init__(self, trains: list[SpikeTrain]) -> None:
        self.spiketrains = trains


class Block:
    def __init__(self, segments: list[Any]) -> None:
        self.segments = segments


class Sorting:
    """As SpikeInterface 0.105 has ``BaseSorting``."""

    def __init__(self, trains: dict[Any, np.ndarray], segments: int = 1, **properties: Any) -> None:
        self._trains, self._segments, self._properties = trains, segments, properties
        self.unit_ids = np.array(list(trains))

    def get_num_segments(self) -> int:
        return self._segments

    def get_sampling_frequency(self) -> float:
        return 30000.0

    def get_start_time(self, segment_index: int | None = None) -> float:
        return 0.0

    def has_recording(self) -> bool:
        return False

    def get_property_keys(self) -> list[str]:
        return list(self._properties)

    def get_property(self, key: str) -> np.ndarray:
        return np.array(self._properties[key])

    def get_unit_spike_train(
        self, unit_id: Any, segment_index: int | None = None, return_times: bool = False
    ) -> np.ndarray:
        assert return_times
        return self._trains[unit_id]


def test_embeddings_are_those_of_the_same_spikes_in_a_file(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", TRAINS)
    own = model()
    from_file = own.embed(nuclr.read(path, model=own))
    from_memory = own.embed(nuclr.from_spike_times(TRAINS, model=own))
    np.testing.assert_array_equal(from_memory.vectors, from_file.vectors)
    np.testing.assert_array_equal(from_memory.windows, from_file.windows)
    assert from_memory.windows.min() > 0


def test_embeddings_are_those_of_the_same_traces_in_a_file(tmp_path: Path) -> None:
    path = write_traces(tmp_path / "a.nwb", DFF.T, rate=10.0)
    own = model("calcium", 0.1)
    from_file, from_memory = own.embed(own.read(path)), own.embed(nuclr.from_traces(DFF, 10.0))
    np.testing.assert_array_equal(from_memory.vectors, from_file.vectors)


def test_a_list_a_dictionary_and_a_series_are_the_same_but_for_their_ids() -> None:
    listed = nuclr.from_spike_times(TRAINS, labels=LABELS, animal="m", recording="day 1")
    ids = list(range(40, 52))
    for held in (dict(zip(ids, TRAINS, strict=True)), pd.Series(TRAINS, index=ids)):
        keyed = nuclr.from_spike_times(held)
        same(listed, keyed)
        assert keyed.units["unit_id"].tolist() == list(map(str, ids))
    assert listed.units["unit_id"].tolist() == [str(i) for i in range(12)]
    assert listed.units["brain_region"].tolist() == LABELS["brain_region"]
    assert (listed.animal, listed.recording, listed.population) == ("m", "day-1", "day-1/all")
    assert (keyed.animal, keyed.recording) == ("memory", "memory")


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.floats(0.01, 19.99), min_size=1, max_size=30), min_size=1, max_size=4),
    st.integers(1, 20),
)
def test_counts_are_those_of_a_histogram(trains: list[list[float]], start: int) -> None:
    trains[0] = [*trains[0], *(i + 0.5 for i in range(20))]  # no second is silent
    made = nuclr.from_spike_times(trains, start_s=0, stop_s=20, bin_s=0.5)
    activity = np.asarray(made.activity)
    assert activity.shape == (len(trains), 40)
    assert activity.sum(axis=1).tolist() == [len(own) for own in trains]
    np.testing.assert_array_equal(activity[0], np.histogram(trains[0], np.arange(41) / 2)[0])


def test_what_a_file_is_warned_of_is_warned_of_here(caplog: pytest.LogCaptureFixture) -> None:
    trains = [own.copy() for own in TRAINS]
    trains[0] = trains[0][::-1]
    made = nuclr.from_spike_times(trains, stop_s=15.0)
    assert "1 unit were not in ascending order" in caplog.text
    assert "outside the session" in caplog.text
    assert made.activity.shape[1] == 750
    trains[3][2] = np.nan
    with pytest.raises(DataError, match="memory: unit 3: spike times contain NaN"):
        nuclr.from_spike_times(trains)


def test_the_array_may_change_afterwards() -> None:
    trains = [own.copy() for own in TRAINS]
    made = nuclr.from_spike_times(trains)
    trains[0][:] = 1.0
    same(made, nuclr.from_spike_times(TRAINS))


@pytest.mark.parametrize(
    ("trains", "says"),
    [
        ([], "no unit"),
        ({}, "no unit"),
        ([[], []], "no spike"),
        ([[np.nan]], "no spike"),
        ({1: [0.5], "1": [0.7]}, "two units have the id 1"),
        ([np.array([15, 30000, 600000])], "divide samples by the sampling rate"),
        ([np.array([15.0, 30000.0, 600000.0])], "divide samples by the sampling rate"),
        ([np.array([0.5, 3e6])], "must be in seconds"),
        ([["a"]], "unit 0: spike times are <U1; give one number"),
        (["0.5"], "spike times are .*; give one number"),
        ([np.zeros((2, 3))], r"shape \(2, 3\)"),
        ([np.array(["2020-01-01"], "M8[s]")], "spike times are .*; give one number"),
        ([[[0.5], [0.6, 0.7]]], "spike times are .*; give one number"),
        ([np.array([True])], "spike times are .*; give one number"),
        (np.zeros((2, 3)), "ndarray is not supported"),
        (np.array([0.5, 0.6]), "ndarray is not supported"),
        (pd.DataFrame({"a": [0.5]}), "DataFrame is not supported"),
        (da.zeros((2, 3)), "Array is not supported"),
        (7, "int is not supported"),
        (None, "NoneType is not supported"),
        ([SimpleNamespace(units="ms")], "has a physical unit"),
    ],
)
def test_what_are_no_spike_times_in_seconds_is_refused_in_one_line(trains: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as error:
        nuclr.from_spike_times(trains)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=says):
        nuclr.read(trains)


def test_few_whole_seconds_and_columns_of_matlab_are_taken() -> None:
    made = nuclr.from_spike_times([[0, 1, 2, 3], np.array([[0.5], [1.5], [2.5]]), np.array([])], bin_s=0.5)
    assert np.asarray(made.activity).sum(axis=1).tolist() == [4, 3, 0]


def test_nothing_that_fires_is_nothing_to_learn() -> None:
    with pytest.raises(NothingToLearn, match="min_rate_hz"):
        nuclr.from_spike_times(TRAINS, min_rate_hz=1000)
    with pytest.raises(NothingToLearn, match="no unit ever fires"):
        nuclr.from_spike_times(TRAINS, start_s=100, stop_s=200)
    with pytest.raises(DataError, match="no time is left"):
        nuclr.from_spike_times(TRAINS, start_s=100)


def test_times_in_ms_are_wondered_at(caplog: pytest.LogCaptureFixture) -> None:
    nuclr.from_spike_times([own * 1000 for own in TRAINS])
    assert "check that times are in seconds" in caplog.text
    caplog.clear()
    nuclr.from_spike_times(TRAINS)
    assert not caplog.text


def by_id(*ids: Any) -> pd.DataFrame:
    return pd.DataFrame({"kind": [f"of {unit}" for unit in ids]}, index=list(ids))


@pytest.mark.parametrize(
    "labels",
    [
        {"kind": ["of 7", "of 3", "of 5"]},
        {"kind": np.array(["of 7", "of 3", "of 5"])},
        {"kind": {3: "of 3", 5: "of 5", 7: "of 7"}},
        {"kind": pd.Series(["of 7", "of 3", "of 5"])},
        by_id(3, 5, 7),
        by_id(9, 7, 5, 3, 1),
        by_id("3", "5", "7"),
        by_id(3, 5, 7).rename_axis("unit_id").reset_index(),
        {"unit_id": [3, 5, 7], "kind": ["of 3", "of 5", "of 7"]},
        by_id(7, 3, 5).reset_index(drop=True),
    ],
)
def test_labels_go_to_their_units(labels: Any) -> None:
    trains = {unit: own for unit, own in zip((7, 3, 5), TRAINS, strict=False)}
    made = nuclr.from_spike_times(trains, labels=labels)
    assert made.units["kind"].tolist() == ["of 7", "of 3", "of 5"]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"kind": ["a", "b"]}, "kind has 2 values for 3 units"),
        (pd.DataFrame({"kind": list("abcd")}), "kind has 4 values for 3 units"),
        (by_id(2, 0), "no row for unit 1"),
        (by_id(2, 0, 1, 1), "two rows for the same unit"),
        ({"kind": "E"}, "a value for each unit"),
        ({"kind": 3}, "a value for each unit"),
        ({"unit_id": [0, 1], "kind": ["a", "b", "c"]}, "same length"),
        ({"animal": list("abc")}, "rename it"),
        (["a", "b", "c"], "labels must be .*, not list"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        nuclr.from_spike_times(TRAINS[:3], labels=labels)


def test_rows_that_only_count_are_not_taken_for_ids_in_another_order() -> None:
    with pytest.raises(DataError, match="another order"):
        nuclr.from_spike_times(
            dict(zip((2, 0, 1), TRAINS, strict=False)), labels=pd.DataFrame({"a": list("xyz")})
        )


def test_a_group_of_pynapple_brings_its_epochs_and_its_labels() -> None:
    trains = {3: TRAINS[0], 8: TRAINS[1], 9: TRAINS[2]}
    held = TsGroup(
        trains, [[0.0, 8.0], [10.0, 20.0]], {"region": ["CA1", "CA1", "VISp"], "depth": [1.0, 2, 3]}
    )
    made = nuclr.from_spike_times(held)
    assert list(made.units) == ["unit_id", "region"]
    assert made.units["unit_id"].tolist() == ["3", "8", "9"]
    np.testing.assert_allclose(made.valid_spans, [[0, 8], [10, 20]])
    (chosen,) = nuclr.read(held, unit_columns=["depth"], region_column="region")
    assert chosen.units["brain_region"].tolist() == ["CA1", "CA1", "VISp"]
    assert chosen.units["depth"].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="did you mean region"):
        nuclr.read(held, unit_columns=["regio"])


def test_a_support_from_the_first_spike_to_the_last_says_nothing() -> None:
    together = np.concatenate(TRAINS)
    held = TsGroup(dict(enumerate(TRAINS)), [[together.min(), together.max()]], {})
    same(nuclr.from_spike_times(held), nuclr.from_spike_times(TRAINS))


def test_trains_of_neo_are_brought_to_seconds() -> None:
    trains = [
        SpikeTrain(own * 1000, "ms", 20000.0, f"u{i}", cell="EI"[i % 2]) for i, own in enumerate(TRAINS)
    ]
    plain = nuclr.from_spike_times(TRAINS, start_s=0, stop_s=np.nextafter(20.0, 21))
    for held in (trains, Segment(trains), Block([Segment(trains)])):
        made = nuclr.from_spike_times(held)
        same(made, plain)
        assert made.units["unit_id"].tolist() == [f"u{i}" for i in range(12)]
        assert made.units["cell"].tolist() == list("EI" * 6)
    with pytest.raises(DataError, match="2 segments"):
        nuclr.from_spike_times(Block([1, 2]))
    unnamed = [SpikeTrain([1.0, 2.0], "s", 5.0, None), SpikeTrain([1.5], "s", 5.0, "a")]
    assert nuclr.from_spike_times(unnamed).units["unit_id"].tolist() == ["0", "1"]


def test_a_sorting_is_read_without_its_noise(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trains = dict(zip("abc", TRAINS, strict=False))
    made = nuclr.from_spike_times(Sorting(trains, quality=["good", "noise", "good"], amplitude=[1.0, 2, 3]))
    assert made.units.to_dict("list") == {"unit_id": ["a", "c"], "quality": ["good", "good"]}
    assert "1 of 3 units is labelled noise" in caplog.text
    assert made.valid_spans[0, 0] == 0
    assert list(nuclr.from_spike_times(Sorting(trains)).units) == ["unit_id"]
    with pytest.raises(DataError, match=r"2 segments; select one with sorting.select_segments"):
        nuclr.from_spike_times(Sorting(trains, segments=2))
    with pytest.raises(DataError, match="all 3 units are labelled noise"):
        nuclr.from_spike_times(Sorting(trains, quality=["noise"] * 3))


def test_traces_are_no_spike_times() -> None:
    for held in (dated(), TsdFrame(frames(), DFF.T, [[3.0, 23.0]], {})):
        with pytest.raises(DataError, match="is not supported"):
            nuclr.from_spike_times(held)


def frames(rate_hz: float = 10.0, start_s: float = 3.0) -> np.ndarray:
    return start_s + np.arange(DFF.shape[1]) / rate_hz


def test_traces_in_every_form_are_the_same(tmp_path: Path) -> None:
    made = nuclr.from_traces(DFF, 10.0, start_s=3.0)
    coords = {"time": frames(), "unit_id": ("unit", np.arange(12)), "kind": ("unit", list("EI" * 6))}
    array = xr.DataArray(DFF, dims=("unit", "time"), coords=coords)
    timed = TsdFrame(frames(), DFF.T, [[3.0, 22.9]], {"kind": list("EI" * 6)})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dff"] = DFF
        for held in (DFF.T, da.from_array(DFF.T, chunks=(50, 5))):
            same(made, nuclr.from_traces(held, 10.0, start_s=3.0, time_first=True))
        same(made, nuclr.from_traces(file["dff"], 10.0, start_s=3.0))
        same(made, nuclr.from_traces(DFF.tolist(), 10.0, start_s=3.0))
    for known in (array, array.T, array.chunk({"time": 50}), timed):
        of_known = nuclr.from_traces(known)
        same(made, of_known)
        assert of_known.units["kind"].tolist() == list("EI" * 6)
        (read,) = nuclr.read(known)
        same(made, read)
    np.testing.assert_allclose(np.asarray(made.activity), DFF)
    assert nuclr.from_traces(timed).units["unit_id"].tolist() == [f"roi{i}" for i in range(12)]
    assert nuclr.from_traces(array).units["unit_id"].tolist() == [str(i) for i in range(12)]


def test_gaps_between_epochs_are_not_used() -> None:
    kept = np.r_[0:80, 120:200]
    held = TsdFrame(frames()[kept], DFF.T[kept], [[3.0, 10.95], [14.96, 23.0]], {})
    made = nuclr.from_traces(held)
    np.testing.assert_allclose(made.valid_spans, [[3, 11], [15, 23]])
    np.testing.assert_allclose(np.asarray(made.activity)[:, kept], DFF[:, kept])
    assert not np.asarray(made.activity)[:, 80:120].any()
    with pytest.raises(DataError, match="not evenly spaced"):
        nuclr.from_traces(TsdFrame(frames()[kept], DFF.T[kept], [[3.0, 23.0]], {}))


def dated(**attributes: str) -> xr.DataArray:
    array = xr.DataArray(DFF, dims=("unit", "time"), coords={"time": frames()})
    array["time"].attrs.update(attributes)
    return array


@pytest.mark.parametrize(
    ("traces", "options", "says"),
    [
        (DFF, {}, "the frame rate is missing; give rate_hz"),
        (DFF, {"rate_hz": 0.0}, "rate_hz must be above 0"),
        (DFF.T, {"rate_hz": 10.0}, "time_first=True"),
        ([[0.5, 0.6], [0.7]], {"rate_hz": 10.0}, "list is not an array"),
        (dated().to_dataset(name="dff"), {"rate_hz": 10.0}, "Dataset is not an array"),
        (DFF[0], {"rate_hz": 10.0}, r"shape \(200,\)"),
        (DFF[:0], {"rate_hz": 10.0}, r"shape \(0, 200\)"),
        (np.full((2, 20), np.nan), {"rate_hz": 10.0}, "NaN in all frames"),
        (DFF.astype(int), {"rate_hz": 10.0}, "fluorescence=True"),
        (DFF.astype(str), {"rate_hz": 10.0}, "dF/F must be floats"),
        (dated(), {"rate_hz": 20.0}, "the frame times are at 10 Hz"),
        (dated(), {"start_s": 0.0}, "the traces have frame times"),
        (dated(units="ms"), {}, "time is in ms"),
        (dated().isel(time=[0, 1, 2, 9, 10]), {}, "not evenly spaced"),
        (dated().isel(time=[5, 4, 3]), {}, "not evenly spaced"),
        (dated().isel(time=[5]), {}, "fewer than two"),
        (dated().rename(time="frame"), {}, r"\(unit, frame\)"),
        (dated().assign_coords(time=pd.date_range("2020", periods=200)), {}, "numbers in s"),
        (dated().assign_coords(unit_id=("unit", [1] * 12)), {}, "two units have the id 1"),
    ],
)
def test_traces_that_cannot_be_told_are_refused_in_one_line(
    traces: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says) as error:
        nuclr.from_traces(traces, **options)
    assert "\n" not in str(error.value)


def test_raw_fluorescence_is_wondered_at_or_made_dff(caplog: pytest.LogCaptureFixture) -> None:
    raw = 1000 + 10 * DFF
    nuclr.from_traces(raw, 10.0)
    assert "fluorescence=True" in caplog.text
    made = np.asarray(nuclr.from_traces(raw.astype(np.uint16), 10.0, fluorescence=True).activity)
    assert 0 < np.median(made) < 0.1


def in_memory(**options: Any) -> NWBFile:
    """As ``write_units`` writes it; of that, what was read has no file any more."""
    nwb = new_nwb()
    device = nwb.create_device("device")
    groups = [
        nwb.create_electrode_group(name, description="", location="", device=device) for name in ("p0", "p1")
    ]
    for i in range(12):
        nwb.add_electrode(location="CA1" if i < 6 else "VISp", group=groups[i % 2])
    nwb.add_unit_column("quality", "a column")
    for i, own in enumerate(TRAINS):
        nwb.add_unit(spike_times=own, electrodes=[i], quality=["good", "mua"][i // 6], **options)
    return nwb


@pytest.mark.parametrize("options", [{}, {"obs_intervals": [[0.0, 8.0], [9.0, 20.0]]}])
def test_an_nwbfile_is_read_as_its_file_saved_or_not(tmp_path: Path, options: dict[str, Any]) -> None:
    nwb = in_memory(**options)
    nwb.add_trial(start_time=0.0, stop_time=22.0)
    nwb.add_invalid_time_interval(start_time=5.0, stop_time=6.0)
    unsaved = list(nuclr.read(nwb))
    save_nwb(nwb, tmp_path / "session.nwb")
    from_file = list(nuclr.read(tmp_path / "session.nwb"))
    with NWBHDF5IO(str(tmp_path / "session.nwb"), "r") as io:
        opened = io.read()
        saved = list(nuclr.read(opened))
        opened.add_unit_column("kind", "a column", data=["E", "I"] * 6)
        changed = list(nuclr.read(opened))
    assert [own.population for own in from_file] == ["session/p0", "session/p1"]
    for own, *others in zip(from_file, unsaved, saved, changed, strict=True):
        for other in others:
            same(own, other)
            assert own.units.equals(other.units.drop(columns="kind", errors="ignore"))
            assert (own.animal, own.population) == (other.animal, other.population)
    assert changed[0].units["kind"].tolist() == ["E"] * 6
    assert set(from_file[0].units) == {"unit_id", "quality", "brain_region"}


def test_an_nwbfile_without_units_is_to_be_saved() -> None:
    with pytest.raises(NothingToLearn, match="save it first"):
        nuclr.read(new_nwb())


def test_columns_of_an_nwbfile_are_chosen_as_of_a_file() -> None:
    first, _ = nuclr.read(in_memory(), unit_columns=[], region_column="quality")
    assert list(first.units) == ["unit_id", "brain_region"]
    with pytest.raises(DataError, match="no column kind in table units"):
        nuclr.read(in_memory(), unit_columns=["kind"])


def test_a_model_says_how_it_reads() -> None:
    sparse = [*TRAINS, np.array([1.0])]
    own = model(bin_s=0.04, min_rate_hz=0.5)
    for made in (
        nuclr.from_spike_times(sparse, model=own),
        *nuclr.read(sparse, model=own),
        *own.read(sparse),
    ):
        assert (made.bin_s, len(made.units)) == (0.04, 12)
    assert len(nuclr.from_spike_times(sparse, model=own, min_rate_hz=0).units) == 13
    assert nuclr.from_spike_times(sparse).bin_s == 0.02
    for wrong in ({"model": own, "bin_s": 0.04}, {"bin_s": 0.0}, {"bin_s": -1.0}, {"min_rate_hz": -1.0}):
        with pytest.raises(DataError, match=r"bin_s|min_rate_hz"):
            nuclr.from_spike_times(sparse, **wrong)
        with pytest.raises(DataError, match=r"bin_s|min_rate_hz"):
            nuclr.read(sparse, **wrong)


def test_pynapple_itself() -> None:
    nap = pytest.importorskip("pynapple")
    kinds = list("EI" * 6)
    group = nap.TsGroup({5 + i: nap.Ts(own) for i, own in enumerate(TRAINS)}, metadata={"kind": kinds})
    made = nuclr.from_spike_times(group)
    same(made, nuclr.from_spike_times(TRAINS))
    same(made, nuclr.from_spike_times([group[unit] for unit in group.keys()]))  # noqa: SIM118
    assert made.units["kind"].tolist() == kinds
    assert made.units["unit_id"].tolist() == [str(5 + i) for i in range(12)]
    cut = nuclr.from_spike_times(group.restrict(nap.IntervalSet([[0, 8], [10, 20]])))
    np.testing.assert_allclose(cut.valid_spans, [[0, 8], [10, 20]])
    timed = nap.TsdFrame(t=frames(), d=DFF.T, metadata={"kind": kinds})
    same(nuclr.from_traces(timed), nuclr.from_traces(DFF, 10.0, start_s=3.0))
    assert nuclr.from_traces(timed).units["kind"].tolist() == kinds
    epochs = nap.IntervalSet([[3.0, 10.95], [14.95, 23.0]])
    np.testing.assert_allclose(nuclr.from_traces(timed.restrict(epochs)).valid_spans, [[3, 11], [15, 23]])


def test_neo_itself() -> None:
    neo = pytest.importorskip("neo")
    quantities = pytest.importorskip("quantities")
    segment = neo.Segment()
    for i, own in enumerate(TRAINS):
        times = own * 1000 * quantities.ms
        segment.spiketrains.append(neo.SpikeTrain(times, t_stop=20 * quantities.s, name=f"u{i}", cell="E"))
    block = neo.Block()
    block.segments.append(segment)
    plain = nuclr.from_spike_times(TRAINS, start_s=0, stop_s=np.nextafter(20.0, 21))
    for held in (block, segment, segment.spiketrains, list(segment.spiketrains)):
        made = nuclr.from_spike_times(held)
        same(made, plain)
        assert made.units["unit_id"].tolist() == [f"u{i}" for i in range(12)]
        assert set(made.units["cell"]) == {"E"}


def test_spikeinterface_itself() -> None:
    core = pytest.importorskip("spikeinterface.core")
    samples = {unit: np.unique((own * 30000).astype(int)) for unit, own in zip("abc", TRAINS, strict=False)}
    sorting = core.NumpySorting.from_unit_dict(samples, 30000.0)
    sorting.set_property("quality", np.array(["good", "noise", "good"]))
    made = nuclr.from_spike_times(sorting)
    stop_s = max(own[-1] for unit, own in samples.items() if unit != "b") / 30000 + 1 / 30000
    kept = {unit: own / 30000 for unit, own in samples.items() if unit != "b"}
    same(made, nuclr.from_spike_times(kept, start_s=0, stop_s=stop_s))
    assert made.units.to_dict("list") == {"unit_id": ["a", "c"], "quality": ["good", "good"]}
