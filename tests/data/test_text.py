"""Labels of any kind become text, and tables of unlike columns are one table that can be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from strategies import population

from nuclr.data.store import open_population, write_population
from nuclr.data.text import as_text, labels_as_text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Series(["a", None, np.nan]), ["a", "", ""]),
        (pd.Series(["a", None, "b"], dtype="category"), ["a", "", "b"]),
        (pd.Series(["a", pd.NA], dtype="string"), ["a", ""]),
        (pd.Series([True, None]), ["True", ""]),
        (pd.Series([1, pd.NA], dtype="Int64"), ["1", ""]),
        (pd.Series(pd.to_datetime(["2020-01-02", None])), ["2020-01-02 00:00:00", ""]),
        (pd.Series([], dtype=object), []),
    ],
)
def test_a_column_of_any_kind_is_text(values: pd.Series, expected: list[str]) -> None:
    assert as_text(values).tolist() == expected


def test_a_truth_value_that_one_recording_lacks_can_be_written(tmp_path: Path) -> None:
    tables = [pd.DataFrame({"good": [True, False], "depth": [1.0, 2.0]}), pd.DataFrame({"depth": [3.0]})]
    joined = labels_as_text(pd.concat(tables, ignore_index=True))
    joined.to_parquet(tmp_path / "a.parquet")
    assert joined["good"].tolist() == ["True", "False", ""]
    assert joined["depth"].tolist() == [1, 2, 3]


def test_a_store_takes_labels_of_categories(tmp_path: Path) -> None:
    made = population(units=3, bins=100)
    made.units["layer"] = pd.Series(["L4", None, "L5"], dtype="category")
    write_population(made, tmp_path / "p.zarr", chunk_s=1, shard_s=1)
    assert open_population(tmp_path / "p.zarr").units["layer"].tolist() == ["L4", "", "L5"]
