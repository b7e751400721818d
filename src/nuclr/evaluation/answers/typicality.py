"""Detect recordings that are unlike those that a probe was trained on, for which its answers mean nothing.

Embeddings are whitened with all units that the probe was trained on. Each recording is summarised by two
numbers: the distance of its units' mean from the mean of all units, and the spread of its units. Both are
compared with their values in held-out recordings (Student's t, for one more recording). Distances to nearest
neighbours would not work: units without any structure lie in the middle of all others, near to many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

# Fewest recordings that show how much recordings differ.
FEWEST_RECORDINGS = 5
# Rate of false alarms; each of the two numbers has half of it.
FALSE_ALARMS = 0.01
# Recordings with fewer units are not judged.
FEWEST_UNITS = 10
PERCENTILES = np.linspace(0, 100, 101)


def reference(
    vectors: np.ndarray, populations: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Summarise the recordings that a probe is trained on, to compare other recordings with.

    Parameters
    ----------
    vectors
        Embeddings of all units, ``(unit, dim)``; NaN for those that were never active.
    populations
        Population of each unit, ``(unit,)``.

    Returns
    -------
    tensors
        ``typical_mean`` ``(dim,)`` and ``typical_whitening`` ``(dim, dim)``.
    record
        ``recordings``, their number; ``shift`` and ``spread``, mean and standard deviation over recordings,
        each held out in turn; ``distances``, percentiles of the distance of held-out units.
        The result is None with fewer than five recordings of ten active units.
    """
    active = ~np.isnan(vectors).any(axis=1)
    x, names = vectors[active].astype(np.float64), populations[active]
    members = [names == name for name in np.unique(names)]
    members = [own for own in members if own.sum() >= FEWEST_UNITS]
    if len(members) < FEWEST_RECORDINGS:
        return None
    held_out = [_numbers(x[own], *_whitening(x[~own])) for own in members]
    table = np.array([[shift, spread] for shift, spread, _ in held_out])
    distances = np.concatenate([far for _, _, far in held_out])
    mean, whitening = _whitening(x)
    tensors = {"typical_mean": mean, "typical_whitening": whitening}
    return tensors, {
        "recordings": len(members),
        "shift": [float(table[:, 0].mean()), float(table[:, 0].std(ddof=1))],
        "spread": [float(table[:, 1].mean()), float(table[:, 1].std(ddof=1))],
        "distances": np.percentile(distances, PERCENTILES).tolist(),
    }


def _whitening(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of some units, and the matrix that whitens their covariance."""
    covariance = np.atleast_2d(np.cov(x.T))
    # Without regularisation, directions with hardly any variance would dominate.
    covariance += 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return x.mean(axis=0), np.linalg.inv(np.linalg.cholesky(covariance)).T


def _numbers(x: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return the log of a recording's squared shift and spread, and each unit's distance from the mean."""
    white = (x - mean) @ whitening
    centre = white.mean(axis=0)
    spread = float(((white - centre) ** 2).sum(axis=1).mean()) * len(x) / max(1, len(x) - 1)
    # The mean of few units is shifted by chance alone.
    shift = max(float((centre**2).sum()) - spread / len(x), 0.01 * len(mean))
    return float(np.log(shift)), float(np.log(max(spread, 1e-12))), np.sqrt((white**2).sum(axis=1))


def typicality(
    vectors: np.ndarray, populations: np.ndarray, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, str]]:
    """Compare recordings with those that a probe was trained on.

    Parameters
    ----------
    vectors, populations
        Embeddings and populations of the recordings to judge, as for :func:`reference`.
    tensors, record
        Result of :func:`reference`.

    Returns
    -------
    typical
        For each unit, the share of units in held-out recordings that were at least as far from the mean of
        the training units, ``(unit,)``; NaN for a unit that was never active.
    unlike
        Populations that are unlike the training recordings, each with the difference in words.
    """
    typical, unlike = np.full(len(vectors), np.nan), {}
    active = ~np.isnan(vectors).any(axis=1)
    limit = float(stdtrit(record["recordings"] - 1, 1 - FALSE_ALARMS / 4))
    for name in np.unique(populations):
        own = np.flatnonzero((populations == name) & active)
        if not len(own):
            continue
        shift, spread, distance = _numbers(
            vectors[own].astype(np.float64), tensors["typical_mean"], tensors["typical_whitening"]
        )
        typical[own] = 1 - np.interp(distance, record["distances"], PERCENTILES / 100)
        if len(own) < FEWEST_UNITS:
            continue
        another = np.sqrt(1 + 1 / record["recordings"])
        z_shift, z_spread = (
            (value - record[key][0]) / (max(record[key][1], 1e-9) * another)
            for key, value in (("shift", shift), ("spread", spread))
        )
        if z_shift > limit:
            unlike[str(name)] = "its units lie elsewhere"
        elif abs(z_spread) > limit:
            unlike[str(name)] = f"its units differ {'more' if z_spread > 0 else 'less'} from each other"
    return typical, unlike


def is_reference(tensors: Mapping[str, np.ndarray], record: Any) -> bool:
    """Return whether arrays and record have the form of :func:`reference`, for the probe's dimension."""
    dim = tensors["mean"].shape
    try:
        numbers = [*record["shift"], *record["spread"], record["recordings"], *record["distances"]]
        lengths = [len(record[name]) for name in ("shift", "spread", "distances")]
        finite = bool(np.isfinite(np.array(numbers, float)).all()) and int(record["recordings"]) > 1
    except (TypeError, KeyError, ValueError):
        return False
    mean, whitening = tensors.get("typical_mean"), tensors.get("typical_whitening")
    if mean is None or whitening is None:
        return False
    whole = lengths == [2, 2, len(PERCENTILES)]
    return whole and finite and mean.shape == dim and whitening.shape == (*dim, *dim)
