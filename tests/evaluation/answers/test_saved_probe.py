"""A probe says what units are, how sure it is, and of which model it reads embeddings."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labelled import MODEL, PUBLISHED, embedded, features_of, simulated, units
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nuclr.errors import DataError, ModelError
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.answers.saved_probe import SavedProbe, load_probe, save_probe, score_of
from nuclr.evaluation.classifiers import fit_classifier
from nuclr.evaluation.labels import label_units
from nuclr.evaluation.metrics import chance


def four_kinds(per_animal: int = 60, seed: int = 0) -> pd.DataFrame:
    """Give units of eight animals that are all of some kind."""
    table = units(per_animal, seed)
    return table.assign(kind=table["kind"].replace("", "w"))


def trained(noise: float = 0.4, kinds: int = 4) -> tuple[SavedProbe, pd.DataFrame, np.ndarray]:
    """Give a probe, and the units and features that it learned from."""
    table = four_kinds()
    features = features_of(table, noise)
    rows = table["kind"].isin(sorted(set(table["kind"]))[:kinds]).to_numpy()
    labels = np.where(rows, table["kind"], "").astype(object)
    return train_probe(embedded(table.assign(kind=labels), features), "kind", **PUBLISHED), table, features


def test_it_is_the_published_probe(tmp_path: Path) -> None:
    """For two classes and for more: as scikit-learn's, but for the temperature."""
    for kinds in (2, 4):
        probe, table, features = trained(kinds=kinds)
        known = table["kind"].isin(probe.classes).to_numpy()
        none = (features[:0], np.zeros(0, str))
        own = fit_classifier("linear", (features[known], table["kind"][known].to_numpy(str)), none)
        expected = own.predict_proba(features.astype(float)) ** (1 / probe.record["temperature"])
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probe.probabilities(features), expected, atol=1e-4)


def test_a_probe_is_read_as_written(tmp_path: Path) -> None:
    probe, _, features = trained()
    save_probe(tmp_path / "probe.safetensors", probe)
    again = load_probe(tmp_path / "probe.safetensors")
    np.testing.assert_array_equal(again.probabilities(features), probe.probabilities(features))
    assert again.classes == probe.classes
    assert again.record["scores"] == probe.record["scores"]


def test_probabilities_are_calibrated_on_animals_that_it_has_not_seen() -> None:
    """Of other units of the same kind, drawn anew: as often right as it says."""
    probe, _, _ = trained(noise=0.6)
    table = four_kinds(200, seed=5)
    features = features_of(table, 0.6, seed=6)
    probability = probe.probabilities(features)
    best, sure = probability.argmax(axis=1), probability.max(axis=1)
    right = np.array(probe.classes)[best] == table["kind"]
    assert abs(sure.mean() - right.mean()) < 0.03
    for wanted in (0.8, 0.9):
        answers = probe.predict(embedded(table, features), wanted)["predicted"]
        answered = (answers != "").to_numpy()
        assert 0.1 < answered.mean() < 1
        assert (answers == table["kind"])[answered].mean() > wanted - 0.03


def test_noise_gets_no_answer() -> None:
    table = four_kinds()
    noise = np.random.default_rng(0).standard_normal((len(table), 8)).astype(np.float32)
    probe = train_probe(embedded(table, noise), "kind", **PUBLISHED)
    assert (probe.predict(embedded(table, noise), 0.9)["predicted"] == "").all()


@pytest.mark.parametrize("few", [0, 10, 20])
def test_a_class_of_one_animal_does_not_spoil_the_probabilities(
    few: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The fold without that animal does not know the class: that is no confident mistake of the others."""
    table, features = simulated(8, 50, noise=0.6)
    rows = np.flatnonzero(table["animal"] == "a0")[:few]
    table.loc[rows, "kind"], features[rows] = "v", features[rows] + 3
    probe = train_probe(embedded(table, features), "kind", **PUBLISHED)
    # A fit on all units found 1.13, 2.25 and 4.06, and made the error 0.04, 0.20 and 0.31.
    assert 1.0 <= probe.record["temperature"] < 1.2
    scores = probe.record["scores"]
    assert scores["calibration_error"] < scores["calibration_error_before"] + 0.02
    assert ("units of v occur in only one group of held-out animals" in caplog.text) == (few > 0)


def test_the_temperature_is_scikit_learns_where_each_fold_knows_each_class() -> None:
    table, features = simulated(6, 40, noise=0.5)
    by_animal = list(GroupKFold(5).split(features, groups=table["animal"]))
    regression = LogisticRegression(class_weight="balanced", solver="newton-cg", max_iter=1000)
    try:
        theirs = CalibratedClassifierCV(
            make_pipeline(StandardScaler(), regression), method="temperature", cv=by_animal, ensemble=False
        ).fit(features.astype(float), table["kind"])
    except ValueError:
        pytest.skip("this scikit-learn has no temperature; 1.8 does")
    probe = train_probe(embedded(table, features), "kind", **PUBLISHED)
    (calibrated,) = theirs.calibrated_classifiers_
    assert probe.record["temperature"] == pytest.approx(1 / calibrated.calibrators[0].beta_, rel=1e-3)


@pytest.mark.parametrize(
    ("animals", "noise", "answering"), [(3, 0.3, 0.9), (8, 0.5, 0.9), (6, 1.0, 0.0), (12, 0.8, 0.0)]
)
def test_answers_are_right_as_often_as_asked_in_new_animals(
    animals: int, noise: float, answering: float
) -> None:
    """Going by the accuracy that was seen, they were in 20, 13, 0 and 10 of 20, 20, 3 and 18 trials."""
    answered, kept = 0, 0
    for trial in range(20):
        probe = train_probe(embedded(*simulated(animals, 50, noise=noise, seed=trial)), "kind", **PUBLISHED)
        table, features = simulated(60, 50, noise=noise, seed=1000 + trial, prefix="new")
        said = probe.predict(embedded(table, features), sure=0.8)["predicted"]
        given = (said != "").to_numpy()
        answered += given.any()
        kept += given.any() and (said == table["kind"])[given].mean() >= 0.8
    assert answered >= answering * 20
    assert answered - kept <= 2


def test_a_silent_unit_gets_no_answer() -> None:
    probe, table, features = trained(noise=0.05)
    features[3] = np.nan
    said = probe.predict(embedded(table, features))
    assert said["predicted"][3] == ""
    assert np.isnan(said["probability"][3])
    assert (said["predicted"] != "").sum() == len(table) - 1


def test_embeddings_of_another_model_are_refused() -> None:
    probe, table, features = trained()
    with pytest.raises(
        ModelError, match="reads embeddings of model abababababab, but these come from cdcdcdcdcdcd"
    ):
        probe.predict(embedded(table, features, "cd" * 32))


def test_a_card_has_the_score_of_its_own_models_probes_alone() -> None:
    probe, table, _ = trained()
    row = score_of(probe, {"sha256": MODEL})
    assert row["macro_f1"] == probe.record["scores"]["macro_f1"]
    assert row["chance"] == chance(table["kind"].to_numpy(str))
    with pytest.raises(ModelError, match="reads embeddings of model abababababab"):
        score_of(probe, {"sha256": "cd" * 32})


def test_one_animal_is_measured_on_other_units() -> None:
    table = four_kinds()
    own = (table["animal"] == table["animal"][0]).to_numpy()
    features = features_of(table)
    probe = train_probe(embedded(table[own], features[own]), "kind")
    assert probe.record["scores"]["measured_on"] == "other units of one animal"
    assert probe.record["learned_from"]["animals"] == [table["animal"][0]]


def test_too_few_classes_are_an_error() -> None:
    table = four_kinds()
    only = np.where(table["kind"] == table["kind"][0], table["kind"], "").astype(object)
    with pytest.raises(DataError, match=r"column kind has 1 class\(es\) with enough units"):
        train_probe(embedded(table.assign(kind=only), features_of(table)), "kind")


def test_damaged_probes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    with pytest.raises(ModelError, match=r"probe\.safetensors: does not exist"):
        load_probe(path)
    save_probe(path, trained()[0])
    whole, record = path.read_bytes(), path.with_suffix(".json").read_text()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"its hash is not the one in probe\.json"):
        load_probe(path)
    path.write_bytes(whole[:100])
    with pytest.raises(ModelError, match="copy both again"):
        load_probe(path)
    path.write_bytes(whole)
    for change in ({"format": 9}, {"classes": ["a"]}, {"model": None}):
        content = {**json.loads(record), **change}
        content = {key: value for key, value in content.items() if value is not None}
        path.with_suffix(".json").write_text(json.dumps(content))
        with pytest.raises(ModelError):
            load_probe(path)


def test_labels_come_by_unit_id(tmp_path: Path) -> None:
    table = units().head(4)
    path = tmp_path / "labels.csv"
    ids = table["unit_id"].tolist()
    path.write_text(f"unit_id,region\n{ids[2]},CA1\nother,VISp\n{ids[0]}, NA \n")
    assert label_units(path, "region", table)["region"].tolist() == ["NA", "", "CA1", ""]
    for content, said in {
        "unit_id,area\na,b\n": "no column region; there are unit_id, area",
        "unit,region\na,b\n": "no column unit_id; did you mean unit?",
        "unit_id,regions\na,b\n": "no column region; did you mean regions?",
        "unit_id,region\na,b\na,c\n": "unit a occurs twice",
        "unit_id,region\na,b\n": "none of its 1 units is among the 4 embedded units; its first id is a",
    }.items():
        path.write_text(content)
        with pytest.raises(DataError, match=said.replace("?", r"\?")):
            label_units(path, "region", table)
    with pytest.raises(DataError, match=r"none\.csv: does not exist; give a table with"):
        label_units(tmp_path / "none.csv", "region", table)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_every_kind_are_read(
    tmp_path: Path, separator: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table = units().head(4).assign(unit_id=["m1_day_0", "m1_day_1", "m1_day_10", "m2_day_7"])
    rows = [["Unit_ID", "Region"], ["M1_day_0", "CA1"], ["10", "VISp"], ["nobody", "x"], ["day_7", "NaN"]]
    path = tmp_path / "labels.txt"
    text = "\r\n".join(separator.join(row) for row in rows)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert label_units(path, "region", table)["region"].tolist() == ["CA1", "", "VISp", "NaN"]
    assert "3 of 4 units have a label; 1 rows name unknown units, such as nobody" in caplog.text
    for rows, said in (
        ("day_0", "fits both m1_day_0 and m2_day_0; write the full ids"),
        ("1\nday_1", "unit day_1 occurs twice"),
    ):
        path.write_text("unit_id,region\n" + "".join(f"{row},x\n" for row in rows.split()))
        ambiguous = table.assign(unit_id=["m1_day_0", "m1_day_1", "m1_day_10", "m2_day_0"])
        with pytest.raises(DataError, match=said):
            label_units(path, "region", ambiguous)


def test_a_workbook_is_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="pip install openpyxl")
    table = units().head(4).assign(unit_id=["s_0", "s_1", "s_2", "s_3"])
    workbook = openpyxl.Workbook()
    for row in (["unit_id", "layer"], [0, 5], [3, 2], [None, None]):
        workbook.active.append(row)
    workbook.save(tmp_path / "labels.xlsx")
    assert label_units(tmp_path / "labels.xlsx", "layer", table)["layer"].tolist() == ["5", "", "", "2"]
    (tmp_path / "labels.xlsx").write_bytes(b"PK no workbook")
    with pytest.raises(DataError, match=r"labels\.xlsx: damaged, or not an Excel workbook"):
        label_units(tmp_path / "labels.xlsx", "layer", table)


def test_a_labels_file_says_whose_units_they_are(tmp_path: Path) -> None:
    """A sorter's folder does not know its animal: two of one would else be told from each other's labels."""
    table = units().groupby("recording").head(2).head(4).assign(animal=["day1", "day1", "day2", "day2"])
    ids = table["unit_id"].tolist()
    path = tmp_path / "labels.csv"
    rows = "".join(f"{one},CA1,{animal}\n" for one, animal in zip(ids, ["m", "m", "m", ""], strict=True))
    path.write_text(f"unit_id,region,animal\n{rows}")
    assert label_units(path, "region", table)["animal"].tolist() == ["m", "m", "m", "day2"]
