"""The scaling analysis: scores against pretraining animals, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd


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
    rng = np.random.default_rng(seed)
    by_seed = _among_other_animals(confusion, resamples, rng)
    drawn = rng.integers(0, len(confusion), by_seed.shape)
    return np.nanmean(np.take_along_axis(by_seed, drawn, axis=1), axis=1)


def _among_other_animals(confusion: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Macro-F1 of each run over resampled test animals, the same ones for all runs, ``(resample, run)``."""
    animals = confusion.shape[1]
    weight = rng.multinomial(animals, np.full(animals, 1 / animals), size=resamples)
    return macro_f1(np.einsum("ra,sakl->rskl", weight, confusion))


def animal_deviations(runs: Sequence[Scored], resamples: int, seed: int = 0) -> np.ndarray:
    """Say what other test animals would have changed in each run's macro-F1, ``(resample, run)``."""
    everything = pd.concat([run.predictions for run in runs])
    classes = sorted(set(everything["label"]) | set(everything["predicted"]))
    animals = sorted(set(everything["animal"]))
    confusion = np.stack([confusion_by_animal(run.predictions, classes, animals) for run in runs])
    resampled = _among_other_animals(confusion, resamples, np.random.default_rng(seed))
    return np.nan_to_num(resampled - macro_f1(confusion.sum(axis=1)))


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
