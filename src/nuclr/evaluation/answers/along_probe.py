"""Smooth classes along a recording probe: neighbouring units often share a region.

This is a hidden Markov model along depth whose states are the classes. Between two units at a distance d the
class stays the same with probability exp(-d / length); otherwise it is drawn anew, with equal probabilities.
The likelihood of a unit's class is the probability from the classifier, raised to a power, because errors of
neighbours are correlated, so that each unit carries less information than it would alone. Length and power
are learned from held-out units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd

LENGTHS_UM = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)
POWERS = (1.0, 0.5, 0.25, 0.125)
# Defaults if no training recording has depths.
UNLEARNED = {"length_um": 400.0, "power": 0.5}
# Probability content of the interval of a boundary.
SURE = 0.9


@dataclass(frozen=True)
class Smoothed:
    """Posterior of the classes of one recording probe's units, given all units.

    Attributes
    ----------
    probability
        Probability of each class, ``(unit, class)``.
    change
        Joint probability of the classes of each pair of neighbours in depth, in the order of ``order``,
        ``(pair, class, class)``.
    order
        Units from the smallest depth to the largest, ``(unit,)``.
    """

    probability: np.ndarray
    change: np.ndarray
    order: np.ndarray


def smooth(probability: np.ndarray, depth_um: np.ndarray, length_um: float, power: float) -> Smoothed:
    """Smooth the classes of one probe's units along its depth (forward-backward algorithm).

    Parameters
    ----------
    probability
        Probabilities from the classifier, ``(unit, class)``; NaN for a unit of which only the depth is known.
    depth_um
        Depths, ``(unit,)``, without NaN.
    length_um, power
        Parameters of the model; see the docstring of this module.
    """
    order = np.argsort(depth_um, kind="stable")
    classes = probability.shape[1]
    says = np.where(np.isnan(probability), 1 / classes, np.maximum(probability, 1e-6))[order] ** power
    stay = np.exp(-np.diff(depth_um[order]) / length_um)
    forward, backward = np.empty_like(says), np.ones_like(says)
    forward[0] = says[0] / says[0].sum()
    for i, same in enumerate(stay):
        forward[i + 1] = (same * forward[i] + (1 - same) / classes) * says[i + 1]
        forward[i + 1] /= forward[i + 1].sum()
    for i in range(len(stay) - 1, -1, -1):
        coming = says[i + 1] * backward[i + 1]
        backward[i] = stay[i] * coming + (1 - stay[i]) * coming.mean()
        backward[i] /= backward[i].sum()
    posterior = forward * backward
    posterior /= posterior.sum(axis=1, keepdims=True)
    coming = says[1:] * backward[1:]
    moved = (1 - stay)[:, None, None] / classes + stay[:, None, None] * np.eye(classes)
    change = forward[:-1, :, None] * moved * coming[:, None, :]
    change /= np.maximum(change.sum(axis=(1, 2), keepdims=True), 1e-300)
    found = np.empty_like(posterior)
    found[order] = posterior
    return Smoothed(found, change, order)


def depths_of(units: pd.DataFrame, depth: str) -> np.ndarray:
    """Return the depths of units (um), ``(unit,)``; NaN where the column has no number."""
    return pd.to_numeric(units[depth], errors="coerce").to_numpy(float)


def smooth_all(
    probability: np.ndarray,
    units: pd.DataFrame,
    depth: str,
    settings: Mapping[str, float],
    classes: Sequence[str],
) -> tuple[np.ndarray, pd.DataFrame]:
    """Smooth the classes along every recording probe; units without a depth keep their probabilities.

    Parameters
    ----------
    probability
        ``(unit, class)``.
    units
        Unit table with ``population`` and the column of depths (um).
    depth
        Name of the column of depths.
    settings
        ``length_um`` and ``power``.
    classes
        Names of the classes.

    Returns
    -------
    probability
        ``(unit, class)``.
    boundaries
        Boundaries of all populations; see :func:`boundaries`.
    """
    found = probability.copy()
    depths = depths_of(units, depth)
    tables = []
    for population, rows in units.groupby("population").indices.items():
        own = rows[np.isfinite(depths[rows])]
        if len(own) < 2:
            continue
        smoothed = smooth(probability[own], depths[own], settings["length_um"], settings["power"])
        found[own] = smoothed.probability
        tables.append(boundaries(smoothed, depths[own], classes).assign(population=str(population)))
    columns = ["population", "depth_um", "low_um", "high_um", "above", "below"]
    return found, pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def boundaries(smoothed: Smoothed, depth_um: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Return where the likeliest class changes along a recording probe.

    Returns
    -------
    DataFrame
        ``depth_um`` (the middle of the posterior), ``low_um`` and ``high_um`` (the units between which 90 %
        of it lie), ``above`` (the class at smaller depths) and ``below``.
    """
    order = smoothed.order
    best = smoothed.probability[order].argmax(axis=1)
    depths = depth_um[order]
    middles = (depths[1:] + depths[:-1]) / 2
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1), len(best)]
    rows = []
    for (start, at), stop in zip(pairwise(edges[:-1]), edges[2:], strict=True):
        one, other = best[at - 1], best[at]
        # The boundary may lie anywhere in the two stretches that it separates.
        places = slice(start, stop - 1)
        weight = smoothed.change[places, one, other]
        total = weight.sum()
        if not total > 0:
            continue
        reached = np.cumsum(weight) / total
        first, middle, last = start + np.searchsorted(reached, ((1 - SURE) / 2, 0.5, (1 + SURE) / 2))
        # Between the two units on either side, a boundary may lie anywhere.
        low, high = depths[first], depths[last + 1]
        rows.append((middles[middle], low, high, classes[one], classes[other]))
    return pd.DataFrame(rows, columns=["depth_um", "low_um", "high_um", "above", "below"])


def learn(
    probability: np.ndarray, truth: np.ndarray, units: pd.DataFrame, depth: str, classes: Sequence[str]
) -> dict[str, Any] | None:
    """Find the length and the power that decode held-out units best.

    Parameters
    ----------
    probability
        Probabilities of held-out units, ``(unit, class)``.
    truth
        Class number of each unit, ``(unit,)``.
    units
        Unit table with ``population`` and the column of depths.
    depth
        Name of the column of depths.
    classes
        Names of the classes.

    Returns
    -------
    dict or None
        ``length_um``, ``power``, and ``accuracy`` and ``log_loss`` ``before`` and ``after`` smoothing; None
        if fewer than two populations have depths.
    """
    known = ~np.isnan(depths_of(units, depth))
    if units.loc[known, "population"].nunique() < 2:
        return None
    probability, truth, units = probability[known], truth[known], units[known].reset_index(drop=True)

    def judged(found: np.ndarray) -> dict[str, float]:
        right = np.maximum(found[np.arange(len(truth)), truth], 1e-12)
        return {
            "log_loss": float(-np.log(right).mean()),
            "accuracy": float((found.argmax(axis=1) == truth).mean()),
        }

    tried = [
        {"length_um": length, "power": power}
        | judged(smooth_all(probability, units, depth, {"length_um": length, "power": power}, classes)[0])
        for length, power in product(LENGTHS_UM, POWERS)
    ]
    best = min(tried, key=lambda row: row["log_loss"])
    before = judged(probability)
    return {
        "depth": depth,
        "length_um": best["length_um"],
        "power": best["power"],
        "before": before,
        "after": {name: best[name] for name in before},
    }
