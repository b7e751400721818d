"""Who a probe may learn from: no protocol learns from what it is tested on."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import ANIMALS, SPLITS, units

from nuclr.config import Task
from nuclr.data.splits import Splits, published_splits
from nuclr.errors import DataError, SplitError
from nuclr.evaluation.protocols import Fold, check_fold, class_labels, folds, label_order, label_share


@settings(max_examples=30)
@given(
    st.sampled_from(["transductive", "transductive_zero_shot", "inductive_zero_shot"]),
    st.integers(2, 4),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_no_test_unit_is_learned_from(protocol: str, animals: int, seed: int, draw: int) -> None:
    table = units(seed=draw)
    labels = table["kind"].to_numpy(object)
    pretraining = SPLITS.pretraining(animals, seed)
    tested: list[int] = []
    for fold in folds(protocol, table, labels, SPLITS, pretraining, 5):
        train, test = fold.learned, fold.test
        assert not set(fold.train) & set(fold.validation)
        assert not set(train) & set(test)
        assert (labels[train] != "").all()
        assert (labels[test] != "").all()
        learned, new = set(table["animal"].iloc[train]), set(table["animal"].iloc[test])
        if protocol != "transductive":
            assert not learned & new
            assert not set(table["animal"].iloc[fold.train]) & set(table["animal"].iloc[fold.validation])
        if protocol == "inductive_zero_shot":
            assert learned == set(SPLITS.label)
            assert new == set(SPLITS.test)
            assert not (learned | new) & set(pretraining)
        else:
            assert (learned | new) <= set(pretraining)
        tested += list(test)
    assert len(tested) == len(set(tested))
    group = SPLITS.test if protocol == "inductive_zero_shot" else pretraining
    assert set(tested) == set(np.flatnonzero(table["animal"].isin(group) & (labels != "")))


def test_an_animal_that_was_in_pretraining_is_not_a_new_one() -> None:
    table = units()
    with pytest.raises(SplitError, match="was in pretraining, so inductive_zero_shot cannot use it"):
        list(folds("inductive_zero_shot", table, table["kind"].to_numpy(object), SPLITS, [SPLITS.test[0]], 5))


def test_classes_may_group_values_and_leave_others_out() -> None:
    table = pd.DataFrame({"region": ["CA1", "CA3", "VISp", "root", ""]})
    task = Task(name="r", column="region", classes={"HPF": ["CA1", "CA3"], "VIS": ["VISp"]})
    assert class_labels(table, task).tolist() == ["HPF", "HPF", "VIS", "", ""]
    with pytest.raises(DataError, match="the unit table has no column depth"):
        class_labels(table, Task(name="depth", column="depth"))
    with pytest.raises(DataError, match="none: no unit has a class"):
        class_labels(table, Task(name="none", column="region", classes={"x": ["y"]}))


def test_a_protocol_without_its_animals_is_refused() -> None:
    none = Splits(test=[], label=[], orders=[ANIMALS])
    table = units()
    with pytest.raises(SplitError, match=r"raise split\.test_animals and split\.label_animals above 0"):
        list(folds("inductive_zero_shot", table, table["kind"].to_numpy(object), none, [], 5))


def test_in_a_published_split_recordings_are_kept_apart_and_animals_may_not_be() -> None:
    table = units()
    # Two recordings of each animal.
    table["recording"] = table["animal"] + np.where(np.arange(len(table)) % 2, "_1", "_2")
    names = [f"{animal}_{i}" for animal in ANIMALS for i in (1, 2)]
    rows = [(name, name[:2], "small" if name[:2] in ("a0", "a1") else "all") for name in names[:-3]]
    splits = published_splits([*rows, *((name, name[:2], "test") for name in names[-3:])])
    assert "1 of 2 test animals" in splits.note
    labels = table["kind"].to_numpy(object)
    for count, recordings in splits.published:
        pretraining = splits.pretraining(count, 0)
        (fold,) = folds("inductive_zero_shot", table, labels, splits, pretraining, 5)
        assert set(table["recording"].iloc[fold.learned]) == set(pretraining) == set(names[:recordings])
        assert set(table["recording"].iloc[fold.test]) == set(names[-3:])
        for fold in folds("transductive_zero_shot", table, labels, splits, pretraining, 5):
            assert not set(table["animal"].iloc[fold.learned]) & set(table["animal"].iloc[fold.test])


def test_classes_of_few_units_are_dropped_and_named(caplog: pytest.LogCaptureFixture) -> None:
    table = pd.DataFrame({"kind": ["x"] * 5 + ["y"] * 2 + [""]})
    labels = class_labels(table, Task(name="kind", column="kind"), min_units=3)
    assert labels.tolist() == ["x"] * 5 + [""] * 3
    assert "classes with fewer than 3 units (probe.min_units) are dropped: y 2" in caplog.text


def test_a_split_that_was_tampered_with_is_found() -> None:
    """A test animal's unit among those to learn from, or a test animal among the pretrained."""
    table = units()
    labels = table["kind"].to_numpy(object)
    (fold,) = folds("inductive_zero_shot", table, labels, SPLITS, SPLITS.pretraining(2, 0), 5)
    leaking = replace(fold, train=np.append(fold.train, fold.test[-1]), test=fold.test[:-1])
    with pytest.raises(
        SplitError, match=f"the probe would learn from labels of test animal {SPLITS.test[1]}"
    ):
        check_fold(leaking, "inductive_zero_shot", table, SPLITS, [])
    with pytest.raises(SplitError, match=f"test animal {SPLITS.test[0]} was in pretraining"):
        check_fold(fold, "inductive_zero_shot", table, SPLITS, [SPLITS.test[0]])
    both = Fold(fold.train, fold.validation, np.append(fold.test, fold.train[0]))
    with pytest.raises(SplitError, match="is both in training and in test"):
        check_fold(both, "transductive", table, SPLITS, [])


def test_shares_of_labels_are_nested_and_hold_every_class() -> None:
    table = units()
    labels = table["kind"].to_numpy(object)
    rows = np.flatnonzero(labels != "")
    order = label_order(rows, labels, seed=3)
    shares = [label_share(order, 0.5**i) for i in range(8)]
    assert set(shares[0]) == set(rows)
    for more, fewer in pairwise(shares):
        assert set(fewer) <= set(more)
        assert set(labels[fewer]) == {"x", "y", "z"}
    assert len(shares[1]) == pytest.approx(len(rows) / 2, abs=2)
    assert len(shares[-1]) == 3


def test_what_means_no_label_is_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    values = [
        "CA1",
        "VISp",
        "",
        "Unknown",
        "none",
        "NaN",
        "n/a",
        " unlabelled ",
        "root",
        "Void",
        "fiber tracts",
    ]
    table = pd.DataFrame({"region": values, "layer": [5.0, 2.0, *[np.nan] * 9]})
    table["tagged"] = pd.Series([True, False, *[None] * 9], dtype="object")
    assert class_labels(table, Task(name="region", column="region")).tolist() == ["CA1", "VISp", *[""] * 9]
    assert "3 units are not in a brain region (root 1, Void 1, fiber tracts 1)" in caplog.text
    assert class_labels(table, Task(name="layer", column="layer")).tolist() == ["5", "2", *[""] * 9]
    assert class_labels(table, Task(name="tagged", column="tagged")).tolist() == ["True", "False", *[""] * 9]
    named = Task(name="region", column="region", classes={"nowhere": ["root", "Unknown"], "here": ["CA1"]})
    assert class_labels(table, named).tolist() == ["here", "", "", "nowhere", *[""] * 4, "nowhere", "", ""]
