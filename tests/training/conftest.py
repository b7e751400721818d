"""Stores to train on, and a run that is small."""

from __future__ import annotations

from pathlib import Path

import pytest
from strategies import population

from nuclr.data.store import write_population


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of animals a, b and c, 16 units each, two shards each."""
    folder = tmp_path_factory.mktemp("stores")
    for i, animal in enumerate(["a", "b", "c"]):
        made = population(units=16, bins=3000, seed=i, animal=animal, recording=animal)
        write_population(made, folder / animal / "probe.zarr", chunk_s=15, shard_s=30)
    return folder
