"""What all folders of spike sorters have in common: names of recordings, units that are noise, columns."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.data.columns import Column
from nuclr.data.recording import SpikeTrains, distinct, name_of, safe_name
from nuclr.data.spikes import SpikesByTime
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

NOISE = "noise"
# What sorters, and those who run them, call folders: it tells no recording from another.
OF_ANY_SORTER = re.compile(
    r"(?:(?:kilosort|ks|phy|spikeinterface|spykingcircus|mountainsort|sort|sorter|sorting|sorted|spikes|curated"
    r"|output|results|imec|probe)[0-9._ -]*)+",
    re.IGNORECASE,
)


def recording_of(folder: Path) -> str:
    """Name of a sorter's recording: its folder's, after those above it where it is called like any other."""
    # Not resolved: a link keeps its own name.
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
) -> list[SpikeTrains]:
    """Make the one population of a sorting; units that are noise, or not of a quality to keep, are left out.

    Raises
    ------
    DataError
        If there is no spike, or nothing but noise.
    """
    name = recording_of(folder)
    names = distinct([safe_name(unit) for unit in ids])
    units = pd.DataFrame({"unit_id": [f"{name}_{unit}" for unit in names], "quality": quality})
    span = spikes.span()
    if not len(units) or not len(span):
        raise DataError(f"{folder}: no spikes in it")
    # Samples are counted from the beginning of the recording, and the last one is a sample long.
    span = np.array([[0.0, span[0, 1] + 1 / spikes.rate_hz]])
    everything = SpikeTrains(folder, "sorting", units, spikes, span, files=read)
    called = np.char.lower(quality.astype(str))
    if keep is None:
        left_out, why = called == NOISE, "called noise"
    else:
        left_out = ~np.isin(called, [name.lower() for name in keep])
        why = f"not called {' or '.join(keep)} (sorter.keep)"
    if left_out.all():
        kinds = ", ".join(sorted({str(name) or "nothing" for name in called}))
        raise DataError(f"{folder}: all {len(units)} clusters are {why}; they are called {kinds}")
    if left_out.any():
        logger.info("%s: %d of %d clusters are %s: left out", folder, left_out.sum(), len(units), why)
    return [everything.only(~left_out)]


def open_column(path: Path, field: str = "") -> Column:
    """Open a ``.npy`` column once, to see that it is whole.

    Raises
    ------
    DataError
        If not.
    """
    try:
        opened = np.load(path, mmap_mode="r", allow_pickle=False)
        if field and field not in (opened.dtype.names or ()):
            raise ValueError(f"no field {field}")
    except FileNotFoundError:
        raise DataError(f"{path}: not there; copy the whole folder") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: damaged ({error}); copy the whole folder again") from None
    return Column(path, field)
