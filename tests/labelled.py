"""Units of eight animals, of three kinds or none, and a split of these animals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nuclr.data.splits import make_splits

ANIMALS = [f"a{i}" for i in range(8)]
SPLITS = make_splits(ANIMALS, 2, 2, 0)


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
