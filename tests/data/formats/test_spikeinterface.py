"""SortingAnalyzers are recordings, and what SpikeInterface knows of units becomes labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from sorted_folders import write_spikeinterface, write_spikeinterface_zarr
from strategies import poisson_trains

import nuclr
from nuclr.config import Sorter
from nuclr.data.formats.spikeinterface import read_spikeinterface
from nuclr.data.own import find
from nuclr.errors import DataError

TRAINS = poisson_trains(4, 20.0)
QUALITY = ["good", "noise", "", "mua"]


def write_analyzer(folder: Path, form: str) -> Path:
    """Write what an analyzer holds of its sorting; its other folders are as good as empty."""
    if form == "plain":
        write_spikeinterface(folder / "sorting", TRAINS, QUALITY)
        (folder / "recording_info").mkdir()
    else:
        zarr.create_group(folder, zarr_format=2).create_group("recording_info")
        write_spikeinterface_zarr(folder / "sorting", TRAINS, QUALITY)
    return folder


def set_property(folder: Path, name: str, values: np.ndarray) -> None:
    if (folder / "numpysorting_info.json").exists():
        np.save(folder / "properties" / f"{name}.npy", values)
    else:
        zarr.open_group(folder, zarr_format=2).create_array(f"properties/{name}", data=values)


@pytest.mark.parametrize("form", ["plain", "zarr"])
def test_an_analyzer_is_one_recording_of_its_own_name(tmp_path: Path, form: str) -> None:
    folder = write_analyzer(tmp_path / "monday.zarr", form)
    (found,) = find([tmp_path])
    assert (found.path, found.recording) == (folder, "monday")
    (population,) = nuclr.read(folder)
    assert population.units["unit_id"].tolist() == ["monday_u0", "monday_u2", "monday_u3"]
    in_analyzers_like_any = write_analyzer(tmp_path / "tuesday" / "sorting_analyzer", form)
    assert find([in_analyzers_like_any])[0].recording == "tuesday_sorting_analyzer"


@pytest.mark.parametrize("form", ["plain", "zarr"])
def test_properties_that_name_kinds_become_labels(tmp_path: Path, form: str) -> None:
    folder = write_analyzer(tmp_path / "monday", form)
    for name, values in {
        "brain_region": np.array(["CA1", "CA1", "", "VISp"]),
        "tagged": np.array([True, False, True, False]),
        "main_channel_id": np.array(["a", "a", "b", "b"]),
        "name": np.array(["a", "b", "c", "d"]),
        "snr": np.arange(4.0),
        "location": np.zeros((4, 2)),
    }.items():
        set_property(folder / "sorting", name, values)
    (trains,) = read_spikeinterface(folder)
    assert set(trains.units) == {"unit_id", "quality", "brain_region", "tagged"}
    assert trains.units["brain_region"].tolist() == ["CA1", "", "VISp"]
    assert trains.units["tagged"].tolist() == [True, True, False]


def test_kilosorts_word_is_the_quality_of_units_that_nobody_judged(tmp_path: Path) -> None:
    folder = write_spikeinterface(tmp_path / "si", TRAINS, ["noise", "nan", "unsorted", "mua"])
    set_property(folder, "KSLabel", np.array(["good", "good", "mua", "good"]))
    (trains,) = read_spikeinterface(folder)
    assert trains.units["quality"].tolist() == ["good", "mua", "mua"]
    assert set(trains.units) == {"unit_id", "quality"}
    (good,) = read_spikeinterface(folder, Sorter(keep=["good"]))
    assert good.units["unit_id"].tolist() == ["si_u1"]


def test_a_property_that_cannot_be_read_is_passed_over_but_quality_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_spikeinterface(tmp_path / "si", TRAINS, QUALITY)
    np.save(folder / "properties" / "layer.npy", np.array(["L4", None, 1, 2], object), allow_pickle=True)
    set_property(folder, "area", np.array(["V1", "V1"]))
    (trains,) = read_spikeinterface(folder)
    assert set(trains.units) == {"unit_id", "quality"}
    assert "property layer cannot be read" in caplog.text
    assert "area has the shape (2,) for 4 units" in caplog.text
    set_property(folder, "quality", np.array(["good", "good"]))
    with pytest.raises(DataError, match=r"si: damaged SpikeInterface sorting \(quality has the shape"):
        read_spikeinterface(folder)


@pytest.mark.parametrize("name", ["unit_ids", "spikes/unit_index", "properties/quality"])
def test_nothing_pickled_is_run_however_it_is_spelled(tmp_path: Path, name: str) -> None:
    folder = write_analyzer(tmp_path / "monday.zarr", "zarr")
    described = folder / "sorting" / name / ".zarray"
    content = {**json.loads(described.read_text()), "filters": [{"id": "pickle"}]}
    described.write_text(json.dumps(content).replace("pickle", "\\u0070ickle"))
    with pytest.raises(
        DataError, match="contains a pickled array, which is not read because it could execute code"
    ):
        list(nuclr.read(folder))


@pytest.mark.parametrize("rate", [0, -1, "nan", "fast", None, [30000]])
def test_a_rate_that_cannot_be_is_refused(tmp_path: Path, rate: object) -> None:
    folder = write_spikeinterface(tmp_path / "si", TRAINS, QUALITY)
    info = folder / "numpysorting_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "sampling_frequency": rate}))
    with pytest.raises(DataError, match="damaged SpikeInterface sorting"):
        read_spikeinterface(folder)


@pytest.mark.parametrize("name", ["unit_ids", "properties/quality"])
def test_text_that_damage_left_as_no_text_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_spikeinterface_zarr(tmp_path / "monday.zarr", TRAINS, QUALITY)
    array = zarr.open_group(folder, zarr_format=2)[name]
    assert isinstance(array, zarr.Array)
    array[:] = np.full(array.shape, 0xFFFFFFFF, np.uint32).view("<U1")
    with pytest.raises(DataError, match="invalid characters"):
        read_spikeinterface(folder)
