"""Long columns of numbers in files of every kind, read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from nuclr.data.remote import Remote, open_hdf5, open_zarr


@contextmanager
def open_array(path: Path | Remote, dataset: str = "") -> Iterator[Any]:
    """Open an array that is sliced like NumPy's: a ``.npy`` file (mapped), or one in HDF5 or Zarr.

    Parameters
    ----------
    path
        A ``.npy`` file, an HDF5 file, or a Zarr folder.
    dataset
        Which array of an HDF5 file or a Zarr group; "" where the folder is the array itself.
    """
    if path.suffix == ".npy":
        assert isinstance(path, Path)
        yield np.load(path, mmap_mode="r")
    elif not dataset:
        yield zarr.open_array(path, mode="r")
    elif path.is_dir():
        yield open_zarr(path)[dataset]
    else:
        with open_hdf5(path) as file:
            yield file[dataset]


@dataclass(frozen=True)
class Column:
    """A column of numbers, in a file or a folder of them.

    Attributes
    ----------
    path
        A ``.npy`` file, an HDF5 file or a Zarr folder; the column is of shape ``(n,)`` or ``(n, 1)``.
    field
        Which field, where each row of a ``.npy`` file has several.
    dataset
        Where in an HDF5 file or a Zarr group it is.
    """

    path: Path | Remote
    field: str = ""
    dataset: str = ""

    def __len__(self) -> int:
        with self.opened() as values:
            return int(values.size)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the column once for several slices."""
        with open_array(self.path, self.dataset) as values:
            yield values

    def read(self, low: int, high: int) -> np.ndarray:
        """Read from one place to before another, ``(n,)``.

        Read, not mapped: the pages of a mapped file count as the memory of whoever looked at them.
        """
        with self.opened() as opened:
            low, high = min(low, opened.size), min(high, opened.size)
            if not isinstance(opened, np.memmap):
                return np.asarray(opened[low:high]).reshape(-1)
            offset = opened.offset + low * opened.itemsize
            values: Any = np.fromfile(self.path, opened.dtype, count=high - low, offset=offset)
            return values[self.field] if self.field else values

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """Read all of it, so many numbers at a time."""
        for first in range(0, len(self), size):
            yield self.read(first, first + size)

    def places(self, edges: np.ndarray) -> np.ndarray:
        """Where each of some numbers would stand in the column, which ascends, ``(edge,)``."""
        with self.opened() as opened:
            values = opened.ravel() if isinstance(opened, np.memmap) else self.read(0, opened.size)
        values = values[self.field] if self.field else values
        if values.dtype.kind in "iu":
            # Whole numbers, or all of the column would become floating; what was rounded is forgiven.
            edges = np.ceil(edges - 1e-3).astype(values.dtype)
        return np.searchsorted(values, edges)
