"""Kinds of probe that can be saved: their parameters as arrays, and predictions from these; no pickles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax

Kind = Literal["linear", "knn", "mlp"]
KINDS: tuple[Kind, ...] = ("linear", "knn", "mlp")
# Arrays of each kind, besides the ``mean`` and ``scale`` of the embeddings, ``(dim,)``.
TENSORS: dict[str, tuple[str, ...]] = {
    "linear": ("coefficients", "intercepts"),
    "knn": ("examples", "labels"),
    "mlp": ("hidden", "hidden_bias", "coefficients", "intercepts"),
}
# Lowest probability of a class, also if no neighbour has it.
UNSEEN = 1e-3
STOPPED_BY = 6
Examples = tuple[np.ndarray, np.ndarray]


def fit(kind: Kind, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Fit a probe and return its parameters as arrays.

    Parameters
    ----------
    kind
        See :func:`nuclr.evaluation.classifiers.fit_classifier`.
    x, y
        Embeddings ``(unit, dim)`` and class numbers ``(unit,)``: 0, 1, ..., all of which occur.
    """
    # Imported here, because prediction does not need scikit-learn and starts faster without it.
    from nuclr.evaluation.classifiers import fit_classifier

    train, validation = _stopped_by(x, y) if kind == "mlp" else ((x, y), (x[:0], y[:0]))
    fitted: Any = fit_classifier(kind, train, validation)
    scaler, classifier = (stage for _, stage in fitted.steps)
    tensors = {"mean": scaler.mean_, "scale": scaler.scale_}
    if kind == "knn":
        return tensors | {"examples": scaler.transform(x).astype(np.float32), "labels": y.astype(np.int32)}
    if kind == "mlp":
        hidden, out = classifier.coefs_
        hidden_bias, out_bias = classifier.intercepts_
        tensors |= {"hidden": hidden.T, "hidden_bias": hidden_bias}
        coefficients, intercepts = out.T, out_bias
    else:
        coefficients, intercepts = classifier.coef_, classifier.intercept_
    if len(coefficients) == 1:
        # For two classes scikit-learn stores one row, the log odds of the second.
        coefficients, intercepts = (np.concatenate([0 * part, part]) for part in (coefficients, intercepts))
    return tensors | {"coefficients": coefficients, "intercepts": intercepts}


def _stopped_by(x: np.ndarray, y: np.ndarray) -> tuple[Examples, Examples]:
    """Split off one unit in six of each class, for early stopping of the perceptron."""
    if np.bincount(y).min() < STOPPED_BY:
        return (x, y), (x[:0], y[:0])
    aside = np.zeros(len(y), bool)
    rng = np.random.default_rng(0)
    for own in np.unique(y):
        rows = np.flatnonzero(y == own)
        aside[rng.choice(rows, len(rows) // STOPPED_BY, replace=False)] = True
    return (x[~aside], y[~aside]), (x[aside], y[aside])


def log_probability(kind: Kind, tensors: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return uncalibrated log probabilities of the classes, ``(unit, class)``; NaN where an embedding is NaN.

    Parameters
    ----------
    kind, tensors
        Kind of probe, and its parameters from :func:`fit`.
    x
        Embeddings ``(unit, dim)``.
    """
    scaled = (x - tensors["mean"]) / tensors["scale"]
    if kind == "knn":
        return _of_neighbours(tensors["examples"], tensors["labels"], scaled)
    if kind == "mlp":
        scaled = np.maximum(scaled @ tensors["hidden"].T + tensors["hidden_bias"], 0)
    return np.asarray(log_softmax(scaled @ tensors["coefficients"].T + tensors["intercepts"], axis=1))


def _of_neighbours(examples: np.ndarray, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the log share of each class among the nearest examples, weighted by inverse distance."""
    from sklearn.neighbors import NearestNeighbors

    from nuclr.evaluation.classifiers import NEIGHBOURS

    classes = int(labels.max()) + 1
    found = np.full((len(x), classes), np.nan)
    known = ~np.isnan(x).any(axis=1)
    if known.any():
        nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(examples))).fit(examples)
        distances, neighbours = nearest.kneighbors(x[known].astype(examples.dtype))
        weights = 1 / np.maximum(distances, 1e-6)
        shares = np.stack([(weights * (labels[neighbours] == k)).sum(axis=1) for k in range(classes)], axis=1)
        shares = np.maximum(shares / weights.sum(axis=1, keepdims=True), UNSEEN)
        found[known] = np.log(shares / shares.sum(axis=1, keepdims=True))
    return found


def are_whole(kind: str, tensors: Mapping[str, np.ndarray], classes: int) -> bool:
    """Return whether the arrays of a kind of probe are complete and their shapes fit together."""
    if kind not in TENSORS or not {"mean", "scale", *TENSORS[kind]} <= set(tensors):
        return False
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    dim = shapes["mean"]
    if len(dim) != 1 or shapes["scale"] != dim:
        return False
    if kind == "knn":
        labels = tensors["labels"]
        number = shapes["examples"][:1]
        return (
            shapes["examples"] == (*number, *dim)
            and labels.shape == number
            and labels.dtype.kind == "i"
            and len(labels) > 0
            and labels.min() >= 0
            and labels.max() == classes - 1
        )
    if kind == "mlp":
        if shapes["hidden"][1:] != dim or shapes["hidden_bias"] != shapes["hidden"][:1]:
            return False
        dim = shapes["hidden"][:1]
    return shapes["coefficients"] == (classes, *dim) and shapes["intercepts"] == (classes,)
