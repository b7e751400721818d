"""Probes: classifiers of units from features, with balanced classes and probabilities."""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

NEIGHBOURS = 15
HIDDEN = 64
MOST_EPOCHS = 200
PATIENCE = 20


class Classifier(Protocol):
    """Interface of a fitted probe, as in scikit-learn."""

    classes_: np.ndarray

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class, ``(unit, class)``."""


def fit_classifier(
    kind: str,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    seed: int = 0,
) -> Classifier:
    """Return a fitted probe of one of these kinds.

    - ``linear``: the published probe, logistic regression on standardised features (arXiv 2512.01199).
    - ``knn``: 15 nearest neighbours in standardised features, weighted by distance.
    - ``mlp``: one hidden layer of 64; the epoch of the best macro-F1 on validation units is kept.
    - ``lolcat``: :class:`nuclr.representation.lolcat.Lolcat`, only for its own features.

    Kinds that need no validation units (linear, knn) are also trained on them.

    Parameters
    ----------
    kind
        One of the kinds above.
    train, validation
        Features ``(unit, feature)`` without NaN, and classes ``(unit,)``; validation may be empty.
    seed
        Seed of the weights and batches of ``mlp`` and ``lolcat``.
    """
    features, labels = (np.concatenate(both) for both in zip(train, validation, strict=True))
    if kind == "linear":
        regression = LogisticRegression(C=1.0, class_weight="balanced", solver="newton-cg", max_iter=1000)
        return make_pipeline(StandardScaler(), regression).fit(features, labels)
    # Imported on use, because most runs only need the linear probe, which then starts faster.
    if kind == "knn":
        from sklearn.neighbors import KNeighborsClassifier

        nearest = KNeighborsClassifier(min(NEIGHBOURS, len(features)), weights="distance")
        return make_pipeline(StandardScaler(), nearest).fit(features, labels)
    if kind == "lolcat":
        from nuclr.representation.baselines import INTERVAL_BINS
        from nuclr.representation.lolcat import Lolcat

        return Lolcat(INTERVAL_BINS, seed).fit(train, validation)
    return _perceptron(train, validation, seed)


def _perceptron(
    train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], seed: int
) -> Classifier:
    from sklearn.neural_network import MLPClassifier

    scaler = StandardScaler().fit(train[0])
    features, labels = scaler.transform(train[0]), train[1]
    weights = compute_sample_weight("balanced", labels)
    # Without validation units, early stopping uses the training units.
    judge, truth = (scaler.transform(validation[0]), validation[1]) if len(validation[1]) else train
    network = MLPClassifier((HIDDEN,), alpha=1e-3, learning_rate_init=1e-3, random_state=seed)
    classes = np.unique(labels)
    best, best_score, since = network, -1.0, 0
    for _ in range(MOST_EPOCHS):
        network.partial_fit(features, labels, classes=classes, sample_weight=weights)
        score = f1_score(truth, network.predict(judge), average="macro", zero_division=0)
        since += 1
        if score > best_score:
            best, best_score, since = copy.deepcopy(network), score, 0
        if since >= PATIENCE:
            break
    return make_pipeline(scaler, best)
