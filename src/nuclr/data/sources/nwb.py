"""Recordings from NWB files: a Units table, or dF/F of imaged ROIs.

Source: NWB schema 2.x, https://nwb-schema.readthedocs.io . Metadata go through pynwb. Spike times
and traces, which may not fit in memory, are left in the file: what is returned says where.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from pynwb import NWBHDF5IO, NWBFile
from pynwb.ophys import DfOverF, RoiResponseSeries

from nuclr.data.recording import Frames, Recording, SpikeTrains, Traces, distinct, name_of, safe_name
from nuclr.data.spans import intersect_spans, merge_spans, remove_spans
from nuclr.data.spikes import SpikesByUnit
from nuclr.data.waveforms import Waveforms
from nuclr.errors import DataError
from nuclr.files import whole
from nuclr.words import counted

logger = logging.getLogger(__name__)

LONGEST_S = 30 * 86400.0
REGION = "brain_region"


def find_recordings(folder: Path, known: Path | None = None) -> list[Recording]:
    """List the NWB files below a folder, by name.

    Parameters
    ----------
    folder
        The user's; nothing is written there.
    known
        File that keeps the animal of each recording, by name, size and time: of a file that is still the
        same, it is not asked again. None keeps nothing.

    Raises
    ------
    DataError
        If there are none, one cannot be read or names no subject, or two have the same name.
    """
    # Hidden ones are what a download or another system left beside the files.
    paths = sorted(path for path in folder.rglob("*.nwb") if not path.name.startswith("."))
    if not paths:
        raise DataError(f"{folder}: no .nwb file there; set nwb.folder to the folder of your recordings")
    before = _known_animals(known)
    now: dict[str, str] = {}
    found: dict[str, Recording] = {}
    for path in paths:
        key = _state_of(path)
        now[key] = before.get(key) or animal_of(path)
        recording = Recording(path, name_of(path), now[key])
        if recording.recording in found:
            raise DataError(
                f"{path} and {found[recording.recording].path} would both be recording "
                f"{recording.recording}; rename one"
            )
        found[recording.recording] = recording
    if known is not None and now != before:
        with whole(known, alone=False) as partial:
            partial.write_text(json.dumps(now, indent=0))
    return list(found.values())


def _state_of(path: Path) -> str:
    """Name, size and time: the same as long as nobody writes to a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); remove it, or mend the link") from None
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


def _known_animals(known: Path | None) -> dict[str, str]:
    """Read what :func:`find_recordings` kept; nothing where it cannot be read."""
    try:
        content = json.loads(known.read_text()) if known is not None else {}
    except (OSError, ValueError):
        return {}
    whole_table = isinstance(content, dict) and all(isinstance(animal, str) for animal in content.values())
    return content if whole_table else {}


def animal_of(path: Path) -> str:
    """Read NWB's ``subject_id`` alone, which is quick."""
    try:
        with h5py.File(path) as file:
            subject = file.get("general/subject/subject_id")
            animal = subject[()] if subject is not None else b""
    except OSError:
        raise DataError(
            f"{path}: not a whole NWB file (truncated, or not HDF5); fetch or write it again"
        ) from None
    animal = animal.decode() if isinstance(animal, bytes) else str(animal)
    if not animal.strip():
        raise DataError(f"{path}: no subject_id; set subject.subject_id in the file, animals are split by it")
    return animal.strip()


@contextmanager
def opened(path: Path) -> Iterator[NWBFile]:
    """Open a file with pynwb.

    Raises
    ------
    DataError
        If it is not there, or damaged.
    """
    with ExitStack() as held:
        held.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # cached namespaces of other versions: nothing a user can mend
        try:
            io = held.enter_context(NWBHDF5IO(str(path), "r", load_namespaces=True))
            nwb = io.read()
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except Exception as error:  # h5py, hdmf and pynwb raise what they like on a damaged file
            raise _damaged(path, error) from None
        try:
            yield nwb
        except OSError as error:  # what h5py raises where a dataset's bytes are missing; all else is ours
            raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(
        f"{path}: not a whole NWB file (truncated, or not NWB: {reason}); fetch or write it again"
    )


def read_populations(
    path: Path, unit_columns: list[str] | None = None, region_column: str | None = None
) -> list[SpikeTrains] | list[Traces]:
    """Read what populations a file holds.

    Units are grouped by the electrode group of their first electrode; a file without electrodes is
    one population. Without units, dF/F series are read, one population each.

    Parameters
    ----------
    path
        The NWB file.
    unit_columns
        Columns of the Units table or the plane segmentation to keep, under their own names.
    region_column
        Unit column with the brain region; None takes the ``location`` of a unit's first electrode.

    Raises
    ------
    DataError
        If the file is damaged, holds neither units nor dF/F, or lacks a column.
    """
    with opened(path) as nwb:
        return populations_of(nwb, path, unit_columns or [], region_column)


def populations_of(
    nwb: NWBFile, path: Path, columns: list[str], region_column: str | None = None
) -> list[SpikeTrains] | list[Traces]:
    """Read what populations an open file holds; see :func:`read_populations`."""
    prefix = _unit_prefix(nwb, path)
    if nwb.units is not None and len(nwb.units):
        return _spike_trains(nwb, path, prefix, columns, region_column)
    traces = _traces(nwb, path, prefix, columns)
    if not traces:
        raise DataError(f"{path}: neither units nor dF/F (RoiResponseSeries) in it; spike-sort it first")
    return traces


def _unit_prefix(nwb: NWBFile, path: Path) -> str:
    animal = nwb.subject.subject_id if nwb.subject is not None and nwb.subject.subject_id else None
    if not animal:
        raise DataError(f"{path}: no subject_id; set subject.subject_id in the file, animals are split by it")
    return f"{animal}_{nwb.session_id or nwb.identifier}_"


def column(table: Any, name: str, path: Path) -> np.ndarray:
    """Read a column with one value a row.

    Raises
    ------
    DataError
        If it is not there, or not of this kind.
    """
    if name not in table.colnames:
        raise DataError(f"{path}: no column {name} in table {table.name}; it has {', '.join(table.colnames)}")
    values = None if f"{name}_index" in table else np.asarray(table[name][:])
    if values is None or values.shape != (len(table),):
        raise DataError(f"{path}: column {name} of table {table.name} is not one value a row; leave it out")
    return _decoded(values)


def _decoded(values: np.ndarray) -> np.ndarray:
    """Text as ``str``: HDF5 hands it over as bytes."""
    if values.dtype.kind in "OS":
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], object)
    return values


def _spike_trains(
    nwb: NWBFile, path: Path, prefix: str, columns: list[str], region_column: str | None
) -> list[SpikeTrains]:
    table = nwb.units
    if "spike_times" not in table.colnames:
        raise DataError(f"{path}: its units have no spike_times; spike-sort it first")
    _, _, times = _ragged(table, "spike_times", path)
    _check_numbers(times.data, f"{path}: spike_times", (-1,))
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
    return _with_time(found, path)


def _with_time(found: list[SpikeTrains] | list[Traces], path: Path) -> Any:
    """Leave out populations of which ``invalid_times`` leave nothing, with a warning.

    Raises
    ------
    DataError
        If that is all of them.
    """
    for raw in found:
        if not len(raw.valid_spans):
            logger.warning("%s: population %s: invalid_times cover all of it; left out", path, raw.population)
    kept = [raw for raw in found if len(raw.valid_spans)]
    if found and not kept:
        raise DataError(f"{path}: invalid_times cover everything that was recorded; look at them")
    return kept


def _session(path: Path) -> np.ndarray:
    """From 0 to the last spike, where a file does not say when its units were observed, ``(1, 2)`` (s)."""
    with h5py.File(path) as file:
        stop = max(
            (np.nanmax(part, initial=0.0) for part in _parts(file["units/spike_times"])),
            default=0.0,
        )
    if not stop > 0:
        raise DataError(f"{path}: no spike after 0 s; look at spike_times")
    # The last spike belongs to the session: spans are open at their end.
    return np.array([[0.0, np.nextafter(stop, np.inf)]])


def _numbers(values: Any, named: str, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    """Read numbers of a shape, -1 being any length; what has none may be of any shape and kind.

    Raises
    ------
    DataError
        If they are not numbers, or of another shape.
    """
    found = np.asarray(values)
    if not found.size:
        return np.zeros([max(size, 0) for size in shape])
    _check_numbers(found, named, shape)
    return found


def _check_numbers(data: Any, named: str, shape: tuple[int, ...]) -> None:
    fits = len(data.shape) == len(shape) and all(
        want in (-1, got) for want, got in zip(shape, data.shape, strict=True)
    )
    if not fits or data.dtype.kind not in "biuf":
        wanted = ", ".join("any" if size == -1 else str(size) for size in shape)
        raise DataError(
            f"{named}: {data.dtype} of shape {tuple(data.shape)}, where numbers of shape ({wanted}) belong; "
            "write the file again"
        )


def _parts(dataset: Any, size: int = 2**22) -> Iterator[np.ndarray]:
    for start in range(0, len(dataset), size):
        yield dataset[start : start + size]


def _ragged(table: Any, name: str, path: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    """Where each unit's part of a ragged column begins and ends, ``(unit,)`` each, and the column.

    Raises
    ------
    DataError
        If its index points outside the column.
    """
    index = table.get(name, index=True) if f"{name}_index" in table else table[name]
    if not hasattr(index, "target"):
        raise DataError(f"{path}: column {name} of table {table.name} has no index; write the file again")
    stops = _numbers(index.data[:], f"{path}: the index of column {name} of table {table.name}")
    stops = stops.astype(np.int64)
    starts = np.concatenate([[0], stops[:-1]])
    if (
        len(stops) != len(table)
        or (starts > stops).any()
        or (len(stops) and stops[-1] > len(index.target.data))
    ):
        raise DataError(
            f"{path}: the index of column {name} of table {table.name} points outside it; write it again"
        )
    return starts, stops, index.target


def _rows_of(table: Any, rows: np.ndarray, path: Path) -> np.ndarray:
    """Check that some rows are in a table.

    Raises
    ------
    DataError
        If one is not.
    """
    rows = _numbers(rows, f"{path}: a reference to rows of table {table.name}").astype(np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
        raise DataError(
            f"{path}: a reference to row {rows.max()} of table {table.name}, which has {len(table)}"
        )
    return rows


def _first_electrodes(nwb: NWBFile, path: Path) -> np.ndarray | None:
    """Row of each unit's first electrode, -1 where it has none; None without such a column."""
    table = nwb.units
    if "electrodes" not in table.colnames:
        return None
    if "electrodes_index" not in table:
        return _rows_of(nwb.electrodes, table["electrodes"].data[:], path)
    starts, stops, column = _ragged(table, "electrodes", path)
    rows = _rows_of(nwb.electrodes, column.data[:], path)
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
    starts, stops, column = _ragged(table, "obs_intervals", path)
    intervals = _numbers(column.data[:], f"{path}: obs_intervals", shape=(-1, 2))
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


def without_invalid(nwb: NWBFile, spans: np.ndarray, path: Path) -> np.ndarray:
    """Take NWB's ``invalid_times`` out of the spans.

    Raises
    ------
    DataError
        If one of them ends before it begins.
    """
    if nwb.invalid_times is None or not len(nwb.invalid_times):
        return spans
    starts, stops = (
        _numbers(column(nwb.invalid_times, name, path), f"{path}: invalid_times")
        for name in ("start_time", "stop_time")
    )
    if not (starts <= stops).all():
        raise DataError(f"{path}: invalid_times: an interval is not a number or ends before it begins")
    return remove_spans(spans, np.stack([starts, stops], axis=1))


def _place(series: RoiResponseSeries) -> tuple[str, str]:
    """Name of a series, and where in its file it is."""
    above, parent = [], series.parent
    while parent is not None:
        above.append(parent.name)
        parent = parent.parent
    return series.name, "/".join(reversed(above))


def _timing(series: RoiResponseSeries, path: Path) -> tuple[float, float]:
    """Length of a frame and time of the first (s).

    Raises
    ------
    DataError
        If frames are not evenly spaced in time.
    """
    if series.rate is not None:
        if not series.rate > 0:
            raise DataError(
                f"{path}: {series.name} has a rate of {series.rate:g} Hz; set its rate or timestamps"
            )
        return 1.0 / series.rate, float(series.starting_time or 0.0)
    times = _numbers(series.timestamps[:], f"{path}: timestamps of {series.name}")
    gaps = np.diff(times)
    if len(times) < 2 or len(times) != series.data.shape[0]:
        raise DataError(
            f"{path}: {series.name} has {counted(len(times), 'timestamp')} for "
            f"{counted(series.data.shape[0], 'frame')}; it should have one for each, of two or more"
        )
    frame_s = float(np.median(gaps))
    # Asked so that what is not a number is refused too.
    if not ((gaps > 0).all() and (np.abs(gaps - frame_s) <= 0.5 * frame_s).all()):
        raise DataError(
            f"{path}: frames of {series.name} are not evenly spaced; split it at the gaps, one file each"
        )
    return frame_s, float(times[0])


def _traces(nwb: NWBFile, path: Path, prefix: str, columns: list[str]) -> list[Traces]:
    series = [x for x in nwb.objects.values() if isinstance(x, RoiResponseSeries)]
    chosen = [x for x in series if isinstance(x.parent, DfOverF)] or series
    # In the order of their places, which differ where names do not; populations stay in the file's order.
    order = sorted(range(len(chosen)), key=lambda i: _place(chosen[i]))
    names = distinct([chosen[i].name for i in order])
    named = dict(
        zip(order, zip(names, distinct([safe_name(name) for name in names]), strict=True), strict=True)
    )
    several = len(chosen) > 1
    found = []
    for i, series in enumerate(chosen):
        name, population = named[i]
        table = series.rois.table
        rows = _rows_of(table, series.rois.data[:], path)
        units = pd.DataFrame(
            {"unit_id": [f"{prefix}{name + '_' if several else ''}{table.id[int(r)]}" for r in rows]}
        )
        units = units.assign(**{label: column(table, label, path)[rows] for label in columns})
        if math.prod(series.data.shape[1:]) != len(rows) or not series.data.shape[0]:
            raise DataError(
                f"{path}: {series.name} has traces {tuple(series.data.shape)} of "
                f"{counted(len(rows), 'ROI')}; they should be (frame, ROI)"
            )
        _check_numbers(series.data, f"{path}: {series.name}", tuple(series.data.shape))
        frame_s, start_s = _timing(series, path)
        stop_s = start_s + frame_s * series.data.shape[0]
        found.append(
            Traces(
                path=path,
                population=population,
                units=units,
                frames=(Frames(path, series.data.name, 0, series.data.shape[0]),),
                frame_s=frame_s,
                start_s=start_s,
                valid_spans=without_invalid(nwb, np.array([[start_s, stop_s]]), path),
            )
        )
    return _with_time(found, path)
