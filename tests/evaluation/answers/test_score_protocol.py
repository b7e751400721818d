"""A probe's score names its protocol: whether scored animals were in pretraining, or other units labelled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from labelled import ANIMALS, MODEL, embedded, features_of, units

from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.answers.saved_probe import SavedProbe, score_of
from nuclr.evaluation.answers.score_protocol import cautions, interval_over, protocol_of
from nuclr.representation.training_recordings import TrainingRecordings


def probe_after(pretraining: TrainingRecordings | None, animals: Collection[str] = ANIMALS) -> SavedProbe:
    table = units()
    table = table[table["animal"].isin(animals)].reset_index(drop=True)
    those = replace(embedded(table, features_of(table)), pretraining=pretraining)
    return train_probe(those, "kind", kinds=("linear",), centred="no")


@pytest.mark.parametrize(
    ("pretraining", "name", "seen", "said"),
    [
        (TrainingRecordings(frozenset(), {}), "inductive_zero_shot", 0, "None of the 8 labelled animals was"),
        (
            TrainingRecordings(frozenset({"a1", "a2", "z"}), {}),
            "transductive_zero_shot",
            2,
            "(2 of 8 labelled animals in pretraining): These animals were",
        ),
        # The table of labels may name animals in another way than their recordings do.
        (TrainingRecordings(frozenset({"z"}), {"a1": ""}), "transductive_zero_shot", 1, "1 of 8"),
        (None, "", None, "It is not known whether"),
    ],
)
def test_the_protocol_follows_from_pretraining(
    pretraining: TrainingRecordings | None, name: str, seen: int | None, said: str
) -> None:
    probe = probe_after(pretraining)
    assert probe.record["scores"]["protocol"] == name
    assert probe.record["scores"]["in_pretraining"] == seen
    protocol = protocol_of(probe.record, None)
    assert said in f"{protocol.called}: {protocol.meaning}"


def test_labels_of_the_same_animal_make_it_transductive() -> None:
    probe = probe_after(TrainingRecordings(frozenset(), {}), ["a0"])
    assert probe.record["scores"]["protocol"] == "transductive"
    assert "nothing about other animals" in protocol_of(probe.record, None).meaning


def test_of_an_older_probe_it_is_known_from_the_model() -> None:
    probe = probe_after(None)
    for name in ("protocol", "in_pretraining"):
        del probe.record["scores"][name]
    record = {"sha256": MODEL, "animals": ["a1"]}
    told = "transductive zero-shot (1 of 8 labelled animals in pretraining); other animals, in 5 groups"
    assert score_of(probe, record)["protocol"] == told
    assert score_of(probe, {"sha256": MODEL})["protocol"] == "protocol not known; other animals, in 5 groups"


@pytest.mark.parametrize(("animals", "over"), [(1, "units"), (2, "units"), (3, "animals")])
def test_an_interval_over_units_is_said_to_be_too_narrow(animals: int, over: str) -> None:
    record = probe_after(None, ANIMALS[:animals]).record
    assert interval_over(record) == over
    said = [line.partition(",")[0] for line in cautions(record)]
    named = "1 animal" if animals == 1 else f"{animals} animals"
    assert said == ([f"The interval is over units of {named}"] if over == "units" else [])
    del record["scores"]["interval_over"]  # as in a probe of an older version
    assert interval_over(record) == over


def test_an_interval_that_includes_chance_is_said_to_show_nothing() -> None:
    table = units()
    noise = np.random.default_rng(1).standard_normal((len(table), 4)).astype(np.float32)
    probe = train_probe(embedded(table, noise), "kind", kinds=("linear",), centred="no")
    assert [line.partition(",")[0] for line in cautions(probe.record)] == [
        "The interval does not lie above chance"
    ]
