"""A folder of recordings: what each holds, what is left out, and what is not looked at twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sorted_folders import write_phy
from strategies import new_nwb, poisson_trains, save_nwb, write_traces, write_units

from nuclr.config import Reading
from nuclr.data.formats import folder as folders
from nuclr.data.recording import Recording, say_left_out
from nuclr.errors import DataError, NothingToLearn


def find_recordings(folder: Path, known: Path | None = None, **nwb: Any) -> list[Recording]:
    return folders.find_recordings(folder, Reading.model_validate({"nwb": nwb}), known)


def test_a_file_without_a_subject_is_an_animal_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        write_units(tmp_path / f"{name}.nwb", poisson_trains(2, 9.0), animal=None)
    write_units(tmp_path / "c.nwb", poisson_trains(2, 9.0), animal="mouse")
    assert [one.animal for one in find_recordings(tmp_path)] == ["a", "b", "mouse"]
    assert "2 of 3 recordings (a.nwb, b.nwb) name no animal" in caplog.text
    assert "nwb.animal_pattern" in caplog.text


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no recordings found .* set nwb\.folder"):
        find_recordings(tmp_path)


def test_recordings_of_the_same_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_units(tmp_path / folder / "a.nwb", poisson_trains(1, 9.0))
    with pytest.raises(DataError, match="have the same recording name, a;"):
        find_recordings(tmp_path)


def test_recordings_are_found_at_any_depth_with_safe_names(tmp_path: Path) -> None:
    write_units(tmp_path / "deep" / "er" / "my file (1).nwb", poisson_trains(1, 9.0), animal="M 1")
    (tmp_path / "deep" / "._my file (1).nwb").write_bytes(b"left there by another system")
    (found,) = find_recordings(tmp_path)
    assert found.recording == "my-file-1"
    assert found.animal == "M 1"


def test_the_animals_of_files_that_stayed_the_same_are_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_units(tmp_path / "raw" / f"{name}.nwb", poisson_trains(1, 9.0), animal=f"mouse {name}")
    asked: list[str] = []
    animal_of = folders.animal_of
    monkeypatch.setattr(
        folders, "animal_of", lambda path, *more: asked.append(path.stem) or animal_of(path, *more)
    )
    known = tmp_path / "kept" / "animals.json"
    first = find_recordings(tmp_path / "raw", known)
    assert find_recordings(tmp_path / "raw", known) == first
    assert asked == ["a", "b", "c"]
    # Another animal of a name of the same length: size is the same, and the time is not.
    write_units(tmp_path / "raw" / "b.nwb", poisson_trains(1, 9.0), animal="mouse x")
    os.utime(tmp_path / "raw" / "b.nwb", ns=(1, 1))
    assert [one.animal for one in find_recordings(tmp_path / "raw", known)] == [
        "mouse a",
        "mouse x",
        "mouse c",
    ]
    assert asked == ["a", "b", "c", "b"]
    known.write_text('{"damaged')
    assert len(find_recordings(tmp_path / "raw", known)) == 3
    assert asked[4:] == ["a", "b", "c"]
    (tmp_path / "raw" / "d.nwb").symlink_to(tmp_path / "nowhere.nwb")
    with pytest.raises(DataError, match=r"d\.nwb: cannot be read .* repair the link"):
        find_recordings(tmp_path / "raw", known)


def write_lfp(path: Path, animal: str = "mouse") -> Path:
    """Write a file of a session that holds neither units nor traces."""
    return save_nwb(new_nwb(animal), path)


def test_what_holds_nothing_to_learn_from_is_left_out(tmp_path: Path) -> None:
    write_units(tmp_path / "good.nwb", poisson_trains(2, 9.0), animal="a")
    write_lfp(tmp_path / "lfp.nwb")
    write_lfp(tmp_path / "more_lfp.nwb")
    found = find_recordings(tmp_path)
    assert [bool(one.left_out) for one in found] == [False, True, True]
    said = say_left_out(found)
    assert said.startswith("left out: lfp.nwb, more_lfp.nwb (contains neither units nor dF/F")
    assert str(tmp_path) not in said
    (tmp_path / "good.nwb").unlink()
    with pytest.raises(NothingToLearn, match=r"no recording can be used: lfp\.nwb, more_lfp\.nwb"):
        find_recordings(tmp_path)


def test_folders_that_a_program_named_are_left_out_by_the_names_of_their_recordings(tmp_path: Path) -> None:
    found = []
    for name in "ab":
        (tmp_path / name / "suite2p").mkdir(parents=True)
        found.append(Recording(tmp_path / name / "suite2p", name, "mouse", left_out="no cells"))
    assert say_left_out(found) == "left out: a, b (no cells)"


@pytest.mark.parametrize("keep", [0.1, 0.9])
def test_a_damaged_file_stops_or_is_left_out(tmp_path: Path, keep: float) -> None:
    write_units(tmp_path / "good.nwb", poisson_trains(2, 9.0), animal="a")
    path = write_units(tmp_path / "cut.nwb", poisson_trains(20, 60.0), animal="b")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(
        DataError,
        match=r"cut\.nwb: damaged, truncated, or not an NWB .* \(or leave it out with nwb\.on_damaged",
    ):
        find_recordings(tmp_path)
    cut, good = find_recordings(tmp_path, on_damaged="leave_out")
    assert "damaged, truncated, or not an NWB file" in cut.left_out
    assert not good.left_out


def test_one_model_reads_one_kind_of_recordings(tmp_path: Path) -> None:
    traces = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    for name, rate in (("a", 10.0), ("b", 10.2), ("c", 4.0)):
        write_traces(tmp_path / f"{name}.nwb", traces, rate=rate, animal=name)
    write_units(tmp_path / "d.nwb", poisson_trains(2, 9.0), animal="d")
    assert [one.left_out.partition(",")[0] for one in find_recordings(tmp_path)] == [
        "",
        "",
        "calcium imaging with frames of 0.25 s",
        "spikes",
    ]


def test_a_folder_that_was_curated_again_is_looked_at_again(tmp_path: Path) -> None:
    sorted_by = write_phy(tmp_path / "raw" / "mouse1", poisson_trains(4, 9.0), ["good"] * 4)
    known = tmp_path / "known.json"
    find_recordings(tmp_path / "raw", known)
    before = known.read_text()
    find_recordings(tmp_path / "raw", known)
    assert known.read_text() == before
    (sorted_by / "cluster_group.tsv").write_text("cluster_id\tgroup\n10\tnoise\n")
    find_recordings(tmp_path / "raw", known)
    assert known.read_text() != before


def test_labels_are_counted_without_those_of_a_curator(tmp_path: Path) -> None:
    columns = {"cell_type": ["E", "I", "E", ""], "quality": ["good"] * 3 + ["mua"]}
    write_units(tmp_path / "a.nwb", poisson_trains(4, 9.0), columns=columns, animal="a")
    (only,) = find_recordings(tmp_path)
    assert only.labels == {"cell_type": {"E": 2, "I": 1}}
