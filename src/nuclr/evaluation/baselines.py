"""What a user would try first: features of each unit that need no training.

Each function maps a population (activity in memory) to features ``(unit, feature)``; all go
through the same probes as the embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from nuclr.data.catalog import unit_table
from nuclr.data.population import Population
from nuclr.errors import ConfigError
from nuclr.evaluation.representations import concatenate
from nuclr.training.inputs import in_memory

WIDTHS_S = (0.02, 0.1, 0.5, 1.0, 3.0)
LAG_BIN_S = 0.1
LAGS = (1, 2, 3, 5, 8, 12, 20, 30, 50)


def rebin(population: Population, width_s: float) -> np.ndarray:
    """Sum activity in bins of about ``width_s`` inside the valid spans, ``(unit, bin)``."""
    width = max(1, round(width_s / population.bin_s))
    parts = []
    for first, last in population.valid_bins():
        bins = (last - first) // width
        span = np.asarray(population.activity[:, first : first + bins * width], np.float64)
        parts.append(span.reshape(len(span), bins, width).sum(axis=2))
    return np.concatenate(parts, axis=1)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance along time; a constant unit becomes zeros."""
    x = x - _mean(x)[:, None]
    return x / np.maximum(np.sqrt(_mean(x**2)), 1e-9)[:, None]


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean along the last axis; 0 where a recording is too short to have a bin."""
    return x.sum(axis=-1) / max(1, x.shape[-1])


def single_neuron(population: Population) -> np.ndarray:
    """Rate, Fano factors at five widths and the autocorrelogram to 5 s: one unit at a time."""
    features = [np.log(np.abs(_mean(rebin(population, population.bin_s))) / population.bin_s + 0.1)]
    for width_s in WIDTHS_S:
        counts = rebin(population, width_s)
        mean = _mean(counts)
        variance = _mean((counts - mean[:, None]) ** 2)
        features.append(np.log((variance + 1e-3) / (np.abs(mean) + 1e-3)))
    z = _standardised(rebin(population, LAG_BIN_S))
    features += [_mean(z[:, lag:] * z[:, :-lag]) for lag in LAGS]
    return np.stack(features, axis=1)


def population_correlation(population: Population) -> np.ndarray:
    """Correlations with the rest of the population, at four widths.

    For each: with the summed activity of all others, and mean, standard deviation and deciles
    10, 50 and 90 of the correlations with each other unit.
    """
    features = []
    for width_s in WIDTHS_S[1:]:
        counts = rebin(population, width_s)
        z = _standardised(counts)
        rest = _standardised(counts.sum(axis=0) - counts)
        correlation = z @ z.T / max(1, z.shape[1])
        others = correlation[~np.eye(len(z), dtype=bool)].reshape(len(z), -1)
        if len(z) == 1:  # a unit without others correlates with none
            others = np.zeros((1, 1))
        features += [_mean(z * rest), others.mean(axis=1), others.std(axis=1)]
        features += list(np.percentile(others, [10, 50, 90], axis=1))
    return np.stack(features, axis=1)


BASELINES: dict[str, Callable[[Population], np.ndarray]] = {
    "single_neuron": single_neuron,
    "population_correlation": population_correlation,
}


def which_recording(units: pd.DataFrame) -> np.ndarray:
    """One-hot of the population and nothing else: what knowing where one is gives away."""
    return pd.get_dummies(units["population"]).to_numpy(np.float32)


def baseline_table(
    name: str, populations: Sequence[Population]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Compute a baseline's features of all units of some populations.

    Returns
    -------
    units, features, windows
        As for :func:`nuclr.evaluation.representations.write_embeddings`; ``windows`` is 1 for every unit.

    Raises
    ------
    ConfigError
        If there is no such baseline.
    """
    names = (*BASELINES, "which_recording")
    if name not in names:
        raise ConfigError(f"baseline {name}: there is no such; there are {', '.join(names)}")
    units = concatenate([unit_table(population) for population in populations])
    if name == "which_recording":
        features = which_recording(units)
    else:
        features = np.concatenate([BASELINES[name](in_memory(population)) for population in populations])
    return units, features.astype(np.float32), np.ones(len(units), np.int64)
