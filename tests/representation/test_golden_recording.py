"""From spike times in NWB files to embeddings, against numbers computed with the authors' code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import golden_encoder, load_golden
from strategies import write_units

from nuclr.config import Chunk
from nuclr.data.chunk import chunk_recording
from nuclr.data.formats.nwb import read_populations
from nuclr.data.inputs import in_memory
from nuclr.data.store import open_population, stores
from nuclr.model.encoder import as_patches
from nuclr.representation.embed import embed_population
from nuclr.training.windows import ViewSpec


@pytest.mark.parametrize("index", [0, 1, 2])
def test_spike_times_become_the_authors_patches_and_embeddings(tmp_path: Path, index: int) -> None:
    golden = load_golden("encoder_ephys.npz")
    times, units = golden[f"spike_times_{index}"], golden[f"spike_units_{index}"]
    trains = [np.sort(times[units == unit]) for unit in range(int(golden[f"n_units_{index}"]))]
    path = write_units(tmp_path / "a.nwb", trains, obs_intervals=[[0.0, 10.0]])
    chunk_recording(
        read_populations(path), tmp_path / "out", dataset="d", animal="a", recording="r", options=Chunk()
    )
    made = in_memory(open_population(stores(tmp_path / "out")[0]))
    active = golden[f"active_units_{index}"]
    # A unit without a spike is no unit of the file's table that a store would keep, or is silent in it.
    counts = np.asarray(made.activity)
    rows = np.flatnonzero(counts.any(axis=1))
    assert len(rows) == len(active)

    before = int(golden["population_sizes"][:index].sum()) * 10
    expected = golden["patches"][before : before + 10 * len(active)]
    patches = as_patches(torch.from_numpy(counts[rows]), 50)
    np.testing.assert_array_equal(patches.flatten(0, 1).numpy(), expected)

    spec = ViewSpec(patch=50, tokens=10, distance=1500)
    embeddings, windows = embed_population(golden_encoder(golden, patch=50, tokens=10), made, spec)
    np.testing.assert_allclose(embeddings[rows], golden[f"embeddings_{index}"], atol=1e-5, rtol=0)
    assert windows[rows].tolist() == [1] * len(rows)
