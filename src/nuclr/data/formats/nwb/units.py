"""Spike trains of NWB's Units tables, with populations by electrode group and their observed spans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.config import Nwb
from nuclr.data.access.remote import Remote
from nuclr.data.formats.nwb.file import Node
from nuclr.data.formats.nwb.regions import regions
from nuclr.data.formats.nwb.tables import (
    Table,
    check_numbers,
    intervals,
    numbers,
    parts_of,
    with_time,
    without_invalid,
)
from nuclr.data.recording import (
    LATEST_S,
    SpikeTrains,
    Waveforms,
    check_seconds,
    distinct,
    intersect_spans,
    merge_spans,
    safe_name,
    session_span,
    widened,
)
from nuclr.data.spikes import SpikesByUnit
from nuclr.errors import DataError
from nuclr.words import counted

logger = logging.getLogger(__name__)

REGION, DEPTH = "brain_region", "depth_um"
ELECTRODE_DEPTHS = ("rel_y", "probe_vertical_position")
UNITS = "units"  # standard path of the Units table


def units_table(root: Node, named: str | None) -> Table | None:
    """Return the Units table with spike times, at the standard path or elsewhere; None if there is none.

    Raises
    ------
    DataError
        If the table named by ``nwb.units_table`` does not exist.
    """
    if named is not None:
        node = root.get(named)
        if node is None or not node.is_group:
            there = ", ".join(node.path for node in _tables(root)) or "none"
            raise DataError(f"{root.file}: nwb.units_table: no table {named}; the Units tables are: {there}")
        return Table(node)
    own = root.get(UNITS)
    if own is not None and own.is_group and len(Table(own)):
        return Table(own)
    found = [table for table in map(Table, _tables(root)) if len(table) and "spike_times" in table]
    if not found:
        return None
    logger.info("%s: units are read from %s", root.file, found[0].node.path)
    if len(found) > 1:
        logger.warning(
            "%s: several Units tables (%s); the first is read (nwb.units_table names another)",
            root.file,
            ", ".join(table.node.path for table in found),
        )
    return found[0]


def _tables(root: Node) -> list[Node]:
    return [node for node in root.nodes() if node.is_group and node.kind == "Units"]


def spike_trains(root: Node, table: Table, prefix: str, named: Nwb) -> list[SpikeTrains]:
    """Read the units of an open file, with one population for each electrode group.

    Parameters
    ----------
    root
        Root of the file.
    table
        The Units table.
    prefix
        Prefix of unit ids.
    named
        Which columns are labels, and which contains the region.

    Raises
    ------
    DataError
        If spike times, intervals or columns are not valid.
    """
    path = root.file
    if "spike_times" not in table:
        raise DataError(f"{path}: the units have no spike_times; spike-sort it first")
    starts, stops, times = table.ragged("spike_times")
    check_numbers(times, f"{path}: spike_times", (-1,))
    ids = table.ids
    if len(ids) != len(np.unique(ids)):
        raise DataError(f"{path}: two units have the same id; give each unit a different id")
    units = pd.DataFrame({"unit_id": [f"{prefix}{i}" for i in ids]})
    columns = labels_of(table) if named.unit_columns is None else named.unit_columns
    units = units.assign(**{name: table.column(name) for name in columns})

    electrodes = _electrodes(root, table)
    first = None if electrodes is None else _first_electrodes(table, electrodes)
    groups = np.full(len(units), "all", object)
    if electrodes is not None and first is not None:
        known = first >= 0
        if "group_name" in electrodes:
            groups[known] = _as_names(electrodes.column("group_name"))[first[known]]
    elif "electrode_group" in table:
        groups = _as_names(table.column("electrode_group"))
    if named.region_column is not None:
        units[REGION] = table.column(named.region_column)
    elif electrodes is not None and first is not None and REGION not in units and "location" in electrodes:
        location = regions(electrodes.column("location"), named.region_key, path)
        units[REGION] = np.where(known, location[np.where(known, first, 0)] if len(location) else "", "")

    if (depth := _depth_um(table, electrodes, first)) is not None:
        units[DEPTH] = depth

    everything = SpikeTrains(
        path=path,
        population="",
        units=units,
        spikes=SpikesByUnit(times.column(), starts, stops),
        valid_spans=np.zeros((0, 2)),
        waveforms=_waveforms(table),
    )
    found = by_group(everything, groups, _observed(table), lambda: _session(root, times))
    found = [replace(raw, valid_spans=without_invalid(root, raw.valid_spans)) for raw in found]
    return with_time(found, path)


def _depth_um(table: Table, electrodes: Table | None, first: np.ndarray | None) -> np.ndarray | None:
    """Return the depth of each unit on its probe (um), ``(unit,)``, from the units or their electrodes.

    The position is in ``rel_y`` in NWB, and in ``probe_vertical_position`` in Allen's files; NaN if it is
    unknown.
    """
    if DEPTH in table:
        found = _as_numbers(table.column(DEPTH))
    else:
        places = [name for name in ELECTRODE_DEPTHS if electrodes is not None and name in electrodes]
        if electrodes is None or first is None or not places or not len(electrodes):
            return None
        found = np.where(first >= 0, _as_numbers(electrodes.column(places[0]))[np.maximum(first, 0)], np.nan)
    return found if np.isfinite(found).any() else None


def _as_numbers(values: np.ndarray) -> np.ndarray:
    """Return values as numbers, with NaN for values that are not, because files may contain anything."""
    return pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce").to_numpy(float)


def _as_names(values: np.ndarray) -> np.ndarray:
    """Return values as text, ``(row,)``, because files may contain anything."""
    names = np.empty(len(values), object)
    names[:] = [str(value) for value in values]
    return names


def by_group(
    everything: SpikeTrains,
    groups: np.ndarray,
    observed: list[np.ndarray] | None,
    session: Callable[[], np.ndarray],
) -> list[SpikeTrains]:
    """Return one population for each electrode group.

    Parameters
    ----------
    everything
        All units.
    groups
        Name of each unit's group, ``(unit,)``.
    observed
        Observed spans of each unit (s), from :func:`observed_spans`.
    session
        Function that returns the span of the session, for groups whose units have no observed spans.

    Raises
    ------
    DataError
        If a session cannot be in seconds, or units of a group were never observed together.
    """
    path, whole_session = everything.path, None
    names = sorted({str(group) for group in groups})
    found = []
    for group, population in zip(names, distinct([safe_name(name) for name in names]), strict=True):
        chosen = groups.astype(str) == group
        if observed is None or not any(len(observed[row]) for row in np.flatnonzero(chosen)):
            whole_session = session() if whole_session is None else whole_session
            spans = whole_session
        else:
            chosen, spans = _observed_together(observed, chosen, f"{path}: population {population}")
        check_seconds(spans, path)
        found.append(replace(everything.only(chosen), population=population, valid_spans=spans))
    return found


NO_LABELS = ("electrode_group", "group_name", "spike_times", "obs_intervals", "electrodes", "waveform_mean")


def labels_of(table: Table) -> list[str]:
    """Return the columns that are labels: text or booleans, one for each row, that group the rows."""
    found = []
    for name in table.columns:
        dataset = table.dataset(name)
        if not may_be_label(name):
            continue
        if f"{name}_index" in table or dataset.shape != (len(table),):
            continue
        # Columns of numbers are only labels if nwb.unit_columns names them.
        enumerated = dataset.dtype.kind in "iu" and dataset.attribute("elements") is not None
        if dataset.dtype.kind not in "OSUTb" and not enumerated:
            continue
        if dataset.attribute("table") is not None:
            continue
        if names_kinds(table.column(name)):
            found.append(name)
    return found


def may_be_label(name: str) -> bool:
    """Return whether a column may be a label by its name: not a standard column of NWB, an id or a file."""
    return name not in NO_LABELS and not name.lower().endswith(("id", "ids", "uuid", "uuids", "path", "file"))


def names_kinds(values: np.ndarray) -> bool:
    """Return whether texts or booleans, one for each unit, are classes: short, and shared by some units."""
    texts = {str(value) for value in values}
    return len(texts) < max(2, len(values)) and texts != {""} and max(map(len, texts), default=0) <= 100


def _waveforms(table: Table) -> Waveforms | None:
    if "waveform_mean" not in table:
        return None
    if "waveform_mean_index" in table:
        starts, stops, means = table.ragged("waveform_mean")
    else:
        means = table.dataset("waveform_mean")
        starts, stops = np.arange(len(table)), np.arange(1, len(table) + 1)
    if len(means.shape) not in (2, 3) or stops[-1] > len(means):
        return None
    return Waveforms(means.column(), starts, stops)


# Group of tables of intervals, which extend the session, except invalid_times.
INTERVALS = "intervals"


def _session(root: Node, times: Node) -> np.ndarray:
    """Return the span of a session whose file has no observed spans of units, ``(1, 2)`` (s).

    It extends from the first spike, rounded down to a whole second, to the last, and includes trials, epochs
    and other intervals. It does not start at 0, because the clock of a session may not either.
    """
    first, last = np.inf, -np.inf
    for part in parts_of(times):
        known = part[np.isfinite(part)]
        first, last = min(first, known.min(initial=np.inf)), max(last, known.max(initial=-np.inf))
    if not first <= last:
        raise DataError(f"{root.file}: contains no spikes; check spike_times")
    session = session_span(first, last)
    tables = root.get(INTERVALS)
    for name, node in (tables.children() if tables is not None else {}).items():
        if name == "invalid_times" or not node.is_group:
            continue
        table = Table(node)
        if "start_time" in table and "stop_time" in table:
            session = widened(session, intervals(table))
    return session


def _electrodes(root: Node, table: Table) -> Table | None:
    """Return the table of electrodes that units refer to."""
    node = table.dataset("electrodes").target("table") if "electrodes" in table else None
    node = root.get("general/extracellular_ephys/electrodes") if node is None else node
    return Table(node) if node is not None and node.is_group else None


def _first_electrodes(table: Table, electrodes: Table) -> np.ndarray | None:
    """Return the row of each unit's first electrode, -1 if it has none; None without such a column."""
    if "electrodes" not in table:
        if "peak_channel_id" in table:
            # Files of the Allen Institute refer to electrodes by id.
            ids = pd.Index(electrodes.ids)
            if not ids.is_unique:
                raise DataError(f"{table.file}: two electrodes have the same id; write the file again")
            return ids.get_indexer(table.column("peak_channel_id"))
        return None
    named = f"{table.file}: electrodes of its units"
    dataset = table.dataset("electrodes")
    if "electrodes_index" not in table:
        return electrodes.check_rows(table.column("electrodes"), named)
    starts, stops, _ = table.ragged("electrodes")
    rows = electrodes.check_rows(dataset.read(), named)
    some = starts < stops
    return np.where(some, rows[np.where(some, starts, 0)] if len(rows) else -1, -1)


# Largest gap (s) between intervals that touch except for rounding.
TOUCHING_S = 1e-3


def _observed(table: Table) -> list[np.ndarray] | None:
    """Return the spans in which each unit was observed (Units.obs_intervals); None if the file has none.

    Intervals may touch or overlap, as in files that are tiled by trials. A unit without intervals has no
    spans.

    Raises
    ------
    DataError
        If an interval is not finite or ends before it begins.
    """
    if "obs_intervals" not in table:
        return None
    starts, stops, column = table.ragged("obs_intervals")
    spans = numbers(column, f"{table.file}: obs_intervals", shape=(-1, 2))
    spans = spans.astype(np.float64)
    each = [spans[start:stop] for start, stop in zip(starts, stops, strict=True)]
    return observed_spans(each, table.ids, table.file)


def observed_spans(
    each: Sequence[np.ndarray], ids: np.ndarray, path: Path | Remote
) -> list[np.ndarray] | None:
    """Return the merged intervals in which each unit was observed; None if no unit has any.

    Raises
    ------
    DataError
        If an interval is not finite or ends before it begins; ``ids`` and ``path`` are for this message.
    """
    merged: dict[bytes, np.ndarray] = {}
    observed = []
    for unit, own in enumerate(each):
        # Written so that NaN is refused as well.
        if not ((np.abs(own) <= LATEST_S).all() and (own[:, 0] <= own[:, 1]).all()):
            raise DataError(
                f"{path}: obs_intervals of unit {ids[unit]}: an interval is not finite, ends before it "
                "begins, "
                f"or is beyond {LATEST_S:g} s; correct the file"
            )
        key = own.tobytes()
        if key not in merged:
            merged[key] = merge_spans(own[own[:, 0] < own[:, 1]], TOUCHING_S)
        observed.append(merged[key])
    return observed if any(len(spans) for spans in observed) else None


def _observed_together(
    observed: list[np.ndarray], chosen: np.ndarray, named: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the spans in which the units of a population were observed together.

    Units that were observed for less than half as long as the median unit are left out, with a warning,
    because they would shorten the spans of all others.

    Parameters
    ----------
    observed
        Observed spans of each unit (s); empty if they are unknown.
    chosen
        Mask of the units of the population, ``(unit,)``; some of them have observed spans.
    named
        File and population, for messages.

    Returns
    -------
    chosen
        Mask without the units that were left out.
    spans
        Spans of the others, ``(interval, 2)`` (s).

    Raises
    ------
    DataError
        If the units were never observed together.
    """
    known = chosen & np.array([len(spans) > 0 for spans in observed])
    lengths = np.array([np.diff(spans).sum() for spans in observed])
    little = known & (lengths < np.median(lengths[known]) / 2)
    if little.any():
        logger.warning(
            "%s: %s observed for less than half as long as the others (obs_intervals); left out",
            named,
            counted(int(little.sum()), "unit"),
        )
    distinct_spans = {observed[unit].tobytes(): observed[unit] for unit in np.flatnonzero(known & ~little)}
    common, *others = distinct_spans.values()
    for own in others:
        common = intersect_spans(common, own)
    if not len(common):
        raise DataError(
            f"{named}: the units were never observed at the same time (obs_intervals); write one file "
            "for each part of the session"
        )
    return chosen & ~little, common
