"""No probe learns from what it is tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labelled import SPLITS, features_of, units

from nuclr.config import Probe, Task
from nuclr.data.splits import Splits
from nuclr.errors import DataError, SplitError
from nuclr.evaluation.metrics import confusions, macro_f1
from nuclr.evaluation.probe import Variant, centred, predict, probe_all, read_predictions, variants
from nuclr.evaluation.protocols import Fold, folds
from nuclr.evaluation.representations import write_embeddings
from nuclr.evaluation.score_tables import collect


def score(features: np.ndarray, table: pd.DataFrame, variant: Variant, seed: int = 0) -> float:
    labels = table["kind"].to_numpy(object)
    parts = folds("inductive_zero_shot", table, labels, SPLITS, [], 5)
    made, _ = predict(features, labels, parts, variant, seed)
    return float(macro_f1(confusions([made.assign(animal="")])[0, 0]))


@pytest.mark.parametrize("kind", ["linear", "knn", "mlp"])
def test_a_probe_reads_what_is_there_and_nothing_where_nothing_is(kind: str) -> None:
    table = units(100)
    assert score(features_of(table), table, Variant(kind)) > 0.95
    noise = np.random.default_rng(0).standard_normal((len(table), 4))
    assert abs(score(noise, table, Variant(kind)) - 1 / 3) < 0.12


@pytest.mark.parametrize("kind", ["linear", "knn", "mlp"])
def test_shuffled_labels_give_chance(kind: str) -> None:
    """The null test: of good features, what a probe reads after learning shuffled labels."""
    table = units(100)
    good = features_of(table, noise=0.5)
    assert score(good, table, Variant(kind)) > 0.6
    scores = [score(good, table, Variant(kind, shuffled=True), seed) for seed in range(12)]
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.06)


def test_a_share_of_the_labels_is_enough_for_what_is_easy_and_less_is_worse() -> None:
    table = units(100)
    noisy = features_of(table, noise=1.0)
    shares = [
        np.mean([score(noisy, table, Variant(label_share=0.5**i), s) for s in range(4)]) for i in (0, 6)
    ]
    assert shares[0] > shares[1] + 0.05
    assert score(features_of(table), table, Variant(label_share=0.5**6)) > 0.95


def test_centring_takes_what_a_whole_recording_shares() -> None:
    """Every recording is moved by a step of its own: without its mean, the labels of others apply."""
    table = units(100)
    step = 5 * np.random.default_rng(1).standard_normal((8, 4))[pd.factorize(table["animal"])[0]]
    moved = (features_of(table) + step).astype(np.float32)
    moved[7] = np.nan
    mine = centred(moved, table["population"].to_numpy(str))
    assert np.isnan(mine[7]).all()
    means = pd.DataFrame(mine).groupby(table["population"]).mean().to_numpy()
    np.testing.assert_allclose(means, 0, atol=1e-5)
    assert score(mine, table, Variant()) > 0.9 > score(moved, table, Variant())


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_validation_units_are_judged_by_a_probe_that_did_not_learn_from_them(kind: str) -> None:
    """Features that name each unit fit anything they saw, and say nothing of what they did not."""
    rng = np.random.default_rng(0)
    labels = rng.choice(["x", "y"], 60).astype(object)
    features = np.eye(60, dtype=np.float32)
    fold = Fold(np.arange(40), np.arange(40, 50), np.arange(50, 60))
    _, validation = predict(features, labels, [fold], Variant(kind))
    assert validation < 0.9


def test_a_unit_without_features_counts_as_the_most_frequent_class() -> None:
    labels = np.array(["x", "x", "x", "y", "y", "y"], object)
    features = np.array([[0.0], [0.1], [0.2], [1.0], [np.nan], [np.nan]])
    fold = Fold(np.array([0, 1, 2, 3]), np.array([], int), np.array([4, 5]))
    made, validation = predict(features, labels, [fold], Variant())
    assert made["predicted"].tolist() == ["x", "x"]
    assert made["confidence"].tolist() == [0.75, 0.75]
    assert made["row"].tolist() == [4, 5]
    assert np.isnan(validation)


def write(path: Path, animals: list[str], **record: object) -> Path:
    table = units()
    write_embeddings(
        path, table, features_of(table), np.ones(len(table), int), {"animals": animals, "seed": 1, **record}
    )
    return path


OPTIONS = Probe(
    tasks=[Task(name="kind", column="kind")],
    protocols=["transductive", "transductive_zero_shot", "inductive_zero_shot"],
    kinds=["linear", "knn"],
    centred=[False, True],
    label_halvings=2,
    bootstrap=20,
)
WAYS = len(variants(OPTIONS, "nuclr"))


def test_every_task_and_protocol_is_a_file_that_says_where_it_comes_from(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", SPLITS.pretraining(2, 1), model="abc")
    table = probe_all(path, SPLITS, 2, 1, OPTIONS, tmp_path / "probes")
    assert WAYS == 4 + 2 + 1
    assert len(table) == 3 * WAYS
    assert sorted(p.name for p in (tmp_path / "probes").iterdir()) == sorted(
        ["scores.csv", "classes.csv", *(f"kind.{protocol}.parquet" for protocol in OPTIONS.protocols)]
    )
    predictions, record = read_predictions(tmp_path / "probes" / "kind.transductive.parquet")
    assert record["representation"] == "nuclr"
    assert (record["animals"], record["seed"], record["model"]) == (2, 1, "abc")
    assert len(record["embeddings"]) == 64
    assert {"unit_id", "population", "animal", "fold", "label", "predicted", "confidence"} <= set(predictions)
    assert predictions["unit_id"].is_unique
    assert (predictions["probe"] == "linear").all()
    nearest, _ = read_predictions(tmp_path / "probes" / "kind.transductive.parquet", Variant("knn", True))
    assert len(nearest) == len(predictions)
    with pytest.raises(DataError, match="make it again with `nuclr probe`"):
        read_predictions(tmp_path / "probes" / "kind.transductive.parquet", Variant("mlp"))


def test_scores_of_many_runs_are_one_tidy_table(tmp_path: Path) -> None:
    for animals in (1, 2):
        path = write(tmp_path / f"{animals}.parquet", SPLITS.pretraining(animals, 1))
        probe_all(path, SPLITS, animals, 1, OPTIONS, tmp_path / f"n{animals}")
    table = collect([tmp_path / "n1", tmp_path / "n2"], tmp_path / "probes.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "probes.parquet"), table)
    key = [
        "task",
        "protocol",
        "representation",
        "animals",
        "seed",
        "probe",
        "centred",
        "label_share",
        "shuffled",
    ]
    assert not table.duplicated(key).any()
    # One animal cannot be left out of one.
    assert len(table) == 2 * WAYS + 3 * WAYS
    main = table[(table["label_share"] == 1) & ~table["shuffled"] & (table["probe"] == "linear")]
    assert (main["macro_f1"] > 0.95).all()
    assert (main["p_value"] < 0.05).all()
    # Of two animals one is left out, and the other is all there is to learn from.
    alone = (main["protocol"] == "transductive_zero_shot") & (main["animals"] == 2)
    assert main.loc[alone, "validation_macro_f1"].isna().all()
    assert (main.loc[~alone, "validation_macro_f1"] > 0.9).all()
    classes = pd.read_csv(tmp_path / "probes.classes.csv")
    assert set(classes["class"]) == {"x", "y", "z"}
    renamed = OPTIONS.model_copy(
        update={"tasks": [Task(name="kind", column="kind", classes={"NA": ["x"], "y": ["y"]})]}
    )
    probe_all(path, SPLITS, 2, 1, renamed, tmp_path / "renamed")
    collect([tmp_path / "renamed"], tmp_path / "renamed.parquet")
    classes = pd.read_csv(tmp_path / "renamed.classes.csv", keep_default_na=False)
    assert set(classes["class"]) == {"NA", "y"}
    with pytest.raises(DataError, match=r"scores\.csv: cannot be read"):
        collect([tmp_path], tmp_path / "again.parquet")
    assert not (tmp_path / "again.parquet").exists()


def test_one_animal_cannot_be_left_out_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", SPLITS.pretraining(1, 1))
    table = probe_all(path, SPLITS, 1, 1, OPTIONS, tmp_path / "probes")
    assert table["protocol"].unique().tolist() == ["transductive", "inductive_zero_shot"]


def test_embeddings_of_other_animals_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", [*SPLITS.pretraining(1, 1), SPLITS.test[0]])
    with pytest.raises(SplitError, match="pretrained on 2 other animals than splits"):
        probe_all(path, SPLITS, 2, 1, OPTIONS, tmp_path / "probes")
    assert [p.name for p in tmp_path.iterdir()] == ["e.parquet"]


def test_splits_that_were_tampered_with_after_the_run_are_refused(tmp_path: Path) -> None:
    """An animal of the run's own record is made a test animal; or one whose labels chose its epoch."""
    run = write(tmp_path / "e.parquet", SPLITS.pretraining(2, 1), chosen_by=SPLITS.label)
    probe_all(run, SPLITS, 2, 1, OPTIONS, tmp_path / "probes")
    swapped = {SPLITS.orders[1][0]: SPLITS.test[0], SPLITS.test[0]: SPLITS.orders[1][0]}

    def changed(names: list[str]) -> list[str]:
        return [swapped.get(name, name) for name in names]

    tampered = Splits(
        test=changed(SPLITS.test), label=SPLITS.label, orders=[changed(order) for order in SPLITS.orders]
    )
    with pytest.raises(SplitError, match="pretrained on 2 other animals than splits"):
        probe_all(run, tampered, 2, 1, OPTIONS, tmp_path / "other")
    exchanged = Splits(test=SPLITS.label, label=SPLITS.test, orders=SPLITS.orders)
    with pytest.raises(SplitError, match=f"labels of test animal {SPLITS.label[0]} chose the epoch"):
        probe_all(run, exchanged, 2, 1, OPTIONS, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_one_class_is_nothing_to_learn() -> None:
    fold = Fold(np.array([0, 1]), np.array([], int), np.array([2]))
    with pytest.raises(DataError, match=r"1 class\(es\) \(x\)"):
        predict(np.zeros((3, 1)), np.array(["x"] * 3, object), [fold], Variant())
