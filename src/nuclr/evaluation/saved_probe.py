"""A linear probe on disk: what a unit is, from its embedding, with a probability and a "don't know".

``probe.safetensors`` holds the standardisation and the regression, ``probe.json`` beside it what they are:
classes, the model whose embeddings it reads, what it learned from, and how good it was.

A probe reads embeddings of the model that it was trained on alone: dimensions of two models have nothing
in common, even where they are as many.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from nuclr.errors import DataError, ModelError
from nuclr.evaluation.classifiers import fit_classifier
from nuclr.evaluation.metrics import calibration_error
from nuclr.model.tensor_files import read_tensors, write_tensors
from nuclr.provenance import versions

logger = logging.getLogger(__name__)

PARTS = ("mean", "scale", "coefficients", "intercepts")
# Fewer answers than that say nothing of how often answers are right.
FEWEST_ANSWERS = 10
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class SavedProbe:
    """Logistic regression on standardised embeddings.

    Attributes
    ----------
    classes
        What a unit can be.
    mean, scale
        Of the embeddings, ``(dim,)``.
    coefficients, intercepts
        ``(class, dim)``, ``(class,)``.
    record
        ``task``, ``model`` (hash), ``temperature``, ``answers``, ``scores``, and where they come from.
    """

    classes: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    record: dict[str, Any]

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Probability of every class, calibrated, ``(unit, class)``; NaN where the embedding is.

        Parameters
        ----------
        embeddings
            ``(unit, dim)``.
        """
        logits = ((embeddings - self.mean) / self.scale) @ self.coefficients.T + self.intercepts
        return np.exp(log_softmax(logits / self.record["temperature"], axis=1))

    def threshold(self, sure: float) -> float:
        """Least probability at which answers to new units were right as often as ``sure``.

        That is over units that the probe had not learned from; above 1 where it never was so good.
        """
        enough = [row["probability"] for row in self.record["answers"] if row["accuracy"] >= sure]
        return min(enough, default=np.inf)

    def check_model(self, model: str) -> None:
        """Make sure that embeddings come from the model that the probe was trained on.

        Raises
        ------
        ModelError
            If not.
        """
        if model != self.record["model"]:
            raise ModelError(
                f"the probe reads embeddings of model {self.record['model'][:12]}, these come from "
                f"{model[:12] or 'no model'}; embed with that model, or train a probe on these"
            )

    def predict(
        self, units: pd.DataFrame, embeddings: np.ndarray, model: str, sure: float = 0.8
    ) -> pd.DataFrame:
        """Say what units are, where it is sure enough.

        Parameters
        ----------
        units
            Identity, one row a unit.
        embeddings
            ``(unit, dim)``, NaN for a unit that was never active.
        model
            Hash of the model that they come from.
        sure
            How often an answer shall be right.

        Returns
        -------
        DataFrame
            ``unit_id, population, recording, animal, predicted`` ("" for "don't know"), ``probability`` of
            the likeliest class, and ``p_{class}`` of each; NaN for a unit that was never active.

        Raises
        ------
        ModelError
            If the embeddings come from another model.
        """
        self.check_model(model)
        probability = self.probabilities(embeddings)
        known = ~np.isnan(probability).any(axis=1)
        best = np.where(known, np.nan_to_num(probability).argmax(axis=1), 0)
        highest = np.where(known, probability[np.arange(len(best)), best], np.nan)
        answered = known & (np.nan_to_num(highest) >= self.threshold(sure))
        table = units[[name for name in ("unit_id", "population", "recording", "animal") if name in units]]
        return table.assign(
            predicted=np.where(answered, np.array(self.classes, object)[best], ""),
            probability=highest,
            **{f"p_{name}": probability[:, i] for i, name in enumerate(self.classes)},
        )


def score_of(probe: SavedProbe, model: str) -> dict[str, Any]:
    """Say what a probe scored on units that it had not learned from: a row of its model's card.

    Parameters
    ----------
    probe
        Of :func:`load_probe`.
    model
        Hash of the model.

    Raises
    ------
    ModelError
        If the probe reads embeddings of another model.
    """
    probe.check_model(model)
    return {
        "task": probe.record["task"],
        "protocol": probe.record["scores"]["measured_on"],
        "units": probe.record["learned_from"]["units"],
        "macro_f1": probe.record["scores"]["macro_f1"],
        "chance": 1 / len(probe.classes),
    }


def train_probe(
    units: pd.DataFrame, embeddings: np.ndarray, labels: np.ndarray, record: dict[str, Any]
) -> SavedProbe:
    """Fit a probe, and measure it on units that it has not learned from.

    These are of other animals where there are at least two, else other units of the one. What they
    show sets the temperature that makes probabilities true, and how sure is sure enough.

    Parameters
    ----------
    units
        With ``animal``, one row a unit.
    embeddings
        ``(unit, dim)``; rows of NaN are passed over.
    labels
        ``(unit,)``, "" where there is none.
    record
        ``task``, ``model`` and whatever else shall be kept.

    Raises
    ------
    DataError
        If there are fewer than two classes, or too few units of one.
    """
    rows = np.flatnonzero((labels != "") & ~np.isnan(embeddings).any(axis=1))
    x, y = embeddings[rows].astype(np.float64), labels[rows].astype(str)
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise DataError(
            f"{record['task']}: {len(classes)} class(es) with enough units "
            f"({', '.join(classes) or 'no label'}); a probe needs two"
        )
    animals = units["animal"].to_numpy(str)[rows]
    held_out = np.zeros((len(rows), len(classes)))
    parts, way = _parts(y, animals)
    for learned, tested in parts:
        if len(set(y[learned])) < 2:
            raise DataError(
                f"without animals {', '.join(sorted(set(animals[tested])))} one class is left to learn; "
                "label units of more animals"
            )
        fitted = fit_classifier("linear", (x[learned], y[learned]), (x[:0], y[:0]))
        columns = np.searchsorted(classes, fitted.classes_)
        held_out[np.ix_(tested, columns)] = fitted.predict_proba(x[tested])
    truth = np.searchsorted(classes, y)
    temperature = _temperature(held_out, truth)
    calibrated = _tempered(held_out, temperature)
    fitted = fit_classifier("linear", (x, y), (x[:0], y[:0]))
    scaler, regression = _stages(fitted)
    # Of two classes scikit-learn keeps one row, the log odds of the second.
    two = len(classes) == 2
    said = held_out.argmax(axis=1)
    right = said == truth
    by_class = f1_score(truth, said, average=None)
    scores = {
        "macro_f1": float(by_class.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth, said)),
        "accuracy": float(right.mean()),
        "calibration_error": float(calibration_error(calibrated.max(axis=1), right)),
        "calibration_error_before": float(calibration_error(held_out.max(axis=1), right)),
        "f1": dict(zip(classes.tolist(), by_class.tolist(), strict=True)),
        "measured_on": way,
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
            **record,
            "temperature": temperature,
            "answers": _answers(calibrated.max(axis=1), right),
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


def _tempered(probability: np.ndarray, temperature: float) -> np.ndarray:
    return np.exp(log_softmax(np.log(np.maximum(probability, 1e-12)) / temperature, axis=1))


def _temperature(probability: np.ndarray, truth: np.ndarray) -> float:
    """Temperature at which held-out units are likeliest (Guo et al., ICML 2017, arXiv 1706.04599)."""

    def surprise(log_temperature: float) -> float:
        tempered = _tempered(probability, np.exp(log_temperature))
        return float(-np.log(np.maximum(tempered[np.arange(len(truth)), truth], 1e-12)).mean())

    found = minimize_scalar(surprise, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def _answers(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """How often answers were right, and how many units got one, if those from a probability on are given."""
    order = np.argsort(-confidence)
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    least = min(FEWEST_ANSWERS, len(order))
    places = np.unique(np.linspace(least, len(order), 50).astype(int)) - 1
    return [
        {
            "probability": float(confidence[order[place]]),
            "accuracy": float(accuracy[place]),
            "answered": float((place + 1) / len(order)),
        }
        for place in places
    ]


def save_probe(path: Path, probe: SavedProbe) -> None:
    """Write ``path`` (``.safetensors``) and the ``.json`` beside it, each whole or not at all."""
    tensors = {name: getattr(probe, name) for name in PARTS}
    write_tensors(path, tensors, {**probe.record, "classes": list(probe.classes), "versions": versions()})


def load_probe(path: Path | str) -> SavedProbe:
    """Read a probe written by :func:`save_probe`.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the two do not belong together.
    """
    path, remedy = Path(path), "train it again with `nuclr train-probe`"
    tensors, record = read_tensors(path, "probe", remedy)
    try:
        classes = tuple(map(str, record.pop("classes")))
        probe = SavedProbe(classes, **{name: tensors[name] for name in PARTS}, record=record)
        shape = len(classes), len(probe.mean)
        shapes = probe.coefficients.shape, (len(probe.intercepts), len(probe.scale))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a probe ({error}); {remedy}") from None
    if shapes != (shape, shape) or not {"model", "temperature", "answers"} <= set(record):
        raise ModelError(f"{path}: not a whole probe; {remedy}")
    return probe
