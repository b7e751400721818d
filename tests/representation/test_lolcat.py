"""LOLCAT reads classes from windows of intervals, whatever their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nuclr.representation.lolcat import Lolcat

BINS, WINDOWS = 6, 8


def units(count: int, seed: int, distinct: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Make units of two kinds: a share of the windows of each is short or long intervals."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["long", "short"], count, p=[0.3, 0.7])
    means = np.where((labels == "short")[:, None, None], [5, 2, 1, 1, 1, 1], [1, 1, 1, 1, 2, 5])
    means = distinct * means + (1 - distinct) * 2.0
    windows = rng.poisson(np.broadcast_to(means, (count, WINDOWS, BINS))).astype(float)
    windows[rng.random((count, WINDOWS)) < 0.3] = 0
    windows /= np.maximum(windows.sum(axis=2, keepdims=True), 1)
    return windows.reshape(count, -1).astype(np.float32), labels


def test_kinds_are_told_apart_and_nothing_is_read_from_nothing() -> None:
    test = units(200, 2)
    made = Lolcat(BINS).fit(units(150, 0), units(50, 1))
    assert (made.predict(test[0]) == test[1]).mean() > 0.9
    blind = Lolcat(BINS).fit(units(150, 0, distinct=0.0), units(50, 1, distinct=0.0))
    features, labels = units(400, 2, distinct=0.0)
    hits = blind.predict(features) == labels
    recalls = [hits[labels == kind].mean() for kind in ("long", "short")]
    assert np.mean(recalls) == pytest.approx(0.5, abs=0.12)


def test_the_order_of_windows_says_nothing_and_a_silent_unit_has_a_probability() -> None:
    made = Lolcat(BINS).fit(units(100, 0), units(30, 1))
    features, _ = units(20, 2)
    turned = features.reshape(20, WINDOWS, BINS)[:, ::-1].reshape(20, -1)
    np.testing.assert_allclose(made.predict_proba(turned), made.predict_proba(features), atol=1e-5)
    silent = made.predict_proba(np.zeros_like(features))
    np.testing.assert_allclose(silent.sum(axis=1), 1, atol=1e-5)


def test_the_same_seed_is_the_same_classifier_and_torch_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, other = (Lolcat(BINS, seed=3).fit(units(60, 0), units(20, 1)) for _ in range(2))
    features, _ = units(20, 2)
    np.testing.assert_array_equal(one.predict_proba(features), other.predict_proba(features))
    assert torch.equal(torch.get_rng_state(), before)
