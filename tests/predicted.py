"""Predictions of three classes that are right so often."""

from __future__ import annotations

import numpy as np
import pandas as pd


def predictions(right: float, seed: int = 0, animals: int = 6, units: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.choice(["x", "y", "z"], animals * units)
    wrong = rng.choice(["x", "y", "z"], animals * units)
    return pd.DataFrame(
        {
            "animal": np.repeat([f"a{i}" for i in range(animals)], units),
            "population": np.repeat([f"a{i}/p" for i in range(animals)], units),
            "label": label,
            "predicted": np.where(rng.random(len(label)) < right, label, wrong),
        }
    )
