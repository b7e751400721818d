"""Columns of NWB's tables, checked: a file may hold anything under any name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBFile

from nuclr.data.recording import SpikeTrains, Traces, remove_spans
from nuclr.errors import DataError

logger = logging.getLogger(__name__)


def column(table: Any, name: str, path: Path) -> np.ndarray:
    """Read a column with one value a row.

    Raises
    ------
    DataError
        If it is not there, or not of this kind.
    """
    if name not in table.colnames:
        raise DataError(f"{path}: no column {name} in table {table.name}; it has {', '.join(table.colnames)}")
    values = None if f"{name}_index" in table else np.asarray(table[name][:])
    if values is None or values.shape != (len(table),):
        raise DataError(f"{path}: column {name} of table {table.name} is not one value a row; leave it out")
    return decoded(values)


def decoded(values: np.ndarray) -> np.ndarray:
    """Text as ``str``: HDF5 hands it over as bytes."""
    if values.dtype.kind in "OS":
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], object)
    return values


def numbers(values: Any, named: str, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    """Read numbers of a shape, -1 being any length; what has none may be of any shape and kind.

    Raises
    ------
    DataError
        If they are not numbers, or of another shape.
    """
    found = np.asarray(values)
    if not found.size:
        return np.zeros([max(size, 0) for size in shape])
    check_numbers(found, named, shape)
    return found


def check_numbers(data: Any, named: str, shape: tuple[int, ...]) -> None:
    """Make sure that a dataset holds numbers in a shape, -1 being any length.

    Raises
    ------
    DataError
        If not.
    """
    fits = len(data.shape) == len(shape) and all(
        want in (-1, got) for want, got in zip(shape, data.shape, strict=True)
    )
    if not fits or data.dtype.kind not in "biuf":
        wanted = ", ".join("any" if size == -1 else str(size) for size in shape)
        raise DataError(
            f"{named}: {data.dtype} of shape {tuple(data.shape)}, where numbers of shape ({wanted}) belong; "
            "write the file again"
        )


def parts_of(dataset: Any, size: int = 2**22) -> Iterator[np.ndarray]:
    """Read a long dataset a part at a time."""
    for start in range(0, len(dataset), size):
        yield dataset[start : start + size]


def ragged(table: Any, name: str, path: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    """Where each unit's part of a ragged column begins and ends, ``(unit,)`` each, and the column.

    Raises
    ------
    DataError
        If its index points outside the column.
    """
    index = table.get(name, index=True) if f"{name}_index" in table else table[name]
    if not hasattr(index, "target"):
        raise DataError(f"{path}: column {name} of table {table.name} has no index; write the file again")
    stops = numbers(index.data[:], f"{path}: the index of column {name} of table {table.name}")
    stops = stops.astype(np.int64)
    starts = np.concatenate([[0], stops[:-1]])
    if (
        len(stops) != len(table)
        or (starts > stops).any()
        or (len(stops) and stops[-1] > len(index.target.data))
    ):
        raise DataError(
            f"{path}: the index of column {name} of table {table.name} points outside it; write it again"
        )
    return starts, stops, index.target


def rows_of(table: Any, rows: np.ndarray, path: Path) -> np.ndarray:
    """Check that some rows are in a table.

    Raises
    ------
    DataError
        If one is not.
    """
    rows = numbers(rows, f"{path}: a reference to rows of table {table.name}").astype(np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
        raise DataError(
            f"{path}: a reference to row {rows.max()} of table {table.name}, which has {len(table)}"
        )
    return rows


def without_invalid(nwb: NWBFile, spans: np.ndarray, path: Path) -> np.ndarray:
    """Take NWB's ``invalid_times`` out of the spans.

    Raises
    ------
    DataError
        If one of them ends before it begins.
    """
    if nwb.invalid_times is None or not len(nwb.invalid_times):
        return spans
    starts, stops = (
        numbers(column(nwb.invalid_times, name, path), f"{path}: invalid_times")
        for name in ("start_time", "stop_time")
    )
    if not (starts <= stops).all():
        raise DataError(f"{path}: invalid_times: an interval is not a number or ends before it begins")
    return remove_spans(spans, np.stack([starts, stops], axis=1))


def with_time(found: list[SpikeTrains] | list[Traces], path: Path) -> Any:
    """Leave out populations of which ``invalid_times`` leave nothing, with a warning.

    Raises
    ------
    DataError
        If that is all of them.
    """
    for raw in found:
        if not len(raw.valid_spans):
            logger.warning("%s: population %s: invalid_times cover all of it; left out", path, raw.population)
    kept = [raw for raw in found if len(raw.valid_spans)]
    if found and not kept:
        raise DataError(f"{path}: invalid_times cover everything that was recorded; look at them")
    return kept
