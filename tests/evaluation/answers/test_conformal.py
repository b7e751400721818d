"""Sets of classes hold the true one as often as promised, in animals to come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import PUBLISHED, embedded, simulated

from nuclr.errors import ModelError
from nuclr.evaluation.answers.conformal import COVERAGES, conformal_thresholds, most_coverage, prediction_sets
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.answers.saved_probe import load_probe, save_probe


def test_sets_hold_the_truth_as_often_as_promised_over_200_draws() -> None:
    """Twelve animals to learn from, others to come that are moved each in its own way."""
    held, sizes, by_class = [], [], []
    for draw in range(200):
        probe = train_probe(
            embedded(*simulated(12, 25, noise=0.5, offset=0.3, seed=draw)), "kind", **PUBLISHED
        )
        table, features = simulated(6, 25, noise=0.5, offset=0.3, seed=10_000 + draw, prefix="new")
        sets = probe.predict(embedded(table, features), coverage=0.9)["one_of"].str.split("|")
        inside = np.array([kind in own for kind, own in zip(table["kind"], sets, strict=True)])
        held.append(inside.mean())
        sizes.append(sets.map(len).mean())
        by_class.append([inside[table["kind"] == kind].mean() for kind in "wxyz"])
    # Two standard errors of the mean over draws, of which each is a mean over six animals.
    slack = 2 * np.std(held) / np.sqrt(len(held))
    assert np.mean(held) >= 0.9 - slack
    # The animal to come counts as one of thirteen, so that 12/13 of the others' units must do for 0.9.
    assert np.mean(held) < 0.9 * 13 / 12 + slack
    assert np.mean(sizes) < 3
    assert np.nanmean(by_class, axis=0).min() >= 0.9 - 2 * slack


@settings(max_examples=60)
@given(st.integers(1, 14), st.integers(1, 30), st.integers(0, 10**6))
def test_higher_promises_make_larger_sets(groups: int, units: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(3), groups * units)
    truth = rng.integers(0, 3, groups * units)
    found = conformal_thresholds(probability, truth, np.repeat(np.arange(groups), units), list("abc"))
    before = np.zeros((len(truth), 3), bool)
    for coverage in (0.5, 0.555, 0.8, 0.9, 0.99, 1.0):
        sets = prediction_sets(probability, found, list("abc"), coverage)
        assert (sets | ~before).all()
        assert sets[np.arange(len(truth)), probability.argmax(axis=1)].all()
        if coverage > groups / (groups + 1):
            assert sets.all()
        before = sets
    assert most_coverage(found) <= groups / (groups + 1) + 1e-9


def test_an_animal_weighs_as_much_with_few_units_as_with_many() -> None:
    """Nine animals are always told with 0.9, and one, which has most units, with 0.1."""
    truth = np.zeros(9 + 200, int)
    probability = np.full((len(truth), 2), 0.1)
    probability[:9, 0] = 0.9
    probability[:, 1] = 1 - probability[:, 0]
    groups = np.concatenate([np.arange(9), np.full(200, 9)])
    found = conformal_thresholds(probability, truth, groups, ["a", "b"])
    # Nine of eleven shares: the tenth is the animal of many units, the last is the one to come.
    assert found["thresholds"]["a"][int(np.searchsorted(COVERAGES, 0.8))] == pytest.approx(0.9)
    assert found["thresholds"]["a"][int(np.searchsorted(COVERAGES, 0.9))] == pytest.approx(0.1)
    assert found["thresholds"]["a"][int(np.searchsorted(COVERAGES, 0.95))] == 0


def test_few_animals_promise_what_they_bear_out() -> None:
    probe = train_probe(embedded(*simulated(4, 40, noise=0.3)), "kind", **PUBLISHED)
    table, features = simulated(2, 40, noise=0.3, seed=5)
    features[0] = np.nan
    assert probe.promise() == 0.8
    assert probe.promise(0.95) == 0.95
    sets = probe.predict(embedded(table, features))["one_of"]
    assert sets[0] == ""
    assert sets[1:].str.count(r"\|").mean() < 1
    assert (probe.predict(embedded(table, features), coverage=0.95)["one_of"][1:].str.count(r"\|") == 3).all()


def test_a_set_begins_with_the_likeliest_class() -> None:
    probe = train_probe(embedded(*simulated(10, 40, noise=0.8)), "kind", **PUBLISHED)
    said = probe.predict(embedded(*simulated(2, 40, noise=0.8, seed=5)))
    likeliest = said.filter(regex="^p_").to_numpy().argmax(axis=1)
    assert said["one_of"].str.split("|").str[0].tolist() == [probe.classes[k] for k in likeliest]


@pytest.mark.parametrize(
    "wrong", [3, {}, {"coverages": [0.9], "thresholds": {"w": [0.1]}, "groups": 3}, {"coverages": "x"}]
)
def test_damaged_promises_are_refused(wrong: Any, tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    save_probe(path, train_probe(embedded(*simulated(3, 40, noise=0.3)), "kind", **PUBLISHED))
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"conformal": wrong}))
    with pytest.raises(ModelError, match="the probe is incomplete or damaged"):
        load_probe(path)


def test_a_probe_of_before_has_no_sets(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    save_probe(path, train_probe(embedded(*simulated(3, 40, noise=0.3)), "kind", **PUBLISHED))
    record = json.loads(path.with_suffix(".json").read_text())
    del record["conformal"]
    path.with_suffix(".json").write_text(json.dumps(record))
    said = load_probe(path).predict(embedded(*simulated(1, 40, noise=0.3, seed=5)))
    assert (said["one_of"].str.count(r"\|") == 3).all()
