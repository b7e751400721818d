"""No probe learns from what it is tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labelled import SPLITS, features_of, units

from nuclr.config import Probe, Task
from nuclr.data.splits import Splits, make_splits
from nuclr.errors import DataError, SplitError
from nuclr.evaluation.metrics import confusions, macro_f1
from nuclr.evaluation.predictions import read_chosen, read_predictions
from nuclr.evaluation.probe import (
    Variant,
    predict,
    probe_all,
    variants,
)
from nuclr.evaluation.protocols import Fold, folds
from nuclr.evaluation.score_tables import gather_scores
from nuclr.representation.centring import centred
from nuclr.representation.embeddings import read_embeddings, write_embeddings


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
    assert validation.shape == (1,)
    assert validation[0] < 0.9


def test_a_unit_without_features_counts_as_the_most_frequent_class() -> None:
    labels = np.array(["x", "x", "x", "y", "y", "y"], object)
    features = np.array([[0.0], [0.1], [0.2], [1.0], [np.nan], [np.nan]])
    fold = Fold(np.array([0, 1, 2, 3]), np.array([], int), np.array([4, 5]))
    made, validation = predict(features, labels, [fold], Variant())
    assert made["predicted"].tolist() == ["x", "x"]
    assert made["confidence"].tolist() == [0.75, 0.75]
    assert made["row"].tolist() == [4, 5]
    assert np.isnan(validation).all()


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
    path = tmp_path / "probes" / "kind.transductive.parquet"
    nearest, _ = read_predictions(path, probe="knn", centred=True)
    assert len(nearest) == len(predictions)
    with pytest.raises(
        DataError, match=r"no predictions of a probe with .*make the file again with `nuclr probe`"
    ):
        read_predictions(path, probe="mlp")


def test_scores_of_many_runs_are_one_tidy_table(tmp_path: Path) -> None:
    for animals in (1, 2):
        path = write(tmp_path / f"{animals}.parquet", SPLITS.pretraining(animals, 1))
        probe_all(path, SPLITS, animals, 1, OPTIONS, tmp_path / f"n{animals}")
    table = gather_scores([tmp_path / "n1", tmp_path / "n2"], tmp_path / "probes.parquet")
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
        "tested_on",
    ]
    assert not table.duplicated(key).any()
    # One animal cannot be left out of one.
    assert len(table) == 2 * WAYS + 3 * WAYS
    main = table[(table["label_share"] == 1) & ~table["shuffled"] & (table["probe"] == "linear")]
    assert (main["macro_f1"] > 0.95).all()
    assert (main["p_within"] < 0.05).all()
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
    gather_scores([tmp_path / "renamed"], tmp_path / "renamed.parquet")
    classes = pd.read_csv(tmp_path / "renamed.classes.csv", keep_default_na=False)
    assert set(classes["class"]) == {"NA", "y"}
    with pytest.raises(DataError, match=r"scores\.csv: cannot be read"):
        gather_scores([tmp_path], tmp_path / "again.parquet")
    assert not (tmp_path / "again.parquet").exists()


def test_one_animal_cannot_be_left_out_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", SPLITS.pretraining(1, 1))
    table = probe_all(path, SPLITS, 1, 1, OPTIONS, tmp_path / "probes")
    assert table["protocol"].unique().tolist() == ["transductive", "inductive_zero_shot"]


def test_embeddings_of_other_animals_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", [*SPLITS.pretraining(1, 1), SPLITS.test[0]])
    with pytest.raises(SplitError, match="pretrained on 2 animals that are not the 2 pretraining animals"):
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
    with pytest.raises(SplitError, match="pretrained on 2 animals that are not the 2 pretraining animals"):
        probe_all(run, tampered, 2, 1, OPTIONS, tmp_path / "other")
    exchanged = Splits(test=SPLITS.label, label=SPLITS.test, orders=SPLITS.orders)
    with pytest.raises(
        SplitError, match=f"epoch of this model was chosen with labels of test animal {SPLITS.label[0]}"
    ):
        probe_all(run, exchanged, 2, 1, OPTIONS, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_one_class_is_nothing_to_learn() -> None:
    fold = Fold(np.array([0, 1]), np.array([], int), np.array([2]))
    with pytest.raises(DataError, match=r"1 class\(es\) \(x\), but a probe needs two"):
        predict(np.zeros((3, 1)), np.array(["x"] * 3, object), [fold], Variant())


def of_sixteen(path: Path, animals: int, seed: int, **record: object) -> Splits:
    """Write features that know nothing of pretraining: a class signal, and an offset of each animal."""
    splits = make_splits([f"a{i:02}" for i in range(20)], 2, 2, 0)
    rng = np.random.default_rng(0)
    animal = np.repeat([f"a{i:02}" for i in range(20)], 30)
    table = pd.DataFrame({"unit_id": [f"{a}_{i}" for i, a in enumerate(animal)], "animal": animal})
    table = table.assign(population=animal, recording=animal, kind=rng.choice(["x", "y", "z"], len(animal)))
    features = 0.5 * pd.get_dummies(table["kind"]).to_numpy(float) + 0.5 * rng.standard_normal((600, 3))
    features += np.repeat(rng.standard_normal((20, 3)), 30, axis=0)
    who = {"animals": splits.pretraining(animals, seed), "seed": seed} if animals else {}
    write_embeddings(path, table, features.astype(np.float32), np.ones(600, int), {**who, **record})
    return splits


def test_features_that_know_nothing_of_pretraining_have_a_flat_curve(tmp_path: Path) -> None:
    """Runs with more animals were tested on more animals and learned from more labels: 0.41 to 0.72."""
    options = OPTIONS.model_copy(
        update={"kinds": ["linear"], "centred": [False], "label_halvings": 1, "bootstrap": 1}
    )
    rows = []
    for animals in (1, 2, 8):
        path = tmp_path / f"n{animals}.parquet"
        splits = of_sixteen(path, animals, seed=1)
        rows.append(probe_all(path, splits, animals, 1, options, tmp_path / f"n{animals}", panel=1))
    table = pd.concat(rows)
    same = ["protocol", "probe", "label_share", "shuffled"]
    panel = table[table["tested_on"] == "panel"]
    assert set(panel["protocol"]) == set(options.protocols)
    assert (panel.groupby(same)["macro_f1"].nunique() == 1).all()
    assert (panel.groupby(same)["units"].nunique() == 1).all()
    # The scores of the paper's kind stand beside, by their name, and do rise.
    everything = table[(table["tested_on"] == "all_pretraining") & (table["protocol"] == "transductive")]
    assert everything["animals"].tolist() == [2, 8]
    assert everything["units"].tolist() == [60, 240]


def test_a_baseline_is_tested_on_the_animals_of_every_seed(tmp_path: Path) -> None:
    """What is drawn beside the runs is tested on the same animals, with the same labels, as these."""
    splits = of_sixteen(tmp_path / "b.parquet", 0, 0, baseline="single_neuron")
    probe_all(tmp_path / "b.parquet", splits, 16, 0, OPTIONS, tmp_path / "b", panel=1, seeds=3)
    for protocol, count in (("transductive", 1), ("transductive_zero_shot", 2)):
        table, _ = read_predictions(tmp_path / "b" / f"kind.{protocol}.parquet")
        tested = {int(seed): sorted(set(own["animal"])) for seed, own in table.groupby("seed")}
        assert tested == {seed: sorted(splits.panel(count, seed)) for seed in range(3)}
    table, _ = read_predictions(tmp_path / "b" / "kind.inductive_zero_shot.parquet")
    assert set(table["seed"]) == {0}


def test_a_baseline_that_learned_from_some_animals_is_tested_on_these_alone(tmp_path: Path) -> None:
    path = tmp_path / "b.parquet"
    splits = of_sixteen(path, 4, 0, baseline="nemo")
    # A baseline's record has no seed.
    table, features, _ = read_embeddings(path)
    write_embeddings(
        path,
        table,
        features,
        np.ones(len(table), int),
        {"baseline": "nemo", "animals": splits.pretraining(4, 0)},
    )
    probe_all(path, splits, 4, 0, OPTIONS, tmp_path / "b", panel=1, seeds=5)
    predictions, _ = read_predictions(tmp_path / "b" / "kind.transductive.parquet")
    assert set(predictions["animal"]) <= set(splits.pretraining(4, 0))


def test_an_animal_without_labels_cannot_be_tested_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "e.parquet"
    table = units()
    first = SPLITS.pretraining(1, 1)[0]
    table.loc[table["animal"] == first, "kind"] = ""
    record = {"animals": SPLITS.pretraining(2, 1), "seed": 1}
    write_embeddings(path, table, features_of(table), np.ones(len(table), int), record)
    options = OPTIONS.model_copy(update={"protocols": ["transductive"]})
    rows = probe_all(path, SPLITS, 2, 1, options, tmp_path / "probes", panel=1)
    assert rows["tested_on"].unique().tolist() == ["all_pretraining"]
    assert f"the animals {first} are not tested, because they have too few classes" in caplog.text
    predictions, _ = read_predictions(tmp_path / "probes" / "kind.transductive.parquet")
    assert predictions.empty


def test_a_choice_among_probes_looks_at_no_unit_that_it_is_tested_on(tmp_path: Path) -> None:
    """Of noise, the best of four probes was better than chance: validation units were tested too."""
    options = OPTIONS.model_copy(update={"protocols": ["transductive"], "bootstrap": 1, "label_halvings": 0})
    rng = np.random.default_rng(0)
    chosen = []
    for trial in range(6):
        table = units(20, seed=trial)
        path = tmp_path / f"{trial}.parquet"
        record = {"animals": SPLITS.pretraining(4, 1), "seed": 1}
        noise = rng.standard_normal((len(table), 3)).astype(np.float32)
        write_embeddings(path, table, noise, np.ones(len(table), int), record)
        probe_all(path, SPLITS, 4, 1, options, tmp_path / f"p{trial}")
        own, _ = read_chosen(tmp_path / f"p{trial}" / "kind.transductive.parquet")
        assert own["unit_id"].is_unique
        # Each fold has one probe, which its own validation units chose.
        assert (own.groupby("fold")[["probe", "centred"]].nunique() == 1).all().all()
        chosen.append(float(macro_f1(confusions([own.assign(animal="")])[0, 0])))
    assert np.mean(chosen) < 1 / 3 + 0.05


def test_a_perceptron_is_judged_by_units_that_did_not_choose_its_epoch() -> None:
    """On noise it scored 0.375 where 0.315 was to be had, since the same units chose the epoch."""
    apart, together = [], []
    for trial in range(3):
        rng = np.random.default_rng(trial)
        table = units(30, seed=trial)
        labels = table["kind"].to_numpy(object)
        noise = rng.standard_normal((len(table), 4))
        parts = list(folds("transductive", table, labels, SPLITS, SPLITS.pretraining(4, 0), 3))
        for part in parts:
            assert set(part.stopping) < set(part.train)
            assert not set(part.stopping) & set(part.validation)
        apart.append(float(predict(noise, labels, parts, Variant("mlp"), trial)[1].mean()))
        for part in parts:
            # The units that choose the epoch are those that are tested.
            same = Fold(part.train, part.validation, part.validation)
            made, _ = predict(noise, labels, [same], Variant("mlp"), trial)
            together.append(float(macro_f1(confusions([made.assign(animal="")])[0, 0])))
    assert np.mean(together) > 1 / 3
    assert np.mean(apart) < 1 / 3
