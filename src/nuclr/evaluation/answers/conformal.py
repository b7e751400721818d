"""Conformal prediction: sets of classes that contain the true class with a guaranteed coverage.

Source: Angelopoulos and Bates, A gentle introduction to conformal prediction, 2021 (arXiv 2107.07511),
section 2; for units grouped by animal, Lee, Barber and Willett 2023 (arXiv 2306.06342): each animal has the
same weight, and so has the new animal, of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Coverages in a probe's record.
COVERAGES = np.round(np.arange(0.5, 0.995, 0.01), 2)
# Number of groups that can guarantee a coverage of 0.9.
ENOUGH_GROUPS = 9


def conformal_thresholds(
    probability: np.ndarray, truth: np.ndarray, groups: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Compute, for each coverage, the lowest probability with which a class belongs to a unit's set.

    A class that occurs in enough groups has its own threshold, so that the coverage holds for its units, too.

    Parameters
    ----------
    probability
        Probability of each class for held-out units, ``(unit, class)``.
    truth
        Class number of each unit, ``(unit,)``.
    groups
        Group of each unit that was held out as a whole, such as its animal, ``(unit,)``.
    classes
        Names of the classes.

    Returns
    -------
    dict
        ``coverages``; ``thresholds`` of each class, one for each coverage, 0 if the set must contain every
        class; ``groups``, their number.
    """
    missed = 1 - probability[np.arange(len(truth)), truth]
    of_all = _thresholds(missed, groups)
    found: dict[str, list[float]] = {}
    for number, name in enumerate(classes):
        own = truth == number
        enough = len(set(groups[own])) >= ENOUGH_GROUPS
        found[name] = (_thresholds(missed[own], groups[own]) if enough else of_all).tolist()
    return {"coverages": COVERAGES.tolist(), "thresholds": found, "groups": len(set(groups))}


def _thresholds(missed: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the lowest probability for each coverage, ``(coverage,)``; 0 if there are too few groups."""
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not len(names):
        return np.zeros(len(COVERAGES))
    order = np.argsort(missed, kind="stable")
    weight = 1 / ((len(names) + 1) * sizes[index[order]])
    reached = np.cumsum(weight)
    # Against rounding: a sum of twelfths must reach an exact multiple of a twelfth.
    place = np.searchsorted(reached + 1e-9, COVERAGES)
    return np.where(place < len(order), 1 - missed[order][np.minimum(place, len(order) - 1)], 0.0)


def prediction_sets(
    probability: np.ndarray, conformal: Mapping[str, Any], classes: Sequence[str], coverage: float
) -> np.ndarray:
    """Return which classes are in each unit's prediction set, ``(unit, class)``; the likeliest always is.

    Parameters
    ----------
    probability
        ``(unit, class)``; NaN for a unit of which nothing is known, whose set is empty.
    conformal
        Result of :func:`conformal_thresholds`.
    classes
        Names of the classes.
    coverage
        How often the set shall contain the true class; above the highest coverage it contains every class.
    """
    place = int(np.searchsorted(np.array(conformal["coverages"]), coverage - 1e-9))
    least = [
        conformal["thresholds"][name][place] if place < len(conformal["coverages"]) else 0.0
        for name in classes
    ]
    known = ~np.isnan(probability).any(axis=1)
    inside = np.nan_to_num(probability) >= np.array(least) - 1e-12
    inside[np.arange(len(inside)), np.nan_to_num(probability).argmax(axis=1)] = True
    return inside & known[:, None]


def most_coverage(conformal: Mapping[str, Any]) -> float:
    """Return the highest coverage that can be guaranteed: n / (n + 1) for n groups."""
    groups = int(conformal["groups"])
    kept = [promise for promise in conformal["coverages"] if promise <= groups / (groups + 1) + 1e-9]
    return max(kept, default=0.0)


def is_conformal(conformal: Any, classes: Sequence[str]) -> bool:
    """Return whether an object has the form of :func:`conformal_thresholds` for these classes."""
    try:
        coverages = np.asarray(conformal["coverages"], float)
        thresholds = np.asarray([conformal["thresholds"][name] for name in classes], float)
        groups = int(conformal["groups"])
    except (TypeError, KeyError, ValueError):
        return False
    return thresholds.shape == (len(classes), len(coverages)) and groups >= 0 and len(coverages) > 0
