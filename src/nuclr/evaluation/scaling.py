"""The scaling analysis: scores against pretraining animals, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

# The representation that every transductive score is compared with.
CONTROL = "which_recording"


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
        ``population``, ``animal``, ``label``, ``predicted``: one row a tested unit.
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


def confusions(tables: Sequence[pd.DataFrame]) -> np.ndarray:
    """Count as above for several runs, over all that occurs in any, ``(run, animal, class, class)``."""
    everything = pd.concat(tables)
    classes = sorted(set(everything["label"]) | set(everything["predicted"]))
    animals = sorted(set(everything["animal"]))
    return np.stack([confusion_by_animal(table, classes, animals) for table in tables])


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
    scores = np.take_along_axis(by_seed, drawn, axis=1)
    with np.errstate(invalid="ignore"):  # a draw may hold no animal that a run was tested on
        return np.nansum(scores, axis=1) / (~np.isnan(scores)).sum(axis=1)


def _among_other_animals(confusion: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Macro-F1 of each run over resampled test animals, the same ones for all runs, ``(resample, run)``."""
    animals = confusion.shape[1]
    weight = rng.multinomial(animals, np.full(animals, 1 / animals), size=resamples)
    return macro_f1(np.einsum("ra,sakl->rskl", weight, confusion))


def animal_deviations(runs: Sequence[Scored], resamples: int, seed: int = 0) -> np.ndarray:
    """Say what other test animals would have changed in each run's macro-F1, ``(resample, run)``."""
    confusion = confusions([run.predictions for run in runs])
    resampled = _among_other_animals(confusion, resamples, np.random.default_rng(seed))
    return np.nan_to_num(resampled - macro_f1(confusion.sum(axis=1)))


def within_recordings(predictions: pd.DataFrame) -> float:
    """Macro-F1 inside each population that holds two classes or more, averaged over these; NaN without any.

    A recording holds few classes, so knowing which recording a unit is from raises the score over all
    units. It raises this one by nothing: inside one recording it is the same for all units.
    """
    confusion = confusions([predictions.assign(animal=predictions["population"])])[0]
    several = (confusion.sum(axis=-1) > 0).sum(axis=-1) > 1
    return float(macro_f1(confusion[several]).mean()) if several.any() else float("nan")


def gain_over(confusion: np.ndarray, control: np.ndarray, resamples: int) -> tuple[float, float, float]:
    """Mean gain in macro-F1 over a control on the same animals, and its 95 % interval.

    Parameters
    ----------
    confusion
        ``(seed, animal, class, class)``.
    control
        ``(animal, class, class)``.
    resamples
        Of the bootstrap; see :func:`resampled_scores`.
    """
    tested = (confusion.sum(axis=(2, 3)) > 0) & (control.sum(axis=(1, 2)) > 0)
    mine = confusion * tested[:, :, None, None]
    theirs = control * tested[:, :, None, None]
    gain = (macro_f1(mine.sum(axis=1)) - macro_f1(theirs.sum(axis=1))).mean()
    # Both draw the same animals and seeds.
    resampled = resampled_scores(mine, resamples) - resampled_scores(theirs, resamples)
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return float(gain), float(low), float(high)


def scaling_table(scored: Sequence[Scored], resamples: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every run, and every representation at every animal count with its 95 % interval.

    Returns
    -------
    runs
        One row a run: ``representation, animals, seed, macro_f1, balanced_accuracy,
        within_recordings, units``.
    curve
        One row a representation and count: the mean of the runs' ``macro_f1``, ``balanced_accuracy`` and
        ``within_recordings``, ``low`` and ``high`` (95 %, over seeds and test animals), ``seeds``; and
        where the which-recording control is among the scored, ``gain``, ``gain_low`` and ``gain_high``
        over it.
    """
    rows, confusion_of = [], {}
    for s, confusion in zip(scored, confusions([s.predictions for s in scored]), strict=True):
        confusion_of[s.representation, s.animals, s.seed] = confusion
        total = confusion.sum(0)
        labels = total.sum(-1)
        rows.append(
            {
                "representation": s.representation,
                "animals": s.animals,
                "seed": s.seed,
                "macro_f1": float(macro_f1(total)),
                "balanced_accuracy": float((total.diagonal()[labels > 0] / labels[labels > 0]).mean()),
                "within_recordings": within_recordings(s.predictions),
                "units": int(labels.sum()),
            }
        )
    runs = pd.DataFrame(rows).sort_values(["representation", "animals", "seed"], ignore_index=True)
    control = next((confusion_of[key] for key in confusion_of if key[0] == CONTROL), None)
    summary = []
    for key, group in runs.groupby(["representation", "animals"]):
        representation, count = cast("tuple[str, int]", key)
        stack = np.stack([confusion_of[representation, count, seed] for seed in group["seed"]])
        low, high = np.nanpercentile(resampled_scores(stack, resamples), [2.5, 97.5])
        row = {
            "representation": representation,
            "animals": count,
            "macro_f1": group["macro_f1"].mean(),
            "low": low,
            "high": high,
            "balanced_accuracy": group["balanced_accuracy"].mean(),
            "within_recordings": group["within_recordings"].mean(),
            "seeds": len(group),
        }
        if control is not None:
            gained = gain_over(stack, control, resamples)
            row |= dict(zip(("gain", "gain_low", "gain_high"), gained, strict=True))
        summary.append(row)
    return runs, pd.DataFrame(summary)
