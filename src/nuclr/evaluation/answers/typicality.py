"""Whether a recording looks like those that a probe learned from: of one that does not, answers mean nothing.

Embeddings are whitened by all units that the probe knows. A recording is then two numbers: how far the mean
of its units lies from that of all, and how widely they are spread. Each is compared with what recordings show
when they are held out (Student's t, for one more recording). Distances to nearest neighbours would not do:
units without any structure lie in the middle of all others, near to many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

# So many recordings say how much recordings differ.
FEWEST_RECORDINGS = 5
# Recordings like the others that are called unlike them; of the two numbers each has half of it.
FALSE_ALARMS = 0.01
# Units of a recording of which less can be said.
FEWEST_UNITS = 10
PERCENTILES = np.linspace(0, 100, 101)


def reference(
    vectors: np.ndarray, populations: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Describe the recordings that a probe learns from.

    Parameters
    ----------
    vectors
        Embeddings of all their units, ``(unit, dim)``; NaN for those that were never active.
    populations
        Name of each unit's, ``(unit,)``.

    Returns
    -------
    tensors
        ``typical_mean`` ``(dim,)`` and ``typical_whitening`` ``(dim, dim)``.
    record
        ``recordings``, how many; ``shift`` and ``spread``, mean and standard deviation over these when each
        is held out; ``distances``, percentiles of the distance of held-out units.
        None of it where there are fewer than five recordings of ten active units.
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
    """Mean of some units, and the matrix that makes all directions of the others equally wide."""
    covariance = np.atleast_2d(np.cov(x.T))
    # Directions in which hardly anything varies say nothing, and would decide everything.
    covariance += 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return x.mean(axis=0), np.linalg.inv(np.linalg.cholesky(covariance)).T


def _numbers(x: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Log of a recording's shift and of its spread, squared; distance of each unit from the mean of all."""
    white = (x - mean) @ whitening
    centre = white.mean(axis=0)
    spread = float(((white - centre) ** 2).sum(axis=1).mean()) * len(x) / max(1, len(x) - 1)
    # A mean of few units lies apart by chance alone.
    shift = max(float((centre**2).sum()) - spread / len(x), 0.01 * len(mean))
    return float(np.log(shift)), float(np.log(max(spread, 1e-12))), np.sqrt((white**2).sum(axis=1))


def typicality(
    vectors: np.ndarray, populations: np.ndarray, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, str]]:
    """Compare recordings with those that a probe learned from.

    Parameters
    ----------
    vectors, populations
        Of the recordings to judge, as for :func:`reference`.
    tensors, record
        Of :func:`reference`.

    Returns
    -------
    typical
        Of each unit, the share of units in recordings held out that lay as far from the others or further,
        ``(unit,)``; NaN for a unit that was never active.
    unlike
        Populations that are unlike those that were learned from, each with what is strange about it.
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
    """Whether arrays and record are what :func:`reference` returns, for embeddings of the probe's width."""
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
