"""Kilosort's output, as phy curates it.

Source: phy's data sets (https://phy.readthedocs.io/en/latest/sorting_user_guide). Nothing in the folder is
run: ``params.py`` is read as text.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.data.formats.sorting import open_column, sorted_population
from nuclr.data.recording import SpikeTrains
from nuclr.data.spikes import PART, SpikesByTime
from nuclr.errors import DataError

SAMPLE_RATE = re.compile(r"^\s*sample_rate\s*=\s*([0-9.eE+]+)\s*(?:#.*)?$", re.MULTILINE)
# The first that is there says what a cluster is: what a person said, or Kilosort itself.
LABELS = {"cluster_group.tsv": "group", "cluster_KSLabel.tsv": "KSLabel"}


def is_kilosort(folder: Path) -> bool:
    """Whether a folder is Kilosort's output."""
    return (folder / "spike_times.npy").is_file()


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
    spikes = open_column(folder / "spike_times.npy"), open_column(clusters)
    ids = np.unique(
        np.concatenate([np.unique(part) for part in spikes[1].parts(PART)] or [np.zeros(0, np.int64)])
    )
    quality, said_in = _quality(folder, ids)
    where = SpikesByTime(*spikes, ids.astype(np.int64), float(rate[1]))
    read = (folder / "params.py", folder / "spike_times.npy", clusters, *said_in)
    return sorted_population(folder, where, ids, quality, read)


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
