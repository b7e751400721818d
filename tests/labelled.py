"""Labelled units of some animals, their features, and a split of these animals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nuclr.data.splits import make_splits
from nuclr.representation.embeddings import Embeddings

ANIMALS = [f"a{i}" for i in range(8)]
SPLITS = make_splits(ANIMALS, 2, 2, 0)
MODEL = "ab" * 32
# Arguments of `train_probe` for the probe of the paper, which is chosen from no others.
PUBLISHED: dict[str, Any] = {"kinds": ("linear",), "centred": "no"}


def units(per_animal: int = 30, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    animal = np.repeat(ANIMALS, per_animal)
    return pd.DataFrame(
        {
            "unit_id": [f"{a}_{i}" for i, a in enumerate(animal)],
            "population": animal,
            "recording": animal,
            "animal": animal,
            "kind": rng.choice(["x", "y", "z", ""], len(animal)),
        }
    )


def features_of(table: pd.DataFrame, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Make features from which the kind can be read."""
    rng = np.random.default_rng(seed)
    return (
        pd.get_dummies(table["kind"]).to_numpy(float) + noise * rng.standard_normal((len(table), 4))
    ).astype(np.float32)


def embedded(table: pd.DataFrame, features: np.ndarray, model: str = MODEL) -> Embeddings:
    return Embeddings(table, features, np.ones(len(table), int), model)


def simulated(
    animals: int, units: int, *, noise: float, offset: float = 0.2, seed: int = 0, prefix: str = "a"
) -> tuple[pd.DataFrame, np.ndarray]:
    """Give units of four kinds, whose features are moved by their animal, and are not alike certain."""
    rng = np.random.default_rng(seed)
    kind, animal = rng.integers(0, 4, animals * units), np.repeat(np.arange(animals), units)
    features = np.eye(4, 8)[kind] + offset * rng.standard_normal((animals, 8))[animal]
    features += noise * (0.5 + rng.random((len(kind), 1))) * rng.standard_normal((len(kind), 8))
    names = [f"{prefix}{i}" for i in animal]
    table = pd.DataFrame({"unit_id": [f"{prefix}{i}" for i in range(len(kind))], "animal": names})
    return table.assign(kind=np.array(list("wxyz"), object)[kind]), features.astype(np.float32)
