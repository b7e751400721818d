"""No probe learns from what it is tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from nuclr.config import Probe, Task
from nuclr.data.splits import Splits, make_splits, published_splits
from nuclr.errors import DataError, SplitError
from nuclr.evaluation.probe import chance, class_labels, folds, predict, probe_all, read_predictions, scores
from nuclr.evaluation.representations import write_embeddings

ANIMALS = [f"a{i}" for i in range(8)]
SPLITS = make_splits(ANIMALS, 2, 2, 0)


def units(per_animal: int = 30, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    animal = np.repeat(ANIMALS, per_animal)
    return pd.DataFrame(
        {
            "unit_id": [f"{a}_{i}" for i, a in enumerate(animal)],
            "population": animal,
            "recording": animal,
            "animal": animal,
            "kind": rng.choice(["x", "y", "z", ""], len(animal)),
        }
    )


def features_of(table: pd.DataFrame, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Make features from which the kind can be read."""
    rng = np.random.default_rng(seed)
    return (
        pd.get_dummies(table["kind"]).to_numpy(float) + noise * rng.standard_normal((len(table), 4))
    ).astype(np.float32)


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
    for train, test in folds(protocol, table, labels, SPLITS, pretraining, 5):
        assert not set(train) & set(test)
        assert (labels[train] != "").all()
        assert (labels[test] != "").all()
        learned, new = set(table["animal"].iloc[train]), set(table["animal"].iloc[test])
        if protocol != "transductive":
            assert not learned & new
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
    with pytest.raises(SplitError, match="was in pretraining and cannot be used as a new one"):
        list(folds("inductive_zero_shot", table, table["kind"].to_numpy(object), SPLITS, [SPLITS.test[0]], 5))


def test_a_probe_reads_what_is_there_and_nothing_where_nothing_is() -> None:
    table = units(100)
    labels = table["kind"].to_numpy(object)

    def score(features: np.ndarray) -> float:
        parts = folds("inductive_zero_shot", table, labels, SPLITS, [], 5)
        return scores(predict(features, labels, parts))["macro_f1"]

    assert score(features_of(table)) > 0.99
    noise = np.random.default_rng(0).standard_normal((len(table), 4))
    assert abs(score(noise) - 1 / 3) < 0.12


def test_a_unit_without_features_counts_as_the_most_frequent_class() -> None:
    labels = np.array(["x", "x", "x", "y", "y", "y"], object)
    features = np.array([[0.0], [0.1], [0.2], [1.0], [np.nan], [np.nan]])
    made = predict(features, labels, iter([(np.array([0, 1, 2, 3]), np.array([4, 5]))]))
    assert made["predicted"].tolist() == ["x", "x"]
    assert made["row"].tolist() == [4, 5]


def test_scores_are_those_of_scikit_learn() -> None:
    made = pd.DataFrame({"label": list("xxyyz"), "predicted": list("xyyyz")})
    assert scores(made)["macro_f1"] == pytest.approx(
        f1_score(made["label"], made["predicted"], average="macro")
    )
    assert scores(made)["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)


def test_chance_is_what_guessing_gets() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["x", "y", "z"], 200_000, p=[0.7, 0.2, 0.1])
    guess = rng.choice(["x", "y", "z"], 200_000)
    assert chance(labels) == pytest.approx(f1_score(labels, guess, average="macro"), abs=0.005)


def test_classes_may_group_values_and_leave_others_out() -> None:
    table = pd.DataFrame({"region": ["CA1", "CA3", "VISp", "root", ""]})
    task = Task(name="r", column="region", classes={"HPF": ["CA1", "CA3"], "VIS": ["VISp"]})
    assert class_labels(table, task).tolist() == ["HPF", "HPF", "VIS", "", ""]
    with pytest.raises(DataError, match="no column depth in the unit table"):
        class_labels(table, Task(name="depth", column="depth"))
    with pytest.raises(DataError, match="none: no unit has a class"):
        class_labels(table, Task(name="none", column="region", classes={"x": ["y"]}))


def write(path: Path, animals: list[str], **record: object) -> Path:
    table = units()
    write_embeddings(
        path, table, features_of(table), np.ones(len(table), int), {"animals": animals, "seed": 1, **record}
    )
    return path


OPTIONS = Probe(
    tasks=[Task(name="kind", column="kind")],
    protocols=["transductive", "transductive_zero_shot", "inductive_zero_shot"],
)


def test_every_task_and_protocol_is_a_file_that_says_where_it_comes_from(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", SPLITS.pretraining(2, 1), model="abc")
    table = probe_all(path, SPLITS, 2, 1, OPTIONS, tmp_path / "probes")
    assert len(table) == len(list((tmp_path / "probes").iterdir())) == 3
    predictions, record = read_predictions(tmp_path / "probes" / "kind.transductive.parquet")
    assert record["representation"] == "nuclr"
    assert (record["animals"], record["seed"], record["model"]) == (2, 1, "abc")
    assert len(record["embeddings"]) == 64
    assert set(predictions.columns) == {"unit_id", "population", "animal", "fold", "label", "predicted"}


def test_one_animal_cannot_be_left_out_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", SPLITS.pretraining(1, 1))
    table = probe_all(path, SPLITS, 1, 1, OPTIONS, tmp_path / "probes")
    assert table["protocol"].tolist() == ["transductive", "inductive_zero_shot"]


def test_embeddings_of_other_animals_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", [*SPLITS.pretraining(1, 1), SPLITS.test[0]])
    with pytest.raises(SplitError, match="pretrained on 2 other animals than splits"):
        probe_all(path, SPLITS, 2, 1, OPTIONS, tmp_path / "probes")
    assert [p.name for p in tmp_path.iterdir()] == ["e.parquet"]


def test_a_protocol_without_its_animals_is_refused() -> None:
    none = Splits(test=[], label=[], orders=[ANIMALS])
    table = units()
    with pytest.raises(SplitError, match=r"needs split\.test_animals and split\.label_animals above 0"):
        list(folds("inductive_zero_shot", table, table["kind"].to_numpy(object), none, [], 5))


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(DataError, match=r"1 class\(es\) \(x\)"):
        predict(np.zeros((3, 1)), np.array(["x"] * 3, object), iter([(np.array([0, 1]), np.array([2]))]))


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
        ((train, test),) = folds("inductive_zero_shot", table, labels, splits, pretraining, 5)
        assert set(table["recording"].iloc[train]) == set(pretraining) == set(names[:recordings])
        assert set(table["recording"].iloc[test]) == set(names[-3:])
        for train, test in folds("transductive_zero_shot", table, labels, splits, pretraining, 5):
            assert not set(table["animal"].iloc[train]) & set(table["animal"].iloc[test])
