"""A model reads recordings of one kind: the others are named, and left out with a warning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock, Timeout
from strategies import poisson_trains, population, write_traces, write_units

from nuclr.config import Chunk, Reading, Views
from nuclr.data import own_stores
from nuclr.data.inputs import common_bin_s, why_too_short
from nuclr.data.kinds import Kind, differences, why_apart, why_unreadable
from nuclr.data.own import Found, find, open_found, open_what_can_be
from nuclr.data.own_stores import store_found
from nuclr.data.remarks import Remarks
from nuclr.data.store import stores
from nuclr.errors import DataError, NothingToLearn

SLOW, FAST = Kind("calcium", 0.5), Kind("calcium", 0.1)


def write_imaging(path: Path, rate: float, seconds: float = 40.0) -> None:
    traces = np.random.default_rng(0).random((int(seconds * rate), 3)).astype(np.float32)
    write_traces(path, traces, rate=rate, animal=path.stem)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Give a folder of two recordings with frames of 0.1 s, one with 0.5 s, and one of spikes."""
    for name, rate in (("a", 2.0), ("b", 10.0), ("c", 10.2)):
        write_imaging(tmp_path / "raw" / f"{name}.nwb", rate)
    write_units(tmp_path / "raw" / "d.nwb", poisson_trains(3, 9.0), animal="d")
    return tmp_path / "raw"


def test_most_recordings_decide_and_the_others_are_counted() -> None:
    assert why_apart([SLOW, None, FAST, Kind("calcium", 0.102)]) == [
        "calcium imaging with frames of 0.5 s, but 2 of 3 recordings are calcium imaging with frames of "
        "0.1 s: one model cannot read both",
        "",
        "",
        "",
    ]
    assert why_apart([None, None]) == ["", ""]
    assert "but 1 of 2 recordings is calcium imaging with frames of 0.5 s" in why_apart([SLOW, FAST])[1]
    said = differences(["a", "b", "c"], [SLOW, FAST, FAST])
    assert said == "the recordings differ in frame interval: 0.1 s (2 recordings), 0.5 s (1 recording: a)"
    assert differences(["a", "b"], [FAST, FAST]) == ""
    assert "in bin width" in differences(["a", "b"], [Kind("spikes", 0.02), Kind("spikes", 0.01)])
    assert "in modality: spikes (1 recording), calcium" in differences(["a", "b"], [Kind("spikes"), FAST])
    assert differences(["a", "a", "b", "b", "b", "c"], [FAST] * 2 + [SLOW] * 4) == (
        "the recordings differ in frame interval: 0.5 s (2 recordings), 0.1 s (1 recording: a)"
    )


def test_bins_are_not_said_of_spikes_in_a_file() -> None:
    """A file has spike times; bins are those of the model that is to read it."""
    assert why_unreadable(Kind("spikes", 0.6), Kind("calcium", 0.6)).startswith(
        "contains spikes, but the model reads calcium imaging with frames of 0.6 s; use a model"
    )
    assert why_unreadable(Kind("calcium", 0.6), Kind("spikes", 0.02)).startswith(
        "contains calcium imaging with frames of 0.6 s, but the model reads spikes; use a model"
    )
    assert why_unreadable(Kind("spikes"), Kind("spikes", 0.02)) == ""


def test_pretraining_leaves_out_the_rarer_kinds_and_their_stores(
    mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tmp_path / "model" / "populations"
    store_found(find([mixed / "a.nwb"]), made, Reading(), Chunk())
    assert len(stores(made)) == 1
    used = store_found(find([mixed]), made, Reading(), Chunk())
    assert [path.parent.name for path in used] == ["b", "c"]
    assert stores(made) == used
    (said,) = (record.message for record in caplog.records if "left out" in record.message)
    assert said.startswith("left out: 2 of 4 recordings: a.nwb (calcium imaging with frames of 0.5 s, but 2")
    assert "d.nwb (spikes, but 2 of 4 recordings are calcium imaging with frames of 0.1 s" in said
    # Stores that are given as such are left out, too, and are not removed.
    (slow,) = store_found(find([mixed / "a.nwb"]), tmp_path / "other", Reading(), Chunk())
    assert store_found(find([*used, slow]), made, Reading(), Chunk()) == used
    assert slow.exists()


def test_one_process_at_a_time_removes_stores(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "populations"
    store_found(find([mixed / "a.nwb"]), made, Reading(), Chunk())
    removed: list[Path] = []

    def remove(path: Path) -> None:
        with pytest.raises(Timeout), FileLock(made / ".a.lock", timeout=0):
            pass
        removed.append(path)

    monkeypatch.setattr(own_stores, "shutil", SimpleNamespace(rmtree=remove))
    store_found(find([mixed / f"{name}.nwb" for name in "abc"]), made, Reading(), Chunk())
    assert removed == [made / "a"]


def test_of_several_recordings_those_that_a_model_reads_are_opened(
    mixed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = open_found(find([mixed]), Reading(), Chunk(), model=SLOW)
    assert [population.recording for population in opened] == ["a"]
    assert "left out: 3 of 4 recordings: b.nwb (contains calcium imaging with frames of 0.1 s" in caplog.text
    with pytest.raises(NothingToLearn, match=r"d\.nwb: contains spikes, but the model reads calcium"):
        list(open_found(find([mixed / "d.nwb"]), Reading(), Chunk(), model=SLOW))


def test_populations_of_two_kinds_are_named_with_a_remedy() -> None:
    made = [population(3, 90, bin_s=0.1, recording="a"), population(3, 90, bin_s=0.02, recording="b")]
    with pytest.raises(
        DataError, match=r"in bin width: 0\.1 s \(1 .* 0\.02 s \(1 recording: b\); .*leave_out"
    ):
        common_bin_s(made)


def test_an_inspection_says_what_a_model_will_leave_out(mixed: Path) -> None:
    remarks = Remarks(Views())
    seen = list(remarks.noting(open_what_can_be(find([mixed]), Reading(), Chunk())))
    assert len(seen) == 4
    differ, short = remarks.sentences()
    assert differ.startswith("the recordings differ in modality: calcium imaging with frames of 0.1 s (2 rec")
    assert "(1 recording: a), spikes (1 recording: d); a model reads only one of them" in differ
    assert short.startswith("population d/all lasts 8.98 s, shorter than a window of 10 s: not used")
    assert "-c views.window_s=" in short
    assert Remarks(Views(window_s=4)).sentences() == []


def test_an_inspection_sees_the_kinds_of_all_populations_of_a_recording(tmp_path: Path) -> None:
    remarks = Remarks(Views(window_s=1))
    planes = [population(3, 900, bin_s=bin_s, modality="calcium") for bin_s in (0.1, 0.5)]
    found = Found(tmp_path, "session", None)
    list(remarks.noting([(found, planes, None)]))
    (said,) = remarks.sentences()
    assert "in frame interval: 0.1 s (1 recording), 0.5 s (1 recording: session)" in said


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0.0, 8.0)], "lasts 8 s, shorter than a window of 10 s"),
        ([(0.0, 5.0), (6.0, 20.0)], ""),
        ([(0.0, 5.0), (6.0, 12.0)], "has no valid span as long as a window of 10 s: the longest is 6 s of"),
    ],
)
def test_what_is_shorter_than_a_window_is_said_in_numbers(
    spans: list[tuple[float, float]], said: str
) -> None:
    bins = 80 if spans == [(0.0, 8.0)] else 200
    made = population(3, bins, spans=spans, bin_s=0.1)
    assert why_too_short(made, 100).startswith(said)
    assert bool(why_too_short(made, 100)) == bool(said)
