"""The scaling analysis: scores against pretraining animals, intervals, and the fitted law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

FEWEST_COUNTS = 4


@dataclass(frozen=True)
class Scored:
    """One representation's predictions in one task and protocol.

    Attributes
    ----------
    representation
        ``nuclr``, ``untrained``, or the name of a baseline.
    animals
        Pretraining animals; 0 where there was no pretraining.
    seed
        Seed of the run.
    predictions
        ``animal``, ``label``, ``predicted``: one row a tested unit.
    """

    representation: str
    animals: int
    seed: int
    predictions: pd.DataFrame


def confusion_by_animal(
    predictions: pd.DataFrame, classes: Sequence[str], animals: Sequence[str]
) -> np.ndarray:
    """Count (label, predicted) pairs of each animal, ``(animal, class, class)``."""
    counts = np.zeros((len(animals), len(classes), len(classes)))
    place = [
        pd.Categorical(predictions[name], categories=list(levels)).codes
        for name, levels in (("animal", animals), ("label", classes), ("predicted", classes))
    ]
    np.add.at(counts, tuple(place), 1)
    return counts


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Macro-F1 of confusion matrices ``(..., class, class)``, over the classes that occur."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    labels, predicted = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore"):
        f1 = np.where(labels > 0, 2 * hits / (labels + predicted), np.nan)
        return np.nansum(f1, -1) / (labels > 0).sum(-1)


def resampled_scores(confusion: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Macro-F1 over resampled seeds and test animals, ``(resample,)``.

    Animals are drawn anew for all seeds together, since the seeds are tested on the same ones, and
    seeds are drawn anew beside them: units of one animal are not independent.

    Parameters
    ----------
    confusion
        ``(seed, animal, class, class)``.
    resamples
        How many.
    seed
        Of the drawing. Two curves drawn with the same seed get the same animals.
    """
    seeds, animals = confusion.shape[:2]
    rng = np.random.default_rng(seed)
    weight = rng.multinomial(animals, np.full(animals, 1 / animals), size=resamples)
    by_seed = macro_f1(np.einsum("ra,sakl->rskl", weight, confusion))
    drawn = rng.integers(0, seeds, (resamples, seeds))
    return np.nanmean(np.take_along_axis(by_seed, drawn, axis=1), axis=1)


def scaling_table(scored: Sequence[Scored], resamples: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every run, and every representation at every animal count with its 95 % interval.

    Returns
    -------
    runs
        One row a run: ``representation, animals, seed, macro_f1, balanced_accuracy, units``.
    curve
        One row a representation and count: the mean of the runs' ``macro_f1`` and
        ``balanced_accuracy``, ``low`` and ``high`` (95 %, over seeds and test animals), ``seeds``.
    """
    everything = pd.concat([s.predictions for s in scored])
    classes = sorted(set(everything["label"]) | set(everything["predicted"]))
    animals = sorted(set(everything["animal"]))
    rows, confusions = [], {}
    for s in scored:
        confusion = confusion_by_animal(s.predictions, classes, animals)
        confusions[s.representation, s.animals, s.seed] = confusion
        total = confusion.sum(0)
        labels = total.sum(-1)
        rows.append(
            {
                "representation": s.representation,
                "animals": s.animals,
                "seed": s.seed,
                "macro_f1": float(macro_f1(total)),
                "balanced_accuracy": float((total.diagonal()[labels > 0] / labels[labels > 0]).mean()),
                "units": int(labels.sum()),
            }
        )
    runs = pd.DataFrame(rows).sort_values(["representation", "animals", "seed"], ignore_index=True)
    summary = []
    for key, group in runs.groupby(["representation", "animals"]):
        representation, count = cast("tuple[str, int]", key)
        stack = np.stack([confusions[representation, count, seed] for seed in group["seed"]])
        low, high = np.nanpercentile(resampled_scores(stack, resamples), [2.5, 97.5])
        summary.append(
            {
                "representation": representation,
                "animals": count,
                "macro_f1": group["macro_f1"].mean(),
                "low": low,
                "high": high,
                "balanced_accuracy": group["balanced_accuracy"].mean(),
                "seeds": len(group),
            }
        )
    return runs, pd.DataFrame(summary)


def power_law(animals: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """Return error(n) = c + a * n^-b."""
    return c + a * np.asarray(animals, float) ** -b


def fit_power_law(animals: np.ndarray, macro_f1: np.ndarray) -> dict[str, Any]:
    """Fit ``1 - macro_f1 = c + a * n^-b`` to all runs by bounded least squares.

    Returns
    -------
    dict
        ``a``, ``b``, ``c``, ``residual_sd``, ``runs``; or ``refused``, why nothing was fitted.
    """
    counts = np.unique(animals)
    if len(counts) < FEWEST_COUNTS:
        return {
            "refused": f"{len(counts)} animal counts; a law of three parameters wants {FEWEST_COUNTS} or more"
        }
    error = 1 - np.asarray(macro_f1, float)
    fits = [
        least_squares(
            lambda p: power_law(animals, *p) - error,
            x0=[max(0.05, np.ptp(error)), b, max(0.0, error.min() - 0.05)],
            bounds=([-1.0, 0.0, 0.0], [1.0, 3.0, 1.0]),
        )
        for b in (0.2, 0.5, 1.0)
    ]
    best = min(fits, key=lambda fit: fit.cost)
    a, b, c = map(float, best.x)
    spread = float(np.sqrt(2 * best.cost / max(1, len(error) - 3)))
    return {"a": a, "b": b, "c": c, "residual_sd": spread, "runs": len(error)}
