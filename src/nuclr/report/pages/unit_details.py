"""Details of single units for the interactive page: statistics of their activity, and nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nuclr.data.kinds import kind_of
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
)

NEIGHBOURS = 5
RATE_BINS = 40
# Columns of `population_correlation` for each bin width; the first of them is the correlation with the summed
# activity of the other units.
CORRELATIONS_A_WIDTH = 6
# Arrays of `Details`, in the order in which they are computed.
ARRAYS = (
    "known",
    "autocorrelogram",
    "intervals",
    "rate",
    "rate_low",
    "rate_top",
    "minutes",
    "correlation",
    "mean_activity",
)
# Most similarities in memory at a time.
SIMILARITIES_AT_ONCE = 30_000_000


@dataclass(frozen=True)
class Details:
    """Statistics of the activity of units.

    Attributes
    ----------
    known
        Rows, in the list of requested units, of the units that have statistics, ``(known,)``.
    autocorrelogram
        Autocorrelation of each unit's activity at ``lags_s``, times 127, ``(known, lag)``, int8.
    intervals
        Inter-spike interval histogram: square roots of the shares in bins with ``edges_s``, times 255,
        ``(known, bin)``, uint8.
    rate
        Activity over valid time, from ``rate_low`` (0) to ``rate_top`` (255), ``(known, RATE_BINS)``, uint8.
    rate_low, rate_top
        Lowest value of each unit, which is 0 except for negative dF/F, and its highest (Hz; calcium: dF/F),
        ``(known,)``, float32.
    minutes
        Valid minutes of each unit's population, ``(known,)``, float32.
    correlation
        Correlation with the summed activity of the other units of the population in bins of ``widths_s``,
        times 127, ``(known, width)``, int8.
    mean_activity
        Mean activity of each unit in the valid spans (Hz; calcium: dF/F), ``(known,)``.
    lags_s, edges_s, widths_s
        Lags of the autocorrelogram, edges of the intervals, and bin widths of the correlations (s). The first
        lags and the edges depend on the bin width of the first population.
    modality
        ``spikes`` or ``calcium``, from the first population.
    """

    known: np.ndarray
    autocorrelogram: np.ndarray
    intervals: np.ndarray
    rate: np.ndarray
    rate_low: np.ndarray
    rate_top: np.ndarray
    minutes: np.ndarray
    correlation: np.ndarray
    mean_activity: np.ndarray
    lags_s: list[float]
    edges_s: list[float]
    widths_s: list[float]
    modality: str


def details_of(populations: Iterable[Population], unit_ids: Sequence[str], most: int) -> Details | None:
    """Compute statistics of the activity of units; None if these populations contain none of the units.

    Parameters
    ----------
    populations
        Populations with the units, read one at a time. Populations with another modality than the first, or
        with a bin width that differs by more than 5 %, are skipped, because their statistics need other axes.
    unit_ids
        Ids of the units.
    most
        Largest number of units. Populations are added in their order; one that would exceed this number is
        skipped.
    """
    place = {str(name): row for row, name in enumerate(unit_ids)}
    parts: list[tuple[np.ndarray, ...]] = []
    first: Population | None = None
    described = 0
    for population in populations:
        rows = np.array([place.get(str(name), -1) for name in population.units["unit_id"]])
        own = np.flatnonzero(rows >= 0)
        if first is not None and not kind_of(population).like(kind_of(first)):
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
    """Compute the arrays in :data:`ARRAYS` except ``known`` for all units of a population."""
    held = population if isinstance(population.activity, np.ndarray) else _in_memory(population)
    units = len(held.units)
    rate = _rate(held)
    low, top = np.minimum(rate.min(axis=1), 0), np.maximum(rate.max(axis=1), 0)
    span = np.maximum(top - low, 1e-9)
    correlation = population_correlation(held)[:, ::CORRELATIONS_A_WIDTH]
    return (
        _signed(autocorrelogram(held)),
        np.round(255 * np.clip(isi_histogram(held), 0, 1)).astype(np.uint8).reshape(units, INTERVAL_BINS),
        np.round(255 * (rate - low[:, None]) / span[:, None]).astype(np.uint8),
        low.astype(np.float32),
        top.astype(np.float32),
        np.full(units, held.valid_minutes, np.float32),
        _signed(correlation),
        np.asarray(summary_of(population).mean_activity, np.float32),
    )


def _rate(population: Population) -> np.ndarray:
    """Return the mean activity in each fortieth of the valid time (Hz; calcium: dF/F), ``(unit, RATE_BINS)``.

    Bins cross the ends of spans, because the spans of trials are shorter than a fortieth of a recording.
    """
    valid = np.concatenate([population.activity[:, a:b] for a, b in population.valid_bins()], axis=1)
    edges = np.linspace(0, valid.shape[1], RATE_BINS + 1).astype(int)
    # Where bins outnumber frames, ``reduceat`` repeats the frame.
    total = np.add.reduceat(valid, edges[:-1], axis=1, dtype=np.float64)
    mean = total / np.maximum(np.diff(edges), 1)
    return mean / population.bin_s if population.modality == "spikes" else mean


def _in_bins(width_s: float, population: Population) -> float:
    """Round a width (s) to whole bins, as :func:`nuclr.representation.baselines.rebin` does."""
    return max(1, round(width_s / population.bin_s)) * population.bin_s


def _in_memory(population: Population) -> Population:
    return replace(population, activity=np.asarray(population.activity))


def _signed(correlation: np.ndarray) -> np.ndarray:
    """Return correlations times 127, as int8."""
    return np.round(127 * np.clip(np.nan_to_num(correlation), -1, 1)).astype(np.int8)


def neighbours(vectors: np.ndarray, groups: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:
    """Find the nearest neighbours of each unit (cosine similarity) in other groups, the most similar first.

    Parameters
    ----------
    vectors
        Embeddings, ``(unit, dim)``; a unit with a row of NaN has no neighbours and is no neighbour.
    groups
        Animal of each unit, ``(unit,)``. If there is only one animal, all other units may be neighbours.
    count
        Number of neighbours.

    Returns
    -------
    ndarray
        Rows of the neighbours, ``(unit, count)``, int32; -1 if there are fewer.
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
