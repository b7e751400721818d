"""No animal is in two groups, whatever is asked for."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclr.data.splits import ORDERS, make_splits, published_splits, read_splits, write_splits
from nuclr.errors import SplitError

ANIMALS = st.sets(st.text("abcdefgh123", min_size=1, max_size=5), min_size=1, max_size=30)


@given(ANIMALS, st.integers(0, 10), st.integers(0, 10), st.integers(0, 99), st.randoms())
def test_no_animal_is_in_two_groups(
    animals: set[str], test: int, label: int, seed: int, random: object
) -> None:
    if test + label >= len(animals):
        with pytest.raises(SplitError, match="leave none"):
            make_splits(sorted(animals), test, label, seed)
        return
    splits = make_splits(sorted(animals), test, label, seed)
    assert len(splits.test) == test
    assert len(splits.label) == label
    for order in splits.orders:
        assert sorted([*splits.test, *splits.label, *order]) == sorted(animals)
    names = sorted(animals)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert make_splits([*names, *names], test, label, seed) == splits


@given(ANIMALS, st.integers(0, ORDERS - 1))
def test_a_smaller_run_is_part_of_a_larger_one(animals: set[str], seed: int) -> None:
    splits = make_splits(sorted(animals), 0, 0, 0)
    runs = [splits.pretraining(n, seed) for n in range(len(animals) + 1)]
    assert all(small == large[:-1] for small, large in pairwise(runs))


def test_more_animals_than_there_are_is_refused() -> None:
    splits = make_splits([f"a{i}" for i in range(10)], 3, 2, 0)
    with pytest.raises(SplitError, match=r"scaling\.animal_counts: 6 animals requested, but only 5 are left"):
        splits.pretraining(6, 0)
    with pytest.raises(SplitError, match="no order for seed 32"):
        splits.pretraining(1, ORDERS)


def test_splits_are_read_as_written(tmp_path: Path) -> None:
    splits = make_splits([f"a{i}" for i in range(9)], 2, 2, 5)
    write_splits(tmp_path / "splits.json", splits)
    assert read_splits(tmp_path / "splits.json") == splits
    # `member` was called `of` before.
    content = (tmp_path / "splits.json").read_text().replace('"member"', '"of"')
    (tmp_path / "splits.json").write_text(content)
    assert read_splits(tmp_path / "splits.json") == splits


def test_a_file_that_shares_an_animal_is_refused(tmp_path: Path) -> None:
    content = asdict(make_splits([f"a{i}" for i in range(9)], 2, 2, 5))
    content["test"][0] = content["orders"][0][0]
    (tmp_path / "splits.json").write_text(json.dumps(content))
    with pytest.raises(SplitError, match="is in two groups"):
        read_splits(tmp_path / "splits.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"test": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(SplitError, match=r"splits\.json: cannot be read"):
        read_splits(tmp_path / "splits.json")


PUBLISHED = [
    ("r1", "a", "tiny"),
    ("r2", "a", "tiny"),
    ("r3", "b", "large"),
    ("r4", "a", "large"),
    ("r5", "c", "large"),
    ("r6", "c", "test"),
    ("r7", "d", "test"),
    ("r8", "e", ""),
]


def test_a_published_split_keeps_its_sets_and_says_what_it_shares(tmp_path: Path) -> None:
    splits = published_splits(PUBLISHED)
    assert (splits.member, splits.counts) == ("recording", [1, 3])
    assert splits.pretraining(0, 0) == []
    assert splits.pretraining(1, 0) == ["r1", "r2"]
    assert splits.pretraining(3, 7) == ["r1", "r2", "r3", "r4", "r5"]
    assert (splits.test, splits.label) == (["r6", "r7"], [])
    assert splits.note == "published split: 1 of 2 test animals are also in pretraining"
    with pytest.raises(SplitError, match="2 is not a published number of animals; use 1, 3"):
        splits.pretraining(2, 0)
    write_splits(tmp_path / "splits.json", splits)
    assert read_splits(tmp_path / "splits.json") == splits
    # `member` was called `of` before.
    content = (tmp_path / "splits.json").read_text().replace('"member"', '"of"')
    (tmp_path / "splits.json").write_text(content)
    assert read_splits(tmp_path / "splits.json") == splits


def test_a_published_split_has_no_recording_in_two_groups() -> None:
    with pytest.raises(SplitError, match="recording r6 is in two groups"):
        published_splits([*PUBLISHED, ("r6", "c", "large")])


def test_folders_of_members_are_found_below_a_root(tmp_path: Path) -> None:
    splits = replace(
        make_splits(["a", "b", "c"], 1, 1, 0), recordings={"a": ["a1", "a2"], "b": ["b1"], "c": ["c1"]}
    )
    for name in ("a1", "a2", "b1"):
        (tmp_path / name).mkdir()
    assert splits.folders([tmp_path], ["a"]) == [tmp_path / "a1", tmp_path / "a2"]
    with pytest.raises(SplitError, match=r"recording c1 of animal c is not in .*chunk it"):
        splits.folders([tmp_path], ["b", "c"])
    (tmp_path / "a2").rmdir()
    with pytest.raises(SplitError, match="recording a2 of animal a is not in"):
        splits.folders([tmp_path], ["a"])
    # Where nothing is known of recordings, or the folder is laid out in another way, all of it is taken.
    (tmp_path / "other").mkdir()
    assert splits.folders([tmp_path / "other"], ["c"]) == [tmp_path / "other"]
    assert replace(splits, recordings={}).folders([tmp_path], ["a"]) == [tmp_path]
    write_splits(tmp_path / "splits.json", splits)
    assert read_splits(tmp_path / "splits.json") == splits
    # `member` was called `of` before.
    content = (tmp_path / "splits.json").read_text().replace('"member"', '"of"')
    (tmp_path / "splits.json").write_text(content)
    assert read_splits(tmp_path / "splits.json") == splits


def test_a_recording_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").mkdir()
    content = asdict(make_splits(["a", "b"], 0, 0, 0))
    for name in ("../secret", "..", ".", ""):
        content["recordings"] = {"a": [name]}
        (tmp_path / "splits.json").write_text(json.dumps(content))
        with pytest.raises(SplitError, match=f"recording {re.escape(name)} is not a valid folder name"):
            read_splits(tmp_path / "splits.json")
