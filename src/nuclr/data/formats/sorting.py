"""Shared functions of all formats of spike sorters: names of recordings, quality labels, and columns."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.data.access.columns import Column
from nuclr.data.recording import SpikeTrains, distinct, name_of, safe_name
from nuclr.data.spikes import PART, SpikesByTime
from nuclr.errors import DataError
from nuclr.words import share_of

logger = logging.getLogger(__name__)

NOISE = "noise"
RATES_HZ = (1.0, 1e7)
MOST_CLUSTERS = 10_000_000  # largest cluster number; an array of this length is kept in memory
# Common names of sorters' folders, which do not identify a recording.
OF_ANY_SORTER = re.compile(
    r"(?:(?:kilosort|ks|phy|spikeinterface|spykingcircus|mountainsort|sort|sorter|sorting|sorted|spikes|curated"
    r"|output|results|analyzer|imec|probe)[0-9._ -]*)+",
    re.IGNORECASE,
)


def recording_of(folder: Path) -> str:
    """Return the name of a sorter's recording: that of its folder, with those above if its name is common."""
    # Links are not followed, so that a link keeps its own name.
    path = Path(os.path.abspath(folder))
    names = [name_of(path)]
    while OF_ANY_SORTER.fullmatch(names[0]) and path.parent.name:
        path = path.parent
        names.insert(0, name_of(path))
    return "_".join(names)


def sorted_population(
    folder: Path,
    spikes: SpikesByTime,
    ids: Sequence[object] | np.ndarray,
    quality: np.ndarray,
    read: tuple[Path, ...],
    keep: Sequence[str] | None = None,
    depth_um: np.ndarray | None = None,
) -> list[SpikeTrains]:
    """Return the population of a sorting, as a list, without noise and units not of a quality to keep.

    Raises
    ------
    DataError
        If there are no spikes, or no unit is kept.
    """
    name = recording_of(folder)
    names = distinct([safe_name(unit) for unit in ids])
    units = pd.DataFrame({"unit_id": [f"{name}_{unit}" for unit in names], "quality": quality})
    if depth_um is not None and np.isfinite(depth_um).any():
        units["depth_um"] = depth_um
    if not RATES_HZ[0] <= spikes.rate_hz <= RATES_HZ[1]:
        raise DataError(
            f"{folder}: a sampling rate of {spikes.rate_hz:g} Hz is not plausible; set sorter.sample_rate_hz "
            "to "
            "the sampling rate"
        )
    span = spikes.span()
    if not len(units) or not len(span):
        raise DataError(f"{folder}: contains no spikes")
    # Samples are counted from the start of the recording, and the last sample has a length too.
    span = np.array([[0.0, span[0, 1] + 1 / spikes.rate_hz]])
    everything = SpikeTrains(folder, "sorting", units, spikes, span, files=read)
    kept, why = kept_clusters(quality, keep)
    if not kept.any():
        raise DataError(f"{folder}: {none_kept(quality, why)}")
    if not kept.all():
        logger.info("%s: %s %s; left out", folder, share_of((~kept).sum(), len(units), "cluster"), why)
    return [everything.only(kept)]


def kept_clusters(quality: np.ndarray, keep: Sequence[str] | None) -> tuple[np.ndarray, str]:
    """Return which clusters are kept by their labels, ``(cluster,)``, and why the others are not."""
    called = np.char.lower(quality.astype(str))
    if keep is None:
        return called != NOISE, "labelled noise"
    kept = np.isin(called, [name.lower() for name in keep])
    return kept, f"not labelled {' or '.join(keep)} (sorter.keep)"


def none_kept(quality: np.ndarray, why: str) -> str:
    """Return a message with the labels of clusters of which none is kept."""
    kinds = sorted({str(name) or "(none)" for name in np.char.lower(quality.astype(str))})
    return f"all {len(quality)} clusters are {why}; their labels are {', '.join(kinds)}"


def clusters_in(column: Column) -> np.ndarray:
    """Return the numbers of the clusters that have spikes, in ascending order, ``(cluster,)``.

    Raises
    ------
    DataError
        If cluster numbers are not integers, or too large.
    """
    parts = [np.unique(part) for part in column.parts(PART)]
    ids = np.unique(np.concatenate(parts or [np.zeros(0, np.int64)]))
    if ids.dtype.kind == "f":
        ids = ids.astype(np.float64)  # 16-bit floats could not be compared with the largest number
    whole = ids.dtype.kind in "iuf" and np.isfinite(ids).all() and (ids == np.floor(ids)).all()
    if not (whole and (ids <= MOST_CLUSTERS).all()):
        raise DataError(
            f"{column.path}: cluster numbers must be integers up to {MOST_CLUSTERS:,}; sort the spikes again"
        )
    # Some sorters give negative cluster numbers to spikes that were not sorted.
    return ids[ids >= 0].astype(np.int64)


def open_column(path: Path, field: str = "") -> Column:
    """Return a ``.npy`` column after checking that it is complete and contains numbers.

    Raises
    ------
    DataError
        If it does not.
    """
    if not path.is_file():
        raise DataError(f"{path}: file not found; copy the whole folder")
    column = Column(path, field)
    with column.opened() as opened:
        dtype, shape = opened.dtype, tuple(opened.shape)
    if field and field not in (dtype.names or ()):
        raise DataError(f"{path}: damaged (no field {field}); copy the whole folder again")
    own = dtype[field] if field else dtype
    # Kilosort writes (n, 1), and MATLAB (1, n).
    numeric = own.kind in "iuf" and own.itemsize <= 8 and not own.shape
    if not numeric or not shape or math.prod(shape) != max(shape):
        raise DataError(
            f"{path}: an array of {own} with shape {shape}, but one column of numbers is needed; copy the "
            "whole "
            "folder again"
        )
    return column
