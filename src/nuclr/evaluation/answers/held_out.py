"""Nested cross-validation: hold out units, choose and calibrate probes, and predict the held-out units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, StratifiedKFold

from nuclr.errors import DataError
from nuclr.evaluation.answers.kinds import fit, log_probability
from nuclr.evaluation.variants import Variant

# Range of temperatures that are tried.
COLDEST, HOTTEST = 0.05, 20.0


class HeldOut(NamedTuple):
    """The folds in which units are held out.

    Attributes
    ----------
    folds
        Fold number of each unit, ``(unit,)``; a fold is one or more groups that are held out together.
    groups
        Animal or recording of each unit, or the unit itself, ``(unit,)``.
    name
        Description in words.
    each
        What a group is: ``animals``, ``recordings`` or ``units``.
    """

    folds: np.ndarray
    groups: np.ndarray
    name: str
    each: str


def hold_out(y: np.ndarray, animals: np.ndarray, populations: np.ndarray) -> HeldOut:
    """Choose the folds: animals if there are at least two, else recordings, else single units."""
    if (members := min(5, len(set(animals)))) > 1:
        folds = _numbered(GroupKFold(members).split(y, groups=animals), len(y))
        return HeldOut(folds, animals, f"other animals, in {members} groups", "animals")
    if (members := min(5, len(set(populations)))) > 1:
        folds = _numbered(GroupKFold(members).split(y, groups=populations), len(y))
        if all(len(set(y[folds != number])) > 1 for number in range(members)):
            name = f"other recordings of one animal, in {members} groups"
            return HeldOut(folds, populations, name, "recordings")
    fewest = int(np.unique(y, return_counts=True)[1].min())
    if fewest < 2:
        raise DataError("train-probe: a class has only one unit; label more units of it")
    shuffled = StratifiedKFold(min(5, fewest), shuffle=True, random_state=0)
    folds = _numbered(shuffled.split(y, y), len(y))
    return HeldOut(folds, np.arange(len(y)).astype(str), "other units of one animal", "units")


def _numbered(parts: Iterable[tuple[np.ndarray, np.ndarray]], length: int) -> np.ndarray:
    folds = np.zeros(length, int)
    for number, (_, tested) in enumerate(parts):
        folds[tested] = number
    return folds


class Choice(NamedTuple):
    """The best candidate on held-out units, its temperature, and the scores of all candidates."""

    variant: Variant
    temperature: float
    scores: list[float]


class Nested(NamedTuple):
    """Predictions for each unit by a probe that was chosen and calibrated without the unit's group.

    Attributes
    ----------
    log_odds
        ``(unit, class)``, not calibrated; minus infinity for a class without training units.
    temperature
        ``(unit,)``.
    """

    log_odds: np.ndarray
    temperature: np.ndarray


@dataclass(frozen=True)
class Trial:
    """Labelled units in folds, on which candidate probes are compared.

    Attributes
    ----------
    vectors
        Embeddings ``(unit, dim)``: centred under the key True, else False.
    truth
        Class number of each unit, ``(unit,)``.
    classes
        Number of classes.
    folds
        Fold number of each unit, ``(unit,)``.
    """

    vectors: Mapping[bool, np.ndarray]
    truth: np.ndarray
    classes: int
    folds: np.ndarray
    _fitted: dict[tuple[Variant, bytes], tuple[np.ndarray, dict[str, np.ndarray]]] = field(
        default_factory=dict
    )

    def parts(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (training, test) rows, with each fold held out in turn, or parts of a single fold."""
        numbers = np.unique(self.folds[rows])
        if len(numbers) > 1:
            return [(rows[self.folds[rows] != n], rows[self.folds[rows] == n]) for n in numbers]
        fewest = int(np.unique(self.truth[rows], return_counts=True)[1].min())
        if fewest < 2:
            return []
        shuffled = StratifiedKFold(min(3, fewest), shuffle=True, random_state=0)
        return [(rows[one], rows[other]) for one, other in shuffled.split(rows, self.truth[rows])]

    def log_odds(self, variant: Variant, learned: np.ndarray, tested: np.ndarray) -> np.ndarray:
        """Fit a candidate on some units and return its log odds for others, ``(unit, class)``."""
        # A class without training units gets probability 0.
        found = np.full((len(tested), self.classes), -np.inf)
        key = variant, learned.tobytes()
        if key not in self._fitted:
            known, y = np.unique(self.truth[learned], return_inverse=True)
            kind: Any = variant.probe
            tensors = fit(kind, self.vectors[variant.centred][learned], y) if len(known) > 1 else {}
            self._fitted[key] = known, tensors
        known, tensors = self._fitted[key]
        if tensors:
            kind = variant.probe
            found[:, known] = log_probability(kind, tensors, self.vectors[variant.centred][tested])
        return found

    def held_out(self, variant: Variant, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return held-out units, and their log odds by a candidate fitted without their fold."""
        parts = self.parts(rows)
        if not parts:
            return rows[:0], np.zeros((0, self.classes))
        tested = np.concatenate([other for _, other in parts])
        return tested, np.concatenate([self.log_odds(variant, *part) for part in parts])

    def choose(self, candidates: Sequence[Variant], rows: np.ndarray) -> Choice:
        """Return the candidate with the best macro-F1 on held-out units; of equal ones the first."""
        scores, temperatures = [], []
        for variant in candidates:
            tested, log_odds = self.held_out(variant, rows)
            truth = self.truth[tested]
            guess = log_odds.argmax(axis=1) if len(tested) else truth
            scores.append(
                float(f1_score(truth, guess, average="macro", zero_division=0)) if len(tested) else 0.0
            )
            knew = np.isfinite(log_odds[np.arange(len(tested)), truth])
            temperatures.append(temperature_of(log_odds[knew], truth[knew]) if knew.any() else 1.0)
        best = int(np.argmax(scores))
        return Choice(candidates[best], temperatures[best], scores)


def predict_nested(trial: Trial, candidates: Sequence[Variant]) -> Nested:
    """Predict each fold with the candidate and the temperature that the other folds choose."""
    every = np.arange(len(trial.truth))
    found = Nested(np.full((len(every), trial.classes), -np.inf), np.ones(len(every)))
    for learned, tested in trial.parts(every):
        choice = trial.choose(candidates, learned)
        found.log_odds[tested] = trial.log_odds(choice.variant, learned, tested)
        found.temperature[tested] = choice.temperature
    return found


def temperature_of(log_probability: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature with the highest likelihood (Guo et al., ICML 2017, arXiv 1706.04599).

    scikit-learn's ``CalibratedClassifierCV(method="temperature")`` gives the same if every fold has every
    class. If a fold lacks a class, it counts units of this class as very confident mistakes.

    Parameters
    ----------
    log_probability
        ``(unit, class)``, minus infinity for a class without training units.
    truth
        Column of each unit's class, ``(unit,)``; it must have had training units.
    """

    def surprise(log_temperature: float) -> float:
        tempered = log_softmax(log_probability / np.exp(log_temperature), axis=1)
        return float(-tempered[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(surprise, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x)) if found.fun < surprise(0.0) else 1.0
