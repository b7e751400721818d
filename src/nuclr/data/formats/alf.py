"""Folders of ALF files, one array a file, ``object.attribute.npy`` (https://int-brain-lab.github.io/ONE)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nuclr.data.columns import Column
from nuclr.data.spikes import SpikesByTime
from nuclr.errors import DataError


def load(folder: Path, name: str) -> np.ndarray:
    """Read one array, ``(n,)`` or ``(n, m)``; columns ``(n, 1)`` become ``(n,)``.

    Raises
    ------
    DataError
        If it is not there, or damaged.
    """
    path = folder / name
    try:
        values = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise DataError(f"{path}: not there; delete the folder and fetch the recording again") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: damaged ({error}); delete the folder and fetch the recording again"
        ) from None
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def load_if_there(folder: Path, name: str, length: int) -> np.ndarray:
    """Read an array of numbers that may be missing: then NaN, ``(length,)``.

    Raises
    ------
    DataError
        If it is damaged, or of another length.
    """
    if not (folder / name).exists():
        return np.full(length, np.nan)
    values = load(folder, name)
    check_lengths(folder, ("its object", name), (np.empty(length), values))
    return np.asarray(values, float)


def check_lengths(folder: Path, names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    """Make sure that attributes of one object are as long as each other.

    Raises
    ------
    DataError
        If not.
    """
    for name, values in zip(names, arrays, strict=True):
        if len(values) != len(arrays[0]):
            raise DataError(
                f"{folder}: {names[0]} has {len(arrays[0])} rows, {name} {len(values)}; "
                "delete the folder and fetch the recording again"
            )


def spikes(folder: Path, ids: np.ndarray) -> SpikesByTime:
    """Say where the spikes of some clusters are.

    Raises
    ------
    DataError
        If a file is not there, or damaged.
    """
    for name in ("spikes.times.npy", "spikes.clusters.npy"):
        load(folder, name)
    return SpikesByTime(Column(folder / "spikes.times.npy"), Column(folder / "spikes.clusters.npy"), ids)
