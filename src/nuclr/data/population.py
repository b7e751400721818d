"""The recording of one population of units, on which all later steps work."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nuclr.config import Modality
from nuclr.errors import DataError

if TYPE_CHECKING:
    import dask.array as da

LARGEST_SHARE = 0.01  # share of the samples above the 99th percentile


@dataclass(frozen=True)
class Summary:
    """Summary statistics of a population's activity over its valid spans.

    Attributes
    ----------
    mean_activity
        Spikes per second (calcium: mean dF/F) of each unit, ``(unit,)``.
    scale
        Divisor of the encoder's input: 1 for spikes, for calcium the 99th percentile of dF/F over all units
        and frames; NaN if there are no frames.
    """

    mean_activity: np.ndarray
    scale: float


@dataclass(frozen=True)
class Population:
    """Units recorded at the same time by one probe insertion or in one imaging session.

    Bin k covers ``[start_s + k * bin_s, start_s + (k + 1) * bin_s)``.

    Attributes
    ----------
    activity
        Spike counts per bin (unsigned integers) or dF/F per frame (float32), ``(unit, time)``;
        a NumPy or a Dask array.
    units
        One row for each unit: ``unit_id`` and the labels and quality columns of the source.
    valid_spans
        Start and stop (s) of the spans in which the recording is valid, ``(interval, 2)``, in ascending order
        and not overlapping.
    dataset, animal, recording, population
        Origin of the units; ``population`` is unique in a data set.
    modality
        ``"spikes"`` or ``"calcium"``.
    bin_s
        Length of a bin or frame (s).
    start_s
        Time of the start of the first bin, on the clock of the recording (s).
    source
        Provenance: the file, its hash and the settings.
    waveforms
        Mean waveform of each unit on the channel where it is largest, ``(unit, sample)``, NaN for units
        without one; None if waveforms were not stored.

    Raises
    ------
    DataError
        If the parts do not fit together.
    """

    activity: np.ndarray | da.Array
    units: pd.DataFrame
    valid_spans: np.ndarray
    dataset: str
    animal: str
    recording: str
    population: str
    modality: Modality
    bin_s: float
    start_s: float = 0.0
    source: dict[str, str] = field(default_factory=dict)
    waveforms: np.ndarray | None = None
    # Not a parameter, so that a copy with other activity or spans does not inherit it.
    summary: Summary | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        def refuse(what: str) -> None:
            raise DataError(f"population {self.population}: {what}")

        if self.activity.ndim != 2:
            refuse(f"activity must be (unit, time), not of shape {self.activity.shape}")
        if len(self.units) != self.activity.shape[0]:
            refuse(f"{self.activity.shape[0]} units of activity but {len(self.units)} rows in the unit table")
        if "unit_id" not in self.units:
            refuse("the unit table has no column unit_id")
        if self.units["unit_id"].duplicated().any():
            twice = self.units["unit_id"][self.units["unit_id"].duplicated()].iloc[0]
            refuse(f"unit_id {twice} occurs twice; unit ids must be unique")
        if self.waveforms is not None and len(self.waveforms) != len(self.units):
            refuse(f"{len(self.waveforms)} waveforms for {len(self.units)} units")
        if not self.bin_s > 0:
            refuse(f"bin_s must be above 0, not {self.bin_s}")
        spans = self.valid_spans
        if spans.ndim != 2 or spans.shape[1] != 2 or np.isnan(spans).any():
            refuse("valid_spans must be (interval, 2) without NaN")
        if (spans[:, 0] >= spans[:, 1]).any() or (spans[1:, 0] < spans[:-1, 1]).any():
            refuse("valid spans must ascend and not overlap")
        kind = self.activity.dtype.kind
        if kind != {"spikes": "u", "calcium": "f"}[self.modality]:
            refuse(f"activity of type {self.activity.dtype} does not fit the modality {self.modality}")

    def summarised(self, summary: Summary) -> Population:
        """Return a copy with a summary of its activity."""
        copy = replace(self)
        object.__setattr__(copy, "summary", summary)
        return copy

    @property
    def stop_s(self) -> float:
        """End of the last bin (s)."""
        return self.start_s + self.activity.shape[1] * self.bin_s

    @property
    def valid_minutes(self) -> float:
        """Total length of the valid spans (minutes)."""
        return float(np.diff(self.valid_spans, axis=1).sum()) / 60

    @property
    def min_rate_hz(self) -> float:
        """Rate below which units were left out when the store was made (Hz); 0 if it is unknown."""
        if self.modality != "spikes":
            return 0.0
        try:
            return float(json.loads(self.source["chunk"])["min_rate_hz"])
        except (KeyError, TypeError, ValueError):
            return 0.0

    def valid_bins(self) -> np.ndarray:
        """Return the first bin and one past the last whole bin of every valid span, ``(interval, 2)``."""
        # A tolerance of a thousandth of a bin allows for rounded times.
        bins = (self.valid_spans - self.start_s) / self.bin_s
        first = np.ceil(bins[:, 0] - 1e-3).astype(np.int64)
        last = np.floor(bins[:, 1] + 1e-3).astype(np.int64)
        spans = np.clip(np.stack([first, last], axis=1), 0, self.activity.shape[1])
        return spans[spans[:, 0] < spans[:, 1]]


def summary_of(population: Population) -> Summary:
    """Return the stored summary of a population, or compute it, with one shard in memory at a time."""
    return population.summary or summarise(population)


def summarise(population: Population) -> Summary:
    """Compute the summary of a population's activity in one pass, with one shard in memory at a time."""
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
    """Yield the activity inside the valid spans, one shard at a time."""
    chunks = getattr(population.activity, "chunks", None)
    bins = population.activity.shape[1]
    edges = np.cumsum(chunks[1]) if chunks else np.array([bins])
    for first, last in population.valid_bins():
        inside = edges[(edges > first) & (edges < last)]
        for start, stop in zip([first, *inside], [*inside, last], strict=True):
            yield np.asarray(population.activity[:, start:stop])


class _Largest:
    """The largest 1 % of many samples, which are added in parts."""

    def __init__(self, samples: int) -> None:
        # Like np.percentile: interpolated between the samples at two ranks, counted from the smallest.
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
