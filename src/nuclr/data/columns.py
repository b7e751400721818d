"""Long columns of numbers in files, read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr


@dataclass(frozen=True)
class Column:
    """A column of numbers, in a file or a folder of them.

    Attributes
    ----------
    path
        A ``.npy`` file, of shape ``(n,)`` or ``(n, 1)``, or a Zarr array ``(n,)``.
    field
        Which field, where each row of a ``.npy`` file has several.
    """

    path: Path
    field: str = ""

    def __len__(self) -> int:
        return int(self._opened().size)

    def _opened(self) -> Any:
        if self.path.is_dir():
            return zarr.open_array(self.path, mode="r")
        return np.load(self.path, mmap_mode="r")

    def read(self, low: int, high: int) -> np.ndarray:
        """Read from one place to before another, ``(n,)``.

        Read, not mapped: the pages of a mapped file count as the memory of whoever looked at them.
        """
        opened = self._opened()
        low, high = min(low, opened.size), min(high, opened.size)
        if self.path.is_dir():
            return np.asarray(opened[low:high])
        offset = opened.offset + low * opened.itemsize
        values = np.fromfile(self.path, opened.dtype, count=high - low, offset=offset)
        return values[self.field] if self.field else values

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """Read all of it, so many numbers at a time."""
        for first in range(0, len(self), size):
            yield self.read(first, first + size)

    def places(self, edges: np.ndarray) -> np.ndarray:
        """Where each of some numbers would stand in the column, which ascends, ``(edge,)``."""
        values = self.read(0, len(self)) if self.path.is_dir() else self._opened().ravel()
        values = values[self.field] if self.field else values
        if values.dtype.kind in "iu":
            # Whole numbers, or all of the column would become floating; what was rounded is forgiven.
            edges = np.ceil(edges - 1e-3).astype(values.dtype)
        return np.searchsorted(values, edges)
