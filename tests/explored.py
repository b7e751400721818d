"""Embeddings of simulated units, and recordings of them, for the interactive page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from strategies import population

from nuclr.data.population import Population
from nuclr.representation.embeddings import write_embeddings

STRANGE = "</script><script>alert(1)</script>"


def recordings(animals: int = 3, units: int = 14) -> list[Population]:
    """Record some animals; one unit has a name that would be a script, if it were let."""
    made = [
        population(units, 3000, animal=f"m{i}", recording=f"r{i}", seed=i, rate=0.2) for i in range(animals)
    ]
    made[0].units.loc[0, "unit_id"] = STRANGE
    return made


def units_of(populations: list[Population]) -> pd.DataFrame:
    parts = [
        one.units.assign(
            population=one.population,
            recording=one.recording,
            animal=one.animal,
            depth_um=20.0 * np.arange(len(one.units)),
        )
        for one in populations
    ]
    return pd.concat(parts, ignore_index=True)


def write_units(path: Path, units: pd.DataFrame, dim: int = 8, seed: int = 0, clear: float = 3.0) -> Path:
    """Write embeddings from which the cell type can be read, the more clearly the larger ``clear``."""
    rng = np.random.default_rng(seed)
    kind = pd.factorize(units["cell_type"])[0]
    vectors = clear * np.eye(dim)[kind % dim] + rng.standard_normal((len(units), dim))
    path.parent.mkdir(parents=True, exist_ok=True)
    windows = np.full(len(units), 5)
    write_embeddings(path, units, vectors.astype(np.float32), windows, {"model": f"{seed:064d}"})
    return path


def many(units: int, animals: int = 139) -> pd.DataFrame:
    """Label as many units as a brain-wide data set has, with ids as long as those are."""
    rng = np.random.default_rng(0)
    animal = np.sort(rng.integers(0, animals, units))
    regions = np.array([f"region {i}" for i in range(10)], object)
    return pd.DataFrame(
        {
            "unit_id": [f"{rng.integers(16**8):08x}-{i:05d}_probe{i % 2:02d}" for i in range(units)],
            "population": [f"session{a}/probe{i % 2:02d}" for i, a in enumerate(animal)],
            "recording": [f"session{a}" for a in animal],
            "animal": [f"mouse{a}" for a in animal],
            "brain_region": rng.choice(regions, units),
            "cell_type": rng.choice(np.array(["RS", "FS", ""], object), units),
            "depth_um": rng.uniform(0, 3840, units),
            "rate_hz": rng.gamma(2, 3, units),
        }
    )
