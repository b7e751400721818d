"""Outputs appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuclr.errors import NuclrError
from nuclr.files import check_writable, sha256_of, whole, whole_folder


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with whole(path) as partial:
            partial.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with whole_folder(path) as partial:
        (partial / "a").write_text("old")

    def fail() -> None:
        with whole_folder(path) as partial:
            (partial / "b").write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert [p.name for p in path.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_not_added_to(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with whole_folder(tmp_path / "folder") as partial:
            (partial / name).write_text("")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["b"]


@pytest.mark.parametrize("opened", [whole, whole_folder])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, opened: type) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        NuclrError, match=r"cannot be written .*; free disk space, or write to another folder"
    ):
        opened(tmp_path / "file" / "below").__enter__()


def test_a_folder_that_cannot_be_made_is_said_before_any_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deeper")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(NuclrError, match=r"file is not a folder; choose another folder with the key results"):
        check_writable(tmp_path / "file" / "below")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")

    def fill() -> None:
        with whole(tmp_path / "a"), full.open("w") as file:
            file.write("x" * 100_000)

    with pytest.raises(NuclrError, match="No space left on device"):
        fill()
    assert not list(tmp_path.iterdir())


def test_the_hash_of_a_folder_is_of_all_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("1")
    first = sha256_of(tmp_path / "a")
    assert sha256_of(tmp_path / "a") == first
    (tmp_path / "a" / "b" / "x").rename(tmp_path / "a" / "x")
    moved = sha256_of(tmp_path / "a")
    (tmp_path / "a" / "x").write_text("2")
    assert len({first, moved, sha256_of(tmp_path / "a")}) == 3
