"""Populations as formats return them: the spikes or traces are still in the files.

Spans of time are arrays ``(interval, 2)`` of start and stop (s), in ascending order and not overlapping.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nuclr.data.access.remote import Remote
from nuclr.errors import DataError
from nuclr.words import listed

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.data.access.columns import Column
    from nuclr.data.fluorescence import Frames
    from nuclr.data.spikes import Spikes


def safe_name(name: Any) -> str:
    """Return a name that can be part of a path: only letters, digits, ``.``, ``_`` and ``-``."""
    text = name.decode() if isinstance(name, bytes) else str(name)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(".-") or "unnamed"


def distinct(names: Sequence[str]) -> list[str]:
    """Return unique names: repeated names, ignoring case, get the suffixes -2, -3, ... in their order.

    A suffix that would result in another existing name is skipped. Case is ignored, because many file systems
    do not distinguish it.
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


def name_of(path: Path | Remote) -> str:
    """Return the name of a recording, which is that of its file or folder."""
    # Links are not followed: in cloned archives (git-annex) they point to files that are named by a hash.
    name = path.name if isinstance(path, Remote) else os.path.basename(os.path.abspath(path))
    return safe_name(name.removesuffix(".zarr").removesuffix(".nwb"))


# Origin of a recording that is not of an animal.
SIMULATED = "simulated"
Labels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Recording:
    """One session of one animal, with what is known before its data are read.

    Attributes
    ----------
    path
        A file, or a folder of files, which may not exist yet.
    recording, animal
        Names of the recording and its animal.
    origin
        Name of the recording in its archive.
    left_out
        Reason why the recording is not used; "" if it is.
    labels
        Number of units with each value of each column of labels, if it is known.
    """

    path: Path
    recording: str
    animal: str
    origin: str = ""
    left_out: str = ""
    labels: Labels = field(default_factory=dict)


def shown_name(path: Path | Remote, recording: str) -> str:
    """Return a recording's name in messages: that of its file, or for a folder that of the recording."""
    return recording if isinstance(path, Path) and path.is_dir() else path.name


def say_left_out(recordings: Sequence[Recording]) -> str:
    """Return a line with the recordings that are left out and the reasons; "" if there are none."""
    several = [recording for recording in recordings if recording.left_out]
    return f"left out: {list_left_out(several)}" if several else ""


def reason_of(error: object, path: Path | Remote) -> str:
    """Return the text of an error without the path of the recording, beside which it is shown."""
    text = str(error)
    # A file inside the recording's folder keeps its own name.
    return text.removeprefix(f"{path}: ").removeprefix(f"{path}/")


def list_left_out(recordings: Sequence[Recording]) -> str:
    """Return the names of recordings with the reasons why they are left out, grouped by reason."""
    names: dict[str, list[str]] = {}
    for recording in recordings:
        reason = reason_of(recording.left_out, recording.path)
        names.setdefault(reason, []).append(shown_name(recording.path, recording.recording))
    return "; ".join(f"{listed(some)} ({reason})" for reason, some in names.items())


@dataclass(frozen=True)
class Waveforms:
    """Mean waveforms of units in a file.

    Source: NWB schema, Units: ``waveform_mean`` is ``(unit, sample)``, ``(unit, sample, electrode)``, or
    ragged, with the electrodes of one unit after those of another, ``(electrode, sample)``.

    Attributes
    ----------
    means
        Mean waveforms of all units.
    starts, stops
        First row, and one past the last row, of each unit, ``(unit,)``.
    """

    means: Column
    starts: np.ndarray
    stops: np.ndarray

    def only(self, chosen: np.ndarray) -> Waveforms:
        """Return the waveforms of some units; ``chosen`` is a mask or rows, ``(unit,)``."""
        return replace(self, starts=self.starts[chosen], stops=self.stops[chosen])

    def read(self) -> np.ndarray:
        """Return each unit's waveform on the electrode where it is largest, ``(unit, sample)``.

        Amplitudes are measured from peak to peak. Values are in the physical unit of the file, and NaN for
        units without a waveform.
        """
        with self.means.opened() as column:
            samples = column.shape[1]
            return np.stack(
                [
                    _largest(np.asarray(column[start:stop]), samples)
                    for start, stop in zip(self.starts, self.stops, strict=True)
                ]
            )


def _largest(own: np.ndarray, samples: int) -> np.ndarray:
    """Return a unit's largest waveform; ``own`` is ``(electrode, sample)`` or ``(1, sample, electrode)``."""
    by_electrode = own[0].T if own.ndim == 3 and len(own) else own
    if not len(by_electrode):
        return np.full(samples, np.nan, np.float32)
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
        ``unit_id`` and labels, one row for each unit.
    spikes
        The spike times of the units, in files.
    valid_spans
        Valid spans (s), ``(interval, 2)``.
    cut
        Whether the end of the recording is deliberately not used, so that spikes beyond the spans are
        expected.
    waveforms
        The mean waveforms of the units, in files; None if there are none.
    files
        The files that were read, of a folder that also contains others; empty: all files in it.
    origin
        What the recording says of its origin: :data:`SIMULATED`; "" if it says nothing.
    """

    path: Path | Remote
    population: str
    units: pd.DataFrame
    spikes: Spikes
    valid_spans: np.ndarray
    cut: bool = False
    waveforms: Waveforms | None = None
    files: tuple[Path, ...] = ()
    origin: str = ""

    def only(self, chosen: np.ndarray) -> SpikeTrains:
        """Return a copy with some of the units; ``chosen`` is a mask, ``(unit,)``."""
        units = self.units[chosen].reset_index(drop=True)
        waveforms = self.waveforms.only(chosen) if self.waveforms is not None else None
        return replace(self, units=units, spikes=self.spikes.only(chosen), waveforms=waveforms)


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
        ``unit_id`` and labels, one row for each unit.
    frames
        Fluorescence or dF/F in files, as blocks of ROIs and frames; there may be time gaps between blocks.
    count
        Number of frames in the recording.
    frame_s, start_s
        Length of a frame, and start of the first frame (s).
    valid_spans
        Valid spans (s), ``(interval, 2)``.
    files
        The files that were read, of a folder that also contains others; empty: all files in it.
    origin
        What the recording says of its origin: :data:`SIMULATED`; "" if it says nothing.
    """

    path: Path | Remote
    population: str
    units: pd.DataFrame
    frames: tuple[Frames, ...]
    count: int
    frame_s: float
    start_s: float
    valid_spans: np.ndarray
    files: tuple[Path, ...] = ()
    origin: str = ""

    def only(self, chosen: np.ndarray) -> Traces:
        """Return a copy with some of the units; ``chosen`` is a mask, ``(unit,)``."""
        units = self.units[chosen].reset_index(drop=True)
        return replace(self, units=units, frames=tuple(frames.only(chosen) for frames in self.frames))

    def read(self, first: int, last: int) -> np.ndarray:
        """Read the frames from ``first`` to before ``last``, ``(unit, time)``; 0 in gaps."""
        traces = np.zeros((len(self.units), last - first), np.float32)
        for frames in self.frames:
            low, high = max(first, frames.first), min(last, frames.first + frames.count)
            if low < high:
                read = frames.read(low - frames.first, high - frames.first)
                with np.errstate(over="ignore"):  # overflow becomes infinity, which is handled later
                    traces[frames.units, low - first : high - first] = read
        return traces


LONGEST_S = 30 * 86400.0
LATEST_S = 1e11  # clocks may count from 1970, but must count seconds


def session_span(first_s: float, last_s: float) -> np.ndarray:
    """Return the span of a session of which only the spikes are known, ``(1, 2)`` (s).

    It extends from the first spike, rounded down to a whole second, to just after the last spike, because
    spans are open at their end.
    """
    return np.array([[np.floor(first_s), np.nextafter(last_s, np.inf)]])


def widened(session: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Return a session span, ``(1, 2)`` (s), extended to include intervals; invalid intervals are ignored."""
    sound = np.isfinite(intervals).all(axis=1) & (intervals[:, 0] <= intervals[:, 1])
    every = np.concatenate([session, intervals[sound]])
    return np.array([[every[:, 0].min(), every[:, 1].max()]])


def check_seconds(spans: np.ndarray, path: Path | Remote) -> None:
    """Check that the times of a session can be in seconds.

    Raises
    ------
    DataError
        If the session is too long or too late to be in seconds.
    """
    start, stop = float(spans[0, 0]), float(spans[-1, 1])
    if not (-LATEST_S <= start <= stop <= LATEST_S):
        raise DataError(
            f"{path}: the session is from {start:.6g} to {stop:.6g} s; times must be in seconds, not in "
            "samples or milliseconds"
        )
    if (length := stop - start) > LONGEST_S:
        raise DataError(
            f"{path}: the session lasts {length:.0f} s; times must be in seconds, not in samples or "
            "milliseconds"
        )


def intersect_spans(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection of two sets of spans, ``(interval, 2)``; each must ascend and not overlap."""
    low = np.maximum(a[:, None, 0], b[None, :, 0]).ravel()
    high = np.minimum(a[:, None, 1], b[None, :, 1]).ravel()
    spans = np.stack([low, high], axis=1)[low < high]
    return spans[np.argsort(spans[:, 0])]


def merge_spans(spans: np.ndarray, gap: float = 0.0) -> np.ndarray:
    """Return spans with those merged that overlap or are at most ``gap`` apart, ``(interval, 2)``."""
    merged: list[list[float]] = []
    for start, stop in spans[np.argsort(spans[:, 0])]:
        if merged and start <= merged[-1][1] + gap:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return np.array(merged, float).reshape(-1, 2)


def remove_spans(spans: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Return spans without some holes (in any order), ``(interval, 2)``."""
    holes = merge_spans(np.asarray(holes, float).reshape(-1, 2))
    between = np.concatenate([[-np.inf], holes.ravel(), [np.inf]]).reshape(-1, 2)
    return intersect_spans(spans, between)
