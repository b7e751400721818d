"""Sortings that SpikeInterface saved: NumpyFolderSorting and ZarrSortingExtractor (0.99 and later).

Nothing in these folders is run, and SpikeInterface's provenance is not read.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import zarr

from nuclr.config import Sorter
from nuclr.data.columns import Column
from nuclr.data.formats.sorting import open_column, sorted_population
from nuclr.data.recording import SpikeTrains
from nuclr.data.spikes import SpikesByTime
from nuclr.errors import DataError


def is_spikeinterface(folder: Path) -> bool:
    """Whether a folder is a sorting that SpikeInterface saved, as plain files or as Zarr."""
    return (folder / "numpysorting_info.json").is_file() or (folder / "spikes" / "sample_index").is_dir()


def read_spikeinterface(folder: Path, options: Sorter | None = None) -> list[SpikeTrains]:
    """Read a sorting that SpikeInterface saved; units whose property ``quality`` is noise are left out.

    Raises
    ------
    DataError
        If a file is missing or damaged, or the sorting has several segments.
    """
    try:
        if (folder / "numpysorting_info.json").is_file():
            info = json.loads((folder / "numpysorting_info.json").read_text())
            ids, rate, segments = info["unit_ids"], info["sampling_frequency"], info["num_segments"]
            file = folder / "spikes.npy"
            spikes = open_column(file, "sample_index"), open_column(file, "unit_index")
            saved = folder / "properties" / "quality.npy"
            quality = np.load(saved, allow_pickle=False) if saved.is_file() else None
            read = [folder / "numpysorting_info.json", file, saved]
        else:
            if any("pickle" in file.read_text() for file in folder.rglob(".zarray")):
                raise ValueError("an array in it is pickled, which could run anything")
            store = zarr.open_group(folder, mode="r", zarr_format=2)
            ids, rate = np.asarray(store["unit_ids"]).tolist(), store.attrs["sampling_frequency"]
            segments = store.attrs["num_segments"]
            spikes = Column(folder / "spikes" / "sample_index"), Column(folder / "spikes" / "unit_index")
            quality = np.asarray(store["properties/quality"]) if "properties/quality" in store else None
            named = (".zattrs", "unit_ids", "spikes", "properties/quality")
            read = [folder / name for name in named]
        rate = float(rate)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{folder}: not a whole SpikeInterface sorting ({error}); save it again") from None
    if segments != 1:
        raise DataError(
            f"{folder}: {segments} segments; save each (sorting.select_segments) to a folder of its own"
        )
    where = SpikesByTime(*spikes, np.arange(len(ids)), rate)
    text = np.full(len(ids), "", object) if quality is None else quality.astype(str).astype(object)
    return sorted_population(folder, where, ids, text, tuple(read), options.keep if options else None)
