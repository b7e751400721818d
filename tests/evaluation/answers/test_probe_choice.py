"""Held-out animals choose a probe's kind and centring; others, with no part in it, say how good it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labelled import MODEL, PUBLISHED, embedded, simulated

from nuclr.errors import ModelError
from nuclr.evaluation.answers.kinds import KINDS, TENSORS, Kind, fit, log_probability
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.answers.saved_probe import load_probe, named, save_probe
from nuclr.evaluation.classifiers import fit_classifier
from nuclr.representation.centring import FEWEST_TO_CENTRE, centred


def moved(
    animals: int = 6, units: int = 60, offset: float = 3.0, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """Give units whose features are moved by their animal, further than by their kind."""
    table, features = simulated(animals, units, noise=0.3, offset=offset, seed=seed)
    return table.assign(population=table["animal"], recording=table["animal"]), features


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 4])
def test_a_kind_on_disk_answers_as_scikit_learn(kind: Kind, classes: int) -> None:
    table, features = simulated(4, 60, noise=0.6)
    known = table["kind"].isin(list("wxyz")[:classes]).to_numpy()
    x, y = features[known].astype(float), np.unique(table["kind"][known], return_inverse=True)[1]
    tensors = fit(kind, x, y)
    found = np.exp(log_probability(kind, tensors, x[:40]))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    if kind == "mlp":  # its training units are drawn; what is compared is how they are told
        assert (found.argmax(axis=1) == y[:40]).mean() > 0.8
        return
    theirs = fit_classifier(kind, (x, y), (x[:0], y[:0])).predict_proba(x[:40])
    np.testing.assert_allclose(found, theirs, atol=0.01 if kind == "knn" else 1e-9)


def test_a_perceptron_on_disk_is_scikit_learns_network() -> None:
    """Of few units none is set aside, so both learn from the same."""
    x = np.random.default_rng(0).standard_normal((25, 5))
    y = np.arange(25) % 5
    theirs = fit_classifier("mlp", (x, y), (x[:0], y[:0])).predict_proba(x)
    np.testing.assert_allclose(np.exp(log_probability("mlp", fit("mlp", x, y), x)), theirs, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_as_written(kind: Kind, tmp_path: Path) -> None:
    table, features = moved(3, 30)
    probe = train_probe(embedded(table, features), "kind", kinds=[kind], centred="yes")
    save_probe(tmp_path / "probe.safetensors", probe)
    again = load_probe(tmp_path / "probe.safetensors")
    assert named(again.record) == f"{kind}, centred"
    pd.testing.assert_frame_equal(
        again.predict(embedded(table, features)), probe.predict(embedded(table, features))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_whose_arrays_do_not_go_together_is_refused(kind: Kind, tmp_path: Path) -> None:
    table, features = simulated(3, 30, noise=0.3)
    probe = train_probe(embedded(table, features), "kind", kinds=[kind], centred="no")
    for name in ("mean", "scale", *TENSORS[kind]):
        for wrong in (None, probe.tensors[name][:-1], probe.tensors[name][None]):
            tensors = {key: value for key, value in probe.tensors.items() if key != name}
            if wrong is not None:
                tensors[name] = wrong
            broken = type(probe)(probe.classes, tensors, probe.record)
            save_probe(tmp_path / "probe.safetensors", broken)
            if name == "labels" and wrong is not None and wrong.ndim == 1:
                continue  # refused for the examples, which are more
            with pytest.raises(ModelError, match="the probe is incomplete or damaged"):
                load_probe(tmp_path / "probe.safetensors")
    save_probe(
        tmp_path / "probe.safetensors",
        type(probe)(probe.classes, probe.tensors, probe.record | {"kind": "x"}),
    )
    with pytest.raises(ModelError, match="the probe is incomplete or damaged"):
        load_probe(tmp_path / "probe.safetensors")


def test_a_probe_of_before_is_read(tmp_path: Path) -> None:
    """It said neither its kind nor whether it was centred."""
    table, features = simulated(3, 30, noise=0.3)
    probe = train_probe(embedded(table, features), "kind", **PUBLISHED)
    save_probe(tmp_path / "probe.safetensors", probe)
    record = json.loads((tmp_path / "probe.json").read_text())
    del record["kind"], record["centred"]
    (tmp_path / "probe.json").write_text(json.dumps(record))
    again = load_probe(tmp_path / "probe.safetensors")
    assert named(again.record) == "linear, not centred"
    np.testing.assert_array_equal(again.probabilities(features), probe.probabilities(features))


def test_embeddings_are_centred_where_animals_differ_more_than_kinds() -> None:
    table, features = moved()
    probe = train_probe(embedded(table, features), "kind", kinds=["linear"])
    plain = train_probe(embedded(table, features), "kind", **PUBLISHED)
    assert probe.is_centred
    assert probe.record["scores"]["macro_f1"] > plain.record["scores"]["macro_f1"] + 0.2
    new, others = moved(seed=9)
    right = [(p.predict(embedded(new, others), 0)["predicted"] == new["kind"]).mean() for p in (probe, plain)]
    assert right[0] > right[1] + 0.2


def test_they_are_not_where_a_recordings_mean_says_what_its_units_are() -> None:
    """Each animal has units of mostly one kind."""
    rng = np.random.default_rng(0)
    animal = np.repeat(np.arange(12), 40)
    kind = np.where(rng.random(480) < 0.9, animal % 2, rng.integers(0, 2, 480))
    features = (kind[:, None] * np.ones(4) + 0.8 * rng.standard_normal((480, 4))).astype(np.float32)
    names = np.char.add("a", animal.astype(str))
    table = pd.DataFrame({"unit_id": np.arange(480).astype(str), "animal": names, "population": names})
    probe = train_probe(
        embedded(table.assign(kind=np.array(["x", "y"], object)[kind]), features), "kind", kinds=["linear"]
    )
    assert not probe.is_centred


def test_what_was_chosen_says_so_and_the_others_stand_beside_it() -> None:
    table, features = moved(4, 40)
    probe = train_probe(embedded(table, features), "kind")
    compared = probe.record["scores"]["compared"]
    assert [(row["kind"], row["centred"]) for row in compared] == [
        (kind, choice) for choice in (False, True) for kind in KINDS
    ]
    best = max(compared, key=lambda row: row["macro_f1"])
    assert (best["kind"], best["centred"]) == (probe.kind, probe.is_centred)


def test_the_choice_does_not_flatter_its_score() -> None:
    """Of features that know nothing the best of six is above chance, and what is reported is not."""
    best, reported, level = [], [], []
    for seed in range(8):
        table, features = moved(4, 30, seed=seed)
        noise = np.random.default_rng(seed).standard_normal(features.shape).astype(np.float32)
        scores = train_probe(embedded(table, noise), "kind", kinds=["linear", "knn"]).record["scores"]
        best.append(max(row["macro_f1"] for row in scores["compared"]))
        reported.append(scores["macro_f1"])
        level.append(scores["chance"])
    assert np.mean(best) > np.mean(reported)
    assert abs(np.mean(reported) - np.mean(level)) < 0.03


def test_a_population_of_few_units_gets_no_answer_from_a_centred_probe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table, features = moved()
    probe = train_probe(embedded(table, features), "kind", kinds=["linear"], centred="yes")
    new, others = moved(3, FEWEST_TO_CENTRE + 5, seed=4)
    few = np.flatnonzero(new["population"] == "a1")[FEWEST_TO_CENTRE - 1 :]
    others[few] = np.nan  # never active, so they say nothing of the mean
    with caplog.at_level(logging.WARNING):
        said = probe.predict(embedded(new, others), sure=0.5)
    answered = said["predicted"] != ""
    assert not answered[new["population"] == "a1"].any()
    assert answered[new["population"] != "a1"].any()
    assert f"a1: fewer than {FEWEST_TO_CENTRE} active units" in caplog.text


def test_recordings_of_one_animal_are_held_out_whole() -> None:
    table, features = moved(4, 40)
    table["animal"] = "only"
    probe = train_probe(embedded(table, features), "kind", kinds=["linear"])
    assert probe.record["scores"]["measured_on"] == "other recordings of one animal, in 4 groups"
    assert probe.is_centred
    # One class a recording: without it, one is left. Then single units are held out.
    table["kind"] = np.where(table["population"] == "a0", "x", "y")
    two = table["population"].isin(["a0", "a1"]).to_numpy()
    probe = train_probe(embedded(table[two], features[two]), "kind", kinds=["linear"])
    assert probe.record["scores"]["measured_on"] == "other units of one animal"


def test_two_animals_choose_by_units_of_the_other() -> None:
    table, features = moved(2, 60, offset=0.2)
    scores = train_probe(embedded(table, features), "kind", kinds=["linear"]).record["scores"]
    assert scores["measured_on"] == "other animals, in 2 groups"
    assert scores["macro_f1"] > 0.7


def test_the_mean_is_that_of_active_units() -> None:
    features = np.array([[1.0, 2.0], [3.0, 4.0], [np.nan, np.nan], [10.0, 0.0]])
    found = centred(features, np.array(["a", "a", "a", "b"]))
    np.testing.assert_allclose(found[[0, 1, 3]], [[-1, -1], [1, 1], [0, 0]])
    assert np.isnan(found[2]).all()


def test_the_model_of_the_tests_is_that_of_the_probe() -> None:
    table, features = moved(2, 40)
    assert train_probe(embedded(table, features), "kind", **PUBLISHED).record["model"] == MODEL
