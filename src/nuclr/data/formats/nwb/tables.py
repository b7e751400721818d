"""NWB's tables (``DynamicTable``) with checks of their contents, because files may contain anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nuclr.data.access.remote import Remote
from nuclr.data.formats.nwb.file import Node
from nuclr.data.recording import SpikeTrains, Traces, remove_spans
from nuclr.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A table of an NWB file.

    Attributes
    ----------
    node
        Group of the table.
    """

    node: Node

    @property
    def file(self) -> Path | Remote:
        """Path of the file."""
        return self.node.file

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.node.name

    @cached_property
    def _children(self) -> dict[str, Node]:
        return {name: node for name, node in self.node.children().items() if not node.is_group}

    @cached_property
    def columns(self) -> list[str]:
        """Names of its columns, in the order of the file."""
        named = self.node.attribute("colnames", [])
        named = named if isinstance(named, list) else [named]
        listed = [name for name in named if isinstance(name, str)]
        indexes = {f"{name}_index" for name in self._children}
        others = [name for name in self._children if name != "id" and name not in {*listed, *indexes}]
        return [name for name in [*listed, *others] if name in self._children]

    @cached_property
    def ids(self) -> np.ndarray:
        """Id of each row, ``(row,)``."""
        if (ids := self._children.get("id")) is not None and len(ids.shape) == 1:
            return ids.read()
        lengths = [len(self._children.get(f"{name}_index", self._children[name])) for name in self.columns]
        return np.arange(lengths[0] if lengths else 0)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: str) -> bool:
        return name in self._children

    def dataset(self, name: str) -> Node:
        """Return a column as it is in the file.

        Raises
        ------
        DataError
            If it does not exist.
        """
        if name not in self._children:
            raise DataError(
                f"{self.file}: no column {name} in table {self.name}; the columns are "
                f"{', '.join(self.columns)}"
            )
        return self._children[name]

    def column(self, name: str) -> np.ndarray:
        """Return a column with one value for each row, ``(row,)``.

        Raises
        ------
        DataError
            If it does not exist, or does not have one value for each row.
        """
        dataset = self.dataset(name)
        if f"{name}_index" in self._children or dataset.shape != (len(self),):
            raise DataError(
                f"{self.file}: column {name} of table {self.name} does not have one value for each row; "
                "leave "
                "it out"
            )
        values = dataset.read()
        # EnumData: the column contains indices into a list of names.
        elements = dataset.target("elements")
        if elements is not None and not elements.is_group and values.dtype.kind in "iu":
            names = elements.read()
            if names.dtype.kind != "O" or names.ndim != 1:
                raise DataError(
                    f"{self.file}: column {name} of table {self.name} has no names for its numbers "
                    "(elements); write the file again"
                )
            within = (values >= 0) & (values < len(names))
            return np.where(within, names[np.where(within, values, 0)], "") if len(names) else values
        return values

    def ragged(self, name: str) -> tuple[np.ndarray, np.ndarray, Node]:
        """Return the start and stop of each row in a ragged column, ``(row,)`` each, and the column.

        Raises
        ------
        DataError
            If its index points outside the column.
        """
        dataset = self.dataset(name)
        if (index := self._children.get(f"{name}_index")) is None:
            raise DataError(
                f"{self.file}: column {name} of table {self.name} has no index; write the file again"
            )
        named = f"{self.file}: the index of column {name} of table {self.name}"
        stops = whole_numbers(index.read(), named)
        starts = np.concatenate([[0], stops[:-1]])
        if (
            len(stops) != len(self)
            or (starts > stops).any()
            or (len(stops) and (stops[-1] > len(dataset) or starts[0] < 0))
        ):
            raise DataError(
                f"{self.file}: the index of column {name} of table {self.name} points outside the column; "
                "write the file again"
            )
        return starts, stops, dataset

    def check_rows(self, rows: np.ndarray, named: str) -> np.ndarray:
        """Return row numbers after checking that they are in the table.

        Raises
        ------
        DataError
            If one is not.
        """
        rows = whole_numbers(rows, named)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise DataError(
                f"{named}: a reference to row {rows.max()} of table {self.name}, which has {len(self)} rows; "
                "write the file again"
            )
        return rows


def numbers(dataset: Node, named: str, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    """Return a dataset of numbers with a shape, in which -1 is any length; empty datasets may have any shape.

    Raises
    ------
    DataError
        If it does not contain numbers, or has another shape.
    """
    return checked(dataset.read(), named, shape)


def checked(values: np.ndarray, named: str, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    """Return numbers after checking their shape; see :func:`numbers`."""
    if not values.size:
        return np.zeros([max(size, 0) for size in shape])
    check_numbers(values, named, shape)
    return values


def whole_numbers(values: np.ndarray, named: str) -> np.ndarray:
    """Return integers, ``(n,)``, which are positions in a column or rows of a table.

    Raises
    ------
    DataError
        If they are not integers, or too large.
    """
    values = checked(values, named)
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        good = np.isfinite(values) & (values == np.floor(values))
        if not good.all():
            raise DataError(f"{named}: {values[~good][0]} is not an integer; write the file again")
    # Compared before the conversion, in which numbers beyond 2**63 would become negative silently.
    if len(values) and (values.max() > 2.0**62 or values.min() < -(2.0**62)):
        raise DataError(f"{named}: {values.max()} is larger than any row number; write the file again")
    return values.astype(np.int64)


def check_numbers(data: Any, named: str, shape: tuple[int, ...]) -> None:
    """Check that a dataset contains numbers with a shape, in which -1 is any length.

    Raises
    ------
    DataError
        If it does not.
    """
    fits = len(data.shape) == len(shape) and all(
        want in (-1, got) for want, got in zip(shape, data.shape, strict=True)
    )
    if not fits or data.dtype.kind not in "biuf":
        wanted = ", ".join("any" if size == -1 else str(size) for size in shape)
        raise DataError(
            f"{named}: {data.dtype} of shape {tuple(data.shape)}, but numbers of shape ({wanted}) are "
            "needed; "
            "write the file again"
        )


def parts_of(dataset: Node, size: int = 2**22) -> Iterator[np.ndarray]:
    """Yield a long dataset in parts."""
    for start in range(0, len(dataset), size):
        yield dataset.read(start, start + size)


def intervals(table: Table) -> np.ndarray:
    """Return ``start_time`` and ``stop_time`` of a table of intervals, ``(interval, 2)`` (s)."""
    named = f"{table.file}: {table.name}"
    columns = [checked(table.column(name), f"{named}: {name}") for name in ("start_time", "stop_time")]
    return np.stack(columns, axis=1).astype(float)


def without_invalid(root: Node, spans: np.ndarray) -> np.ndarray:
    """Return spans without NWB's ``invalid_times``.

    Raises
    ------
    DataError
        If one of these ends before it begins.
    """
    found = root.get("intervals/invalid_times")
    if found is None or not found.is_group or not len(table := Table(found)):
        return spans
    return without_holes(spans, intervals(table), root.file)


def without_holes(spans: np.ndarray, holes: np.ndarray, path: Path | Remote) -> np.ndarray:
    """Return spans without ``invalid_times``, ``(interval, 2)``; see :func:`without_invalid`."""
    if not (holes[:, 0] <= holes[:, 1]).all():
        raise DataError(
            f"{path}: invalid_times: an interval is NaN or ends before it begins; correct the file"
        )
    return remove_spans(spans, holes)


def with_time(found: list[SpikeTrains] | list[Traces], path: Path | Remote) -> Any:
    """Return the populations that have valid time, with a warning for each of the others.

    Raises
    ------
    DataError
        If ``invalid_times`` cover all populations.
    """
    for raw in found:
        if not len(raw.valid_spans):
            logger.warning(
                "%s: population %s: invalid_times cover the whole session; left out", path, raw.population
            )
    kept = [raw for raw in found if len(raw.valid_spans)]
    if found and not kept:
        raise DataError(f"{path}: invalid_times cover the whole recording; check them")
    return kept
