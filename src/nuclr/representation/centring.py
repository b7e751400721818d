"""Embeddings without the mean of their population: what units of one recording share is taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# With fewer units a mean says as much about who happened to be recorded as about the recording.
FEWEST_TO_CENTRE = 20


def centred(features: np.ndarray, populations: np.ndarray) -> np.ndarray:
    """Take the mean of each population from its units' features; NaN rows stay, and count for nothing.

    Parameters
    ----------
    features
        ``(unit, feature)``.
    populations
        Which population each unit is of, ``(unit,)``.
    """
    names, index = np.unique(populations, return_inverse=True)
    known = ~np.isnan(features).any(axis=1)
    counts = np.bincount(index[known], minlength=len(names))
    means = np.zeros((len(names), features.shape[1]))
    np.add.at(means, index[known], features[known])
    means /= np.maximum(counts, 1)[:, None]
    return (features - means[index]).astype(features.dtype)


def populations_of(units: pd.DataFrame) -> np.ndarray:
    """Name the population of each unit of a table; all are of one where it does not say."""
    if "population" in units:
        return units["population"].to_numpy(str)
    return np.zeros(len(units), "U1")
