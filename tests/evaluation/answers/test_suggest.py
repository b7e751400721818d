"""Labels of units that stand for others teach more than those of units at random; few say how little."""

from __future__ import annotations

import numpy as np
import pytest
from labelled import embedded, simulated

from nuclr.errors import DataError
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.answers.suggest import suggest
from nuclr.evaluation.classifiers import fit_classifier


def accuracy(features: np.ndarray, kinds: np.ndarray, rows: np.ndarray) -> float:
    """How many of the other units a probe tells that learned from these."""
    if len(set(kinds[rows])) < 2:
        return 0.0
    fitted = fit_classifier("linear", (features[rows], kinds[rows]), (features[:0], kinds[:0]))
    others = np.setdiff1d(np.arange(len(kinds)), rows)
    told = fitted.classes_[fitted.predict_proba(features[others]).argmax(axis=1)]
    return float((told == kinds[others]).mean())


def test_ten_suggested_labels_teach_more_than_ten_at_random() -> None:
    gains = []
    for seed in range(10):
        table, features = simulated(1, 120, noise=0.25, seed=seed)
        kinds = table["kind"].to_numpy(str)
        chosen = suggest(embedded(table, features), 10).index.to_numpy()
        rng = np.random.default_rng(seed)
        random = [accuracy(features, kinds, rng.choice(120, 10, replace=False)) for _ in range(10)]
        gains.append(accuracy(features, kinds, chosen) - np.mean(random))
    assert np.mean(gains) > 0.05
    assert np.mean(np.array(gains) > 0) >= 0.8


def test_every_unit_is_stood_for_and_silent_ones_are_passed_over() -> None:
    table, features = simulated(2, 40, noise=0.3)
    features[3] = np.nan
    found = suggest(embedded(table, features), 12)
    assert len(found) == found["unit_id"].nunique() == 12
    assert found["stands_for"].sum() == 79
    assert found["stands_for"].is_monotonic_decreasing
    assert table["unit_id"][3] not in set(found["unit_id"])
    assert len(suggest(embedded(table, features), 79)) == 79
    with pytest.raises(DataError, match="80 units are requested, but 79 units are active"):
        suggest(embedded(table, features), 80)


def test_twenty_labels_are_enough_to_learn_from_and_say_how_little_they_know() -> None:
    table, features = simulated(1, 200, noise=0.3)
    few = table["kind"].where(np.arange(200) < 20, "")
    probe = train_probe(embedded(table.assign(kind=few), features), "kind", kinds=["linear"])
    scores = probe.record["scores"]
    assert probe.record["learned_from"]["units"] >= 17
    assert scores["low"] < scores["macro_f1"] < scores["high"] or scores["high"] == 1
    assert scores["high"] - scores["low"] > 0.15
    everything = train_probe(embedded(table, features), "kind", kinds=["linear"]).record["scores"]
    assert everything["high"] - everything["low"] < 0.6 * (scores["high"] - scores["low"])


@pytest.mark.parametrize("animals", [6, 12])
def test_the_interval_holds_the_score_in_new_animals(animals: int) -> None:
    """Of many animals to come; the interval is of those that were labelled, so not every time."""
    held = 0
    for seed in range(20):
        probe = train_probe(
            embedded(*simulated(animals, 40, noise=0.6, offset=0.5, seed=seed)), "kind", kinds=["linear"]
        )
        table, features = simulated(60, 40, noise=0.6, offset=0.5, seed=500 + seed, prefix="new")
        told = probe.predict(embedded(table, features), 0)["predicted"]
        by_class = [
            2 * ((told == k) & (table["kind"] == k)).sum() / ((told == k).sum() + (table["kind"] == k).sum())
            for k in "wxyz"
        ]
        held += probe.record["scores"]["low"] <= np.mean(by_class) <= probe.record["scores"]["high"]
    assert held >= 13
