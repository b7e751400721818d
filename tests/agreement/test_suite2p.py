"""The baseline that is taken off fluorescence is Suite2p's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nuclr.data.fluorescence import Correction

if TYPE_CHECKING:
    from conftest import Environment

RATES = (10.0, 30.03, 4.2834, 7.49)


def traces(rate: float) -> np.ndarray:
    """Four minutes of drifting fluorescence with transients and noise, as Suite2p writes it."""
    rng = np.random.default_rng(0)
    frames = int(240 * rate)
    drift = 200 + 50 * np.sin(np.arange(frames) / frames * 7) + np.cumsum(rng.normal(0, 0.3, (5, frames)), 1)
    return (drift + 100 * (rng.random((5, frames)) < 0.01) + rng.normal(0, 5, (5, frames))).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_suite2p_takes_the_same_baseline_off(suite2p: Environment, tmp_path: Path, rate: float) -> None:
    given = traces(rate)
    np.save(tmp_path / "traces.npy", given)
    suite2p.run("in_suite2p.py", tmp_path / "traces.npy", str(rate))
    theirs = np.load(tmp_path / "traces.npy")
    ours = given - Correction(frame_s=1 / rate).baseline(given.astype(np.float64))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_suite2p_1_takes_nearly_the_same_baseline_off(suite2p_1: Environment, tmp_path: Path) -> None:
    """Since 1.0 its window is a frame longer, and its Gaussian ends at 3 standard deviations instead of 4."""
    rate = 10.0
    given = traces(rate)
    np.save(tmp_path / "traces.npy", given)
    suite2p_1.run("in_suite2p.py", tmp_path / "traces.npy", str(rate))
    theirs = np.load(tmp_path / "traces.npy")
    ours = given - Correction(frame_s=1 / rate).baseline(given.astype(np.float64))
    apart = np.abs(ours - theirs)
    noise = 5.0
    assert apart.mean() < 0.03 * noise
    assert np.quantile(apart, 0.99) < 0.3 * noise
