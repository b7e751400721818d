"""Train a probe to be saved, and measure on held-out units how good its answers are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax
from scipy.stats import beta
from scipy.stats import t as t_distribution
from sklearn.metrics import balanced_accuracy_score, f1_score

from nuclr.config import Task
from nuclr.errors import DataError
from nuclr.evaluation.answers import along_probe
from nuclr.evaluation.answers.conformal import conformal_thresholds
from nuclr.evaluation.answers.held_out import HeldOut, Nested, Trial, hold_out, predict_nested
from nuclr.evaluation.answers.kinds import KINDS, Kind, fit
from nuclr.evaluation.answers.saved_probe import SavedProbe
from nuclr.evaluation.answers.score_protocol import protocol_name
from nuclr.evaluation.answers.typicality import reference
from nuclr.evaluation.labels import check_column
from nuclr.evaluation.metrics import (
    FEWEST_ANIMALS,
    calibration_error,
    chance,
    interval,
    macro_f1,
    resampled_scores,
)
from nuclr.evaluation.protocols import class_labels
from nuclr.evaluation.variants import Variant
from nuclr.representation.centring import centred as without_mean
from nuclr.representation.centring import populations_of
from nuclr.representation.embeddings import Embeddings
from nuclr.representation.training_recordings import Named, TrainingRecordings, recordings_in

logger = logging.getLogger(__name__)

Centring = Literal["choose", "yes", "no"]
# Confidence of the lower bound of the accuracy of answers.
CONFIDENCE = 0.95
# Grid of accuracies for the lower bound.
ACCURACIES = np.linspace(0.0, 1.0, 201)
# Fewest units of a class, with many labelled units and with few.
MANY, LEAST_OF_MANY, LEAST_OF_FEW = 100, 10, 3
RESAMPLES = 1000


def train_probe(
    embeddings: Embeddings,
    column: str,
    *,
    min_units: int | None = None,
    centred: Centring = "choose",
    kinds: Sequence[Kind] = KINDS,
    depth: str = "depth_um",
    about: Mapping[str, Any] | None = None,
) -> SavedProbe:
    """Train the best kind of probe on labelled units, and measure it on held-out units.

    Units are held out in groups: whole animals if there are at least two, else whole recordings, else single
    units. The kind of classifier, the centring, and the temperature that calibrates the probabilities are
    chosen on held-out groups. The scores are those of the whole procedure: each group is predicted by a probe
    that was chosen, fitted and calibrated without it (nested cross-validation).

    Parameters
    ----------
    embeddings
        Embeddings whose ``units`` have ``animal`` and the column; units that were never active are ignored.
    column
        Column with the label, "" for units without one.
    min_units
        Classes with fewer units are dropped; None: 10, or 3 if fewer than 100 units are labelled.
    centred
        Whether to subtract the mean of each population first: ``yes``, ``no``, or ``choose``.
    kinds
        Kinds of classifier to choose from, the preferred one first.
    depth
        Column with depths on the recording probe (um). If units have it, the distance over which neighbours
        share a class is learned for :meth:`nuclr.evaluation.answers.saved_probe.SavedProbe.along_probe`.
    about
        Further entries for the probe's record.

    Raises
    ------
    DataError
        If there is no such column, fewer than two classes, or too few units of a class.
    """
    check_column(embeddings.units, column, "train-probe: the embeddings")
    units, labels = embeddings.units, _labels(embeddings, column, min_units)
    rows = np.flatnonzero(labels != "")
    y = labels[rows].astype(str)
    classes, truth, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise DataError(
            f"train-probe: column {column} has {len(classes)} class(es) with enough units "
            f"({', '.join(classes) or 'no label'}), but a probe needs two; label more units"
        )
    animals, populations = units["animal"].to_numpy(str), populations_of(units)
    vectors = embeddings.vectors.astype(np.float64)
    # The mean is over all active units of a population, labelled or not, as it will be in prediction.
    as_they_are = {False: vectors[rows], True: without_mean(vectors, populations)[rows]}
    held_out = hold_out(y, animals[rows], populations[rows])
    trial = Trial(as_they_are, truth, len(classes), held_out.folds)
    for learned, tested in trial.parts(np.arange(len(rows))):
        if len(set(truth[learned])) < 2:
            without = ", ".join(sorted(set(animals[rows][tested])))
            raise DataError(
                f"train-probe: column {column}: without animals {without} only one class is left to learn "
                "from; label units of more animals"
            )
    centrings = {"yes": [True], "no": [False], "choose": [False, True]}[centred]
    candidates = [Variant(kind, choice) for choice in centrings for kind in kinds]
    nested = predict_nested(trial, candidates)
    knew = np.isfinite(nested.log_odds[np.arange(len(rows)), truth])
    if not knew.all():
        logger.warning(
            "%s: units of %s occur in only one group of held-out animals, so how well they are decoded in "
            "other animals is not known; their F1 counts as 0",
            column,
            ", ".join(np.unique(y[~knew])),
        )
    chosen = trial.choose(candidates, np.arange(len(rows)))
    calibrated = np.exp(log_softmax(nested.log_odds / nested.temperature[:, None], axis=1))
    right = nested.log_odds.argmax(axis=1) == truth
    recordings = list(recordings_in(units.iloc[rows], embeddings.hashes))
    seen = _in_pretraining(recordings, embeddings.pretraining)
    scores = {
        **_scores(nested, calibrated, classes[truth], held_out.groups),
        "measured_on": held_out.name,
        "interval_over": _interval_over(held_out),
        "protocol": protocol_name(held_out.name, seen),
        "in_pretraining": seen,
        # Scores of each candidate on the groups that chose among them: optimistic for the best one.
        "compared": [
            {"kind": variant.probe, "centred": variant.centred, "macro_f1": score}
            for variant, score in zip(candidates, chosen.scores, strict=True)
        ],
    }
    learned_from = {
        "units": len(rows),
        "animals": sorted(set(animals[rows])),
        "recordings": {named.recording: named.sha256 for named in recordings if named.recording},
        "units_of_class": dict(zip(classes.tolist(), counts.tolist(), strict=True)),
    }
    kind: Any = chosen.variant.probe
    along = None
    if depth in units and "population" in units:
        own = units.iloc[rows].reset_index(drop=True)
        along = along_probe.learn(calibrated, truth, own, depth, classes.tolist())
    tensors, about_others = reference(vectors, populations) or ({}, None)
    return SavedProbe(
        classes=tuple(classes.tolist()),
        tensors=fit(kind, as_they_are[chosen.variant.centred], truth) | tensors,
        record={
            **(about or {}),
            "task": column,
            "model": embeddings.model,
            "kind": kind,
            "centred": chosen.variant.centred,
            "temperature": chosen.temperature,
            "answers": _answers(calibrated.max(axis=1), right, animals[rows]),
            "conformal": conformal_thresholds(calibrated, truth, held_out.groups, classes.tolist()),
            "scores": scores,
            "learned_from": learned_from,
            **({"along_probe": along} if along else {}),
            **({"typical": about_others} if about_others else {}),
        },
    )


def _interval_over(held_out: HeldOut) -> str:
    """Return what the interval of the score is over: the groups that were held out, or units if too few."""
    return held_out.each if len(set(held_out.groups)) >= FEWEST_ANIMALS else "units"


def _in_pretraining(recordings: Sequence[Named], pretraining: TrainingRecordings | None) -> int | None:
    """Return how many animals of some recordings were in pretraining; None if that is not known."""
    if pretraining is None:
        return None
    return len({named.animal for named in recordings if pretraining.known_by(named)})


def _labels(embeddings: Embeddings, column: str, min_units: int | None) -> np.ndarray:
    """Return the class of each active unit, ``(unit,)``; "" without a label or if the class is too small."""
    active = ~np.isnan(embeddings.vectors).any(axis=1)
    units, task = embeddings.units, Task(name=column)
    units = units.assign(**{column: units[column].where(active, "")})
    if min_units is None:
        labelled = int((class_labels(units, task, 1) != "").sum())
        min_units = LEAST_OF_MANY if labelled >= MANY else LEAST_OF_FEW
    return class_labels(units, task, min_units)


def _scores(nested: Nested, calibrated: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return the scores of the whole procedure on held-out units.

    Parameters
    ----------
    nested, calibrated
        Predictions for held-out units, and their calibrated probabilities, ``(unit, class)``.
    y
        True classes, ``(unit,)``.
    groups
        Animal of each unit, or another group that was held out, ``(unit,)``.
    """
    classes, truth = np.unique(y, return_inverse=True)
    predicted = nested.log_odds.argmax(axis=1)
    right = predicted == truth
    by_class = f1_score(truth, predicted, average=None, labels=np.arange(len(classes)), zero_division=0)
    low, high = _interval(predicted, truth, groups, len(classes))
    return {
        "macro_f1": float(by_class.mean()),
        "low": low,
        "high": high,
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
        "accuracy": float(right.mean()),
        "calibration_error": float(calibration_error(calibrated.max(axis=1), right)),
        "calibration_error_before": float(calibration_error(np.exp(nested.log_odds).max(axis=1), right)),
        "f1": dict(zip(classes.tolist(), by_class.tolist(), strict=True)),
        "chance": chance(y),
    }


def _interval(
    predicted: np.ndarray, truth: np.ndarray, groups: np.ndarray, classes: int
) -> tuple[float, float]:
    """Return the 95 % interval of the macro-F1 over held-out groups, or over units if groups are too few.

    Parameters
    ----------
    predicted, truth
        Class numbers, ``(unit,)``.
    groups
        Animal of each unit, or another group that was held out, ``(unit,)``.
    classes
        Number of classes.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < FEWEST_ANIMALS:
        names, index = truth, np.arange(len(truth))
    confusion = np.zeros((1, len(names), classes, classes))
    np.add.at(confusion[0], (index, truth, predicted), 1)
    score = float(macro_f1(confusion.sum(axis=(0, 1))))
    return interval(resampled_scores(confusion, RESAMPLES), score, len(names))


def _answers(confidence: np.ndarray, right: np.ndarray, animals: np.ndarray) -> list[dict[str, float]]:
    """Return the accuracy of the answers for several thresholds of their probability.

    Returns
    -------
    list of dict
        For each threshold ``probability``: ``accuracy`` of the answers, ``at_least``, its lower 95 % bound,
        and ``answered``, the share of units with an answer. The bound is the lower of two: Student's t over
        animals, because units of one animal are not independent, and the exact binomial bound (Clopper and
        Pearson 1934) over units, because a few answers that are all correct have no spread. With a single
        animal only the latter is used.
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
    """Return a lower bound of the accuracy in other animals, from the spread over animals.

    Parameters
    ----------
    hits, given
        Number of correct answers and of answers for each animal, ``(threshold, animal)``.

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
