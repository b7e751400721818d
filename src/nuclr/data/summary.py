"""What later steps ask of a population's activity as a whole, so that none of them reads all of it again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nuclr.data.population import Population, Summary

LARGEST_SHARE = 0.01  # of the samples lie above the 99th percentile


def summary_of(population: Population) -> Summary:
    """Give what its store knows of a population, or read its activity, one shard in memory at a time."""
    return population.summary or summarise(population)


def summarise(population: Population) -> Summary:
    """Read a population's activity once, one shard in memory at a time."""
    calcium = population.modality == "calcium"
    total, bins = np.zeros(len(population.units)), 0
    largest = _Largest(len(population.units) * int(np.diff(population.valid_bins(), axis=1).sum()))
    for part in _parts(population):
        total += part.sum(axis=1, dtype=np.float64)
        bins += part.shape[1]
        if calcium:
            largest.add(part)
    per_bin = total / max(1, bins)
    if calcium:
        return Summary(per_bin, largest.percentile_99())
    return Summary(per_bin / population.bin_s, 1.0)


def _parts(population: Population) -> Iterable[np.ndarray]:
    """Activity inside the valid spans, cut where the shards are."""
    chunks = getattr(population.activity, "chunks", None)
    bins = population.activity.shape[1]
    edges = np.cumsum(chunks[1]) if chunks else np.array([bins])
    for first, last in population.valid_bins():
        inside = edges[(edges > first) & (edges < last)]
        for start, stop in zip([first, *inside], [*inside, last], strict=True):
            yield np.asarray(population.activity[:, start:stop])


class _Largest:
    """The largest hundredth of many samples that come one part at a time."""

    def __init__(self, samples: int) -> None:
        # As in np.percentile: between the samples at these two places, the smallest being at 0.
        place = (1 - LARGEST_SHARE) * max(0, samples - 1)
        self.below, self.share = int(place), place - int(place)
        self.kept = samples - self.below
        self.samples = np.zeros(0, np.float32)

    def add(self, part: np.ndarray) -> None:
        together = np.concatenate([self.samples, part.ravel()])
        if len(together) > self.kept:
            together = np.partition(together, len(together) - self.kept)[-self.kept :]
        self.samples = together

    def percentile_99(self) -> float:
        if not len(self.samples):
            return float("nan")
        low, high = np.sort(self.samples)[[0, min(1, len(self.samples) - 1)]].astype(np.float64)
        return float(low + (high - low) * self.share)
