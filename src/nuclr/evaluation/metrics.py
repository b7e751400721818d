"""Scores of predictions: macro-F1, intervals over animals, chance level, and calibration.

Everything but calibration is computed from the confusion matrix of each animal, so that resampling animals
is a weighted sum of these matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

# Percentiles of the normal and t distributions: scipy.stats gives the same, and takes a second to load.
from scipy.special import ndtri, stdtrit

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE_BINS = 15
# With fewer test animals, no interval is given.
FEWEST_ANIMALS = 3


def confusions(tables: Sequence[pd.DataFrame]) -> np.ndarray:
    """Return the confusion matrix of each animal, ``(run, animal, class, class)``: label by predicted.

    Animals and classes are all that occur in any run, sorted by name.
    """
    import pandas as pd

    runs = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    animal, label, predicted = (
        np.concatenate([table[column].to_numpy(object) for table in tables])
        for column in ("animal", "label", "predicted")
    )
    animal, animals = pd.factorize(animal, sort=True)
    pair, classes = pd.factorize(np.concatenate([label, predicted]), sort=True)
    label, predicted = np.split(pair, 2)
    shape = (len(tables), len(animals), len(classes), len(classes))
    places = np.ravel_multi_index((runs, animal, label, predicted), shape)
    return np.bincount(places, minlength=np.prod(shape)).reshape(shape).astype(float)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Return the macro-F1 of confusion matrices ``(..., class, class)``, over the classes that occur."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    labels, predicted = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore"):
        f1 = np.where(labels > 0, 2 * hits / (labels + predicted), np.nan)
        return np.nansum(f1, -1) / (labels > 0).sum(-1)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Return the mean recall over the classes that occur in a confusion matrix."""
    labels = confusion.sum(axis=-1)
    return float((confusion.diagonal()[labels > 0] / labels[labels > 0]).mean())


def resampled_scores(confusion: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Return the macro-F1 over resampled seeds and test animals, ``(resample,)``.

    Animals are resampled, because units of one animal are not independent, and jointly for all seeds, which
    are tested on the same animals. Seeds are resampled as well.

    Parameters
    ----------
    confusion
        ``(seed, animal, class, class)``.
    resamples
        Number of resamples.
    seed
        Seed of the resampling. Two curves with the same seed get the same animals.
    """
    rng = np.random.default_rng(seed)
    by_seed = among_other_animals(confusion, resamples, rng)
    drawn = rng.integers(0, len(confusion), by_seed.shape)
    scores = np.take_along_axis(by_seed, drawn, axis=1)
    with np.errstate(invalid="ignore"):  # a draw may hold no animal that a run was tested on
        return np.nansum(scores, axis=1) / (~np.isnan(scores)).sum(axis=1)


def among_other_animals(confusion: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return each run's macro-F1 over resampled test animals, the same for all runs, ``(resample, run)``."""
    animals = confusion.shape[1]
    return macro_f1(np.einsum("ra,sakl->rskl", _drawn_animals(animals, resamples, rng), confusion))


def _drawn_animals(animals: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each test animal occurs in each resample, ``(resample, animal)``."""
    return rng.multinomial(animals, np.full(animals, 1 / animals), size=resamples)


def animals_tested(confusion: np.ndarray) -> np.ndarray:
    """Return which animals any run was tested on, ``(seed, animal, class, class)`` to ``(animal,)``."""
    return np.asarray(confusion.sum(axis=(0, 2, 3)) > 0)


def widening(animals: np.ndarray | int) -> np.ndarray:
    """Return the factor by which a bootstrap over n animals must be widened; for one animal as for two.

    The variance of a bootstrap over n animals is too small by (n - 1) / n, and it is itself uncertain, which
    Student's t with n - 1 degrees of freedom takes into account.
    """
    n = np.maximum(animals, 2)
    return np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975) / ndtri(0.975)


def interval(
    drawn: np.ndarray, score: float, animals: int, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Return a 95 % interval of a score, or of a difference of two, over test animals.

    The interval is symmetric around the score, with the standard deviation of the bootstrap, widened for few
    animals. Percentiles of the same bootstrap contain the true score in only about 75 of 100 trials with 3
    animals and in 85 with 6, because resamples of few animals differ little from these animals.

    Parameters
    ----------
    drawn
        The score over resampled animals, ``(resample,)``; see :func:`resampled_scores`.
    score
        The score itself.
    animals
        Number of test animals. With fewer than :data:`FEWEST_ANIMALS` both ends are NaN.
    bounds
        Smallest and largest possible value.
    """
    if animals < FEWEST_ANIMALS:
        return float("nan"), float("nan")
    half = ndtri(0.975) * np.nanstd(drawn) * widening(animals)
    low, high = np.clip([score - half, score + half], *bounds)
    return float(low), float(high)


def shares_of_classes(
    confusion: np.ndarray, resamples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which share of each label's units was predicted as each class, and the 95 % interval.

    The interval is over resampled test animals, as that of :func:`interval`; it is NaN for a label that fewer
    than :data:`FEWEST_ANIMALS` animals hold.

    Parameters
    ----------
    confusion
        ``(animal, class, class)``.
    resamples
        Number of resamples.
    seed
        Seed of the resampling.

    Returns
    -------
    share, low, high
        ``(class, class)`` each; zero for a class that is no label.
    """
    drawn = _drawn_animals(len(confusion), resamples, np.random.default_rng(seed))
    half = ndtri(0.975) * np.nanstd(_shares(np.einsum("ra,akl->rkl", drawn, confusion)), axis=0)
    holding = confusion.any(axis=2).sum(axis=0)
    half = np.where(holding >= FEWEST_ANIMALS, half.T * widening(holding), np.nan).T
    share = np.nan_to_num(_shares(confusion.sum(axis=0)))
    return share, np.clip(share - half, 0, 1), np.clip(share + half, 0, 1)


def _shares(confusion: np.ndarray) -> np.ndarray:
    """Divide confusion matrices ``(..., class, class)`` by the units of each label (NaN without any)."""
    with np.errstate(invalid="ignore"):
        return confusion / confusion.sum(axis=-1, keepdims=True)


def within_recordings(predictions: pd.DataFrame) -> float:
    """Return the macro-F1 inside each population with at least two classes, averaged; NaN without any.

    A recording contains few classes, so knowing the recording of a unit raises the score over all units. It
    does not raise this score, because the recording is the same for all units of a population.
    """
    confusion = confusions([predictions.assign(animal=predictions["population"])])[0]
    several = (confusion.sum(axis=-1) > 0).sum(axis=-1) > 1
    return float(macro_f1(confusion[several]).mean()) if several.any() else float("nan")


def gain_over(confusion: np.ndarray, control: np.ndarray, resamples: int) -> tuple[float, float, float]:
    """Return the mean gain in macro-F1 over a control on the same animals, and its 95 % :func:`interval`.

    Parameters
    ----------
    confusion
        ``(seed, animal, class, class)``.
    control
        Confusion matrices of the control for the same seeds, ``(seed, animal, class, class)``; or
        ``(animal, class, class)``, the same for all seeds.
    resamples
        Number of resamples of the bootstrap; see :func:`resampled_scores`.
    """
    control = np.broadcast_to(control, confusion.shape)
    tested = (confusion.sum(axis=(2, 3)) > 0) & (control.sum(axis=(2, 3)) > 0)
    among = tested.any(axis=0)
    mine = (confusion * tested[:, :, None, None])[:, among]
    theirs = (control * tested[:, :, None, None])[:, among]
    gain = float((macro_f1(mine.sum(axis=1)) - macro_f1(theirs.sum(axis=1))).mean())
    # Both resample the same animals and seeds.
    resampled = resampled_scores(mine, resamples) - resampled_scores(theirs, resamples)
    return gain, *interval(resampled, gain, int(among.sum()), bounds=(-1.0, 1.0))


def permutation_p(confusion: np.ndarray, permutations: int, seed: int = 0) -> float:
    """Return the share of label permutations that score at least as well, including the true order.

    Labels are shuffled inside each group, so a small p-value means that the predictions contain information
    beyond the group. If labels and predictions both cluster by recording, use one group per recording: with
    a single group of all units, far more than 5 % of null trials are called significant.

    Parameters
    ----------
    confusion
        ``(group, class, class)``; one group of all units, or one for each recording.
    permutations
        Number of permutations.
    seed
        Seed of the permutations.
    """
    from scipy.stats import random_table  # imported here, because scipy.stats is slow to load

    rng = np.random.default_rng(seed)
    shuffled = np.zeros((permutations, *confusion.shape[1:]))
    for table in confusion.astype(int):
        if table.any():
            # Shuffling labels is equivalent to drawing a random table with the same margins.
            shuffled += random_table.rvs(
                table.sum(axis=1), table.sum(axis=0), size=permutations, random_state=rng
            )
    reached = macro_f1(shuffled) >= macro_f1(confusion.sum(axis=0)) - 1e-12
    return float((1 + reached.sum()) / (1 + permutations))


def chance(labels: np.ndarray) -> float:
    """Return the expected macro-F1 of guessing each class equally often, for many units.

    For K classes with shares p: precision is p, recall 1 / K, so F1 is 2p / (Kp + 1).
    """
    _, counts = np.unique(labels, return_counts=True)
    shares = counts / counts.sum()
    return float(np.mean(2 * shares / (len(shares) * shares + 1)))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error of predicted probabilities, in 15 bins of equal width.

    Source: Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599).
    """
    place = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    surplus = np.bincount(place, confidence - right, minlength=CONFIDENCE_BINS)
    return float(np.abs(surplus).sum() / len(confidence))


def summary(predictions: pd.DataFrame, resamples: int) -> dict[str, float]:
    """Return every score of one probe.

    Parameters
    ----------
    predictions
        ``population, animal, label, predicted, confidence``: one row per tested unit.
    resamples
        Number of resamples of the bootstrap over animals, and of label permutations.

    Returns
    -------
    dict
        ``units``; ``macro_f1`` with ``low`` and ``high`` (95 %, over ``test_animals``; NaN with fewer than
        3); ``balanced_accuracy``; ``within_recordings``; ``p_within``, the p-value against labels shuffled
        inside each recording; ``calibration_error``; ``chance``.
    """
    confusion = confusions([predictions])[0]
    by_recording = confusions([predictions.assign(animal=predictions["population"])])[0]
    total = confusion.sum(axis=0)
    score, animals = float(macro_f1(total)), len(confusion)
    low, high = interval(resampled_scores(confusion[None], resamples), score, animals)
    right = (predictions["label"] == predictions["predicted"]).to_numpy()
    return {
        "units": len(predictions),
        "test_animals": animals,
        "macro_f1": score,
        "low": low,
        "high": high,
        "balanced_accuracy": balanced_accuracy(total),
        "within_recordings": within_recordings(predictions),
        "p_within": permutation_p(by_recording, resamples),
        "calibration_error": calibration_error(predictions["confidence"].to_numpy(float), right),
        "chance": chance(predictions["label"].to_numpy(str)),
    }


def by_class(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return precision, recall and F1 of each class that occurs: ``class, units, precision, recall, f1``."""
    import pandas as pd

    total = confusions([predictions])[0].sum(axis=0)
    names = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    hits, units, predicted = total.diagonal(), total.sum(axis=1), total.sum(axis=0)
    table = pd.DataFrame(
        {
            "class": names,
            "units": units.astype(int),
            "precision": hits / np.maximum(predicted, 1),
            "recall": hits / np.maximum(units, 1),
            "f1": 2 * hits / np.maximum(units + predicted, 1),
        }
    )
    return table[table["units"] > 0].reset_index(drop=True)
