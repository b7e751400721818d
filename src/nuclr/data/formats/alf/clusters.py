"""What ALF files say of clusters: where in the brain they are, and how good."""

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
# Columns of a table of regions, as labs call them.
REGION_COLUMNS = ("acronym", "allen_ontology", "brain_region", "region", "brainlocation")
IDS = "brainLocationIds_ccf_2017"
METRICS = "clusters.metrics"
# What a person called clusters counts first, then what tests or the sorter did.
QUALITY = ("group", "quality", "label", "kslabel", "ks2_label")
# Source: README of figshare article 9598406.
ANNOTATION = "clusters._phy_annotation"
ANNOTATED = {0: "noise", 1: "mua", 2: "good", 3: "unsorted"}


def units_of(sorting: Sorting, ids: np.ndarray, keep: Sequence[str] | None) -> pd.DataFrame:
    """Make the table of units, without their names: what is known of some clusters.

    Parameters
    ----------
    sorting
        Theirs.
    ids
        The clusters, which are rows of its arrays, ``(unit,)``.
    keep
        Which kinds of clusters are wanted: the column that has such kinds is read as their quality.

    Raises
    ------
    DataError
        If a file is damaged, or has no row of a cluster.
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
    """Read an attribute, of an array or of a table of regions, ``(row,)``."""
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
    """Read some rows of an attribute of clusters.

    Raises
    ------
    DataError
        If it has too few.
    """
    values = _values(sorting, name)
    if len(ids) and ids.max() >= len(values):
        raise DataError(
            f"{sorting.files[name]}: {len(values)} rows, but there are spikes of cluster {ids.max()}; "
            "the file must have a row for each cluster, from cluster 0"
        )
    return np.asarray(values[ids])


def _by_channel(sorting: Sorting, name: str, ids: np.ndarray) -> np.ndarray | None:
    """Read an attribute of the channels that some clusters are on; None where these are not known."""
    for of_clusters, first in (("clusters.channels", 0), ("clusters.peakChannel", 1)):
        if of_clusters not in sorting.files:
            continue
        channels = _rows(sorting, of_clusters, ids)
        if channels.dtype.kind not in "iuf" or not np.isfinite(channels).all():
            raise DataError(
                f"{sorting.files[of_clusters]}: some entries are not channel numbers; correct the file"
            )
        # As Steinmetz et al. 2019 count peak channels.
        channels = channels.astype(np.int64) - first
        values = _values(sorting, name)
        sorting.check_channels(of_clusters, channels, sorting.files[name].name, len(values))
        return np.asarray(values[channels])
    logger.warning(
        "%s: %s is not used, because clusters.channels is missing", sorting.folder, sorting.files[name].name
    )
    return None


def _regions(sorting: Sorting, ids: np.ndarray) -> np.ndarray | None:
    """Acronym of each cluster's brain region; None where no file has any."""
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
    """Say what each cluster is called, "" where nothing is said, ``(unit,)``."""
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
    """Read what clusters are called, by where it stands, the first to be believed first."""
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
    # Clusters without a row were too small to be measured.
    table = table.reindex(ids)
    for name in QUALITY:
        if name in table:
            known[f"{path.name}: {name}"] = np.array([word(text) for text in as_text(table[name])], object)
    return known


def word(text: str) -> str:
    """Give a label; a number as short as it can be: ``1`` for 1.0."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.strip()
