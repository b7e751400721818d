"""The Units table of pynwb's ``NWBFile`` in memory, recognised by its attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclr.config import Nwb
from nuclr.data.formats.nwb.regions import regions
from nuclr.data.formats.nwb.tables import with_time, without_holes
from nuclr.data.formats.nwb.units import (
    REGION,
    by_group,
    may_be_label,
    names_kinds,
    observed_spans,
)
from nuclr.data.recording import SpikeTrains, name_of, safe_name, session_span, widened
from nuclr.data.spikes import spikes_in_memory
from nuclr.errors import DataError, NothingToLearn


@dataclass(frozen=True)
class Session:
    """Names of a session and its animal, and the prefix of its unit ids."""

    recording: str
    animal: str
    prefix: str


def is_nwbfile(held: Any) -> bool:
    """Return whether an object is pynwb's ``NWBFile``."""
    return all(name in dir(type(held)) for name in ("units", "acquisition", "processing", "session_id"))


def saved_at(nwbfile: Any) -> Path | None:
    """Return the file that an ``NWBFile`` was read from; None if there is none or it was changed since."""
    source = getattr(nwbfile, "container_source", None)
    if source is None or getattr(nwbfile, "modified", True):
        return None
    return Path(source) if Path(source).exists() else None


def read_populations(nwbfile: Any, options: Nwb) -> tuple[list[SpikeTrains], Session]:
    """Read the populations of units in an ``NWBFile``, as from a file.

    Raises
    ------
    DataError
        If it has no units, or they are not valid.
    """
    session = _session(nwbfile)
    path, table = Path(session.recording), nwbfile.units
    if table is None or not len(table) or "spike_times" not in table.colnames:
        raise NothingToLearn(
            f"{path}: this NWBFile has no units with spike times; to read imaging, or units in a processing "
            "module, save it first (pynwb.NWBHDF5IO) and read the file"
        )
    try:
        found = _read(nwbfile, table, session, options)
    except DataError:
        raise
    except Exception as error:  # pynwb and h5py raise various errors if the file was closed
        raise DataError(f"{path}: this NWBFile cannot be read ({error}); save it and read the file") from None
    holes = _intervals([nwbfile.invalid_times])
    found = [replace(raw, valid_spans=without_holes(raw.valid_spans, holes, path)) for raw in found]
    return with_time(found, path), session


def _session(nwbfile: Any) -> Session:
    own = str(nwbfile.session_id or nwbfile.identifier or "session").strip()
    source = getattr(nwbfile, "container_source", None)
    recording = name_of(Path(source)) if source else safe_name(own)
    subject = getattr(nwbfile.subject, "subject_id", None) if nwbfile.subject is not None else None
    animal = str(subject or "").strip() or recording
    return Session(recording, animal, f"{animal}_{own}_")


def _read(nwbfile: Any, table: Any, session: Session, options: Nwb) -> list[SpikeTrains]:
    path, count = Path(session.recording), len(table)
    ids = np.asarray(table.id[:])
    if len(np.unique(ids)) < count:
        raise DataError(f"{path}: two units have the same id; give each unit a different id")
    trains = [np.asarray(table.get_unit_spike_times(row), np.float64) for row in range(count)]
    units = pd.DataFrame({"unit_id": [f"{session.prefix}{own}" for own in ids]})
    units = units.assign(**dict(_columns(table, options, path)))
    groups, location = _electrodes(nwbfile, table, path, options)
    if options.region_column is not None:
        units[REGION] = _column(table, options.region_column, path)
    elif location is not None and REGION not in units:
        units[REGION] = location
    observed = None
    if "obs_intervals" in table.colnames:
        each = [np.asarray(table.get_unit_obs_intervals(row), float).reshape(-1, 2) for row in range(count)]
        observed = observed_spans(each, ids, path)
    everything = SpikeTrains(
        path=path,
        population="",
        units=units,
        spikes=spikes_in_memory(str(path), trains),
        valid_spans=np.zeros((0, 2)),
    )
    return by_group(everything, groups, observed, lambda: _ran(nwbfile, np.concatenate(trains), path))


def _columns(table: Any, options: Nwb, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the columns that are labels, with their names."""
    if options.unit_columns is not None:
        yield from ((name, _column(table, name, path)) for name in options.unit_columns)
        return
    for name in table.colnames:
        if not may_be_label(name) or not _one_a_unit(table[name]):
            continue
        values = _column(table, name, path)
        if values.dtype.kind in "OSUTb" and names_kinds(values):
            yield name, values


def _one_a_unit(column: Any) -> bool:
    # A VectorIndex belongs to a ragged column; a DynamicTableRegion contains rows of another table.
    ragged = type(column).__name__ in ("VectorIndex", "DynamicTableRegion")
    return not ragged and len(np.shape(column.data)) == 1


def _column(table: Any, name: str, path: Path) -> np.ndarray:
    if name not in table.colnames:
        raise DataError(
            f"{path}: no column {name} in table units; the columns are {', '.join(table.colnames)}"
        )
    if not _one_a_unit(table[name]):
        raise DataError(
            f"{path}: column {name} of table units does not have one value for each row; leave it out"
        )
    values = np.asarray(table[name][:])
    return values if values.dtype.kind in "biuf" else values.astype(str).astype(object)


def _electrodes(nwbfile: Any, table: Any, path: Path, options: Nwb) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the group of each unit's first electrode, and its region; None if regions are unknown."""
    groups = np.full(len(table), "all", object)
    if "electrodes" not in table.colnames:
        if "electrode_group" in table.colnames:
            groups[:] = [group.name for group in table["electrode_group"][:]]
        return groups, None
    region = table.electrodes
    stops = np.asarray(table["electrodes"].data[:], np.int64)
    starts, rows = np.concatenate([[0], stops[:-1]]), np.asarray(region.data[:], np.int64)
    known = starts < stops
    first, electrodes = rows[starts[known]], region.table
    if "group_name" in electrodes.colnames:
        groups[known] = np.asarray(electrodes["group_name"][:], object)[first]
    if "location" not in electrodes.colnames:
        return groups, None
    location = np.full(len(table), "", object)
    location[known] = regions(np.asarray(electrodes["location"][:], object), options.region_key, path)[first]
    return groups, location


def _ran(nwbfile: Any, times: np.ndarray, path: Path) -> np.ndarray:
    """Return the span of a session, from its spikes and from trials, epochs and other intervals."""
    known = times[np.isfinite(times)]
    if not len(known):
        raise NothingToLearn(f"{path}: contains no spikes; check spike_times")
    tables = [nwbfile.trials, nwbfile.epochs, *dict(nwbfile.intervals or {}).values()]
    return widened(session_span(known.min(), known.max()), _intervals(tables))


def _intervals(tables: list[Any]) -> np.ndarray:
    """Return starts and stops of tables of intervals, ``(interval, 2)``; missing tables are None."""
    read = [
        np.stack([np.asarray(table[name][:], float) for name in ("start_time", "stop_time")], axis=1)
        for table in tables
        if table is not None
    ]
    return np.concatenate([np.zeros((0, 2)), *read])
