"""Kilosort's output, as phy curates it.

Source: phy's data sets (https://phy.readthedocs.io/en/latest/sorting_user_guide). Nothing in the folder is
executed; ``params.py`` is read as text.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from nuclr.config import Sorter
from nuclr.data.formats.kilosort_depths import cluster_depths
from nuclr.data.formats.sorting import clusters_in, open_column, sorted_population
from nuclr.data.recording import SpikeTrains
from nuclr.data.spikes import SpikesByTime
from nuclr.data.text import read_table
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

SAMPLE_RATE = re.compile(r"^\s*sample_rate\s*=\s*([0-9][0-9._eE+]*)\s*(?:#.*)?$", re.MULTILINE)
# Tables with quality labels in all versions of phy and Kilosort: by a person, and by Kilosort.
BY_PERSON, BY_KILOSORT = ("cluster_group", "cluster_groups", "cluster_info"), ("cluster_KSLabel",)
# Columns of these tables. Kilosort 2.5 to 4 also writes its own labels to cluster_group.tsv, as KSLabel.
PERSON, KILOSORT = ("group", "quality"), ("kslabel",)
UNSORTED = "unsorted"  # phy's label for clusters that nobody has labelled


def is_kilosort(folder: Path) -> bool:
    """Return whether a folder is the output of Kilosort."""
    return (folder / "spike_times.npy").is_file()


def read_kilosort(folder: Path, options: Sorter | None = None) -> list[SpikeTrains]:
    """Read the clusters of a phy or Kilosort folder, except those labelled noise.

    Parameters
    ----------
    folder
        Folder of the sorter.
    options
        The sampling rate if ``params.py`` is missing, and which clusters are kept; None: the defaults.

    Raises
    ------
    DataError
        If a file is missing or damaged, or the sampling rate is unknown.
    """
    options = options or Sorter()
    names = ("spike_clusters.npy", "spike_templates.npy")  # the second is read before curation
    clusters = next((folder / name for name in names if (folder / name).is_file()), None)
    if clusters is None:
        raise DataError(f"{folder}: neither {' nor '.join(names)} found; copy the whole folder")
    rate_hz, rate_from = _rate_hz(folder, options)
    spikes = open_column(folder / "spike_times.npy"), open_column(clusters)
    ids = clusters_in(spikes[1])
    quality, said_in = _quality(folder, ids)
    where = SpikesByTime(*spikes, ids, rate_hz)
    depth_um, placed_by = cluster_depths(folder, ids)
    read = (*rate_from, folder / "spike_times.npy", clusters, *dict.fromkeys([*said_in, *placed_by]))
    return sorted_population(folder, where, ids, quality, read, options.keep, depth_um)


def _rate_hz(folder: Path, options: Sorter) -> tuple[float, list[Path]]:
    """Return the sampling rate (Hz), and the file that contains it."""
    if options.sample_rate_hz is not None:
        return options.sample_rate_hz, []
    path = folder / "params.py"
    remedy = "set sorter.sample_rate_hz to the sampling rate"
    try:
        found = SAMPLE_RATE.search(path.read_text(errors="replace"))
    except OSError:
        raise DataError(f"{path}: file not found, or cannot be read; {remedy}, or copy the file") from None
    try:
        rate = float(found[1]) if found else 0.0
    except ValueError:
        rate = 0.0
    if not 0 < rate < np.inf:
        raise DataError(f"{path}: no line such as sample_rate = 30000.; {remedy}")
    return rate, [path]


def _quality(folder: Path, ids: np.ndarray) -> tuple[np.ndarray, list[Path]]:
    """Return the quality label of each cluster, ``(cluster,)``, "" if it has none, and the files read.

    The label of a cluster by a person is preferred to Kilosort's; of several tables, the first with a label
    counts.
    """
    person: dict[int, str] = {}
    kilosort: dict[int, str] = {}
    said_in = []
    for name in (*BY_PERSON, *BY_KILOSORT):
        for path in (folder / f"{name}.tsv", folder / f"{name}.csv"):
            if not path.is_file():
                continue
            said_in.append(path)
            columns = read_table(path, f"{path}")
            key = next((name for name in ("cluster_id", "id") if name in columns), None)
            words = {column for column in columns if column in (*PERSON, *KILOSORT)}
            if key is None or not words:
                raise DataError(
                    f"{path}: needs the columns cluster_id and group, KSLabel or quality, but has "
                    f"{', '.join(columns)}; rename the columns"
                )
            try:
                clusters = [int(float(text)) for text in columns[key]]
            except (ValueError, OverflowError):
                raise DataError(
                    f"{path}: cluster_id: some entries are not numbers; correct the table"
                ) from None
            for column in sorted(words, key=(*PERSON, *KILOSORT).index):
                into = person if column in PERSON else kilosort
                for cluster, word in zip(clusters, columns[column], strict=True):
                    if word and (column in KILOSORT or word.lower() != UNSORTED):
                        into.setdefault(cluster, word)
    return np.array([person.get(int(c), kilosort.get(int(c), "")) for c in ids], object), said_in
