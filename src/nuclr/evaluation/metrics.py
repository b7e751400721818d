"""From predictions to numbers: scores, intervals over animals, chance, and calibration.

Everything but calibration is a function of confusion matrices counted for each animal, so that
another draw of animals is a sum of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

# Percentiles of the normal and t distributions: scipy.stats gives the same, and takes a second to load.
from scipy.special import ndtri, stdtrit

CONFIDENCE_BINS = 15
# Fewer test animals say nothing that is worth printing of how other animals would score.
FEWEST_ANIMALS = 3


def confusions(tables: Sequence[pd.DataFrame]) -> np.ndarray:
    """Count (label, predicted) pairs of each animal, ``(run, animal, class, class)``.

    Animals and classes are all that occur in any of the runs, in the order of their names.
    """
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
    """Macro-F1 of confusion matrices ``(..., class, class)``, over the classes that occur."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    labels, predicted = confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore"):
        f1 = np.where(labels > 0, 2 * hits / (labels + predicted), np.nan)
        return np.nansum(f1, -1) / (labels > 0).sum(-1)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Mean recall of the classes that occur, of one confusion matrix."""
    labels = confusion.sum(axis=-1)
    return float((confusion.diagonal()[labels > 0] / labels[labels > 0]).mean())


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
    by_seed = among_other_animals(confusion, resamples, rng)
    drawn = rng.integers(0, len(confusion), by_seed.shape)
    scores = np.take_along_axis(by_seed, drawn, axis=1)
    with np.errstate(invalid="ignore"):  # a draw may hold no animal that a run was tested on
        return np.nansum(scores, axis=1) / (~np.isnan(scores)).sum(axis=1)


def among_other_animals(confusion: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Macro-F1 of each run over resampled test animals, the same ones for all runs, ``(resample, run)``."""
    animals = confusion.shape[1]
    weight = rng.multinomial(animals, np.full(animals, 1 / animals), size=resamples)
    return macro_f1(np.einsum("ra,sakl->rskl", weight, confusion))


def animals_tested(confusion: np.ndarray) -> np.ndarray:
    """Say which animals any run was tested on, ``(seed, animal, class, class)`` to ``(animal,)``."""
    return np.asarray(confusion.sum(axis=(0, 2, 3)) > 0)


def widening(animals: np.ndarray | int) -> np.ndarray:
    """Return how much wider a bootstrap over so few animals must be made; for one, as for two.

    Drawing n animals anew shows a variance that is too small by (n - 1) / n, and that variance is itself
    uncertain, as Student's t with n - 1 degrees of freedom says.
    """
    n = np.maximum(animals, 2)
    return np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975) / ndtri(0.975)


def interval(
    drawn: np.ndarray, score: float, animals: int, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Return a 95 % interval of a score, or of a difference of two, over test animals.

    It is symmetric: the standard deviation of the bootstrap, widened for few animals, on both sides of
    the score. Percentiles of the same bootstrap hold the truth in about 75 of 100 trials with 3 animals and
    in 85 with 6, since a draw of few animals can differ only little from these animals.

    Parameters
    ----------
    drawn
        The score over resampled animals, ``(resample,)``; see :func:`resampled_scores`.
    score
        The score itself.
    animals
        Test animals. With fewer than :data:`FEWEST_ANIMALS` both ends are NaN.
    bounds
        Least and largest value that there can be.
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
    animals = len(confusion)
    drawn = np.random.default_rng(seed).multinomial(animals, np.full(animals, 1 / animals), size=resamples)
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
    """Macro-F1 inside each population that holds two classes or more, averaged over these; NaN without any.

    A recording holds few classes, so knowing which recording a unit is from raises the score over all
    units. It raises this one by nothing: inside one recording it is the same for all units.
    """
    confusion = confusions([predictions.assign(animal=predictions["population"])])[0]
    several = (confusion.sum(axis=-1) > 0).sum(axis=-1) > 1
    return float(macro_f1(confusion[several]).mean()) if several.any() else float("nan")


def gain_over(confusion: np.ndarray, control: np.ndarray, resamples: int) -> tuple[float, float, float]:
    """Mean gain in macro-F1 over a control on the same animals, and its 95 % interval (:func:`interval`).

    Parameters
    ----------
    confusion
        ``(seed, animal, class, class)``.
    control
        Of each of the same seeds, ``(seed, animal, class, class)``; or ``(animal, class, class)``, the same
        for all seeds.
    resamples
        Of the bootstrap; see :func:`resampled_scores`.
    """
    control = np.broadcast_to(control, confusion.shape)
    tested = (confusion.sum(axis=(2, 3)) > 0) & (control.sum(axis=(2, 3)) > 0)
    among = tested.any(axis=0)
    mine = (confusion * tested[:, :, None, None])[:, among]
    theirs = (control * tested[:, :, None, None])[:, among]
    gain = float((macro_f1(mine.sum(axis=1)) - macro_f1(theirs.sum(axis=1))).mean())
    # Both draw the same animals and seeds.
    resampled = resampled_scores(mine, resamples) - resampled_scores(theirs, resamples)
    return gain, *interval(resampled, gain, int(among.sum()), bounds=(-1.0, 1.0))


def permutation_p(confusion: np.ndarray, permutations: int, seed: int = 0) -> float:
    """Share of label permutations that score at least as well, the true order counted in.

    Labels are shuffled inside each group, so a small value says that the predictions know more of
    the labels than the group does. Where both cluster by recording, one group of all units finds that
    they agree, or do not, by recording, and calls far more than 5 % of null trials significant.

    Parameters
    ----------
    confusion
        ``(group, class, class)``; one group of all units, or one for every recording.
    permutations
        How many.
    seed
        Of the shuffling.
    """
    from scipy.stats import random_table  # what else is here needs a tenth of it

    rng = np.random.default_rng(seed)
    shuffled = np.zeros((permutations, *confusion.shape[1:]))
    for table in confusion.astype(int):
        if table.any():
            # What shuffling gives: a random table of the same margins.
            shuffled += random_table.rvs(
                table.sum(axis=1), table.sum(axis=0), size=permutations, random_state=rng
            )
    reached = macro_f1(shuffled) >= macro_f1(confusion.sum(axis=0)) - 1e-12
    return float((1 + reached.sum()) / (1 + permutations))


def chance(labels: np.ndarray) -> float:
    """Macro-F1 of guessing every class equally often, in expectation of many units.

    For K classes with shares p: precision is p, recall 1 / K, so F1 is 2p / (Kp + 1).
    """
    _, counts = np.unique(labels, return_counts=True)
    shares = counts / counts.sum()
    return float(np.mean(2 * shares / (len(shares) * shares + 1)))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error of the predicted classes' probabilities, 15 bins of equal width.

    Source: Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599).
    """
    place = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    surplus = np.bincount(place, confidence - right, minlength=CONFIDENCE_BINS)
    return float(np.abs(surplus).sum() / len(confidence))


def summary(predictions: pd.DataFrame, resamples: int) -> dict[str, float]:
    """Every score of one probe.

    Parameters
    ----------
    predictions
        ``population, animal, label, predicted, confidence``: one row a tested unit.
    resamples
        Of the bootstrap over animals, and permutations of the labels.

    Returns
    -------
    dict
        ``units``; ``macro_f1`` with ``low`` and ``high`` (95 %, over ``test_animals``; NaN with fewer than
        3); ``balanced_accuracy``; ``within_recordings``; ``p_within`` against labels shuffled inside each
        recording; ``calibration_error``; ``chance``.
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
    """Precision, recall and F1 of every class that occurs: ``class, units, precision, recall, f1``."""
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
