"""Test that the page of units is right for the embeddings and tables that real files contain."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from explored import recordings, units_of, write_units
from strategies import population

from nuclr.errors import DataError
from nuclr.report.pages.explore import write_explore
from nuclr.report.pages.packed import MOST_COLUMNS
from nuclr.report.pages.unit_details import details_of
from nuclr.representation.embeddings import read_embeddings, write_embeddings
from nuclr.representation.layouts import lay_out


def unpacked(page: Path) -> tuple[dict[str, Any], Any]:
    """Return the header of the data in a page, and a function that returns an array by its place."""
    (block,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', page.read_text())
    raw = zlib.decompress(base64.b64decode(block))
    length = int.from_bytes(raw[:4], "little")
    start = -(-(4 + length) // 8) * 8

    def array(place: dict[str, Any]) -> np.ndarray:
        return np.frombuffer(raw, place["type"], place["length"], start + place["offset"])

    return json.loads(raw[4 : 4 + length]), array


def some(units: int = 6) -> pd.DataFrame:
    """Label some units of two animals."""
    return pd.DataFrame(
        {
            "unit_id": [f"u{i}" for i in range(units)],
            "animal": [f"m{i % 2}" for i in range(units)],
            "cell_type": [("a", "b")[i % 2] for i in range(units)],
        }
    )


def written(path: Path, units: pd.DataFrame, vectors: np.ndarray) -> Path:
    write_embeddings(path, units, vectors.astype(np.float32), np.ones(len(units), int), {"model": "m"})
    return path


def test_units_without_finite_embeddings_are_not_on_the_map(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 4))
    vectors[1, 2], vectors[2] = np.inf, np.nan
    first = written(tmp_path / "first.parquet", some(), vectors)
    second = written(tmp_path / "second.parquet", some(), np.roll(vectors, 2, axis=0))
    write_explore([first], tmp_path / "page.html", beside=[second])
    header, array = unpacked(tmp_path / "page.html")
    assert header["ids"] == ["u0", "u3", "u4", "u5"]
    assert "2 units" in (tmp_path / "page.html").read_text()
    x = array(header["maps"][1]["layouts"]["pca"])[:4]
    assert (x == -32_768).tolist() == [False, True, True, False]


def test_a_second_map_without_any_unit_is_refused(tmp_path: Path) -> None:
    one = written(tmp_path / "one.parquet", some(), np.eye(6))
    nothing = written(tmp_path / "nothing.parquet", some(), np.full((6, 4), np.nan))
    empty = written(tmp_path / "empty.parquet", some(0), np.zeros((0, 4)))
    for beside in (nothing, empty):
        with pytest.raises(DataError, match="no unit in common"):
            write_explore([one], tmp_path / "page.html", beside=[beside])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("vectors", [np.arange(6.0)[:, None], np.ones((6, 4)), np.zeros((6, 1))])
def test_features_with_fewer_than_two_components_have_a_layout(vectors: np.ndarray) -> None:
    points = lay_out(vectors, "pca")
    assert points.shape == (6, 2)
    assert np.isfinite(points).all()
    assert (np.ptp(points[:, 0]) > 0) == (np.ptp(vectors) > 0)


def test_a_unit_that_occurs_twice_is_refused_in_one_file_as_in_two(tmp_path: Path) -> None:
    twice = written(tmp_path / "twice.parquet", some().assign(unit_id=[*"abcab", "d"]), np.eye(6))
    once = written(tmp_path / "once.parquet", some().assign(unit_id=[*"abcdef"]), np.eye(6))
    for paths, beside in (([twice], []), ([once], [twice])):
        with pytest.raises(DataError, match="unit a occurs twice"):
            write_explore(paths, tmp_path / "page.html", beside=beside)


def test_embeddings_that_pandas_has_written_again_can_be_read(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    vectors[2] = np.nan
    written(tmp_path / "one.parquet", some(), vectors)
    # pandas turns lists of a fixed size into lists of any size.
    pd.read_parquet(tmp_path / "one.parquet").assign(layer="5").to_parquet(tmp_path / "two.parquet")
    units, again, _ = read_embeddings(tmp_path / "two.parquet")
    np.testing.assert_array_equal(again, vectors)
    assert "layer" in units


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"unit_id": ["a"]}), "no column embedding"),
        (pd.DataFrame({"embedding": [[1.0, 2.0]]}), "no column unit_id"),
        (pd.DataFrame({"unit_id": [*"ab"], "embedding": [[1.0, 2.0], [3.0]]}), "of one length"),
        (pd.DataFrame({"unit_id": [*"ab"], "embedding": [1.0, 2.0]}), "of one length"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, table: pd.DataFrame, said: str) -> None:
    table.to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match=said):
        read_embeddings(tmp_path / "other.parquet")


def test_ids_may_be_numbers_in_one_file_and_text_in_the_other(tmp_path: Path) -> None:
    numbers = written(tmp_path / "a.parquet", some().assign(unit_id=np.arange(6)), np.eye(6))
    text = written(tmp_path / "b.parquet", some().assign(unit_id=[*"012345"]), np.eye(6))
    write_explore([numbers], tmp_path / "page.html", beside=[text])
    assert unpacked(tmp_path / "page.html")[0]["ids"] == [*"012345"]


def test_an_unknown_animal_is_not_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", some().assign(animal=["x", "", "x", None, "y", ""]), np.eye(6))
    write_explore([path], tmp_path / "page.html")
    assert "6 units of 2 animals." in (tmp_path / "page.html").read_text()


@pytest.mark.filterwarnings("error")
def test_numbers_are_as_exact_as_they_were(tmp_path: Path) -> None:
    columns = {
        "cluster": np.arange(6) + 123_456_789,
        "time_s": 1.7e9 + np.arange(6) / 4,
        "huge": [1e300, -1e300, 0, 1, 2, 3],
        "rate": np.array([0.1, np.nan, np.inf, 4, 5, 6]),
    }
    path = written(tmp_path / "a.parquet", some().assign(**columns), np.eye(6))
    write_explore([path], tmp_path / "page.html")
    header, array = unpacked(tmp_path / "page.html")
    held = {column["name"]: array(column["values"]) for column in header["columns"]}
    for name in ("cluster", "time_s", "huge"):
        np.testing.assert_array_equal(held[name], columns[name])
    np.testing.assert_array_equal(held["rate"], np.asarray(columns["rate"], np.float32))
    assert held["rate"].dtype == np.float32


def test_columns_of_any_type_are_text(tmp_path: Path) -> None:
    columns = {
        "list": [[1, 2], None, [3]] * 2,
        "flag": [True, False, None] * 2,
        "day": pd.Timestamp("2025-01-02"),
        "kind": pd.Categorical(["x", None, "y"] * 2),
        "raw": [b"\xff", b"abc", None] * 2,
    }
    path = written(tmp_path / "a.parquet", some().assign(**columns), np.eye(6))
    write_explore([path], tmp_path / "page.html")
    names = {column["name"]: column.get("names") for column in unpacked(tmp_path / "page.html")[0]["columns"]}
    assert names["list"] == ["[1 2]", "[3]"]
    assert names["flag"] == ["False", "True"]
    assert names["kind"] == ["x", "y"]
    assert names["raw"] == ["abc", "\ufffd"]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (["10", "20", "deep", None, "30", ""], [10, 20, np.nan, np.nan, 30, np.nan]),
        ("superficial", None),
        (np.nan, None),
        (pd.array([1, None, 3, 4, 5, 6], dtype="Int64"), [1, np.nan, 3, 4, 5, 6]),
    ],
)
def test_only_numbers_are_depths(tmp_path: Path, depth: Any, expected: list[float] | None) -> None:
    path = written(tmp_path / "a.parquet", some().assign(depth_um=depth), np.eye(6))
    write_explore([path], tmp_path / "page.html")
    header, array = unpacked(tmp_path / "page.html")
    if expected is None:
        assert header["depths"] is None
    else:
        np.testing.assert_array_equal(array(header["depths"]), expected)


def test_depths_and_predictions_stay_although_columns_are_left_out(tmp_path: Path) -> None:
    from labelled import MODEL, PUBLISHED, embedded, simulated

    from nuclr.evaluation.answers.probe_training import train_probe

    table, vectors = simulated(4, 30, noise=0.3)
    probe = train_probe(embedded(table, vectors), "kind", **PUBLISHED)
    extra = {f"extra {i}": i for i in range(MOST_COLUMNS)}
    table = table.assign(**extra, depth=np.arange(len(table)))
    path = tmp_path / "embeddings.parquet"
    write_embeddings(path, table, vectors, np.ones(len(table), int), {"model": MODEL})
    write_explore([path], tmp_path / "page.html", probes={"kind": probe}, depth="depth")
    header, _ = unpacked(tmp_path / "page.html")
    names = {column["name"] for column in header["columns"]}
    assert {"kind predicted", "kind probability", "depth"} <= names
    assert header["depths"] is not None


def test_units_without_activity_are_counted(tmp_path: Path) -> None:
    recorded = recordings()
    path = write_units(tmp_path / "a.parquet", units_of(recorded))
    said = "without activity"
    for given, missing in ((recorded, 0), (recorded[:1], 28), ([population(5, 300, animal="other")], 42)):
        write_explore([path], tmp_path / "page.html", populations=given)
        page = (tmp_path / "page.html").read_text()
        assert (said in page.lower()) == bool(missing)
        assert not missing or f": {missing} units." in page
    write_explore([path], tmp_path / "page.html")
    assert said not in (tmp_path / "page.html").read_text().lower()


def test_negative_activity_is_not_shown_as_none(tmp_path: Path) -> None:
    made = population(4, 400, modality="calcium", bin_s=0.25)
    sinking = replace(made, activity=np.tile(np.linspace(0, -4, 400, dtype=np.float32), (4, 1)))
    units = sinking.units.assign(animal="m")
    write_explore([write_units(tmp_path / "a.parquet", units)], tmp_path / "page.html", populations=[sinking])
    header, array = unpacked(tmp_path / "page.html")
    held = header["details"]
    low, top = array(held["rateLow"])[0], array(held["rateTop"])[0]
    rate = low + (top - low) * array(held["rate"]).reshape(4, -1)[0] / 255
    np.testing.assert_allclose(rate, np.linspace(-0.05, -3.95, len(rate)), atol=0.03)


@pytest.mark.parametrize(
    ("bins", "spans"),
    [
        (3000, [(i, i + 0.5) for i in range(60)]),  # each span is shorter than a fortieth of the valid time
        (150, [(0.1, 2.9)]),
        (25, [(0, 0.5)]),
        (1, [(0, 0.02)]),
    ],
)
def test_a_steady_rate_is_steady_in_short_recordings_and_spans(
    bins: int, spans: list[tuple[float, float]]
) -> None:
    made = population(3, bins, spans=spans)
    steady = replace(made, activity=np.ones((3, bins), np.uint8))
    found = details_of([steady], made.units["unit_id"].tolist(), most=9)
    assert found is not None
    np.testing.assert_array_equal(found.rate, 255)
    np.testing.assert_allclose(found.rate_top, 50)
