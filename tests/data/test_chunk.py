"""Spikes and traces reach the store as they are, whatever the shards; what cannot be trusted does not."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import poisson_trains, write_traces, write_units

from nuclr.config import Chunk, Nwb, Reading
from nuclr.data.chunk import chunk_recording
from nuclr.data.formats.nwb import read_populations
from nuclr.data.population import Population
from nuclr.data.store import open_population, stores
from nuclr.errors import DataError, NuclrError


def chunk(path: Path, folder: Path, **options: float) -> list[Population]:
    chunk_recording(
        read_populations(path), folder, dataset="d", animal="a", recording="r", options=Chunk(**options)
    )
    return [open_population(store) for store in stores(folder)]


def counts_of(trains: list[np.ndarray], bins: int, bin_s: float) -> np.ndarray:
    return np.stack([np.bincount((t // bin_s).astype(int), minlength=bins)[:bins] for t in trains])


@settings(max_examples=15)
@given(
    st.floats(3.0, 40.0),
    st.sampled_from([0.01, 0.02, 0.1]),
    st.floats(0.5, 30.0),
    st.floats(0.5, 90.0),
    st.integers(0, 99),
)
def test_counts_do_not_depend_on_chunks_and_shards(
    tmp_path_factory: pytest.TempPathFactory,
    duration_s: float,
    bin_s: float,
    chunk_s: float,
    shard_s: float,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("chunk")
    trains = poisson_trains(4, duration_s, seed=seed)
    path = write_units(folder / "a.nwb", trains, obs_intervals=[[0.0, duration_s]])
    (made,) = chunk(path, folder / "out", bin_s=bin_s, chunk_s=chunk_s, shard_s=shard_s)
    activity = np.asarray(made.activity)
    assert activity.dtype == np.uint8
    np.testing.assert_array_equal(activity, counts_of(trains, activity.shape[1], bin_s))


def test_a_dense_bin_widens_the_type(tmp_path: Path) -> None:
    burst = np.linspace(1.0, 1.019, 300)
    path = write_units(tmp_path / "a.nwb", [burst, np.array([5.0])])
    (made,) = chunk(path, tmp_path / "out")
    assert made.activity.dtype == np.uint16
    assert made.start_s == 1.0
    assert int(np.asarray(made.activity)[0, 0]) == 300


def test_more_spikes_in_a_bin_than_can_be_counted_are_refused(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", [np.full(65536, 1.001), np.array([5.0])])
    with pytest.raises(DataError, match=r"population all: a unit has 65536 spikes in one bin of 0\.02 s"):
        chunk(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unsorted_spike_times_are_sorted_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trains = poisson_trains(3, 30.0)
    shuffled = [np.random.default_rng(0).permutation(trains[0]), *trains[1:]]
    path = write_units(tmp_path / "a.nwb", shuffled, obs_intervals=[[0.0, 30.0]])
    with caplog.at_level(logging.WARNING):
        (made,) = chunk(path, tmp_path / "out", shard_s=7, chunk_s=7)
    assert "a.nwb: spike times of 1 unit were not in ascending order; they were sorted" in caplog.text
    np.testing.assert_array_equal(np.asarray(made.activity), counts_of(trains, 1500, 0.02))


def test_spikes_outside_the_session_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_units(
        tmp_path / "a.nwb", [np.array([-3.0, 1.0, 2.0, 99.0]), np.array([0.5])], obs_intervals=[[0.0, 10.0]]
    )
    with caplog.at_level(logging.WARNING):
        (made,) = chunk(path, tmp_path / "out")
    assert "2 of 5 spikes are outside the session [0, 10] s (negative or beyond its end)" in caplog.text
    assert int(np.asarray(made.activity).sum()) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_spike_times_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    path = write_units(
        tmp_path / "a.nwb", [np.array([1.0]), np.array([1.0, bad])], obs_intervals=[[0.0, 10.0]]
    )
    with pytest.raises(
        DataError, match=r"a\.nwb: unit mouse_session_1: .*NaN or infinity; correct or remove"
    ):
        chunk(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nwb"]


def test_silent_units_can_be_left_out(tmp_path: Path) -> None:
    path = write_units(
        tmp_path / "a.nwb",
        [np.array([1.0]), np.arange(0.5, 10, 0.5)],
        obs_intervals=[[0.0, 10.0]],
    )
    (made,) = chunk(path, tmp_path / "out", min_rate_hz=1.0)
    assert made.units["unit_id"].tolist() == ["mouse_session_1"]
    assert int(np.asarray(made.activity).sum()) == 19
    with pytest.raises(DataError, match=r"no units are left; lower chunk\.min_rate_hz"):
        chunk(path, tmp_path / "none", min_rate_hz=50.0)
    assert not (tmp_path / "none").exists()


def test_traces_are_copied_and_gaps_are_filled_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    traces = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    traces[7, 1] = np.nan
    path = write_traces(tmp_path / "a.nwb", traces)
    with caplog.at_level(logging.WARNING):
        (made,) = chunk(path, tmp_path / "out", chunk_s=3, shard_s=6)
    assert "are NaN; set to 0" in caplog.text
    traces[7, 1] = 0
    np.testing.assert_array_equal(np.asarray(made.activity), traces.T)
    assert (made.modality, made.bin_s) == ("calcium", 0.5)


def test_populations_of_one_name_are_refused_before_a_store_overwrites_another(tmp_path: Path) -> None:
    (one,) = read_populations(write_units(tmp_path / "a.nwb", poisson_trains(2, 9.0)))
    with pytest.raises(DataError, match=r"a\.nwb: populations all, ALL would be written to the same store"):
        chunk_recording(
            [one, replace(one, population="ALL")],
            tmp_path / "out",
            dataset="d",
            animal="a",
            recording="r",
            options=Chunk(),
        )
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(2, 9.0))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NuclrError, match="cannot be written"):
        chunk(path, tmp_path / "file" / "out")


def test_the_source_file_is_kept_by_its_hash(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(2, 9.0))
    (made,) = chunk(path, tmp_path / "out")
    assert made.source["file"] == "a.nwb"
    assert len(made.source["sha256"]) == 64


def test_chunking_the_same_again_in_the_same_way_does_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def chunked(columns: list[str] | None = None, **options: float) -> int:
        """Chunk, and say which store is there by its inode."""
        read = read_populations(path, Reading(nwb=Nwb(unit_columns=columns or [])))
        names = chunk_recording(
            read, tmp_path / "out", dataset="d", animal="a", recording="r", options=Chunk(**options)
        )
        assert names == ["r/all"]
        return (tmp_path / "out" / "all.zarr").stat().st_ino

    path = write_units(
        tmp_path / "a.nwb",
        [*poisson_trains(4, 30.0), np.array([1.0])],
        obs_intervals=[[0.0, 30.0]],
        columns={"layer": ["2", "3", "4", "5", "6"], "quality": [0.1, 0.2, 0.3, 0.4, 0.5]},
    )
    caplog.set_level(logging.INFO)
    first = chunked()
    assert chunked() == first
    assert caplog.text.count("already chunked with the same settings; nothing to do") == 1
    another = chunked(min_rate_hz=1.0)
    assert another != first
    assert chunked(min_rate_hz=1.0) == another
    labelled = chunked(["layer", "quality"], min_rate_hz=1.0)
    assert labelled != another
    assert chunked(["layer", "quality"], min_rate_hz=1.0) == labelled
    (tmp_path / "out" / "all.zarr" / "zarr.json").write_text("{")
    mended = chunked(["layer", "quality"], min_rate_hz=1.0)
    assert mended != labelled
    write_units(path, poisson_trains(4, 30.0, seed=1), obs_intervals=[[0.0, 30.0]])
    assert chunked() != mended


def test_a_population_that_was_left_out_is_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Recordings with one silent probe used to be chunked again each time."""
    path = write_units(
        tmp_path / "a.nwb",
        [*poisson_trains(3, 30.0), np.array([1.0])],
        regions=["x"] * 4,
        probes=["a", "a", "a", "silent"],
        obs_intervals=[[0.0, 30.0]],
    )
    caplog.set_level(logging.INFO)
    for _ in range(2):
        (made,) = chunk(path, tmp_path / "out", min_rate_hz=1.0)
    assert made.population == "r/a"
    assert caplog.text.count("population silent") == 1
    assert caplog.text.count("already chunked with the same settings; nothing to do") == 1
