"""Centring: subtract the population mean from embeddings, which removes what units of a recording share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# With fewer units, the mean depends as much on the sampled units as on the recording.
FEWEST_TO_CENTRE = 20


def centred(features: np.ndarray, populations: np.ndarray) -> np.ndarray:
    """Return features minus the mean of each population; rows with NaN stay NaN and are not averaged.

    Parameters
    ----------
    features
        ``(unit, feature)``.
    populations
        Population of each unit, ``(unit,)``.
    """
    names, index = np.unique(populations, return_inverse=True)
    known = ~np.isnan(features).any(axis=1)
    counts = np.bincount(index[known], minlength=len(names))
    means = np.zeros((len(names), features.shape[1]))
    np.add.at(means, index[known], features[known])
    means /= np.maximum(counts, 1)[:, None]
    return (features - means[index]).astype(features.dtype)


def populations_of(units: pd.DataFrame) -> np.ndarray:
    """Return the population of each unit of a table; without such a column, one population for all."""
    if "population" in units:
        return units["population"].to_numpy(str)
    return np.zeros(len(units), "U1")
