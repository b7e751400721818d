"""Baselines: simple features of each unit to compare the embeddings with.

Each function maps a population (activity in memory) to features ``(unit, feature)``. All features are
evaluated with the same probes as the embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import dask
import numpy as np
import pandas as pd
from dask.delayed import Delayed

from nuclr.config import JOINED
from nuclr.data.catalog import unit_table
from nuclr.data.inputs import in_memory
from nuclr.data.population import Population
from nuclr.errors import ConfigError
from nuclr.files import whole
from nuclr.provenance import fingerprint, versions
from nuclr.representation.embeddings import concatenate

WIDTHS_S = (0.02, 0.1, 0.5, 1.0, 3.0)
LAG_BIN_S = 0.1
LAGS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
SHORT_LAGS = (1, 2, 3, 4)
INTERVAL_BINS = 20
LONGEST_INTERVAL_S = 10.0
# LOLCAT: length of a window, and largest number of windows.
LOLCAT_WINDOW_S = 3.0
LOLCAT_WINDOWS = 64
# Counts are summed as 8-byte numbers and standardised, with three such arrays in memory at a time.
BYTES_A_BIN = 24
BYTES_AT_ONCE = 4_000_000_000


def rebin(population: Population, width_s: float) -> np.ndarray:
    """Return the activity summed in bins of about ``width_s`` inside the valid spans, ``(unit, bin)``."""
    width = max(1, round(width_s / population.bin_s))
    parts = []
    for first, last in population.valid_bins():
        bins = (last - first) // width
        span = np.asarray(population.activity[:, first : first + bins * width], np.float64)
        parts.append(span.reshape(len(span), bins, width).sum(axis=2))
    return np.concatenate(parts, axis=1)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Return activity with zero mean and unit variance along time; a constant unit becomes zeros."""
    x = x - _mean(x)[:, None]
    return x / np.maximum(np.sqrt(_mean(x**2)), 1e-9)[:, None]


def _mean(x: np.ndarray) -> np.ndarray:
    """Return the mean along the last axis; 0 if the recording is too short for a bin."""
    return x.sum(axis=-1) / max(1, x.shape[-1])


def events(population: Population) -> np.ndarray:
    """Return spike counts, or upward crossings of dF/F through mean + 2 deviations, ``(unit, time)``."""
    activity = np.asarray(population.activity)
    if population.modality == "spikes":
        return activity
    spans = [activity[:, first:last] for first, last in population.valid_bins()]
    known = np.concatenate(spans, axis=1) if spans else activity[:, :0]
    above = activity > (_mean(known) + 2 * np.sqrt(_mean((known - _mean(known)[:, None]) ** 2)))[:, None]
    return np.diff(above.astype(np.int8), axis=1, prepend=0) > 0


def interval_edges(bin_s: float) -> np.ndarray:
    """Return the edges (s) of the log-spaced bins for interspike intervals, ``(INTERVAL_BINS + 1,)``.

    Intervals of spikes in one bin of activity are shorter than it, and are counted in the first bin.
    """
    return np.concatenate([[0.0], np.geomspace(bin_s * 1.001, LONGEST_INTERVAL_S, INTERVAL_BINS)])


def interval_counts(counts: np.ndarray, bin_s: float) -> np.ndarray:
    """Return the histogram of each unit's interspike intervals in log-spaced bins, ``(unit, INTERVAL_BINS)``.

    Intervals longer than the last edge are counted in the last bin.

    Parameters
    ----------
    counts
        Events of one contiguous span, ``(unit, time)``.
    bin_s
        Length of a bin (s).
    """
    unit, time = np.nonzero(counts)
    same = unit[1:] == unit[:-1]
    owner, interval = unit[1:][same], np.diff(time)[same] * bin_s
    place = np.searchsorted(interval_edges(bin_s)[1:-1], interval, side="left")
    found = np.zeros((len(counts), INTERVAL_BINS))
    np.add.at(found, (owner, place), 1)
    found[:, 0] += np.maximum(counts.astype(np.int64) - 1, 0).sum(axis=1)
    return found


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return counts as shares of their sum along the last axis; zeros if the sum is 0."""
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)


def isi_histogram(population: Population) -> np.ndarray:
    """Return the interspike interval (ISI) histogram of each unit in log-spaced bins, from the bin to 10 s.

    For calcium, intervals between events are used. Intervals are as coarse as the bins of the store. The
    histogram is normalised, and its square root is returned.
    """
    found, total = events(population), np.zeros((len(population.units), INTERVAL_BINS))
    for first, last in population.valid_bins():
        total += interval_counts(found[:, first:last], population.bin_s)
    return np.sqrt(_shares(total))


def rate_regularity(population: Population) -> np.ndarray:
    """Return the logarithms of the firing rate and of the Fano factors at five bin widths."""
    features = [np.log(np.abs(_mean(rebin(population, population.bin_s))) / population.bin_s + 0.1)]
    for width_s in WIDTHS_S:
        counts = rebin(population, width_s)
        mean = _mean(counts)
        variance = _mean((counts - mean[:, None]) ** 2)
        features.append(np.log((variance + 1e-3) / (np.abs(mean) + 1e-3)))
    return np.stack(features, axis=1)


def autocorrelogram(population: Population) -> np.ndarray:
    """Return each unit's autocorrelation at lags of one to four bins, and of 0.1 to 5 s."""
    features = []
    for width_s, lags in ((population.bin_s, SHORT_LAGS), (LAG_BIN_S, LAGS)):
        z = _standardised(rebin(population, width_s))
        features += [_mean(z[:, lag:] * z[:, :-lag]) for lag in lags]
    return np.stack(features, axis=1)


def lolcat_windows(population: Population) -> np.ndarray:
    """Return ISI histograms of single windows, for :class:`nuclr.representation.lolcat.Lolcat`.

    The shape is ``(unit, LOLCAT_WINDOWS * INTERVAL_BINS)``. Windows of 3 s are spread evenly over the valid
    spans if there are more than ``LOLCAT_WINDOWS``. Missing windows, and those of silent units, are zeros.
    """
    length = max(2, round(LOLCAT_WINDOW_S / population.bin_s))
    starts = np.concatenate(
        [[], *(np.arange(first, last - length + 1, length) for first, last in population.valid_bins())]
    ).astype(int)
    if len(starts) > LOLCAT_WINDOWS:
        starts = starts[np.linspace(0, len(starts) - 1, LOLCAT_WINDOWS).round().astype(int)]
    found = events(population)
    windows = np.zeros((len(found), LOLCAT_WINDOWS, INTERVAL_BINS), np.float32)
    for place, start in enumerate(starts):
        windows[:, place] = _shares(interval_counts(found[:, start : start + length], population.bin_s))
    return windows.reshape(len(found), -1)


def population_correlation(population: Population) -> np.ndarray:
    """Return correlations of each unit with the rest of the population, at four bin widths.

    For each width: the correlation with the summed activity of all other units, and the mean, standard
    deviation and percentiles 10, 50 and 90 of the correlations with single other units.
    """
    features = []
    for width_s in WIDTHS_S[1:]:
        counts = rebin(population, width_s)
        z = _standardised(counts)
        rest = _standardised(counts.sum(axis=0) - counts)
        correlation = z @ z.T / max(1, z.shape[1])
        others = correlation[~np.eye(len(z), dtype=bool)].reshape(len(z), -1)
        if len(z) == 1:  # a single unit has no other units to correlate with
            others = np.zeros((1, 1))
        features += [_mean(z * rest), others.mean(axis=1), others.std(axis=1)]
        features += list(np.percentile(others, [10, 50, 90], axis=1))
    return np.stack(features, axis=1)


def _acg_images(population: Population) -> np.ndarray:
    from nuclr.representation.nemo import acg_images  # imported here, because other features need no torch

    return acg_images(population)


FEATURES: dict[str, Callable[[Population], np.ndarray]] = {
    "rate_regularity": rate_regularity,
    "isi_histogram": isi_histogram,
    "autocorrelogram": autocorrelogram,
    "population_correlation": population_correlation,
    "lolcat": lolcat_windows,
    "nemo": _acg_images,
}
BASELINES = (*FEATURES, *JOINED, "which_recording")


def which_recording(units: pd.DataFrame) -> np.ndarray:
    """Return the one-hot encoded population of each unit: the control that knows only the recording."""
    return pd.get_dummies(units["population"]).to_numpy(np.float32)


def features_of(name: str, population: Population, kept: Path | None = None) -> np.ndarray:
    """Compute a baseline's features for the units of one population, ``(unit, feature)``.

    Parameters
    ----------
    name
        One of :data:`FEATURES`, or of :data:`nuclr.config.JOINED`, which concatenate several of them.
    population
        A population of any modality; its activity may be a Dask array.
    kept
        Folder that caches features, for resuming after an interruption, and for other baselines with the
        same features. None: no cache.
    """
    loaded: list[Population] = []
    parts = []
    for part in JOINED.get(name, (name,)):
        file = None if kept is None else kept / f"{part}-{_fingerprint(population)}.npy"
        if file is not None and file.exists():
            parts.append(np.load(file, allow_pickle=False))
            continue
        loaded = loaded or [in_memory(population)]
        parts.append(FEATURES[part](loaded[0]).astype(np.float32))
        if file is not None:
            # Another baseline with the same features may be writing the file at the same time.
            with whole(file, alone=False) as partial, partial.open("wb") as stream:
                np.save(stream, parts[-1])
    return np.concatenate(parts, axis=1)


def _fingerprint(population: Population) -> str:
    """Return a fingerprint of everything that the features of a population depend on."""
    return fingerprint(
        {
            "population": population.population,
            "units": population.units["unit_id"].tolist(),
            "source": population.source,
            "spans": population.valid_spans.tolist(),
            "versions": versions(),
        }
    )


def baseline_table(
    name: str,
    populations: Sequence[Population],
    learn_from: Collection[str] = (),
    *,
    kept: Path | None = None,
    shown: Callable[[Sequence[Population]], Iterable[Population]] = iter,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Compute a baseline's features for all units of several populations, some of them in parallel.

    Parameters
    ----------
    name
        One of :data:`BASELINES`.
    populations
        The populations.
    learn_from
        Names of the populations on which ``nemo`` is trained.
    kept
        Folder that caches features; see :func:`features_of`.
    shown
        Function that iterates over the populations, for example with a progress bar.

    Returns
    -------
    units, features, windows
        As for :func:`nuclr.representation.embeddings.write_embeddings`; ``windows`` is 1 for every unit.

    Raises
    ------
    ConfigError
        If there is no such baseline.
    DataError
        If ``nemo`` lacks waveforms.
    """
    if name not in BASELINES:
        raise ConfigError(f"there is no baseline {name}; choose one of {', '.join(BASELINES)}")
    units = concatenate([unit_table(population) for population in populations])
    if name == "which_recording":
        features = which_recording(units)
    elif name == "nemo":
        from nuclr.representation.nemo import nemo, templates

        waveforms = templates(populations)  # missing waveforms are refused before the long computation
        images = np.concatenate(list(_of_each(name, shown(populations), kept)))
        features = nemo(waveforms, images, units["population"].isin(learn_from).to_numpy(copy=True))
    else:
        features = np.concatenate(list(_of_each(name, shown(populations), kept)))
    return units, features.astype(np.float32), np.ones(len(units), np.int64)


def _of_each(name: str, populations: Iterable[Population], kept: Path | None) -> Iterator[np.ndarray]:
    """Yield the features of each population, in order; as many at a time as :data:`BYTES_AT_ONCE` allows."""
    waiting: list[Delayed] = []
    total = 0
    for population in populations:
        size = BYTES_A_BIN * int(np.prod(population.activity.shape))
        if waiting and total + size > BYTES_AT_ONCE:
            yield from dask.compute(*waiting)
            waiting, total = [], 0
        # Not traversed, so that activity is read by the process that computes the features.
        waiting.append(
            dask.delayed(features_of, pure=False)(name, dask.delayed(population, traverse=False), kept)
        )
        total += size
    yield from dask.compute(*waiting)
