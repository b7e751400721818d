"""Of a folder of recordings, those that hold nothing to learn from are done without, and said once."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from sorted_folders import write_phy
from strategies import new_nwb, poisson_trains, save_nwb, write_units

from nuclr.config import Chunk, Nwb, Reading
from nuclr.data.own import find, open_found, open_what_can_be
from nuclr.data.own_stores import store_found
from nuclr.errors import DataError, NothingToLearn

READING = Reading()


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Give a folder of two files with units, one of LFP alone and one of NWB 1."""
    for name in "ab":
        write_units(tmp_path / "raw" / f"{name}.nwb", poisson_trains(3, 9.0), animal=name)
    save_nwb(new_nwb("a"), tmp_path / "raw" / "lfp.nwb")
    with h5py.File(tmp_path / "raw" / "old.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.5"
    return tmp_path / "raw"


def test_what_holds_nothing_is_left_out_once(session: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = list(open_found(find([session]), READING, Chunk()))
    assert [population.recording for population in opened] == ["a", "b"]
    (said,) = (record.message for record in caplog.records if "left out" in record.message)
    assert said.startswith("left out: 2 of 4 recordings: lfp.nwb (contains neither units nor dF/F")
    assert "old.nwb (NWB 1.0.5" in said
    caplog.clear()
    stores = store_found(find([session]), session.parent / "stores", READING, Chunk())
    assert [store.parent.name for store in stores] == ["a", "b"]
    assert caplog.text.count("left out: 2 of 4 recordings") == 1


def test_animals_are_counted_among_the_recordings_that_are_used(
    session: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_units(session / "c.nwb", poisson_trains(3, 9.0), animal=None)
    write_phy(session / "monday" / "phy", poisson_trains(3, 9.0))
    save_nwb(new_nwb(None), session / "no_units.nwb")
    said = (
        "2 of 4 recordings (c.nwb, monday_phy) name no animal; each counts as a separate animal, named like"
    )
    found = find([session])
    list(open_found(found, READING, Chunk()))
    assert caplog.messages[-1].startswith(said)
    store_found(found, session.parent / "stores", READING, Chunk())
    assert caplog.messages[-1].startswith(said)
    list(open_what_can_be(found, READING, Chunk()))
    assert caplog.messages[-1].startswith(said)
    caplog.clear()
    list(open_what_can_be(find([session / "monday"]), READING, Chunk()))
    assert caplog.messages[0].startswith("monday_phy names no animal; it counts as a separate animal, named")


def test_nothing_at_all_is_an_error(session: Path) -> None:
    for name in "ab":
        (session / f"{name}.nwb").unlink()
    with pytest.raises(NothingToLearn, match="no recording can be used: 2 of 2 recordings"):
        list(open_found(find([session]), READING, Chunk()))
    with pytest.raises(NothingToLearn, match=r"lfp\.nwb: contains neither units nor dF/F"):
        list(open_found(find([session / "lfp.nwb"]), READING, Chunk()))


def test_a_damaged_file_stops_unless_it_is_to_be_left_out(session: Path) -> None:
    write_units(session / "nan.nwb", [np.array([1.0, np.nan])], animal="c")
    cut = write_units(session / "cut.nwb", poisson_trains(9, 60.0), animal="d")
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cut\.nwb: damaged, truncated, or not an NWB file"):
        list(open_found(find([session]), READING, Chunk()))
    leave_out = Reading(nwb=Nwb(on_damaged="leave_out"))
    opened = list(open_found(find([session]), leave_out, Chunk()))
    assert [population.recording for population in opened] == ["a", "b"]
