"""Conversion of traces in memory to recordings: their orientation, and the times of their frames."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nuclr.config import Nwb
from nuclr.data.access.columns import ArrayColumn
from nuclr.data.fluorescence import Correction, Frames, frame_length
from nuclr.data.formats.memory.labels import ALL, unit_table
from nuclr.data.formats.memory.objects import HeldTraces
from nuclr.data.recording import Traces, merge_spans, safe_name
from nuclr.errors import DataError
from nuclr.words import counted

logger = logging.getLogger(__name__)


def oriented(held: HeldTraces, time_first: bool | None, named: str) -> HeldTraces:
    """Return the traces with their orientation, ``(unit, time)`` or not."""
    shape = tuple(np.shape(held.values))
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{named}: traces have the shape {shape}; give a non-empty array (unit, time)")
    if held.by_unit is not None:
        return held
    if time_first is None and shape[0] > shape[1]:
        frames = counted(shape[1], "frame")
        raise DataError(
            f"{named}: traces of shape {shape} would be {shape[0]} units with {frames}; give time_first=True "
            "if the array is (time, unit), or time_first=False if it is (unit, time)"
        )
    return replace(held, by_unit=not time_first)


@dataclass(frozen=True)
class _Piece:
    """Consecutive frames: their position in the array, and in time, in frames."""

    first: int
    count: int
    place: int


def traces(
    held: HeldTraces,
    named: str,
    population: str,
    timing: tuple[float | None, float | None] = (None, None),
    *,
    fluorescence: bool = False,
    options: Nwb = ALL,
) -> Traces:
    """Return traces as a recording; ``timing`` is the rate and start of traces without frame times."""
    values, by_unit = held.values, bool(held.by_unit)
    kind = np.dtype(values.dtype).kind
    if kind not in "iuf" or (kind != "f" and not fluorescence):
        raise DataError(
            f"{named}: traces of type {values.dtype}, but dF/F must be floats; give fluorescence=True to "
            "compute dF/F from camera counts, or use nuclr.from_spike_times for spikes"
        )
    units, count = np.shape(values) if by_unit else np.shape(values)[::-1]
    frame_s, start_s, pieces = _timing(held, count, timing, named)
    rows = np.arange(units)
    frames = []
    for piece in pieces:
        # Slicing an array of h5py would read it.
        part = values if len(pieces) == 1 else _cut(values, piece, by_unit)
        column = ArrayColumn(named, part)
        frames.append(Frames(column, rows, rows, piece.place, piece.count, by_unit))
    if fluorescence:
        frames = [replace(part, correction=Correction(frame_s)) for part in frames]
    elif frames[0].raw():
        logger.warning(
            "%s: all traces are above 0, like raw fluorescence, but are used as dF/F; give fluorescence=True "
            "to compute dF/F from them",
            named,
        )
    places = np.array([[piece.place, piece.place + piece.count] for piece in pieces])
    ids = [str(row) for row in rows] if held.ids is None else held.ids
    return Traces(
        path=Path(named),
        population=safe_name(population),
        units=unit_table(ids, held.columns, options, named),
        frames=tuple(frames),
        count=int(places[-1, 1]),
        frame_s=frame_s,
        start_s=start_s,
        valid_spans=merge_spans(start_s + places * frame_s),
    )


def _cut(values: Any, piece: _Piece, by_unit: bool) -> Any:
    chosen = slice(piece.first, piece.first + piece.count)
    return values[:, chosen] if by_unit else values[chosen]


def _timing(
    held: HeldTraces, count: int, timing: tuple[float | None, float | None], named: str
) -> tuple[float, float, list[_Piece]]:
    """Return the length of a frame, the time of the first one (s), and the pieces of consecutive frames."""
    rate_hz, start_s = timing
    if rate_hz is not None and not 0 < rate_hz < np.inf:
        raise DataError(f"{named}: rate_hz must be above 0, not {rate_hz}")
    times = held.times
    if times is None:
        if rate_hz is None:
            raise DataError(f"{named}: the frame rate is missing; give rate_hz")
        return 1 / rate_hz, float(start_s or 0.0), [_Piece(0, count, 0)]
    if start_s is not None:
        raise DataError(f"{named}: start_s is given, but the traces have frame times; leave it out")
    epoch = np.zeros(count, int)
    if held.epochs is not None:
        epoch = np.searchsorted(held.epochs[:, 0], times, side="right")
    gaps, follows = np.diff(times), np.diff(epoch) == 0
    frame_s = frame_length(gaps[follows]) if follows.any() else None
    if frame_s is None or not (gaps > 0).all():
        raise DataError(
            f"{named}: frames are not evenly spaced in time, or fewer than two; give the array itself "
            "with rate_hz, or interpolate it to evenly spaced times"
        )
    if rate_hz is not None and abs(rate_hz * frame_s - 1) > 0.01:
        raise DataError(
            f"{named}: rate_hz = {rate_hz:g}, but the frame times are at {1 / frame_s:.4g} Hz; leave out "
            "rate_hz"
        )
    edges = [0, *(np.flatnonzero(~follows) + 1).tolist(), count]
    pieces: list[_Piece] = []
    for first, end in pairwise(edges):
        place = round((times[first] - times[0]) / frame_s)
        after = pieces[-1].place + pieces[-1].count if pieces else 0
        pieces.append(_Piece(first, end - first, max(place, after)))
    return frame_s, float(times[0]), pieces
