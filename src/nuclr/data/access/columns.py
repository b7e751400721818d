"""Long columns of numbers in .npy, HDF5 and Zarr files, read in parts."""

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
    """Context that turns any error of a library into a DataError that names the file and the place in it.

    It is only for calls of NumPy, h5py and zarr, which raise various errors for damaged files.

    Raises
    ------
    DataError
        Instead of the errors of the library.
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
    """An open array of h5py or zarr, whose errors name the file and the place in it.

    Attributes
    ----------
    raw
        The array.
    path, place
        The file, and the path of the array in it.
    """

    raw: Any
    path: Path | Remote
    place: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.raw.shape or ())

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements."""
        return np.dtype(self.raw.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        with reading(self.path, self.place):
            return np.asarray(self.raw[key])


def map_npy(path: Path) -> np.ndarray:
    """Memory-map a ``.npy`` file; nothing in it is unpickled.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, instead of the various errors of NumPy.
    """
    try:
        with np.errstate(over="ignore"):  # the header may contain an impossible shape
            # numpy.load is not used, because it also reads archives.
            return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None


@contextmanager
def open_array(path: Path | Remote, dataset: str = "") -> Iterator[Any]:
    """Open an array that can be sliced: a ``.npy`` file (memory-mapped), or an array in HDF5 or Zarr.

    Parameters
    ----------
    path
        A ``.npy`` file, an HDF5 file, or a Zarr folder.
    dataset
        Path of the array in an HDF5 file or a Zarr group; "" if the folder is the array itself.

    Raises
    ------
    DataError
        If the array does not exist or is damaged; also raised when a part of it is read.
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
        A ``.npy`` file, an HDF5 file or a Zarr folder; the column has the shape ``(n,)`` or ``(n, 1)``.
    field
        Name of the field, if the rows of a ``.npy`` file have several.
    dataset
        Path of the array in an HDF5 file or a Zarr group.
    """

    path: Path | Remote
    field: str = ""
    dataset: str = ""

    def __len__(self) -> int:
        with self.opened() as values:
            return int(values.size)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the column, to read several slices."""
        with open_array(self.path, self.dataset) as values:
            yield values

    def read(self, low: int, high: int) -> np.ndarray:
        """Read the elements from ``low`` to before ``high``, ``(n,)``.

        The file is not memory-mapped, because mapped pages count as memory of the process.
        """
        with self.opened() as opened:
            low, high = min(low, opened.size), min(high, opened.size)
            if not isinstance(opened, np.memmap):
                return np.asarray(opened[low:high]).reshape(-1)
            offset = opened.offset + low * opened.itemsize
            values: Any = np.fromfile(self.path, opened.dtype, count=high - low, offset=offset)
            return values[self.field] if self.field else values

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """Yield the whole column in parts of ``size`` elements."""
        for first in range(0, len(self), size):
            yield self.read(first, first + size)

    def places(self, edges: np.ndarray) -> np.ndarray:
        """Return the positions at which numbers would be inserted into the ascending column, ``(edge,)``."""
        with self.opened() as opened:
            values = opened.ravel() if isinstance(opened, np.memmap) else self.read(0, opened.size)
        values = values[self.field] if self.field else values
        if values.dtype.kind not in "iu":
            return np.searchsorted(values, edges)
        # Converted to integers, or else the whole column would be converted to floats; allows for rounding.
        edges, most = np.ceil(edges - 1e-3), np.iinfo(values.dtype)
        within = edges < float(most.max) + 1
        places = np.searchsorted(values, np.where(within, edges, 0).clip(most.min).astype(values.dtype))
        return np.where(within, places, len(values))


class ArrayColumn(Column):
    """An array of any shape that is already open: in memory, or of Dask, h5py or Zarr.

    Parameters
    ----------
    named
        Name of the array in messages.
    values
        Any object that can be sliced like a NumPy array; it is not copied.
    """

    # Not a dataclass field, because Dask would look for its own arrays in the fields and compute them.
    values: Any

    def __init__(self, named: str, values: Any) -> None:
        super().__init__(Path(named))
        object.__setattr__(self, "values", values)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield the array."""
        yield self.values
