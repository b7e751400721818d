"""Fit the scaling law of the error against the number of animals, with intervals and simpler laws."""

from __future__ import annotations

from typing import Any

import numpy as np

# Percentiles of the F, normal and t distributions: scipy.stats gives the same, and takes a second to load.
from scipy.special import fdtri, ndtri, stdtrit

from nuclr.words import counted

FEWEST_COUNTS = 4
LAW = "1 - macro_f1 = c + a * animals^-b"
# For a given exponent, a and c follow from a linear regression, so a grid of exponents is enough.
EXPONENTS = np.geomspace(0.02, 3.0, 300)


def power_law(animals: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """Return error(n) = c + a * n^-b."""
    return c + a * np.asarray(animals, float) ** -b


def fit_power_law(
    animals: np.ndarray,
    macro_f1: np.ndarray,
    deviations: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit ``1 - macro_f1 = c + a * n^-b`` to all runs, with 95 % intervals, and compare simpler laws.

    The fit is by least squares with 0 <= c <= 1 and b in the range of :data:`EXPONENTS`. Bootstrap curves
    are the fitted curve plus resampled residuals and the deviations of other test animals. They are fitted
    with c free, because estimates on a bound make percentiles too narrow. The intervals of a, c and of
    predictions are percentiles of the bootstrap fits. The interval of b contains each exponent whose sum of
    squares exceeds the smallest by no more than in 95 % of the bootstrap curves, or by the F distribution if
    that allows more (profile likelihood; percentiles of b alone cover less than 95 %).

    Parameters
    ----------
    animals, macro_f1
        Number of animals and score of each run, ``(run,)``.
    deviations
        Change of each run's score with other test animals, ``(resample, run)``; None: no change.
    resamples
        Number of bootstrap curves, if ``deviations`` is None.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``a, b, c, residual_sd, runs``; ``intervals`` of a, b and c; ``predictions`` (``animals, macro_f1,
        low, high``) at twice and four times the largest count; ``aic`` of the law, of a line in log n, and
        of a constant. Without a fit only ``refused``, the reason.
    """
    animals, error = np.asarray(animals, float), 1 - np.asarray(macro_f1, float)
    counts = len(np.unique(animals))
    if counts < FEWEST_COUNTS:
        there = counted(counts, "animal count")
        return {"refused": f"{there}, but a law with three parameters needs at least {FEWEST_COUNTS}"}
    runs = len(error)
    (best,), _ = _fit(animals, error[None], floor=0.0)
    fitted = power_law(animals, *best)
    freedom = max(1, runs - 3)
    residuals = error - fitted
    variance = float((residuals**2).sum()) / freedom

    rng = np.random.default_rng(seed)
    moved = np.zeros((resamples, runs)) if deviations is None else -np.asarray(deviations, float)
    # Residuals of a fit are smaller than the true errors, and their variance is itself uncertain.
    wider = np.sqrt(runs / freedom) * stdtrit(freedom, 0.975) / ndtri(0.975)
    drawn = rng.choice((residuals - residuals.mean()) * wider, moved.shape)
    parameters, squares = _fit(animals, fitted + drawn + moved, floor=-1.0)
    low, high = np.percentile(parameters, [2.5, 97.5], axis=0)
    larger = [int(animals.max()) * times for times in (2, 4)]
    predicted = 1 - np.stack([power_law(np.array(larger), *row) for row in parameters])
    bounds = np.clip(np.percentile(predicted, [2.5, 97.5], axis=0), 0, 1)
    return {
        **dict(zip("abc", map(float, best), strict=True)),
        "residual_sd": float(np.sqrt(variance)),
        "runs": runs,
        "intervals": {
            "a": [float(low[0]), float(high[0])],
            "b": _exponents(animals, error, squares, float(best[1]), freedom),
            "c": [float(np.clip(bound, 0, 1)) for bound in (low[2], high[2])],
        },
        "predictions": [
            {
                "animals": n,
                "macro_f1": float(1 - power_law(np.array(n), *best)),
                "low": float(bounds[0, i]),
                "high": float(bounds[1, i]),
            }
            for i, n in enumerate(larger)
        ],
        "aic": _aic(animals, error, fitted),
    }


def _exponents(
    animals: np.ndarray, error: np.ndarray, squares: np.ndarray, b: float, freedom: int
) -> list[float]:
    """Return the smallest and largest exponent that the runs do not reject; see :func:`fit_power_law`."""

    def excess(errors: np.ndarray) -> np.ndarray:
        least = errors.min(axis=1, keepdims=True)
        return (errors - least) / np.maximum(least / freedom, 1e-15)

    # Upper confidence bound of the 95th percentile, given the number of bootstrap curves.
    share = 0.95 + ndtri(0.95) * np.sqrt(0.95 * 0.05 / len(squares))
    threshold = max(
        float(np.quantile(excess(squares)[:, np.abs(EXPONENTS - b).argmin()], min(share, 1.0))),
        float(fdtri(1, freedom, 0.95)),
    )
    _, own = _fit(animals, error[None], floor=-1.0)
    accepted = np.flatnonzero(excess(own)[0] <= threshold)
    # The ends lie between two exponents of the grid; take the outer ones.
    first, last = max(0, accepted[0] - 1), min(len(EXPONENTS) - 1, accepted[-1] + 1)
    return [float(EXPONENTS[first]), float(EXPONENTS[last])]


def _fit(animals: np.ndarray, errors: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit many curves at once by least squares, with c from ``floor`` to 1.

    Parameters
    ----------
    animals
        ``(run,)``.
    errors
        ``(curve, run)``.
    floor
        Lower bound of c.

    Returns
    -------
    parameters
        ``a, b, c`` of each curve, ``(curve, 3)``.
    squares
        Smallest sum of squares at each exponent, ``(curve, exponent)``.
    """
    x = animals ** -EXPONENTS[:, None]
    mean_x, mean_xx = x.mean(axis=1), (x**2).mean(axis=1)
    mean_y, mean_yy = errors.mean(axis=1)[:, None], (errors**2).mean(axis=1)[:, None]
    mean_xy = errors @ x.T / len(animals)
    a = (mean_xy - mean_x * mean_y) / (mean_xx - mean_x**2)
    c = np.clip(mean_y - a * mean_x, floor, 1)
    # The best a given c, which may lie on a bound; otherwise a does not change.
    a = (mean_xy - c * mean_x) / mean_xx
    rest = mean_yy + a**2 * mean_xx + c**2 + 2 * (a * c * mean_x - a * mean_xy - c * mean_y)
    squares = np.maximum(rest * len(animals), 0)
    best = squares.argmin(axis=1)
    rows = np.arange(len(errors))
    return np.stack([a[rows, best], EXPONENTS[best], c[rows, best]], axis=1), squares


def _aic(animals: np.ndarray, error: np.ndarray, fitted: np.ndarray) -> dict[str, float]:
    """Return Akaike's information criterion (AIC) of three laws with normal noise; lower is better."""
    line = np.polyval(np.polyfit(np.log(animals), error, 1), np.log(animals))
    laws = {
        "power_law": (fitted, 3),
        "line_in_log_n": (line, 2),
        "constant": (np.full(len(error), error.mean()), 1),
    }
    runs = len(error)
    return {
        name: float(runs * np.log(max(((error - curve) ** 2).mean(), 1e-15)) + 2 * (parameters + 1))
        for name, (curve, parameters) in laws.items()
    }
