"""What spike sorters leave in a folder: Kilosort's output, as phy curates it, and SpikeInterface sortings.

Sources: phy's data sets (https://phy.readthedocs.io/en/latest/sorting_user_guide) and SpikeInterface's
NumpyFolderSorting and ZarrSortingExtractor (0.99 and later). Nothing in these folders is run: phy's
``params.py`` is read as text, and SpikeInterface's provenance not at all.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from nuclr.data.columns import Column
from nuclr.data.recording import SpikeTrains, distinct, name_of, safe_name
from nuclr.data.spikes import PART, SpikesByTime
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

SAMPLE_RATE = re.compile(r"^\s*sample_rate\s*=\s*([0-9.eE+]+)\s*(?:#.*)?$", re.MULTILINE)
# The first that is there says what a cluster is: what a person said, or Kilosort itself.
LABELS = {"cluster_group.tsv": "group", "cluster_KSLabel.tsv": "KSLabel"}
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


def is_kilosort(folder: Path) -> bool:
    """Whether a folder is Kilosort's output."""
    return (folder / "spike_times.npy").is_file()


def is_spikeinterface(folder: Path) -> bool:
    """Whether a folder is a sorting that SpikeInterface saved, as plain files or as Zarr."""
    return (folder / "numpysorting_info.json").is_file() or (folder / "spikes" / "sample_index").is_dir()


def read_kilosort(folder: Path) -> list[SpikeTrains]:
    """Read the clusters of a phy or Kilosort folder; those that are called noise are left out.

    Raises
    ------
    DataError
        If a file is missing or damaged, or the sampling rate is not given.
    """
    try:
        rate = SAMPLE_RATE.search((folder / "params.py").read_text(errors="replace"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}/params.py: not there; phy needs it too, copy it beside the spikes"
        ) from None
    if rate is None or not float(rate[1]) > 0:
        raise DataError(f"{folder}/params.py: no line like sample_rate = 30000.")
    names = ("spike_clusters.npy", "spike_templates.npy")  # the second where nobody curated
    clusters = next((folder / name for name in names if (folder / name).is_file()), None)
    if clusters is None:
        raise DataError(f"{folder}: neither {' nor '.join(names)} there; copy the whole folder")
    spikes = _column(folder / "spike_times.npy"), _column(clusters)
    ids = np.unique(
        np.concatenate([np.unique(part) for part in spikes[1].parts(PART)] or [np.zeros(0, np.int64)])
    )
    quality, said_in = _quality(folder, ids)
    where = SpikesByTime(*spikes, ids.astype(np.int64), float(rate[1]))
    read = (folder / "params.py", folder / "spike_times.npy", clusters, *said_in)
    return _population(folder, where, ids, quality, read)


def read_spikeinterface(folder: Path) -> list[SpikeTrains]:
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
            spikes = _column(file, "sample_index"), _column(file, "unit_index")
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
    return _population(folder, where, ids, text, tuple(read))


def _population(
    folder: Path,
    spikes: SpikesByTime,
    ids: Sequence[object] | np.ndarray,
    quality: np.ndarray,
    read: tuple[Path, ...],
) -> list[SpikeTrains]:
    name = recording_of(folder)
    names = distinct([safe_name(unit) for unit in ids])
    units = pd.DataFrame({"unit_id": [f"{name}_{unit}" for unit in names], "quality": quality})
    span = spikes.span()
    if not len(units) or not len(span):
        raise DataError(f"{folder}: no spikes in it")
    # Samples are counted from the beginning of the recording, and the last one is a sample long.
    span = np.array([[0.0, span[0, 1] + 1 / spikes.rate_hz]])
    everything = SpikeTrains(folder, "sorting", units, spikes, span, files=read)
    noise = np.char.lower(quality.astype(str)) == NOISE
    if noise.all():
        raise DataError(f"{folder}: all {len(units)} clusters are called noise")
    if noise.any():
        logger.info("%s: %d of %d clusters are called noise: left out", folder, noise.sum(), len(units))
    return [everything.only(~noise)]


def _quality(folder: Path, ids: np.ndarray) -> tuple[np.ndarray, list[Path]]:
    """Say what each cluster is called, ``(cluster,)``, empty where nothing is said; and in which file."""
    for file, column in LABELS.items():
        if not (folder / file).is_file():
            continue
        try:
            table = pd.read_csv(folder / file, sep="\t", keep_default_na=False)
            value_of = dict(zip(table["cluster_id"].astype(int), table[column].astype(str), strict=True))
        except (KeyError, ValueError) as error:
            raise DataError(f"{folder / file}: needs columns cluster_id and {column} ({error})") from None
        return np.array([value_of.get(int(cluster), "") for cluster in ids], object), [folder / file]
    return np.full(len(ids), "", object), []


def _column(path: Path, field: str = "") -> Column:
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
