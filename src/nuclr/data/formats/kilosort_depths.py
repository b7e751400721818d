"""Depths of the clusters of a Kilosort or phy folder along the probe.

phy writes the depth of each cluster to ``cluster_info.tsv`` when a curation is saved. Without this file, the
depth of a cluster is that of the channel on which the template with the cluster's number is largest
(``channel_positions.npy``, um). Clusters that a person made by merging or splitting have no such template.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from nuclr.data.text import read_table
from nuclr.errors import DataError

logger = logging.getLogger(__name__)
TABLES = ("cluster_info.tsv", "cluster_info.csv")
POSITIONS, TEMPLATES = "channel_positions.npy", "templates.npy"


def cluster_depths(folder: Path, ids: np.ndarray) -> tuple[np.ndarray, list[Path]]:
    """Return the depth of each cluster (um), ``(cluster,)``, NaN if it is unknown, and the files read.

    Depths are optional: files that cannot be read are ignored, with a message.

    Parameters
    ----------
    folder
        Folder of the sorter.
    ids
        Numbers of the clusters.
    """
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is not None:
        told = _of_table(table, ids)
        if np.isfinite(told).any():
            return told, [table]
    positions, templates = folder / POSITIONS, folder / TEMPLATES
    if not (positions.is_file() and templates.is_file()):
        return np.full(len(ids), np.nan), []
    try:
        return _of_templates(positions, templates, ids), [positions, templates]
    except (OSError, ValueError, EOFError, OverflowError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        logger.info(
            "%s: depths are unknown, because %s or %s cannot be used (%s)",
            folder,
            POSITIONS,
            TEMPLATES,
            reason,
        )
        return np.full(len(ids), np.nan), []


def _of_table(path: Path, ids: np.ndarray) -> np.ndarray:
    """Return the column ``depth`` of phy's table."""
    depths = np.full(len(ids), np.nan)
    try:
        columns = read_table(path, f"{path}")
    except DataError:  # quality labels are read from the same table, and raise this error
        return depths
    key = next((name for name in ("cluster_id", "id") if name in columns), None)
    if key is None or "depth" not in columns:
        return depths
    place = {int(number): i for i, number in enumerate(ids)}
    for cluster, depth in zip(_numbers(columns[key]), _numbers(columns["depth"]), strict=True):
        if cluster in place:
            depths[place[int(cluster)]] = depth
    return depths


def _numbers(texts: list[str]) -> list[float]:
    """Return texts as numbers, with NaN for texts that are not numbers."""
    found = []
    for text in texts:
        try:
            found.append(float(text))
        except ValueError:
            found.append(float("nan"))
    return found


def _of_templates(positions: Path, templates: Path, ids: np.ndarray) -> np.ndarray:
    """Return the depth of the channel on which each cluster's template is largest.

    Raises
    ------
    ValueError
        If the arrays do not have the shapes of a probe.
    """
    where = np.load(positions, allow_pickle=False)
    shapes = np.load(templates, mmap_mode="r", allow_pickle=False)
    if where.ndim != 2 or where.shape[1] != 2 or where.dtype.kind not in "iuf":
        raise ValueError(f"positions of shape {where.shape}")
    if shapes.ndim != 3 or shapes.shape[2] != len(where) or shapes.dtype.kind not in "iuf":
        raise ValueError(f"templates of shape {shapes.shape} on {len(where)} channels")
    depths = np.full(len(ids), np.nan)
    for i, cluster in enumerate(ids):
        if cluster < len(shapes):
            size = np.ptp(np.asarray(shapes[cluster], np.float64), axis=0)
            if np.isfinite(size).all() and size.any():
                depths[i] = where[size.argmax(), 1]
    return depths
