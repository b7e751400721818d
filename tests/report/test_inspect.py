"""Test the summary of recordings: populations, labels, and recordings that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from strategies import new_nwb, poisson_trains, population, save_nwb, write_traces, write_units

from nuclr.config import Chunk, Nwb, Reading
from nuclr.data.own import find, open_found, open_what_can_be
from nuclr.data.store import write_population
from nuclr.errors import DataError, NothingToLearn
from nuclr.report.inspect import Inspection, count_labels, describe, inspect


def opened(path: Path, *columns: str) -> list:
    return list(open_found(find([path]), Reading(nwb=Nwb(unit_columns=list(columns))), Chunk()))


def test_a_store_a_file_and_a_folder_of_either(tmp_path: Path) -> None:
    made = population(units=12, bins=3000, rate=0.1, spans=[(0.0, 30.0), (40.0, 60.0)])
    write_population(made, tmp_path / "stores" / "a.zarr", chunk_s=20, shard_s=60)
    trains = poisson_trains(6, 30.0)
    regions = ["CA1", "CA1", "VISp", "CA1", "VISp", "SUB"]
    file = write_units(tmp_path / "nwb" / "b.nwb", trains, obs_intervals=[[0.0, 30.0]], regions=regions)
    write_traces(tmp_path / "nwb" / "c.nwb", np.ones((120, 3)), columns={"cell_type": ["x", "", "x"]})

    (store,) = describe(opened(tmp_path / "stores" / "a.zarr")).to_dict("records")
    assert (store["units"], store["animal"], store["modality"]) == (12, "mouse", "spikes")
    assert store["minutes"] == pytest.approx(50 / 60)
    valid = np.r_[0:1500, 2000:3000]
    rates = np.asarray(made.activity)[:, valid].mean(axis=1) / 0.02
    assert [store["low"], store["median"], store["high"]] == pytest.approx(np.percentile(rates, [5, 50, 95]))

    (one,) = describe(opened(file)).to_dict("records")
    counts = [len(times) / 30 for times in trains]
    assert one["median"] == pytest.approx(np.median(counts), rel=0.01)
    both = opened(tmp_path / "nwb")
    assert describe(both)["units"].tolist() == [6, 3]
    assert count_labels([one.units for one in both])["brain_region"].to_dict() == {
        "CA1": 3,
        "": 3,
        "VISp": 2,
        "SUB": 1,
    }
    (traces,) = opened(tmp_path / "nwb" / "c.nwb", "cell_type")
    assert count_labels([traces.units])["cell_type"].to_dict() == {"x": 2, "": 1}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: does not exist"):
        opened(tmp_path / "nowhere")
    with pytest.raises(
        DataError,
        match=r"no recordings found in this folder; .* contains a population store, an NWB file",
    ):
        opened(tmp_path)


def look(path: Path, named: str | None = None) -> Inspection:
    return inspect(open_what_can_be(find([path]), Reading(), Chunk()), named)


def test_of_a_folder_what_cannot_be_used_is_listed_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        write_units(tmp_path / f"{name}.nwb", poisson_trains(3, 9.0), animal=None)
    save_nwb(new_nwb("mouse"), tmp_path / "lfp.nwb")
    cut = write_units(tmp_path / "cut.nwb", poisson_trains(9, 60.0))
    cut.write_bytes(cut.read_bytes()[:5000])
    write_units(tmp_path / "nan.nwb", [np.array([1.0, np.nan, 9.0])])
    seen = look(tmp_path, "b/all")
    assert seen.populations["population"].tolist() == ["a/all", "b/all"]
    assert seen.first.population == "b/all"
    assert caplog.text.count("nwb.animal_pattern") == 1
    content = json.loads(seen.as_json())
    assert [Path(one["file"]).name for one in content["left_out"]] == ["cut.nwb", "lfp.nwb", "nan.nwb"]
    reasons = [one["reason"] for one in content["left_out"]]
    assert reasons[0].startswith("damaged, truncated, or not an NWB file")
    assert reasons[1].startswith("contains neither units nor dF/F")
    assert "spike times contain NaN" in reasons[2]
    assert content["populations"][0]["units"] == 3
    with pytest.raises(DataError, match="no population c; the recordings contain a/all, b/all"):
        look(tmp_path, "c")
    for name in "ab":
        (tmp_path / f"{name}.nwb").unlink()
    with pytest.raises(
        NothingToLearn,
        match=r"none of 3 recordings can be used: .*cut\.nwb: damaged, truncated, or not an NWB file",
    ):
        look(tmp_path)
    with pytest.raises(DataError, match=r"cut\.nwb: damaged, truncated, or not an NWB file"):
        look(cut)
