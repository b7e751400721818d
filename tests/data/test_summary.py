"""Activity is read once, when its store is made; later steps ask the summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import population, populations

from nuclr.data.catalog import catalog
from nuclr.data.inputs import scaled
from nuclr.data.population import Population, summarise, summary_of
from nuclr.data.store import open_population, write_population


def inside(made: Population) -> np.ndarray:
    """Activity of the valid spans, in memory."""
    spans = [np.asarray(made.activity[:, first:last]) for first, last in made.valid_bins()]
    return np.concatenate([*spans, np.zeros((len(made.units), 0))], axis=1)


@given(populations(), st.integers(1, 40))
def test_a_summary_is_that_of_all_activity_however_it_is_cut(made: Population, shard: int) -> None:
    cut = replace(made, activity=da.from_array(made.activity, chunks=(len(made.units), shard)))
    summary, activity = summarise(cut), inside(made)
    mean = activity.mean(axis=1) if activity.size else np.zeros(len(made.units))
    per = made.bin_s if made.modality == "spikes" else 1.0
    np.testing.assert_allclose(summary.mean_activity, mean / per, rtol=1e-9, atol=1e-12)
    if made.modality == "spikes":
        assert summary.scale == 1.0
    elif activity.size:
        assert summary.scale == pytest.approx(np.percentile(activity, 99), rel=1e-6)
    else:
        assert np.isnan(summary.scale)


def test_no_later_step_reads_the_activity_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [population(units=3, bins=200, modality=kind, recording=kind) for kind in ("spikes", "calcium")]
    paths = [tmp_path / f"{one.recording}.zarr" for one in made]
    for one, path in zip(made, paths, strict=True):
        write_population(one, path, chunk_s=1, shard_s=2)

    def read(*_: object, **__: object) -> None:
        raise AssertionError("activity was read")

    monkeypatch.setattr("dask.array.Array.__array__", read)
    monkeypatch.setattr("dask.array.Array.compute", read)
    _, table = catalog(paths)
    assert table["scale"].tolist() == [summarise(one).scale for one in made]
    for path in paths:
        scaled(open_population(path))


def test_a_copy_with_another_activity_does_not_inherit_a_summary(tmp_path: Path) -> None:
    made = population(units=3, bins=200)
    write_population(made, tmp_path / "p.zarr", chunk_s=1, shard_s=2)
    stored = open_population(tmp_path / "p.zarr")
    doubled = replace(stored, activity=stored.activity * 2)
    np.testing.assert_allclose(summary_of(doubled).mean_activity, 2 * summary_of(stored).mean_activity)
