"""Stores give back what was put in, and say so when they cannot."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import population, populations

from nuclr.data.population import Population, summarise, summary_of
from nuclr.data.store import open_population, shard_bins, stores, write_population
from nuclr.errors import StoreError


@settings(max_examples=25)
@given(populations(), st.floats(0.1, 3), st.floats(0.1, 20))
def test_what_is_written_is_read_again(made: Population, chunk_s: float, shard_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.zarr"
        write_population(made, path, chunk_s=chunk_s, shard_s=shard_s)
        again = open_population(path)
        np.testing.assert_array_equal(np.asarray(again.activity), made.activity)
        assert again.activity.dtype == made.activity.dtype
        np.testing.assert_allclose(again.valid_spans, made.valid_spans)
        assert again.units.to_dict() == made.units.to_dict()
        for name in (
            "dataset",
            "animal",
            "recording",
            "population",
            "modality",
            "bin_s",
            "start_s",
            "source",
        ):
            assert getattr(again, name) == getattr(made, name)
        summary = summarise(made)
        np.testing.assert_array_equal(summary_of(again).mean_activity, summary.mean_activity)
        assert summary_of(again).scale == summary.scale


@given(st.integers(1, 10**6), st.floats(0.001, 1), st.floats(0.01, 100), st.floats(0.01, 10**4))
def test_a_shard_is_whole_chunks(bins: int, bin_s: float, chunk_s: float, shard_s: float) -> None:
    chunk, shard = shard_bins(bins, bin_s, chunk_s, shard_s)
    assert chunk >= 1
    assert shard % chunk == 0
    assert shard < bins + chunk


def test_a_long_recording_is_a_handful_of_files(tmp_path: Path) -> None:
    made = population(units=5, bins=20_000)
    write_population(made, tmp_path / "p.zarr", chunk_s=2, shard_s=100)
    assert len(list((tmp_path / "p.zarr" / "activity" / "c").rglob("*/*"))) <= 5
    assert stores(tmp_path) == [tmp_path / "p.zarr"]


def test_text_with_missing_values_becomes_the_empty_string(tmp_path: Path) -> None:
    made = population(units=3)
    made = replace(made, units=made.units.assign(area=["CA1", None, float("nan")], depth=[1.5, 2.0, np.nan]))
    write_population(made, tmp_path / "p.zarr", chunk_s=2, shard_s=100)
    again = open_population(tmp_path / "p.zarr").units
    assert again["area"].tolist() == ["CA1", "", ""]
    np.testing.assert_array_equal(again["depth"], [1.5, 2.0, np.nan])


def test_a_failed_write_leaves_the_old_store_and_nothing_else(tmp_path: Path) -> None:
    good = population(units=3, bins=100)
    write_population(good, tmp_path / "p.zarr", chunk_s=1, shard_s=1)

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such block")

    # Only the computation fails, not the description of its result.
    activity = da.from_array(good.activity, chunks=(3, 50)).map_blocks(
        fail, dtype=np.uint8, meta=np.empty((0, 0), np.uint8)
    )
    with pytest.raises(RuntimeError, match="no such block"):
        write_population(replace(good, activity=activity), tmp_path / "p.zarr", chunk_s=1, shard_s=1)
    assert [path.name for path in tmp_path.iterdir()] == ["p.zarr"]
    np.testing.assert_array_equal(np.asarray(open_population(tmp_path / "p.zarr").activity), good.activity)


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.zarr: no such population store"):
        open_population(tmp_path / "none.zarr")


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.zarr"
    write_population(population(units=3, bins=100), path, chunk_s=1, shard_s=1)
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["schema_version"] = 99
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="schema version 99"):
        open_population(path)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.zarr"
    write_population(population(units=3, bins=100), path, chunk_s=1, shard_s=1)
    (path / "activity" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        open_population(path)
