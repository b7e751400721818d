"""What the units of a recording are, by every probe of a model; and what cannot be said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled import PUBLISHED, embedded, features_of, units
from shared_model import RECORD, SPEC, recorded, write_shared
from strategies import population

import nuclr
from nuclr.data.archives.simulated import SimulationSpec, simulate
from nuclr.errors import ModelError
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.model.card import CARD, lacks, read_card, set_licence
from nuclr.model.encoder import Encoder
from nuclr.model.saved import save_model
from nuclr.sharing.folder import add_probe, check_model_of
from nuclr.sharing.identify import Answers, agreement, summary
from nuclr.sharing.publishing import check


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shared(tmp_path_factory.mktemp("shared") / "model")


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "model"))


def test_every_probe_says_what_each_unit_is(folder: Path) -> None:
    model = nuclr.load_model(folder)
    found = model.identify(recorded("new", seed=9))
    units = found.units
    for task in ("brain_region", "kind"):
        told = units[f"{task}_predicted"]
        assert (told[told != ""] == units[task][told != ""]).all()
        assert (told != "").sum() >= 20
        probability = units[[name for name in units if name.startswith(f"{task}_p_")]]
        np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-5)
        assert (units[f"{task}_why_not"] == "").tolist() == (told != "").tolist()
    told = (units["brain_region_predicted"] != "").sum()
    assert summary(found)[0].startswith(f"brain region: {told} of 24 units answered (")
    assert summary(found)[0].endswith(f"; {told} of {told} agree with the label in the recording")
    # The two areas lie apart, and depths were known to the probe; kinds are the same units.
    assert "brain_region_along_probe" in units
    assert len(found.answers["brain_region"].boundaries) == 1


def test_without_depths_nothing_is_said_along_the_probe(folder: Path) -> None:
    found = nuclr.load_model(folder).identify(recorded("new", seed=9, depth=False))
    assert "brain_region_along_probe" not in found.units
    assert found.answers["brain_region"].boundaries is None


def test_answers_are_compared_with_labels_of_the_recording_alone_if_it_has_any(folder: Path) -> None:
    made = recorded("new", seed=9)
    model = nuclr.load_model(folder)
    made.units["brain_region"] = "another region"  # none that the probe decodes
    del made.units["kind"]
    assert not any("agree" in line for line in summary(model.identify(made)))


def test_classes_that_are_numbers_are_compared_as_the_probe_learned_them() -> None:
    table = units(20)
    # A column of numbers in which some are missing has a decimal point in each.
    layer = table["kind"].map({name: 2.0 + i for i, name in enumerate(sorted(set(table["kind"])))})
    made = embedded(table.assign(layer=layer.where(table.index > 0)), features_of(table))
    probe = train_probe(made, "layer", **PUBLISHED)
    compared = agreement(made, "layer", Answers(probe, probe.predict(made), None))
    assert compared is not None
    assert compared.units == len(table) - 1


def test_warnings_are_kept(folder: Path) -> None:
    found = nuclr.load_model(folder).identify(recorded("new", units=8, seed=9))
    assert any("small populations" in warning for warning in found.warnings)


def test_a_recording_of_pretraining_or_of_the_labels_is_no_test_and_it_is_said(folder: Path) -> None:
    model = nuclr.load_model(folder)

    def said(animal: str, seed: int) -> list[str]:
        found = model.identify(recorded(animal, seed=seed))
        agreed = {"not a test: such labels trained the probe" in line for line in summary(found)}
        assert agreed == {any("agreement" in warning for warning in found.warnings)}
        return [warning.partition(", so")[0] for warning in found.warnings]

    assert said("new", 9) == []
    # Of the model, only the animal m1 is known; of the probes, also the files m0 to m5.
    assert said("m1", 1) == [
        "the model was pretrained on another recording of an animal of this name (m1)",
        "labels of this recording (m1 of animal m1) trained the probes of brain region and kind",
    ]
    assert said("m2", 9) == [
        "labels of a recording of this name (m2 of animal m2) trained the probes of brain region and kind"
    ]
    renamed = replace(recorded("m3", seed=3), animal="x", recording="x", population="x/probe")
    assert len(model.identify(renamed).warnings) == 1
    other = replace(recorded("m3", seed=9), animal="x")  # other file, other animal
    assert model.identify(other).warnings == ()


def test_a_model_of_own_simulated_recordings_warns_of_its_answers(tmp_path: Path) -> None:
    """The file says that it is simulated, and its store, the model's record and its card keep that."""
    (path,) = simulate(SimulationSpec(units=14, duration_s=20.0), 1, 0, tmp_path / "recordings")
    config = {
        "model": {"dim": 16, "heads": 2},
        "views": {"window_s": 4, "distance_s": 10},
        "pretrain": {"steps": 1},
    }
    model = nuclr.load_model(nuclr.pretrain(path, tmp_path / "model", config=config))
    assert model.trained_on == "1 animal (own, simulated)"
    made = [replace(recorded(f"m{i}", seed=i), bin_s=0.02) for i in range(3)]
    embeddings = model.embed(made)
    probe = nuclr.train_probe(embeddings, "kind", kinds=("linear",))
    add_probe(tmp_path / "model", probe, embeddings)
    found = model.identify(recorded("new", seed=9))
    assert [warning.partition(",")[0] for warning in found.warnings if "simulated" in warning] == [
        "the model was trained on simulated recordings only"
    ]
    card = (tmp_path / "model" / CARD).read_text()
    assert "| Data sets | own (simulated) |" in card
    assert "- none needed: the recordings are simulated (1 population)" in card


def test_a_recording_unlike_all_others_gets_one_warning_and_no_answer(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strange = recorded("strange", units=24, seed=9)
    strange.activity[:] = np.random.default_rng(0).poisson(20, strange.activity.shape)
    found = nuclr.load_model(folder).identify(strange)
    assert (found.units["brain_region_predicted"] == "").all()
    assert set(found.units["brain_region_why_not"]) == {"in a recording unlike the training recordings"}
    assert set(found.units["brain_region_along_probe"]) == {""}
    assert len([warning for warning in found.warnings if "is unlike the 6" in warning]) == 1
    assert caplog.text.count("is unlike the 6") == 1  # though two probes find so


def test_a_model_without_a_probe_says_what_to_do(folder: Path) -> None:
    shutil.rmtree(folder / "probes")
    with pytest.raises(ModelError, match=r"the model has no probe, .*`nuclr train-probe"):
        nuclr.load_model(folder).identify(recorded("new"))


def test_a_probe_of_another_model_is_refused(folder: Path) -> None:
    save_model(folder / "model.safetensors", Encoder(SPEC), RECORD)  # other weights
    with pytest.raises(ModelError, match=r"brain_region\.safetensors: the probe reads embeddings of model"):
        nuclr.load_model(folder).identify(recorded("new"))


def test_two_probes_of_one_task_are_refused_unless_one_is_named(folder: Path) -> None:
    for end in ("json", "safetensors"):
        shutil.copy(folder / "probes" / f"brain_region.{end}", folder / "probes" / f"mine.{end}")
    with pytest.raises(ModelError, match=r"region\.safetensors and .*mine\.safetensors are both probes for"):
        nuclr.load_model(folder).identify(recorded("new"))
    named = [folder / "probes" / "mine.safetensors"]
    assert list(nuclr.load_model(folder).identify(recorded("new"), probes=named).answers) == ["brain_region"]


def test_a_recording_of_the_other_modality_is_refused(folder: Path) -> None:
    calcium = population(units=24, bins=1000, modality="calcium", bin_s=0.02)
    with pytest.raises(ModelError, match="but the model reads spikes"):
        nuclr.load_model(folder).identify(calcium)


def test_a_file_by_itself_is_a_model_without_probes(folder: Path) -> None:
    for end in ("safetensors", "json"):
        name = "config.json" if end == "json" else "model.safetensors"
        shutil.copy(folder / name, folder / f"alone.{end}")
    assert nuclr.load_model(folder / "alone.safetensors").probes() == {}
    assert set(nuclr.load_model(folder / "model.safetensors").probes()) == {"brain_region", "kind"}


def test_the_reference_says_how_fast_units_of_each_class_fired(folder: Path) -> None:
    rates = nuclr.load_model(folder).rates()["brain_region"]
    assert rates.loc["CA1", 0.5] == pytest.approx(5, rel=0.2)
    assert rates.loc["VISp", 0.5] == pytest.approx(20, rel=0.2)


def test_a_damaged_reference_is_refused(folder: Path) -> None:
    path = folder / "reference" / "brain_region.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["CA1"]}))
    with pytest.raises(ModelError, match="the reference file is incomplete"):
        nuclr.load_model(folder).rates()


def test_embeddings_of_another_model_cannot_have_their_probe_in_a_folder(folder: Path) -> None:
    embeddings = nuclr.load_model(folder).embed(recorded("new"))
    check_model_of(folder, embeddings)
    save_model(folder / "model.safetensors", Encoder(SPEC), RECORD)
    with pytest.raises(ModelError, match="come from another model"):
        check_model_of(folder, embeddings)
    with pytest.raises(ModelError, match="it contains no model"):
        check_model_of(folder / "none", embeddings)


def test_a_card_without_a_licence_is_not_published(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"README\.md: the model card lacks the licence \(`license"):
        check(folder)
    set_licence(folder / CARD, "mit")
    assert lacks(folder / CARD) == []
    assert len(check(folder)) == 11
    _, body = read_card(folder / CARD)
    (folder / CARD).write_text(body.replace("## Intended use", "## Use"))
    assert [what.split(" (")[0] for what in lacks(folder / CARD)] == [
        "the licence",
        "the data sets",
        "the intended use",
    ]
    (folder / CARD).write_text("---\n: [\n---\n")
    with pytest.raises(ModelError, match="is not YAML"):
        check(folder)
    (folder / CARD).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        check(folder)


def test_new_scores_leave_what_was_written_by_hand(folder: Path) -> None:
    card = folder / CARD
    set_licence(card, "mit")
    card.write_text(
        card.read_text().replace("## Intended use", "## About us\n\nWe are a lab.\n\n## Intended use")
    )
    model = nuclr.load_model(folder)
    embeddings = model.embed([recorded(f"m{i}", seed=i) for i in range(6)])
    add_probe(folder, nuclr.train_probe(embeddings, "kind", kinds=("linear",)), embeddings)
    head, body = read_card(card)
    assert head["license"] == "mit"
    assert "We are a lab." in body
    assert body.count("## Scores") == 1
    assert body.count("| kind | ") == 1
    assert {row["task"]["name"].split(",")[0] for row in head["model-index"][0]["results"]} == {
        "brain_region",
        "kind",
    }
