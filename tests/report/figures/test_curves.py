"""Test the files of the scaling analysis: split, tables, figures, and scores of chosen and plain probes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nuclr.errors import DataError
from nuclr.evaluation.variants import Variant
from nuclr.report.figures.curves import write_scaling
from nuclr.representation.embeddings import write_recorded


def probed(
    folder: Path, animals: int, split: str, name: str = "nuclr", ways: Sequence[str] = ("linear", "knn")
) -> Path:
    """Write the predictions of a run's probes, as ``nuclr probe`` does."""
    label = np.tile(["x", "y"], 20)
    wrong = np.arange(40) % (2 + animals) == 0
    table = pd.DataFrame(
        {
            "animal": np.repeat(["a", "b"], 20),
            "population": np.repeat(["a/p", "b/p"], 20),
            "label": label,
            "predicted": np.where(wrong, "x", label),
            "confidence": 0.5,
            "seed": 0,
            "fold": 0,
        }
    )
    halved = Variant(label_share=0.5)
    tables = [table.assign(**asdict(way)) for way in (Variant(), halved, Variant(shuffled=True))]
    # The k-nearest-neighbours probe of this run is always correct.
    tables.append(table.assign(predicted=table["label"], **asdict(Variant(probe="knn"))))
    table = pd.concat(tables)
    table = table[table["probe"].isin(ways)]
    path = folder / f"{name}-n{animals}-s0" / "probes" / "kind.transductive.parquet"
    record = {"representation": name, "animals": animals, "seed": 0, "split": split}
    record |= {"pretraining": {"units": 20 * animals, "hours": animals / 2}}
    record |= {"main": asdict(Variant()), "label_shares": [0.5]}
    judged = [(Variant(), 0.4), (Variant(probe="knn"), 0.3 + 0.05 * animals)]
    record |= {
        "validation": [
            {"variant": asdict(way), "seed": 0, "fold": 0, "macro_f1": score} for way, score in judged
        ]
    }
    write_recorded(path, pa.Table.from_pandas(table, preserve_index=False), record)
    return path.parent


@pytest.mark.parametrize("split", ["", "published split: 1 of 2 test animals are also in pretraining"])
def test_a_published_split_is_said(tmp_path: Path, split: str) -> None:
    probes = [probed(tmp_path, animals, split) for animals in (1, 2, 4, 8)]
    write_scaling(probes, "kind", "transductive", tmp_path / "out", resamples=20)
    assert json.loads((tmp_path / "out.json").read_text())["split"] == split
    # matplotlib keeps the text of the title in the svg.
    assert ("published split" in (tmp_path / "out.svg").read_text()) == bool(split)


def test_probes_of_different_splits_are_refused(tmp_path: Path) -> None:
    probes = [probed(tmp_path, 1, ""), probed(tmp_path, 2, "published split")]
    with pytest.raises(DataError, match=r"some probes used another split of the animals \(published split\)"):
        write_scaling(probes, "kind", "transductive", tmp_path / "out", resamples=20)
    assert not list(tmp_path.glob("out*"))


def test_every_figure_has_the_table_behind_it(tmp_path: Path) -> None:
    probes = [probed(tmp_path, animals, "") for animals in (1, 2, 4, 8)]
    probes.append(probed(tmp_path, 8, "", "same_window"))
    write_scaling(probes, "kind", "transductive", tmp_path / "out", resamples=20)
    for part in ("", ".labels", ".confusion", ".animals", ".ablations"):
        for suffix in (".png", ".svg", ".csv"):
            assert (tmp_path / f"out{part}{suffix}").stat().st_size > 0
    grid = pd.read_csv(tmp_path / "out.labels.csv")
    assert grid[["animals", "label_share"]].to_numpy().tolist() == [
        [n, share] for n in (1, 2, 4, 8) for share in (0.5, 1)
    ]
    runs = pd.read_csv(tmp_path / "out.runs.csv")
    assert runs.loc[runs["representation"] == "nuclr", "pretraining_units"].tolist() == [20, 40, 80, 160]
    assert runs.loc[runs["representation"] == "nuclr", "pretraining_hours"].tolist() == [0.5, 1, 2, 4]
    parts = pd.read_csv(tmp_path / "out.ablations.csv")
    # The ablation has the same predictions, so it differs by 0.
    assert parts["representation"].tolist() == ["nuclr", "same_window"]
    assert parts["difference"].tolist() == [0, 0]
    # Two test animals are too few for intervals.
    assert parts["test_animals"].tolist() == [2, 2]
    assert parts[["low", "high", "difference_low", "difference_high"]].isna().all(axis=None)
    content = json.loads((tmp_path / "out.json").read_text())
    assert set(content["doublings"]) == {"animals", "labels"}
    assert content["shuffled"] == runs.loc[runs["animals"] == 8, "macro_f1"].iloc[0]


def test_the_curve_is_of_the_probe_that_validation_units_choose_and_the_plain_one_stands_beside(
    tmp_path: Path,
) -> None:
    probes = [probed(tmp_path, animals, "") for animals in (1, 3)]
    write_scaling(probes, "kind", "transductive", tmp_path / "out", resamples=20)
    curve = pd.read_csv(tmp_path / "out.csv").set_index("animals")
    assert curve["probes"].tolist() == ["linear", "knn"]
    assert curve.loc[1, "macro_f1"] == curve.loc[1, "plain_macro_f1"] < 1
    assert curve.loc[3, "macro_f1"] == 1 > curve.loc[3, "plain_macro_f1"]
    # The tables of the largest runs use the predictions of the chosen probe, too.
    assert (pd.read_csv(tmp_path / "out.classes.csv")["f1"] == 1).all()
    confusion = pd.read_csv(tmp_path / "out.confusion.csv")
    assert confusion[["label", "predicted", "units", "share"]].to_numpy().tolist() == [
        ["x", "x", 20, 1],
        ["x", "y", 0, 0],
        ["y", "x", 0, 0],
        ["y", "y", 20, 1],
    ]
    # Two test animals are too few for intervals.
    assert confusion["test_animals"].tolist() == [2] * 4
    assert confusion[["low", "high"]].isna().all(axis=None)
    assert (pd.read_csv(tmp_path / "out.animals.csv")["macro_f1"] == 1).all()
    # All shares of the labels use the plain probe, so that their scores can be compared.
    grid = pd.read_csv(tmp_path / "out.labels.csv").set_index(["animals", "label_share"])["macro_f1"]
    assert grid[3, 1.0] == grid[3, 0.5] == curve.loc[3, "plain_macro_f1"]


def test_of_one_probe_nothing_stands_beside(tmp_path: Path) -> None:
    probes = [probed(tmp_path, animals, "", ways=["linear"]) for animals in (1, 3)]
    write_scaling(probes, "kind", "transductive", tmp_path / "out", resamples=20)
    for name in ("out.csv", "out.runs.csv"):
        assert not {"plain_macro_f1", "probes"} & set(pd.read_csv(tmp_path / name))
    assert "plain" not in (tmp_path / "out.svg").read_text()
