"""What a format hands over: a recording's populations, their spikes or traces still in the files.

Spans of time are arrays ``(interval, 2)`` of start and stop (s), ascending and apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from nuclr.data.spikes import Spikes

WAVEFORMS = "units/waveform_mean"


def safe_name(name: Any) -> str:
    """Make a name that can be part of a path: letters, digits, ``.``, ``_`` and ``-``."""
    text = name.decode() if isinstance(name, bytes) else str(name)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(".-") or "unnamed"


def distinct(names: Sequence[str]) -> list[str]:
    """Return names that all differ: those that repeat another, case aside, get -2, -3, ... in their order.

    A number that would make another's own name is passed over. Case counts for nothing, since on many disks
    it tells no folder from another.
    """
    own = {name.lower() for name in names}
    given: set[str] = set()
    unique = []
    for name in names:
        new, number = name, 1
        while new.lower() in given or (number > 1 and new.lower() in own):
            number += 1
            new = f"{name}-{number}"
        given.add(new.lower())
        unique.append(new)
    return unique


def name_of(path: Path) -> str:
    """Name of a recording: its file's or folder's."""
    # A link keeps its own name: archives that are cloned (git-annex) link to files that are named by a hash.
    name = os.path.basename(os.path.abspath(path))
    return safe_name(name.removesuffix(".nwb").removesuffix(".zarr"))


@dataclass(frozen=True)
class Recording:
    """One session of one animal: what can be known of it at a glance.

    Attributes
    ----------
    path
        A file, or a folder of files; it may not be there yet.
    recording, animal
        Names.
    origin
        What its archive calls it.
    """

    path: Path
    recording: str
    animal: str
    origin: str = ""


@dataclass(frozen=True)
class Waveforms:
    """``waveform_mean`` of an NWB Units table.

    Source: NWB schema, Units: ``(unit, sample)``, ``(unit, sample, electrode)``, or ragged, each
    unit's electrodes one after another, ``(electrode, sample)``.

    Attributes
    ----------
    path
        The NWB file.
    rows
        Each unit's row in the table.
    """

    path: Path
    rows: np.ndarray

    def only(self, chosen: np.ndarray) -> Waveforms:
        """Return those of some units: ``chosen`` is a mask or rows, ``(unit,)``."""
        return replace(self, rows=self.rows[chosen])

    def read(self) -> np.ndarray:
        """Each unit's waveform where it is largest, peak to peak, ``(unit, sample)``, in its file's unit.

        NaN for a unit without.
        """
        with h5py.File(self.path) as file:
            column, index = file[WAVEFORMS], file.get(f"{WAVEFORMS}_index")
            stops = np.arange(1, len(column) + 1) if index is None else index[:].astype(np.int64)
            starts = np.concatenate([[0], stops[:-1]])
            return np.stack([_largest(column[starts[row] : stops[row]], column) for row in self.rows])


def _largest(own: np.ndarray, column: h5py.Dataset) -> np.ndarray:
    """Choose among a unit's electrodes; ``own`` is ``(electrode, sample)`` or ``(1, sample, electrode)``."""
    by_electrode = own[0].T if own.ndim == 3 else own
    if not len(by_electrode):
        return np.full(column.shape[1], np.nan, np.float32)
    heights = np.nan_to_num(np.ptp(by_electrode, axis=1), nan=-1.0)
    return by_electrode[heights.argmax()].astype(np.float32)


@dataclass(frozen=True)
class SpikeTrains:
    """The units of one population.

    Attributes
    ----------
    path
        The recording: a file, or a folder of files.
    population
        Name of the population inside its recording.
    units
        ``unit_id`` and labels, one row a unit.
    spikes
        Where the units' spike times are.
    valid_spans
        ``(interval, 2)``, s.
    cut
        The data set's recordings are not used to their ends: spikes beyond the spans are no surprise.
    waveforms
        Where the units' mean waveforms are, if anywhere.
    files
        What was read of a folder that also holds other things; none: everything in it.
    """

    path: Path
    population: str
    units: pd.DataFrame
    spikes: Spikes
    valid_spans: np.ndarray
    cut: bool = False
    waveforms: Waveforms | None = None
    files: tuple[Path, ...] = ()

    def only(self, chosen: np.ndarray) -> SpikeTrains:
        """Return some of the units: ``chosen`` is a mask, ``(unit,)``."""
        units = self.units[chosen].reset_index(drop=True)
        waveforms = self.waveforms.only(chosen) if self.waveforms is not None else None
        return replace(self, units=units, spikes=self.spikes.only(chosen), waveforms=waveforms)


@dataclass(frozen=True)
class Frames:
    """Consecutive frames in a file, ``(frame, unit)``.

    Attributes
    ----------
    path
        An HDF5 file, or ``.npy``.
    dataset
        Path inside an HDF5 file.
    first
        Place of the first of them among the frames of the recording.
    count
        How many there are.
    """

    path: Path
    dataset: str
    first: int
    count: int

    def read(self, first: int, last: int) -> np.ndarray:
        """Frames from ``first`` to before ``last``, counted within the file, ``(frame, unit)``."""
        if self.path.suffix == ".npy":
            return np.array(np.load(self.path, mmap_mode="r")[first:last])
        with h5py.File(self.path) as file:
            return file[self.dataset][first:last]


@dataclass(frozen=True)
class Traces:
    """The imaged ROIs of one population.

    Attributes
    ----------
    path
        The recording: a file, or a folder of files.
    population
        Name of the population inside its recording.
    units
        ``unit_id`` and labels, one row a unit.
    frames
        Where the dF/F is, in the order of time; between two of them may be a gap.
    frame_s, start_s
        Length of a frame and start of the first (s).
    valid_spans
        ``(interval, 2)``, s.
    files
        What was read of a folder that also holds other things; none: everything in it.
    """

    path: Path
    population: str
    units: pd.DataFrame
    frames: tuple[Frames, ...]
    frame_s: float
    start_s: float
    valid_spans: np.ndarray
    files: tuple[Path, ...] = ()


def intersect_spans(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spans that lie in both, ``(interval, 2)``; each must ascend and not overlap."""
    low = np.maximum(a[:, None, 0], b[None, :, 0]).ravel()
    high = np.minimum(a[:, None, 1], b[None, :, 1]).ravel()
    spans = np.stack([low, high], axis=1)[low < high]
    return spans[np.argsort(spans[:, 0])]


def merge_spans(spans: np.ndarray, gap: float = 0.0) -> np.ndarray:
    """Spans in any order; those that overlap, or are ``gap`` apart or less, made one, ``(interval, 2)``."""
    merged: list[list[float]] = []
    for start, stop in spans[np.argsort(spans[:, 0])]:
        if merged and start <= merged[-1][1] + gap:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return np.array(merged, float).reshape(-1, 2)


def remove_spans(spans: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Take holes (in any order) out of some spans, ``(interval, 2)``."""
    holes = merge_spans(np.asarray(holes, float).reshape(-1, 2))
    between = np.concatenate([[-np.inf], holes.ravel(), [np.inf]]).reshape(-1, 2)
    return intersect_spans(spans, between)
