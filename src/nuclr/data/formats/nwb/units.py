"""Spike trains of NWB's Units tables: populations by electrode group, and when they were observed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from pynwb import NWBFile

from nuclr.data.formats.nwb.tables import (
    check_numbers,
    column,
    numbers,
    parts_of,
    ragged,
    rows_of,
    with_time,
    without_invalid,
)
from nuclr.data.recording import SpikeTrains, Waveforms, distinct, intersect_spans, merge_spans, safe_name
from nuclr.data.spikes import SpikesByUnit
from nuclr.errors import DataError
from nuclr.words import counted

logger = logging.getLogger(__name__)

LONGEST_S = 30 * 86400.0
REGION = "brain_region"


def spike_trains(
    nwb: NWBFile, path: Path, prefix: str, columns: list[str], region_column: str | None
) -> list[SpikeTrains]:
    """Read the units of an open file, a population for each electrode group.

    Parameters
    ----------
    nwb, path
        The file.
    prefix
        Of unit ids.
    columns
        Of the Units table, kept as labels.
    region_column
        Which of them is the brain region; None: the location of a unit's first electrode.

    Raises
    ------
    DataError
        If spike times, intervals or columns make no sense.
    """
    table = nwb.units
    if "spike_times" not in table.colnames:
        raise DataError(f"{path}: its units have no spike_times; spike-sort it first")
    _, _, times = ragged(table, "spike_times", path)
    check_numbers(times.data, f"{path}: spike_times", (-1,))
    units = pd.DataFrame({"unit_id": [f"{prefix}{i}" for i in table.id[:]]})
    units = units.assign(**{name: column(table, name, path) for name in columns})

    electrodes = _first_electrodes(nwb, path)
    if electrodes is None and "peak_channel_id" in table.colnames and nwb.electrodes is not None:
        # The Allen Institute's files name the electrode by its id.
        electrodes = pd.Index(nwb.electrodes.id[:]).get_indexer(column(table, "peak_channel_id", path))
    groups = np.full(len(units), "all", object)
    if electrodes is not None:
        known = electrodes >= 0
        groups[known] = column(nwb.electrodes, "group_name", path)[electrodes[known]]
    elif "electrode_group" in table.colnames:
        groups = np.array([group.name for group in table["electrode_group"][:]], object)
    if region_column is not None:
        units[REGION] = column(table, region_column, path)
    elif electrodes is not None and REGION not in units and "location" in nwb.electrodes.colnames:
        location = column(nwb.electrodes, "location", path)
        units[REGION] = np.where(known, location[electrodes], "")

    observed = _observed(table, path)
    session: np.ndarray | None = None
    names = sorted(set(groups))
    found = []
    for group, population in zip(names, distinct([safe_name(name) for name in names]), strict=True):
        chosen = groups == group
        if observed is None or not any(len(observed[row]) for row in np.flatnonzero(chosen)):
            session = _session(path) if session is None else session
            spans = session
        else:
            chosen, spans = _observed_together(observed, chosen, f"{path}: population {population}")
        if spans[-1, 1] - spans[0, 0] > LONGEST_S:
            raise DataError(
                f"{path}: {spans[-1, 1]:.0f} s long; spike times must be in seconds, are these samples or ms?"
            )
        rows = np.flatnonzero(chosen)
        found.append(
            SpikeTrains(
                path=path,
                population=population,
                units=units[chosen].reset_index(drop=True),
                spikes=SpikesByUnit(path, rows),
                valid_spans=without_invalid(nwb, spans, path),
                waveforms=Waveforms(path, rows) if "waveform_mean" in table.colnames else None,
            )
        )
    return with_time(found, path)


def _session(path: Path) -> np.ndarray:
    """From 0 to the last spike, where a file does not say when its units were observed, ``(1, 2)`` (s)."""
    with h5py.File(path) as file:
        stop = max(
            (np.nanmax(part, initial=0.0) for part in parts_of(file["units/spike_times"])),
            default=0.0,
        )
    if not stop > 0:
        raise DataError(f"{path}: no spike after 0 s; look at spike_times")
    # The last spike belongs to the session: spans are open at their end.
    return np.array([[0.0, np.nextafter(stop, np.inf)]])


def _first_electrodes(nwb: NWBFile, path: Path) -> np.ndarray | None:
    """Row of each unit's first electrode, -1 where it has none; None without such a column."""
    table = nwb.units
    if "electrodes" not in table.colnames:
        return None
    if "electrodes_index" not in table:
        return rows_of(nwb.electrodes, table["electrodes"].data[:], path)
    starts, stops, column = ragged(table, "electrodes", path)
    rows = rows_of(nwb.electrodes, column.data[:], path)
    some = starts < stops
    return np.where(some, rows[np.where(some, starts, 0)] if len(rows) else -1, -1)


# Gaps that rounding leaves between intervals that were meant to touch (s).
TOUCHING_S = 1e-3


def _observed(table: Any, path: Path) -> list[np.ndarray] | None:
    """Spans in which each unit was observed (Units.obs_intervals); None where the file says nothing.

    Intervals may touch or overlap, as in files that are tiled by trials. A unit of which nothing is said has
    no span.

    Raises
    ------
    DataError
        If an interval is not finite or ends before it begins.
    """
    if "obs_intervals" not in table.colnames:
        return None
    starts, stops, column = ragged(table, "obs_intervals", path)
    intervals = numbers(column.data[:], f"{path}: obs_intervals", shape=(-1, 2))
    merged: dict[bytes, np.ndarray] = {}
    observed = []
    for unit, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        own = intervals[start:stop]
        if not np.isfinite(own).all() or (own[:, 0] > own[:, 1]).any():
            raise DataError(
                f"{path}: obs_intervals of unit {table.id[unit]}: one is not finite or ends before it begins"
            )
        key = own.tobytes()
        if key not in merged:
            merged[key] = merge_spans(own[own[:, 0] < own[:, 1]], TOUCHING_S)
        observed.append(merged[key])
    return observed if any(len(spans) for spans in observed) else None


def _observed_together(
    observed: list[np.ndarray], chosen: np.ndarray, named: str
) -> tuple[np.ndarray, np.ndarray]:
    """Spans in which the units of a population were observed together.

    Units that were observed for less than half as long as the median unit are left out, with a warning: they
    would cut the spans of all others.

    Parameters
    ----------
    observed
        Spans of each unit (s); none where nothing is said of it.
    chosen
        Which units are of the population, ``(unit,)``; of some of them something is said.
    named
        File and population, for messages.

    Returns
    -------
    chosen
        Without those that were left out.
    spans
        ``(interval, 2)`` (s).

    Raises
    ------
    DataError
        If there is no such span.
    """
    known = chosen & np.array([len(spans) > 0 for spans in observed])
    lengths = np.array([np.diff(spans).sum() for spans in observed])
    little = known & (lengths < np.median(lengths[known]) / 2)
    if little.any():
        logger.warning(
            "%s: %s observed for less than half as long as the others (obs_intervals): left out",
            named,
            counted(int(little.sum()), "unit"),
        )
    distinct_spans = {observed[unit].tobytes(): observed[unit] for unit in np.flatnonzero(known & ~little)}
    common, *others = distinct_spans.values()
    for own in others:
        common = intersect_spans(common, own)
    if not len(common):
        raise DataError(
            f"{named}: its units were never observed at the same time (obs_intervals); write one file "
            "for each part of the session"
        )
    return chosen & ~little, common
