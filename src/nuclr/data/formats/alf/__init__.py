"""Folders of ALF files with one array each, ``object.attribute.npy`` (https://int-brain-lab.github.io/ONE)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.config import Sorter
from nuclr.data.formats.alf.clusters import units_of, word
from nuclr.data.formats.alf.files import PROBE, files_of, folders_by_probe, is_alf, recording_of, subject_of
from nuclr.data.formats.alf.sorting import (
    Sorting,
    by_probe,
    check_lengths,
    load,
    load_if_there,
    sorting_in,
)
from nuclr.data.formats.sorting import clusters_in, kept_clusters, none_kept
from nuclr.data.recording import SpikeTrains, check_seconds, safe_name, session_span
from nuclr.data.spikes import SpikesByTime
from nuclr.errors import DataError, NothingToLearn
from nuclr.words import share_of

__all__ = [
    "Sorting",
    "by_probe",
    "check_lengths",
    "is_alf",
    "load",
    "load_if_there",
    "read_alf",
    "recording_of",
    "sorting_in",
    "subject_of",
]

logger = logging.getLogger(__name__)

COPY_AGAIN = "copy the whole folder again"
PROBES = "clusters.probes"


def read_alf(folder: Path, options: Sorter | None = None) -> list[SpikeTrains]:
    """Read a session, a probe or a sorting in ALF, with one population for each probe.

    Units are the clusters with spikes, except those labelled noise. The labels are ``brain_region`` (acronyms
    of clusters or their channels), ``quality``, ``depth_um`` and ``brain_location_id`` (Allen's number of a
    region).

    Parameters
    ----------
    folder
        Folder of the session, or a folder in it.
    options
        Which clusters are kept, and the sampling rate if times are only in samples. None: the defaults.

    Raises
    ------
    DataError
        If a file is damaged, files do not fit together, no cluster is kept, or a probe has several sortings.
    """
    options = options or Sorter()
    found = _sortings(folder)
    made: list[SpikeTrains] = []
    nothing: list[NothingToLearn] = []
    for probe, sorting in found.items():
        try:
            made += _populations(folder, probe, sorting, options)
        except NothingToLearn as error:
            nothing.append(error)
    if not made:
        raise nothing[0]
    for why in nothing:
        logger.warning("%s: left out", why)
    # Each population lists the files of all, so that a change of any file is a change of the recording.
    files = tuple(sorted({path for sorting in found.values() for path in _read_of(sorting)}))
    return [replace(population, files=files) for population in made]


def _sortings(folder: Path) -> dict[tuple[str, ...], Sorting]:
    """Return the sorting of each probe, by the parts of paths or file names that distinguish probes."""
    found: dict[tuple[str, ...], Sorting] = {}
    for probe, inside in folders_by_probe(folder).items():
        by_name = files_of(inside)
        shared = by_name.get("", {})
        of_probes = {
            more: own
            for more, own in by_name.items()
            if "spikes.clusters" in own and ("spikes.times" in own or "spikes.samples" in own)
        }
        if not of_probes:
            raise DataError(
                f"{inside}: the file names of spikes.times and spikes.clusters do not match; rename one"
            )
        for more, own in of_probes.items():
            others = {name: path for name, path in shared.items() if not name.startswith("spikes.")}
            key = (*probe, safe_name(more)) if more and (*probe[-1:],) != (more,) else probe
            found[key] = Sorting(inside, {**others, **own}, COPY_AGAIN)
    return found


def _read_of(sorting: Sorting) -> list[Path]:
    """Return the files that are read of a sorting; waveforms and amplitudes are not."""
    passed_over = ("spikes.amps", "spikes.depths", "spikes.templates", "clusters.waveforms")
    return [path for name, path in sorting.files.items() if name not in passed_over]


def _spikes(sorting: Sorting, options: Sorter) -> tuple[SpikesByTime, np.ndarray]:
    """Return the spikes in files, and the span of the session."""
    rate_hz = None
    if "spikes.times" not in sorting.files:
        rate_hz = options.sample_rate_hz
        if rate_hz is None:
            raise DataError(
                f"{sorting.folder}: spikes.samples without spikes.times; set sorter.sample_rate_hz to the "
                "sampling rate"
            )
    where = sorting.spikes(np.zeros(0, np.int64), rate_hz)
    kind = sorting.array("spikes.times" if rate_hz is None else "spikes.samples").dtype.kind
    if kind not in ("f" if rate_hz is None else "iuf"):
        raise DataError(
            f"{where.times.path}: times are not in seconds; save samples (integers) as spikes.samples.npy "
            "and "
            "set sorter.sample_rate_hz"
        )
    where = replace(where, ids=clusters_in(where.clusters))
    span = where.span()
    if not len(where.ids) or not len(span):
        raise NothingToLearn(f"{sorting.folder}: contains no spikes")
    if rate_hz is not None:
        # Samples are counted from the start of the recording, and the last sample has a length too.
        return where, np.array([[0.0, span[0, 1] + 1 / rate_hz]])
    span = session_span(*span[0])
    check_seconds(span, where.times.path)
    return where, span


def _populations(
    folder: Path, probe: tuple[str, ...], sorting: Sorting, options: Sorter
) -> list[SpikeTrains]:
    """Return the population of a probe, or of all probes in one sorting."""
    where, span = _spikes(sorting, options)
    keep = None if options.keep is None else [word(name) for name in options.keep]
    units = units_of(sorting, where.ids, keep)
    prefix = "_".join([recording_of(folder), *probe])
    units.insert(0, "unit_id", [f"{prefix}_{cluster}" for cluster in where.ids])
    quality = units["quality"].to_numpy(object)
    if not any(quality):
        units = units.drop(columns="quality")
    kept, why = kept_clusters(quality, keep)
    if not kept.any():
        raise NothingToLearn(f"{sorting.folder}: {none_kept(quality, why)}")
    if not kept.all():
        logger.info("%s: %s %s; left out", sorting.folder, share_of((~kept).sum(), len(kept), "cluster"), why)
    named = safe_name(folder.name) if PROBE.fullmatch(folder.name) else "sorting"
    everything = SpikeTrains(folder, "_".join(probe) or named, _typed(units), where, span)
    probes = _probes(sorting, where.ids)
    if probes is not None and len(np.unique(probes)) > 1:
        above = f"{'_'.join(probe)}_" if probe else ""
        split = by_probe(everything, probes, kept)
        return [replace(own, population=f"{above}{own.population}") for own in split]
    return [everything.only(kept)]


def _probes(sorting: Sorting, ids: np.ndarray) -> np.ndarray | None:
    """Return the probe number of each cluster, ``(unit,)``; None if the sorting is of one probe."""
    if PROBES not in sorting.files:
        return None
    probes = sorting.array(PROBES)
    if probes.ndim != 1 or len(probes) <= ids.max() or probes.dtype.kind not in "iuf":
        raise DataError(
            f"{sorting.path(PROBES)}: must contain a probe number for each cluster, from cluster 0"
        )
    chosen = np.asarray(probes[ids], float)
    if not np.isfinite(chosen).all():
        raise DataError(f"{sorting.path(PROBES)}: some probe numbers are NaN or infinite; correct the file")
    return chosen


def _typed(units: pd.DataFrame) -> pd.DataFrame:
    """Return numbers in the native byte order, because arrays on the disk may have any."""
    return units.assign(
        **{
            str(name): units[name].astype(float if units[name].dtype.kind == "f" else np.int64)
            for name in units
            if units[name].dtype.kind in "iuf"
        }
    )
