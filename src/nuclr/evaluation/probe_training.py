"""Training a probe that is to be saved, and measuring what its answers to new units are worth."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import beta
from scipy.stats import t as t_distribution
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from nuclr.config import Task
from nuclr.errors import DataError
from nuclr.evaluation.classifiers import fit_classifier
from nuclr.evaluation.labels import check_column
from nuclr.evaluation.metrics import calibration_error, chance
from nuclr.evaluation.protocols import class_labels
from nuclr.evaluation.saved_probe import SavedProbe
from nuclr.representation.embeddings import Embeddings

logger = logging.getLogger(__name__)

# How sure we are that a probe's answers are right as often as asked.
CONFIDENCE = 0.95
# Accuracies that a bound can take.
ACCURACIES = np.linspace(0.0, 1.0, 201)
COLDEST, HOTTEST = 0.05, 20.0


def train_probe(
    embeddings: Embeddings, column: str, *, min_units: int = 10, about: Mapping[str, Any] | None = None
) -> SavedProbe:
    """Fit a probe, and measure it on units that it has not learned from.

    These are of other animals where there are at least two, else other units of the one. What they
    show sets the temperature that makes probabilities true, and how sure is sure enough.

    Parameters
    ----------
    embeddings
        Their ``units`` have ``animal`` and the column; units that were never active are passed over.
    column
        The label to learn, "" where there is none.
    min_units
        Classes with fewer units are dropped.
    about
        What the probe's record shall also say.

    Raises
    ------
    DataError
        If there is no such column, or fewer than two classes, or too few units of one.
    """
    check_column(embeddings.units, column, "train-probe: the embeddings")
    active = ~np.isnan(embeddings.vectors).any(axis=1)
    units = embeddings.units.assign(**{column: embeddings.units[column].where(active, "")})
    labels = class_labels(units, Task(name=column), min_units)
    rows = np.flatnonzero(labels != "")
    x, y = embeddings.vectors[rows].astype(np.float64), labels[rows].astype(str)
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise DataError(
            f"{column}: {len(classes)} class(es) with enough units "
            f"({', '.join(classes) or 'no label'}); a probe needs two"
        )
    animals = units["animal"].to_numpy(str)[rows]
    # Nothing is as unlikely as a class that its fold did not know.
    log_odds = np.full((len(rows), len(classes)), -np.inf)
    parts, measured_on = _parts(y, animals)
    for learned, tested in parts:
        if len(set(y[learned])) < 2:
            raise DataError(
                f"without animals {', '.join(sorted(set(animals[tested])))} one class is left to learn; "
                "label units of more animals"
            )
        fitted = fit_classifier("linear", (x[learned], y[learned]), (x[:0], y[:0]))
        columns = np.searchsorted(classes, fitted.classes_)
        probability = fitted.predict_proba(x[tested])
        log_odds[np.ix_(tested, columns)] = np.log(np.maximum(probability, np.finfo(float).tiny))
    truth = np.searchsorted(classes, y)
    knew = np.isfinite(log_odds[np.arange(len(rows)), truth])
    if not knew.all():
        logger.warning(
            "%s: units of %s are in one group of animals alone: how well they are told in others is not "
            "known, and their F1 counts as 0",
            column,
            ", ".join(np.unique(y[~knew])),
        )
    temperature = _temperature(log_odds[knew], truth[knew])
    before, calibrated = np.exp(log_odds), np.exp(log_softmax(log_odds / temperature, axis=1))
    fitted = fit_classifier("linear", (x, y), (x[:0], y[:0]))
    scaler, regression = _stages(fitted)
    # Of two classes scikit-learn keeps one row, the log odds of the second.
    two = len(classes) == 2
    predicted = log_odds.argmax(axis=1)
    right = predicted == truth
    by_class = f1_score(truth, predicted, average=None, labels=np.arange(len(classes)), zero_division=0)
    scores = {
        "macro_f1": float(by_class.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
        "accuracy": float(right.mean()),
        "calibration_error": float(calibration_error(calibrated.max(axis=1), right)),
        "calibration_error_before": float(calibration_error(before.max(axis=1), right)),
        "f1": dict(zip(classes.tolist(), by_class.tolist(), strict=True)),
        "chance": chance(y),
        "measured_on": measured_on,
    }
    learned_from = {
        "units": len(rows),
        "animals": sorted(set(animals)),
        "units_of_class": dict(zip(classes.tolist(), counts.tolist(), strict=True)),
    }
    return SavedProbe(
        classes=tuple(classes.tolist()),
        mean=scaler.mean_,
        scale=scaler.scale_,
        coefficients=np.concatenate([0 * regression.coef_, regression.coef_]) if two else regression.coef_,
        intercepts=np.concatenate([[0.0], regression.intercept_]) if two else regression.intercept_,
        record={
            **(about or {}),
            "task": column,
            "model": embeddings.model,
            "temperature": temperature,
            "answers": _answers(calibrated.max(axis=1), right, animals),
            "scores": scores,
            "learned_from": learned_from,
        },
    )


def _parts(y: np.ndarray, animals: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Rows to learn from and rows to test on, some times; and what the latter are called."""
    members, fewest = len(set(animals)), int(np.unique(y, return_counts=True)[1].min())
    if members > 1:
        folds = min(5, members)
        return list(GroupKFold(folds).split(y, groups=animals)), f"other animals, in {folds} groups"
    if fewest < 2:
        raise DataError("a class has a single unit; label more of it")
    shuffled = StratifiedKFold(min(5, fewest), shuffle=True, random_state=0)
    return list(shuffled.split(y, y)), "other units of one animal"


def _stages(fitted: Any) -> tuple[StandardScaler, LogisticRegression]:
    scaler, regression = (stage for _, stage in fitted.steps)
    return scaler, regression


def _temperature(log_probability: np.ndarray, truth: np.ndarray) -> float:
    """Temperature at which held-out units are likeliest (Guo et al., ICML 2017, arXiv 1706.04599).

    scikit-learn's ``CalibratedClassifierCV(method="temperature")`` finds the same where every fold knows
    every class. Where one does not, it takes that fold's units of the class for very confident mistakes.

    Parameters
    ----------
    log_probability
        ``(unit, class)``, minus infinity for a class that was not to be known.
    truth
        Column of each unit's class, ``(unit,)``, one that was to be known.
    """

    def surprise(log_temperature: float) -> float:
        tempered = log_softmax(log_probability / np.exp(log_temperature), axis=1)
        return float(-tempered[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(surprise, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x)) if found.fun < surprise(0.0) else 1.0


def _answers(confidence: np.ndarray, right: np.ndarray, animals: np.ndarray) -> list[dict[str, float]]:
    """Say how good answers are, if those from a probability on are given.

    Returns
    -------
    list of dict
        For some probabilities: ``accuracy`` of the answers, ``at_least``, its lower 95 % bound, and
        ``answered``, the share of units that get one. The bound is the lower of two: Student's t over
        animals, since units of one animal are not independent, and the exact binomial one (Clopper and
        Pearson 1934) over units, since few answers that are all right show no spread. With a single animal
        there is only the latter.
    """
    order = np.argsort(-confidence, kind="stable")
    places = np.unique(np.linspace(1, len(order), 50).astype(int)) - 1
    names, animal = np.unique(animals[order], return_inverse=True)
    of_animal = animal[:, None] == np.arange(len(names))
    given = np.cumsum(of_animal, axis=0)[places]
    hits = np.cumsum(of_animal & right[order, None], axis=0)[places]
    hits_of_all, given_to_all = hits.sum(axis=1), places + 1
    at_least = beta.ppf(1 - CONFIDENCE, np.maximum(hits_of_all, 1e-9), given_to_all - hits_of_all + 1)
    if len(names) > 1:
        at_least = np.minimum(at_least, _bound_over_animals(hits, given))
    return [
        {
            "probability": float(confidence[order[place]]),
            "accuracy": float(hits_of_all[row] / (place + 1)),
            "at_least": float(at_least[row]),
            "answered": float((place + 1) / len(order)),
        }
        for row, place in enumerate(places)
    ]


def _bound_over_animals(hits: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Lower bound of the accuracy in other animals: the best that their surplus of hits bears out.

    Parameters
    ----------
    hits, given
        Right answers and answers of each animal, ``(threshold, animal)``.

    Returns
    -------
    ndarray
        ``(threshold,)``.
    """
    animals = hits.shape[1]
    surplus = hits[..., None] - given[..., None] * ACCURACIES
    spread = surplus.std(axis=1, ddof=1) / np.sqrt(animals)
    sure = surplus.mean(axis=1) >= t_distribution.ppf(CONFIDENCE, animals - 1) * spread
    return np.asarray(np.where(sure, ACCURACIES, 0.0).max(axis=1))
