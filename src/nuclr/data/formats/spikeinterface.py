"""Sortings (0.99 and later) and SortingAnalyzers (0.101) that SpikeInterface saved as plain files or Zarr.

The sorting of an analyzer is the folder, or the Zarr group, ``sorting`` inside it. Nothing in these folders
is executed, and SpikeInterface's provenance is not read.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from nuclr.config import Sorter
from nuclr.data.access.columns import Column, map_npy
from nuclr.data.access.opening import codecs_of
from nuclr.data.formats.kilosort import UNSORTED
from nuclr.data.formats.nwb.units import may_be_label, names_kinds
from nuclr.data.formats.sorting import open_column, sorted_population
from nuclr.data.recording import SpikeTrains
from nuclr.data.spikes import SpikesByTime
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

# Properties with quality labels: by a person, and by Kilosort.
QUALITY, KILOSORT = "quality", "KSLabel"
# SpikeInterface writes nan for empty cells of phy's table.
UNJUDGED = ("", "nan", UNSORTED)


@dataclass(frozen=True)
class _Saved:
    """A saved sorting: unit ids, sampling rate, spikes in files, and the files that were read."""

    ids: list[object]
    rate_hz: float
    segments: int
    samples: Column
    units: Column
    files: tuple[Path, ...]


def is_spikeinterface(folder: Path) -> bool:
    """Return whether a folder is a sorting or a SortingAnalyzer that SpikeInterface saved."""
    return _sorting_in(folder) is not None


def _sorting_in(folder: Path) -> Path | None:
    """Return the folder of the sorting: this folder, or the one inside an analyzer; None if there is none."""
    if _is_sorting(folder):
        return folder
    inside = folder / "sorting"
    return inside if (folder / "recording_info").is_dir() and _is_sorting(inside) else None


def _is_sorting(folder: Path) -> bool:
    return (folder / "numpysorting_info.json").is_file() or (folder / "spikes" / "sample_index").is_dir()


def read_spikeinterface(folder: Path, options: Sorter | None = None) -> list[SpikeTrains]:
    """Read a sorting or an analyzer, without units whose property ``quality`` is noise.

    The quality of units without a label by a person is Kilosort's label (``KSLabel``). Other properties that
    contain text or booleans and group the units become labels.

    Raises
    ------
    DataError
        If a file is missing or damaged, or the sorting has several segments.
    """
    inside = _sorting_in(folder) or folder
    try:
        plain = (inside / "numpysorting_info.json").is_file()
        saved = _read_plain(inside) if plain else _read_zarr(inside)
        properties = _properties(inside, len(saved.ids))
    except DataError:
        raise
    except Exception as error:  # NumPy and zarr raise various errors for damaged files
        raise DataError(f"{folder}: damaged SpikeInterface sorting ({error}); save it again") from None
    if saved.segments != 1:
        raise DataError(
            f"{folder}: the sorting has {saved.segments} segments; save each one (sorting.select_segments) "
            "to a "
            "separate folder"
        )
    quality = np.full(len(saved.ids), "", object)
    for name in (KILOSORT, QUALITY):
        word = properties.pop(name, quality)
        judged = np.array([text.lower() not in UNJUDGED for text in word])
        quality = np.where(judged, word, quality)
    spikes = SpikesByTime(saved.samples, saved.units, np.arange(len(saved.ids)), saved.rate_hz)
    keep = options.keep if options else None
    (trains,) = sorted_population(folder, spikes, saved.ids, quality, saved.files, keep)
    assert isinstance(trains.spikes, SpikesByTime)
    labels = pd.DataFrame({name: values[trains.spikes.ids] for name, values in properties.items()})
    return [replace(trains, units=trains.units.join(labels))]


def _read_plain(inside: Path) -> _Saved:
    info, spikes = inside / "numpysorting_info.json", inside / "spikes.npy"
    said = json.loads(info.read_text())
    columns = open_column(spikes, "sample_index"), open_column(spikes, "unit_index")
    files = (info, spikes, inside / "properties")
    return _saved(said["unit_ids"], said, columns, files)


def _read_zarr(inside: Path) -> _Saved:
    samples, units = inside / "spikes" / "sample_index", inside / "spikes" / "unit_index"
    named = np.asarray(_array(inside / "unit_ids")[:])
    ids = (_text(named) if named.dtype.kind in "USTV" else named).tolist()
    said = json.loads((inside / ".zattrs").read_text())
    for column in (samples, units):
        _array(column)
    names = (".zattrs", "unit_ids", "spikes", "properties")
    return _saved(ids, said, (Column(samples), Column(units)), tuple(inside / name for name in names))


def _saved(ids: Any, said: Any, columns: tuple[Column, Column], files: tuple[Path, ...]) -> _Saved:
    """Return a sorting after checking its metadata."""
    rate_hz = float(said["sampling_frequency"])
    if not isinstance(ids, list):
        raise ValueError("unit_ids is not a list")
    if not 0 < rate_hz < np.inf:
        raise ValueError(f"a sampling_frequency of {rate_hz:g}")
    for column in columns:
        with column.opened() as values:
            kind = (values.dtype[column.field] if column.field else values.dtype).kind
            if len(values.shape) != 1 or kind not in "iu":
                raise ValueError("the spikes are not columns of integers")
    return _Saved(ids, rate_hz, said["num_segments"], *columns, files)


def _array(path: Path) -> Any:
    """Open a ``.npy`` file or an array of Zarr format 2 without reading its values."""
    if path.suffix == ".npy":
        return map_npy(path)
    if "pickle" in codecs_of(json.loads((path / ".zarray").read_text())):
        raise ValueError(
            f"{path.name}: contains a pickled array, which is not read because it could execute code"
        )
    return zarr.open_array(path, mode="r", zarr_format=2)


def _text(values: np.ndarray) -> np.ndarray:
    """Return values as text; damaged files may contain invalid characters, which would crash Python."""
    texts = np.ascontiguousarray(values.astype(str))
    if texts.itemsize and texts.view(np.uint32).max(initial=0) > sys.maxunicode:
        raise ValueError("invalid characters")
    return texts


def _properties(inside: Path, count: int) -> dict[str, np.ndarray]:
    """Return the quality labels of units and the properties that are labels, each ``(unit,)``."""
    found = {}
    for path in sorted((inside / "properties").glob("*")):
        name = path.name.removesuffix(".npy")
        if not (path.suffix == ".npy" or path.is_dir()) or not may_be_label(name):
            continue
        called = name in (QUALITY, KILOSORT)
        try:
            values = _array(path)
            if values.shape[:1] != (count,):
                raise ValueError(f"{name} has the shape {values.shape} for {count} units")
            if values.ndim != 1 or (values.dtype.kind not in "USTb" and not called):
                continue
            read = np.asarray(values[:])
            if read.dtype.kind != "b" or called:
                read = _text(read).astype(object)
        except Exception as error:
            if name == QUALITY:
                raise
            # DataError formats the message as one printable line.
            logger.warning("%s; ignored", DataError(f"{inside}: property {name} cannot be read ({error})"))
            continue
        if called or names_kinds(read):
            found[name] = read
    return found
