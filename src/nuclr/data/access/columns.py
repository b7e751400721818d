"""Long columns of numbers in files of every kind, read a part at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from nuclr.data.access.opening import open_hdf5, open_zarr
from nuclr.data.access.remote import Remote
from nuclr.errors import DataError, NuclrError


@contextmanager
def reading(path: Path | Remote, place: str = "") -> Iterator[None]:
    """Say by the names of a file and of what is in it that a library cannot read it.

    For calls of NumPy, h5py and zarr alone, which raise whatever they like on damaged bytes.

    Raises
    ------
    DataError
        In place of what they raise.
    """
    try:
        yield
    except NuclrError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: file not found; copy it again") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        where = f"{path}: {place}" if place else f"{path}"
        raise DataError(f"{where}: damaged ({reason}); copy or write it again") from None


@dataclass(frozen=True)
class Opened:
    """An open array of h5py or zarr, which says where it is when a part of it cannot be read.

    Attributes
    ----------
    raw
        The array.
    path, place
        Its file, and where in it.
    """

    raw: Any
    path: Path | Remote
    place: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.raw.shape or ())

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return np.dtype(self.raw.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        with reading(self.path, self.place):
            return np.asarray(self.raw[key])


def map_npy(path: Path) -> np.ndarray:
    """Map a ``.npy`` file; nothing in it is unpickled.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is damaged, in place of all else that NumPy and its parser of headers raise.
    """
    try:
        with np.errstate(over="ignore"):  # of a shape that cannot be
            # Not numpy.load, which also takes archives.
            return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None


@contextmanager
def open_array(path: Path | Remote, dataset: str = "") -> Iterator[Any]:
    """Open an array that is sliced like NumPy's: a ``.npy`` file (mapped), or one in HDF5 or Zarr.

    Parameters
    ----------
    path
        A ``.npy`` file, an HDF5 file, or a Zarr folder.
    dataset
        Which array of an HDF5 file or a Zarr group; "" where the folder is the array itself.

    Raises
    ------
    DataError
        If it is not there, or damaged; also when a part of it is asked for.
    """
    if path.suffix == ".npy":
        assert isinstance(path, Path)
        with reading(path):
            values = map_npy(path)
        yield values
        return
    with ExitStack() as stack:
        with reading(path, dataset):
            if not dataset:
                raw: Any = zarr.open_array(path, mode="r")
            elif path.is_dir():
                raw = open_zarr(path)[dataset]
            else:
                raw = stack.enter_context(open_hdf5(path))[dataset]
        yield Opened(raw, path, dataset)


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
        if values.dtype.kind not in "iu":
            return np.searchsorted(values, edges)
        # Whole numbers, or all of the column would become floating; what was rounded is forgiven.
        edges, most = np.ceil(edges - 1e-3), np.iinfo(values.dtype)
        within = edges < float(most.max) + 1
        places = np.searchsorted(values, np.where(within, edges, 0).clip(most.min).astype(values.dtype))
        return np.where(within, places, len(values))


class ArrayColumn(Column):
    """An array that is open already: in memory, or of Dask, h5py or Zarr; of any shape.

    Parameters
    ----------
    named
        What messages call it.
    values
        Anything that is sliced like a NumPy array; it is not copied.
    """

    # Not a field: in the fields of what a task is given, Dask looks for its own arrays, and computes them.
    values: Any

    def __init__(self, named: str, values: Any) -> None:
        super().__init__(Path(named))
        object.__setattr__(self, "values", values)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Give the array."""
        yield self.values
