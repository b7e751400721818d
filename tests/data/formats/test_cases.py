"""Quirks of files that labs published, or that tools write by default: each is read as its owner expects."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sorted_folders import write_phy
from strategies import new_nwb, poisson_trains, save_nwb, write_traces, write_units
from zarr_folders import to_zarr

from nuclr.config import Chunk, Reading
from nuclr.data.fluorescence import Correction
from nuclr.data.formats.nwb.regions import regions
from nuclr.data.own import find, open_found
from nuclr.data.population import Population
from nuclr.data.recording import reason_of
from nuclr.errors import DataError, NothingToLearn

TRAINS = poisson_trains(4, 60.0)


def read(path: Path, **named: dict[str, Any]) -> list[Population]:
    return list(open_found(find([path]), Reading.model_validate(named), Chunk()))


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("animal", [None, ""])
def test_a_file_without_a_subject_is_read(
    tmp_path: Path, animal: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_units(tmp_path / "monday.nwb", TRAINS, animal="x" if animal == "" else animal)
    if animal == "":
        with h5py.File(path, "a") as file:
            file["general/subject/subject_id"][()] = ""
    (only,) = read(path)
    assert only.animal == "monday"
    assert only.units["unit_id"][0] == "monday_session_0"
    assert "monday.nwb names no animal; it counts as a separate animal" in caplog.text
    (named,) = read(path, nwb={"animal_pattern": r"/(mon)[^/]*\.nwb$"})
    assert named.animal == "mon"
    with pytest.raises(DataError, match=r"nwb\.animal_pattern: nobody does not match this path"):
        read(path, nwb={"animal_pattern": "nobody"})


def test_a_clock_that_does_not_begin_at_zero(tmp_path: Path) -> None:
    (only,) = read(write_units(tmp_path / "late.nwb", [1500 + train for train in TRAINS]))
    assert only.start_s == 1500
    assert 0.98 < only.valid_minutes < 1.001


def test_trials_widen_a_session(tmp_path: Path) -> None:
    nwb = new_nwb()
    nwb.add_trial(start_time=97.0, stop_time=99.0)
    nwb.add_trial(start_time=130.0, stop_time=np.nan)
    nwb.add_trial(start_time=140.0, stop_time=165.0)
    for train in TRAINS:
        nwb.add_unit(spike_times=100 + train)
    (only,) = read(save_nwb(nwb, tmp_path / "a.nwb"))
    assert (only.start_s, only.stop_s) == pytest.approx((97.0, 165.0))


@pytest.mark.parametrize(
    ("locations", "key", "expected"),
    [
        (["brain_region: ALM; hemisphere: left", "brain_region: TH; layer: 5"], None, ["ALM", "TH"]),
        (['{"region": "MOs", "layer": "4"}', '{"region": null}'], None, ["MOs", ""]),
        (["{'area': 'V1', 'depth': 3}", "VISp"], None, ["V1", "VISp"]),
        (["Area = CA1, side = left"], None, ["CA1"]),
        (["probe: A; nucleus: LP"], "nucleus", ["LP"]),
        (['{"depth": 3}'], None, [""]),
        (["CA1: pyramidal", "VISp, layer 5", "", "{not json"], None, None),
    ],
)
def test_a_location_may_be_a_dictionary(
    locations: list[str], key: str | None, expected: list[str] | None
) -> None:
    found = regions(np.array(locations, object), key, Path("a.nwb"))
    assert found.tolist() == (locations if expected is None else expected)


def test_a_key_that_no_location_has_is_refused() -> None:
    with pytest.raises(DataError, match=r"nwb\.region_key: no key nucleus .* the keys are region, layer"):
        regions(np.array(['{"region": "a", "layer": "b"}'], object), "nucleus", Path("a.nwb"))


def test_units_may_lie_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_units(tmp_path / "a.nwb", TRAINS)
    with h5py.File(path, "a") as file:
        file.move("units", "processing/ecephys/units")
    (only,) = read(path)
    assert len(only.units) == 4
    assert "units are read from processing/ecephys/units" in caplog.text
    with h5py.File(path, "a") as file:
        file.copy("processing/ecephys/units", "processing/ecephys/other")
        file["processing/ecephys/other/spike_times_index"][...] = file["processing/ecephys/other/id"][...] + 1
    assert int(read(path)[0].activity.sum().compute()) == 4
    assert "several Units tables" in caplog.text
    (named,) = read(path, nwb={"units_table": "processing/ecephys/units"})
    assert int(named.activity.sum().compute()) == sum(map(len, TRAINS))
    with pytest.raises(DataError, match=r"no table units; the Units tables are: processing/ecephys/other"):
        read(path, nwb={"units_table": "units"})


def test_a_file_of_nothing_but_lfp_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(NothingToLearn, match="neither units nor dF/F"):
        read(save_nwb(new_nwb(), tmp_path / "lfp.nwb"))


@pytest.mark.parametrize("version", ["NWB-1.0.5", "2.0b"])
def test_old_versions_are_called_by_their_names(tmp_path: Path, version: str) -> None:
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["nwb_version"] = version
    with pytest.raises(DataError, match=f"a.nwb: NWB {version.removeprefix('NWB-')}.* is not supported"):
        read(tmp_path / "a.nwb")


@pytest.mark.parametrize("consolidated", [True, False])
def test_nwb_in_zarr_is_read_as_in_hdf5(tmp_path: Path, consolidated: bool) -> None:
    path = write_units(
        tmp_path / "session.nwb", TRAINS, regions=["CA1", "TH"] * 2, columns={"kind": ["x", "y", "x", ""]}
    )
    folder = to_zarr(path, tmp_path / "z" / "session.nwb.zarr", consolidated=consolidated)
    (one,), (other,) = read(path), read(folder)
    assert one.units.equals(other.units)
    assert one.population == other.population == "session/probe"
    np.testing.assert_array_equal(one.activity.compute(), other.activity.compute())


def test_nothing_pickled_in_a_zarr_folder_is_run(tmp_path: Path) -> None:
    path = write_units(tmp_path / "session.nwb", TRAINS, columns={"kind": ["x", "y", "x", ""]})
    folder = to_zarr(path, tmp_path / "session.nwb.zarr", consolidated=False)
    metadata = folder / "units" / "kind" / ".zarray"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "filters": [{"id": "pickle"}]}))
    (only,) = read(folder)
    assert "kind" not in only.units
    with pytest.raises(DataError, match="no column kind in table units"):
        read(folder, nwb={"unit_columns": ["kind"]})


def rois(
    path: Path, names: list[str], traces: np.ndarray | None = None, parent: str = "Fluorescence"
) -> Path:
    """Write series of the same three ROIs."""
    given = 400 + np.random.default_rng(0).random((300, 3)) if traces is None else traces
    write_traces(path, given, rate=5.0)
    with h5py.File(path, "a") as file:
        file.move("processing/ophys/DfOverF/dff", "series")
        file["processing/ophys/DfOverF"].attrs["neurodata_type"] = "Fluorescence"
        for name in names:
            file.copy("series", f"processing/ophys/DfOverF/{name}")
            # A copy's references are void.
            copied = file[f"processing/ophys/DfOverF/{name}/rois"]
            copied.attrs["table"] = file["processing/ophys/ImageSegmentation/rois"].ref
        del file["series"]
    return path


def test_of_the_same_rois_one_series_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = rois(tmp_path / "a.nwb", ["Deconvolved", "Neuropil", "RoiResponseSeries"])
    (only,) = read(path)
    assert (only.population, len(only.units)) == ("a/RoiResponseSeries", 3)
    assert "RoiResponseSeries is read and not" in caplog.text
    assert "dF/F is computed from RoiResponseSeries" in caplog.text
    assert abs(only.activity.compute()).max() < 0.1
    (raw,) = read(path, imaging={"dff": False})
    assert raw.activity.compute().min() > 300
    (named,) = read(path, nwb={"series": ["Neuropil"]})
    assert named.population == "a/Neuropil"
    with pytest.raises(DataError, match=r"nwb\.series: no series other; the file contains processing/"):
        read(path, nwb={"series": ["other"]})
    with pytest.raises(DataError, match=r"neither dF/F nor fluorescence, but .* to read with nwb\.series"):
        read(rois(tmp_path / "b.nwb", ["Deconvolved"]))


def test_dff_goes_before_fluorescence(tmp_path: Path) -> None:
    (only,) = read(rois(tmp_path / "a.nwb", ["raw", "dff"]))
    assert only.population == "a/dff"


def test_the_baseline_of_a_part_is_that_of_the_whole() -> None:
    traces = 100 + np.cumsum(np.random.default_rng(0).standard_normal((2, 4000)), axis=1).clip(-50, 50)
    correction = Correction(0.1)
    whole = correction.dff(traces, None)
    part = correction.dff(traces[:, 1000 - correction.margin : 1500 + correction.margin], None)
    np.testing.assert_allclose(part[:, correction.margin : -correction.margin], whole[:, 1000:1500])


def test_transposed_traces_are_turned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_traces(tmp_path / "a.nwb", np.arange(30.0).reshape(10, 3))
    with h5py.File(path, "a") as file:
        series = file["processing/ophys/DfOverF/dff"]
        del series["data"]
        series["data"] = np.arange(30.0).reshape(10, 3).T
    (only,) = read(path)
    np.testing.assert_array_equal(only.activity.compute(), np.arange(30.0).reshape(10, 3).T)
    assert "(ROI, frame), but NWB requires (frame, ROI); transposed" in caplog.text


@pytest.mark.parametrize("rate", [0.0, np.nan, -1.0, np.inf])
def test_a_rate_that_is_none_is_refused_until_it_is_given(tmp_path: Path, rate: float) -> None:
    path = write_traces(tmp_path / "a.nwb", np.ones((10, 3)))
    with h5py.File(path, "a") as file:
        file["processing/ophys/DfOverF/dff/starting_time"].attrs["rate"] = rate
    with pytest.raises(DataError, match=r"dff has a rate of .* Hz; set imaging\.rate_hz"):
        read(path)
    assert read(path, imaging={"rate_hz": 5.0})[0].bin_s == 0.2


def test_what_is_not_a_number_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    traces = np.ones((100, 4))
    traces[10:20], traces[:, 2] = np.nan, np.nan
    traces[50, 0] = np.inf
    (only,) = read(write_traces(tmp_path / "a.nwb", traces, rate=10.0))
    assert only.units["unit_id"].str[-1].tolist() == ["0", "1", "3"]
    np.testing.assert_allclose(only.valid_spans, [[0, 1], [2, 10]])
    activity = only.activity.compute()
    assert np.isfinite(activity).all()
    assert activity[:, 60:].all()
    for said in ("1 ROI is NaN in all frames", "all ROIs are NaN for 1 s", "1 samples are NaN"):
        assert said in caplog.text


@pytest.mark.parametrize("column", ["iscell", "accepted"])
def test_rois_that_are_no_cells_are_left_out(
    tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_traces(tmp_path / "a.nwb", np.arange(40.0).reshape(10, 4))
    cells = np.array([1.0, 0.0, 0.0, 1.0])
    with h5py.File(path, "a") as file:
        table = file["processing/ophys/ImageSegmentation/rois"]
        table[column] = np.stack([cells, 0.1 * cells], axis=1) if column == "iscell" else cells.astype(int)
    (only,) = read(path)
    np.testing.assert_array_equal(only.activity.compute()[:, 0], [0, 3])
    assert "2 of 4 ROIs are cells" in caplog.text
    assert len(read(path, imaging={"keep_all": True})[0].units) == 4


QUALITIES = {
    "as Kilosort 2.5 to 4": {
        "cluster_group.tsv": "cluster_id\tKSLabel\r\n10\tmua\r\n12\tgood\r\n14\tgood\r\n"
    },
    "as phy 1": {"cluster_groups.csv": "cluster_id\tgroup\n10\tnoise\n12\tgood\n14\tgood\n"},
    "with commas": {"cluster_groups.csv": "cluster_id,group\n10,noise\n12,good\n14,good\n"},
    "as phy 2": {"cluster_info.tsv": "id\tgroup\tKSLabel\n10\tnoise\tmua\n12\t\tgood\n14\tgood\tmua\n"},
    "partly curated": {
        "cluster_group.tsv": "cluster_id\tgroup\n10\tnoise\n12\tunsorted\n",
        "cluster_KSLabel.tsv": "cluster_id\tKSLabel\n10\tgood\n12\tgood\n14\tgood\n",
    },
    "twice": {
        "cluster_group.tsv": "cluster_id\tgroup\n10\tnoise\n12\tgood\n14\tgood\n",
        "cluster_group.csv": "\ufeffcluster_id;quality\n10;noise\n12;good\n14;good\n",
    },
}


@pytest.mark.parametrize("name", QUALITIES)
def test_what_a_cluster_is_called_is_read_from_any_table(tmp_path: Path, name: str) -> None:
    folder = write_phy(tmp_path / "sorted-by-me", TRAINS[:3])
    for file, content in QUALITIES[name].items():
        (folder / file).write_bytes(content.encode())
    first = "mua" if name == "as Kilosort 2.5 to 4" else "noise"
    (only,) = read(folder)
    expected = [first, "good", "good"]
    assert only.units["quality"].tolist() == [word for word in expected if word != "noise"]
    assert len(read(folder, sorter={"keep": ["good"]})[0].units) == 2
    with pytest.raises(DataError, match=r"all 3 clusters are not labelled best \(sorter\.keep\)"):
        read(folder, sorter={"keep": ["best"]})


def test_the_sampling_rate_may_be_given(tmp_path: Path) -> None:
    folder = write_phy(tmp_path / "mine", TRAINS)
    (before,) = read(folder)
    (folder / "params.py").unlink()
    with pytest.raises(DataError, match=r"params\.py: file not found.* set sorter\.sample_rate_hz"):
        read(folder)
    (given,) = read(folder, sorter={"sample_rate_hz": 30000})
    np.testing.assert_array_equal(before.activity.compute(), given.activity.compute())


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("TwoPhotonSeries", "extract the traces of its ROIs first, for example with Suite2p or CaImAn"),
        ("ElectricalSeries", "spike-sort it first"),
        ("TimeSeries", "give the file of the session that contains them"),
    ],
)
def test_the_first_step_for_a_raw_recording_is_named(tmp_path: Path, kind: str, said: str) -> None:
    path = save_nwb(new_nwb("a"), tmp_path / "raw.nwb")
    with h5py.File(path, "a") as file:
        file.create_group("acquisition/raw").attrs["neurodata_type"] = kind
    with pytest.raises(NothingToLearn, match=rf"neither units nor dF/F \(RoiResponseSeries\); {said}"):
        read(path)


def test_one_cluster_of_noise_is_said_in_the_singular(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(write_phy(tmp_path / "phy", TRAINS[:3], ["good", "noise", "mua"]))
    assert "1 of 3 clusters is labelled noise" in caplog.text


def test_a_file_that_lacks_in_a_folder_is_named_without_the_folder(tmp_path: Path) -> None:
    folder = write_phy(tmp_path / "phy", TRAINS[:3])
    (folder / "params.py").unlink()
    with pytest.raises(DataError) as caught:
        read(folder)
    assert reason_of(caught.value, folder).startswith("params.py: file not found")
