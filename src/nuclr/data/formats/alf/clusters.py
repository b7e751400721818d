"""Brain regions, depths and quality of clusters in ALF files."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nuclr.data.formats.alf.sorting import Sorting
from nuclr.data.text import as_text
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

ACRONYMS = ("acronym", "brainLocationAcronyms_ccf_2017", "brainLocation")
# Names of the column with regions, as used by different laboratories.
REGION_COLUMNS = ("acronym", "allen_ontology", "brain_region", "region", "brainlocation")
IDS = "brainLocationIds_ccf_2017"
METRICS = "clusters.metrics"
# Labels by a person come first, then those by tests or the sorter.
QUALITY = ("group", "quality", "label", "kslabel", "ks2_label")
# Source: README of figshare article 9598406.
ANNOTATION = "clusters._phy_annotation"
ANNOTATED = {0: "noise", 1: "mua", 2: "good", 3: "unsorted"}


def units_of(sorting: Sorting, ids: np.ndarray, keep: Sequence[str] | None) -> pd.DataFrame:
    """Return a table of the known properties of some clusters, without unit ids.

    Parameters
    ----------
    sorting
        The sorting of the clusters.
    ids
        The clusters, which are rows of its arrays, ``(unit,)``.
    keep
        Quality labels of the wanted clusters; the column that contains them is read as the quality.

    Raises
    ------
    DataError
        If a file is damaged, or has no row for a cluster.
    """
    units = pd.DataFrame({"quality": _quality(sorting, ids, keep)})
    if (regions := _regions(sorting, ids)) is not None:
        units["brain_region"] = regions
    for name, column in (("clusters.depths", "depth_um"), (f"clusters.{IDS}", "brain_location_id")):
        if name in sorting.files:
            units[column] = pd.to_numeric(pd.Series(_rows(sorting, name, ids)), errors="coerce")
    if "brain_location_id" not in units and f"channels.{IDS}" in sorting.files:
        of_units = _by_channel(sorting, f"channels.{IDS}", ids)
        if of_units is not None:
            units["brain_location_id"] = pd.to_numeric(pd.Series(of_units), errors="coerce")
    if "brain_region" not in units and "brain_location_id" in units:
        logger.info(
            "%s: brain regions have no acronyms, only numbers; kept as brain_location_id", sorting.folder
        )
    return units


def _values(sorting: Sorting, name: str) -> np.ndarray:
    """Return an attribute from an array or from a table of regions, ``(row,)``."""
    path = sorting.files[name]
    if path.suffix == ".npy":
        values = sorting.array(name)
        if values.ndim != 1:
            raise DataError(
                f"{path}: an array of shape {values.shape}, but one number or name for each row is needed"
            )
        return values
    table = sorting.table(name, path.suffix)
    columns = [column for column in (name.partition(".")[2].lower(), *REGION_COLUMNS) if column in table]
    if not columns:
        raise DataError(
            f"{path}: none of the columns {', '.join(REGION_COLUMNS)}; rename the column with regions"
        )
    return as_text(table[columns[0]]).to_numpy(object)


def _rows(sorting: Sorting, name: str, ids: np.ndarray) -> np.ndarray:
    """Return some rows of an attribute of clusters.

    Raises
    ------
    DataError
        If it has too few rows.
    """
    values = _values(sorting, name)
    if len(ids) and ids.max() >= len(values):
        raise DataError(
            f"{sorting.files[name]}: {len(values)} rows, but there are spikes of cluster {ids.max()}; "
            "the file must have a row for each cluster, from cluster 0"
        )
    return np.asarray(values[ids])


def _by_channel(sorting: Sorting, name: str, ids: np.ndarray) -> np.ndarray | None:
    """Return an attribute of the channels of some clusters; None if the channels are unknown."""
    for of_clusters, first in (("clusters.channels", 0), ("clusters.peakChannel", 1)):
        if of_clusters not in sorting.files:
            continue
        channels = _rows(sorting, of_clusters, ids)
        if channels.dtype.kind not in "iuf" or not np.isfinite(channels).all():
            raise DataError(
                f"{sorting.files[of_clusters]}: some entries are not channel numbers; correct the file"
            )
        # Steinmetz et al. 2019 count peak channels from 1.
        channels = channels.astype(np.int64) - first
        values = _values(sorting, name)
        sorting.check_channels(of_clusters, channels, sorting.files[name].name, len(values))
        return np.asarray(values[channels])
    logger.warning(
        "%s: %s is not used, because clusters.channels is missing", sorting.folder, sorting.files[name].name
    )
    return None


def _regions(sorting: Sorting, ids: np.ndarray) -> np.ndarray | None:
    """Return the acronym of each cluster's brain region; None if no file contains acronyms."""
    for attribute in ACRONYMS:
        if (name := f"clusters.{attribute}") in sorting.files:
            return _text(_rows(sorting, name, ids))
    for attribute in ACRONYMS:
        if (name := f"channels.{attribute}") in sorting.files:
            found = _by_channel(sorting, name, ids)
            return None if found is None else _text(found)
    return None


def _text(values: np.ndarray) -> np.ndarray:
    return np.array([str(value).strip() for value in values.tolist()], object)


def _quality(sorting: Sorting, ids: np.ndarray, keep: Sequence[str] | None) -> np.ndarray:
    """Return the quality label of each cluster, "" if it has none, ``(unit,)``."""
    known = _called(sorting, ids)
    wanted = {name.lower() for name in keep or ()}
    fitting = [name for name, called in known.items() if wanted & {word.lower() for word in called}]
    chosen = next(iter(fitting or known), None)
    if chosen is None:
        return np.full(len(ids), "", object)
    if len(known) > 1:
        logger.info(
            "%s: the quality of clusters is read from %s (not from %s)",
            sorting.folder,
            chosen,
            ", ".join(name for name in known if name != chosen),
        )
    return known[chosen]


def _called(sorting: Sorting, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return the quality labels of clusters by their source, the most reliable source first."""
    known = {}
    if ANNOTATION in sorting.files:
        values = _rows(sorting, ANNOTATION, ids)
        known[ANNOTATION] = np.array([ANNOTATED.get(value, str(value)) for value in values.tolist()], object)
    if METRICS not in sorting.files:
        return known
    path = sorting.files[METRICS]
    table = sorting.table(METRICS, path.suffix)
    if "cluster_id" in table:
        numbers = pd.to_numeric(table["cluster_id"], errors="coerce")
        if numbers.isna().any() or numbers.duplicated().any():
            raise DataError(
                f"{path}: cluster_id: some entries are not numbers, or occur twice; correct the table"
            )
        table = table.set_index(numbers.astype(np.int64))
    else:
        table = table.set_axis(range(len(table)))
    # Clusters without a row in the table were too small to be measured.
    table = table.reindex(ids)
    for name in QUALITY:
        if name in table:
            known[f"{path.name}: {name}"] = np.array([word(text) for text in as_text(table[name])], object)
    return known


def word(text: str) -> str:
    """Return a label, with numbers in their shortest form: ``1`` for 1.0."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.strip()
