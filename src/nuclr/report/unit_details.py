"""What the interactive page shows of a single unit: its activity in few numbers, and those most like it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nuclr.data.population import Population, summary_of
from nuclr.representation.baselines import (
    INTERVAL_BINS,
    LAG_BIN_S,
    LAGS,
    SHORT_LAGS,
    WIDTHS_S,
    autocorrelogram,
    interval_edges,
    isi_histogram,
    population_correlation,
    rebin,
)

NEIGHBOURS = 5
RATE_BINS = 40
# Of a population of one width: with the summed activity of the others comes first (`population_correlation`).
CORRELATIONS_A_WIDTH = 6
# Of `Details`, in the order in which they are computed.
ARRAYS = (
    "known",
    "autocorrelogram",
    "intervals",
    "rate",
    "rate_top",
    "minutes",
    "correlation",
    "mean_activity",
)
# Similarities that are in memory at a time.
SIMILARITIES_AT_ONCE = 30_000_000


@dataclass(frozen=True)
class Details:
    """Activity of units in few numbers.

    Attributes
    ----------
    known
        Rows of the units, of those that were asked for, ``(known,)``.
    autocorrelogram
        Correlation of a unit's activity with itself at ``lags_s``, as 127ths, ``(known, lag)``, int8.
    intervals
        Square roots of the shares of intervals between spikes in bins with ``edges_s``, as 255ths,
        ``(known, bin)``, uint8.
    rate
        Activity along valid time as 255ths of ``rate_top``, ``(known, RATE_BINS)``, uint8.
    rate_top
        Of each unit, in Hz (calcium: dF/F), ``(known,)``, float32.
    minutes
        Valid minutes of each unit's population, ``(known,)``, float32.
    correlation
        Correlation with the summed activity of the rest of the population in bins of ``widths_s``, as 127ths,
        ``(known, width)``, int8.
    mean_activity
        Of each unit over the valid spans: Hz, or dF/F, ``(known,)``.
    lags_s, edges_s, widths_s
        As above (s); the first lags and the edges are those of the first population's bin.
    modality
        ``spikes`` or ``calcium``; of the first population.
    """

    known: np.ndarray
    autocorrelogram: np.ndarray
    intervals: np.ndarray
    rate: np.ndarray
    rate_top: np.ndarray
    minutes: np.ndarray
    correlation: np.ndarray
    mean_activity: np.ndarray
    lags_s: list[float]
    edges_s: list[float]
    widths_s: list[float]
    modality: str


def details_of(populations: Iterable[Population], unit_ids: Sequence[str], most: int) -> Details | None:
    """Describe the activity of units; None where none of them was recorded in these populations.

    Parameters
    ----------
    populations
        Their activity is read one population at a time. Those with another modality or bin than the first are
        passed over: their numbers would stand on other axes.
    unit_ids
        Whom to describe.
    most
        Of no more units than this; whole populations, in their order.
    """
    place = {str(name): row for row, name in enumerate(unit_ids)}
    parts: list[tuple[np.ndarray, ...]] = []
    first: Population | None = None
    described = 0
    for population in populations:
        rows = np.array([place.get(str(name), -1) for name in population.units["unit_id"]])
        own = np.flatnonzero(rows >= 0)
        if first is not None and (population.modality, population.bin_s) != (first.modality, first.bin_s):
            continue
        if not len(own) or described + len(own) > most or not len(population.valid_bins()):
            continue
        first = first or population
        parts.append((rows[own], *(part[own] for part in _described(population))))
        described += len(own)
    if first is None:
        return None
    arrays = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Details(
        **dict(zip(ARRAYS, arrays, strict=True)),
        lags_s=[lag * first.bin_s for lag in SHORT_LAGS] + [lag * _in_bins(LAG_BIN_S, first) for lag in LAGS],
        edges_s=interval_edges(first.bin_s).tolist(),
        widths_s=[_in_bins(width, first) for width in WIDTHS_S[1:]],
        modality=first.modality,
    )


def _described(population: Population) -> tuple[np.ndarray, ...]:
    """Compute :data:`ARRAYS` after ``known`` for all units of a population."""
    held = population if isinstance(population.activity, np.ndarray) else _in_memory(population)
    units = len(held.units)
    width = max(held.bin_s, 60 * held.valid_minutes / RATE_BINS)
    rate = rebin(held, width)[:, :RATE_BINS] / (max(1, round(width / held.bin_s)))
    if held.modality == "spikes":
        rate = rate / held.bin_s
    rate = np.pad(np.maximum(rate, 0), ((0, 0), (0, RATE_BINS - rate.shape[1])))
    top = np.maximum(rate.max(axis=1), 1e-9)
    correlation = population_correlation(held)[:, ::CORRELATIONS_A_WIDTH]
    return (
        _signed(autocorrelogram(held)),
        np.round(255 * np.clip(isi_histogram(held), 0, 1)).astype(np.uint8).reshape(units, INTERVAL_BINS),
        np.round(255 * rate / top[:, None]).astype(np.uint8),
        top.astype(np.float32),
        np.full(units, held.valid_minutes, np.float32),
        _signed(correlation),
        np.asarray(summary_of(population).mean_activity, np.float32),
    )


def _in_bins(width_s: float, population: Population) -> float:
    """Round a width to whole bins (s), as :func:`nuclr.representation.baselines.rebin` does."""
    return max(1, round(width_s / population.bin_s)) * population.bin_s


def _in_memory(population: Population) -> Population:
    return replace(population, activity=np.asarray(population.activity))


def _signed(correlation: np.ndarray) -> np.ndarray:
    """Give correlations as 127ths, int8."""
    return np.round(127 * np.clip(np.nan_to_num(correlation), -1, 1)).astype(np.int8)


def neighbours(vectors: np.ndarray, groups: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:
    """Find the units most like each unit (by cosine) among those of other groups, the most alike first.

    Parameters
    ----------
    vectors
        ``(unit, dim)``; a row of NaN is nobody's neighbour, and has none.
    groups
        Animal of each unit, ``(unit,)``; where all are of one, neighbours are sought among all others.
    count
        How many.

    Returns
    -------
    ndarray
        ``(unit, count)``, int32; -1 where there are not so many.
    """
    groups = pd.factorize(np.asarray(groups, object))[0]
    known = np.flatnonzero(~np.isnan(vectors).any(axis=1))
    found = np.full((len(vectors), count), -1, np.int32)
    if len(known) < 2:
        return found
    own = vectors[known].astype(np.float32)
    own = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    group = groups[known]
    if (group == group[0]).all():
        group = np.arange(len(known))
    several = min(count, len(known) - 1)
    step = max(1, SIMILARITIES_AT_ONCE // len(known))
    for first in range(0, len(known), step):
        rows = slice(first, min(first + step, len(known)))
        alike = own[rows] @ own.T
        alike[group[rows, None] == group[None]] = -np.inf
        best = np.argpartition(alike, len(known) - several, axis=1)[:, -several:]
        value = np.take_along_axis(alike, best, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        best, value = np.take_along_axis(best, order, axis=1), np.take_along_axis(value, order, axis=1)
        found[known[rows], :several] = np.where(np.isfinite(value), known[best], -1)
    return found
