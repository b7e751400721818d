"""Mean waveforms go from the file to the store where they are wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from strategies import poisson_trains, population, write_units

from nuclr.config import Chunk
from nuclr.data.access.columns import Column
from nuclr.data.chunk import chunk_recording
from nuclr.data.formats.nwb import read_populations
from nuclr.data.population import Population
from nuclr.data.recording import SpikeTrains, Waveforms
from nuclr.data.store import open_population
from nuclr.errors import DataError

SHAPES = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)


def chunked(path: Path, folder: Path, min_rate_hz: float = 0.0) -> Population:
    options = Chunk(waveforms=True, min_rate_hz=min_rate_hz)
    chunk_recording(read_populations(path), folder, dataset="d", animal="a", recording="r", options=options)
    return open_population(next(folder.glob("*.zarr")))


def test_a_units_waveform_is_kept_with_it(tmp_path: Path) -> None:
    trains = poisson_trains(5, 30.0)
    trains[2] = trains[2][:1]  # too slow to stay
    write_units(tmp_path / "a.nwb", trains, obs_intervals=[[0.0, 30.0]], waveforms=list(SHAPES))
    made = chunked(tmp_path / "a.nwb", tmp_path / "store", min_rate_hz=0.5)
    np.testing.assert_array_equal(made.waveforms, SHAPES[[0, 1, 3, 4]])
    assert len(made.units) == 4


def test_of_several_electrodes_the_largest_is_taken(tmp_path: Path) -> None:
    several = [np.stack([0.1 * one, one, 0.5 * one], axis=1) for one in SHAPES]
    write_units(tmp_path / "a.nwb", poisson_trains(5, 30.0), obs_intervals=[[0.0, 30.0]], waveforms=several)
    (raw,) = read_populations(tmp_path / "a.nwb")
    assert isinstance(raw, SpikeTrains)
    assert raw.waveforms is not None
    np.testing.assert_array_equal(raw.waveforms.read(), SHAPES)


def test_ragged_waveforms_have_a_row_for_each_electrode(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["units/waveform_mean"] = np.concatenate([SHAPES[:1], 3 * SHAPES[:1], SHAPES[1:2]])
    means = Column(tmp_path / "a.nwb", dataset="units/waveform_mean")
    read = Waveforms(means, np.array([0, 2, 2]), np.array([2, 2, 3])).read()
    np.testing.assert_array_equal(read[[0, 2]], np.stack([3 * SHAPES[0], SHAPES[1]]))
    assert np.isnan(read[1]).all()


def test_a_file_without_waveforms_is_chunked_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_units(tmp_path / "a.nwb", poisson_trains(5, 30.0), obs_intervals=[[0.0, 30.0]])
    assert chunked(tmp_path / "a.nwb", tmp_path / "store").waveforms is None
    assert "no mean waveforms in the file; none are stored (chunk.waveforms)" in caplog.text


def test_waveforms_of_other_units_are_refused() -> None:
    with pytest.raises(DataError, match="5 waveforms for 14 units"):
        replace(population(), waveforms=SHAPES)
