"""The arrays and tables of one sorting in ALF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.data.access.columns import Column, map_npy
from nuclr.data.formats.alf.files import files_of
from nuclr.data.recording import SpikeTrains
from nuclr.data.spikes import SpikesByTime
from nuclr.data.text import read_table
from nuclr.errors import DataError

FETCH_AGAIN = "delete the folder and download the recording again"


def load(folder: Path, name: str, remedy: str = FETCH_AGAIN) -> np.ndarray:
    """Return one array, ``(n,)`` or ``(n, m)``; columns ``(n, 1)`` become ``(n,)``.

    Raises
    ------
    DataError
        If the file does not exist, or is damaged.
    """
    path = folder / name
    try:
        values = map_npy(path)
    except FileNotFoundError:
        raise DataError(f"{path}: file not found; {remedy}") from None
    except (ValueError, OSError, EOFError) as error:
        objects = "Object arrays" in str(error) or "Python objects" in str(error)
        why = "it contains pickled objects, which are not read: save text or numbers" if objects else error
        raise DataError(f"{path}: damaged ({why}); {remedy}") from None
    if values.dtype.kind == "V":
        raise DataError(f"{path}: contains records with several fields instead of numbers or names; {remedy}")
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def load_if_there(folder: Path, name: str, length: int) -> np.ndarray:
    """Return an array of numbers, ``(length,)``, or NaN if the file does not exist.

    Raises
    ------
    DataError
        If the file is damaged, or has another length.
    """
    if not (folder / name).exists():
        return np.full(length, np.nan)
    values = load(folder, name)
    check_lengths(folder, ("its object", name), (np.empty(length), values))
    return np.asarray(values, float)


def check_lengths(
    folder: Path, names: Sequence[str], arrays: Sequence[np.ndarray], remedy: str = FETCH_AGAIN
) -> None:
    """Check that attributes of one object have the same length.

    Raises
    ------
    DataError
        If they do not.
    """
    for name, values in zip(names, arrays, strict=True):
        if len(values) != len(arrays[0]):
            raise DataError(
                f"{folder}: {names[0]} has {len(arrays[0])} rows, but {name} has {len(values)}; {remedy}"
            )


@dataclass(frozen=True)
class Sorting:
    """The files of one sorting, by attribute (``spikes.times``).

    Attributes
    ----------
    folder
        Folder of the files; those of a revision may be one folder below.
    files
        The newest file of each attribute.
    remedy
        What a user should do about a missing or damaged file.
    """

    folder: Path
    files: Mapping[str, Path]
    remedy: str = FETCH_AGAIN

    def path(self, name: str, suffix: str = ".npy") -> Path:
        """Return the path at which an attribute is, or should be."""
        return self.files.get(name, self.folder / f"{name}{suffix}")

    def array(self, name: str) -> np.ndarray:
        """Return an attribute; see :func:`load`."""
        path = self.path(name)
        return load(path.parent, path.name, self.remedy)

    def array_if_there(self, name: str, length: int) -> np.ndarray:
        """Return an attribute of numbers, ``(length,)``, or NaN if the file does not exist."""
        path = self.path(name)
        return load_if_there(path.parent, path.name, length)

    def table(self, name: str, suffix: str) -> pd.DataFrame:
        """Return an attribute that is a table, with column names in lower case.

        Raises
        ------
        DataError
            If the file does not exist, or is damaged.
        """
        path = self.path(name, suffix)
        if not path.exists():
            raise DataError(f"{path}: file not found; {self.remedy}")
        if path.suffix in (".csv", ".tsv"):
            return pd.DataFrame(read_table(path, f"{path}"))
        try:
            table = pd.read_parquet(path)
        except (ValueError, OSError, ImportError) as error:
            raise DataError(f"{path}: damaged ({error}); {self.remedy}") from None
        table = table.rename(columns=lambda column: str(column).lower())
        return table.loc[:, ~table.columns.duplicated()]

    def check_channels(self, name: str, channels: np.ndarray, among: str, count: int) -> None:
        """Check that the channels of clusters, counted from 0, exist in a file.

        Raises
        ------
        DataError
            If they do not.
        """
        if len(channels) and not 0 <= channels.min() <= channels.max() < count:
            raise DataError(
                f"{self.folder}: {name} refers to channels beyond the {count} in {among}; {self.remedy}"
            )

    def spikes(self, ids: np.ndarray, rate_hz: float | None = None) -> SpikesByTime:
        """Return the spikes of some clusters, in files.

        Parameters
        ----------
        ids
            The clusters, ``(unit,)``.
        rate_hz
            Sampling rate (Hz) if times are read from ``spikes.samples``; None reads ``spikes.times``.

        Raises
        ------
        DataError
            If a file does not exist, or is damaged.
        """
        times, clusters = "spikes.times" if rate_hz is None else "spikes.samples", "spikes.clusters"
        for name in (times, clusters):
            if self.array(name).ndim != 1:
                raise DataError(f"{self.path(name)}: has more than one column; {self.remedy}")
        return SpikesByTime(Column(self.path(times)), Column(self.path(clusters)), ids, rate_hz or 1.0)


def sorting_in(folder: Path) -> Sorting:
    """Return the sorting of a folder whose files are named by object and attribute alone."""
    return Sorting(folder, files_of(folder).get("", {}))


def by_probe(units: SpikeTrains, probes: np.ndarray, kept: np.ndarray) -> list[SpikeTrains]:
    """Return a population for each probe of a sorting of several probes.

    Parameters
    ----------
    units
        All units of the sorting.
    probes
        Number of each unit's probe, ``(unit,)``.
    kept
        Mask of the units that are kept, ``(unit,)``; probes without such units are left out.
    """
    return [
        replace(units.only(kept & (probes == probe)), population=f"probe{probe:g}")
        for probe in np.unique(probes[kept])
    ]
