"""Whether a recording is one of those that something was trained on."""

from __future__ import annotations

import pytest

from nuclr.representation.training_recordings import Named, TrainingRecordings, pretraining_of

AMONG = TrainingRecordings(frozenset({"m1", "m2"}), {"one": "aa", "two": ""})


@pytest.mark.parametrize(
    ("named", "by"),
    [
        (Named("renamed", "x", "aa"), "file"),
        (Named("one", "m1", ""), "recording"),
        (Named("one", "x", ""), "recording"),  # the label table may name the animal in another way
        (Named("one", "m1", "bb"), "recording"),  # the same, with another column
        (Named("one", "x", "bb"), ""),
        (Named("two", "x", "bb"), "recording"),
        (Named("three", "m2", "cc"), "animal"),
        (Named("three", "x", "cc"), ""),
        (Named("", "", ""), ""),
    ],
)
def test_how_a_recording_is_known(named: Named, by: str) -> None:
    assert AMONG.known_by(named) == by


def test_the_recordings_of_a_model_are_in_its_record() -> None:
    inputs = {"one/probe00": {"sha256": "aa"}, "two/probe": {"file": "two.nwb"}}
    assert pretraining_of({"animals": ["m1", "m2"], "inputs": inputs}) == AMONG
    assert pretraining_of({"source": {}}) is None  # an imported checkpoint does not name them
