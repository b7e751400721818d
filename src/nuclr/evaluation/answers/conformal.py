"""Sets of classes that hold the true one as often as promised (conformal prediction).

Source: Angelopoulos and Bates, A gentle introduction to conformal prediction, 2021 (arXiv 2107.07511),
section 2; for units that come in animals, Lee, Barber and Willett 2023 (arXiv 2306.06342): each animal weighs
the same, and the animal to come, of which nothing is known, weighs as much as one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Promises that are kept in a probe's record.
COVERAGES = np.round(np.arange(0.5, 0.995, 0.01), 2)
# So many can promise 0.9.
ENOUGH_GROUPS = 9


def conformal_thresholds(
    probability: np.ndarray, truth: np.ndarray, groups: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Find for each promise the least probability of a class that belongs into a unit's set.

    A class that is known of enough groups has a threshold of its own: the promise holds for its units, too.

    Parameters
    ----------
    probability
        Of each class, of units that were held out, ``(unit, class)``.
    truth
        Number of each unit's class, ``(unit,)``.
    groups
        What was held out whole (animals, say) and will be again, ``(unit,)``.
    classes
        Names.

    Returns
    -------
    dict
        ``coverages``; ``thresholds`` of each class, a number for each coverage, 0 where every class belongs
        into the set; ``groups``, how many there were.
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
    """Least probability for each coverage, ``(coverage,)``; 0 where the groups are too few for it."""
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not len(names):
        return np.zeros(len(COVERAGES))
    order = np.argsort(missed, kind="stable")
    weight = 1 / ((len(names) + 1) * sizes[index[order]])
    reached = np.cumsum(weight)
    # To the digit: a sum of twelfths must reach what is a number of twelfths.
    place = np.searchsorted(reached + 1e-9, COVERAGES)
    return np.where(place < len(order), 1 - missed[order][np.minimum(place, len(order) - 1)], 0.0)


def prediction_sets(
    probability: np.ndarray, conformal: Mapping[str, Any], classes: Sequence[str], coverage: float
) -> np.ndarray:
    """Say which classes a unit may be of, ``(unit, class)``; the likeliest always is among them.

    Parameters
    ----------
    probability
        ``(unit, class)``; NaN for a unit of which nothing is known, whose set is empty.
    conformal
        Of :func:`conformal_thresholds`.
    classes
        Names.
    coverage
        How often the true class shall be in the set; above the highest promise every class is.
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
    """Highest promise for which a set can leave a class out: of few animals none that is high."""
    groups = int(conformal["groups"])
    kept = [promise for promise in conformal["coverages"] if promise <= groups / (groups + 1) + 1e-9]
    return max(kept, default=0.0)


def is_conformal(conformal: Any, classes: Sequence[str]) -> bool:
    """Whether this is what :func:`conformal_thresholds` returns for these classes."""
    try:
        coverages = np.asarray(conformal["coverages"], float)
        thresholds = np.asarray([conformal["thresholds"][name] for name in classes], float)
        groups = int(conformal["groups"])
    except (TypeError, KeyError, ValueError):
        return False
    return thresholds.shape == (len(classes), len(coverages)) and groups >= 0 and len(coverages) > 0
