"""Recordings from NWB files: a Units table, or dF/F of imaged ROIs.

Source: NWB schema 2.x, https://nwb-schema.readthedocs.io . Metadata go through pynwb. Spike times
and traces, which may not fit in memory, are left in the file: what is returned says where.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from pynwb import NWBHDF5IO, NWBFile
from pynwb.ophys import DfOverF, RoiResponseSeries

from nuclr.data.recording import Frames, Recording, SpikeTrains, Traces, name_of, safe_name
from nuclr.data.spans import intersect_spans, remove_spans
from nuclr.data.spikes import SpikesByUnit
from nuclr.data.waveforms import Waveforms
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

LONGEST_S = 30 * 86400.0
REGION = "brain_region"


def find_recordings(folder: Path) -> list[Recording]:
    """List the NWB files below a folder, by name.

    Raises
    ------
    DataError
        If there are none, one cannot be read or names no subject, or two have the same name.
    """
    # Hidden ones are what a download or another system left beside the files.
    paths = sorted(path for path in folder.rglob("*.nwb") if not path.name.startswith("."))
    if not paths:
        raise DataError(f"{folder}: no .nwb file there; set nwb.folder to the folder of your recordings")
    found: dict[str, Recording] = {}
    for path in paths:
        recording = Recording(path, name_of(path), animal_of(path))
        if recording.recording in found:
            raise DataError(
                f"{path} and {found[recording.recording].path} would both be recording "
                f"{recording.recording}; rename one"
            )
        found[recording.recording] = recording
    return list(found.values())


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cached namespaces of other versions: nothing a user can mend
            with NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
                yield io.read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Exception as error:  # h5py, hdmf and pynwb raise what they like on a damaged file
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: not a whole NWB file (truncated, or not NWB: {reason}); fetch or write it again"
        ) from None


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
    values = np.asarray(table[name][:])
    if values.ndim != 1:
        raise DataError(f"{path}: column {name} of table {table.name} is not one value a unit; leave it out")
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
    units = pd.DataFrame({"unit_id": [f"{prefix}{i}" for i in table.id[:]]})
    units = units.assign(**{name: column(table, name, path) for name in columns})

    electrodes = _first_electrodes(table)
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

    spans = _observed(table)
    if spans is None:
        with h5py.File(path) as file:
            times = file["units/spike_times"]
            stop = max(
                (np.nanmax(part, initial=0.0) for part in _parts(times)),
                default=0.0,
            )
        # The last spike belongs to the session: spans are open at their end.
        spans = np.array([[0.0, np.nextafter(stop, np.inf)]])
    if not len(spans) or not spans[-1, 1] > 0:
        raise DataError(
            f"{path}: no time in which all units were observed; look at spike_times and obs_intervals"
        )
    if spans[-1, 1] - spans[0, 0] > LONGEST_S:
        raise DataError(
            f"{path}: {spans[-1, 1]:.0f} s long; spike times must be in seconds, are these samples or ms?"
        )
    spans = without_invalid(nwb, spans)
    return [
        SpikeTrains(
            path=path,
            population=safe_name(group),
            units=units[groups == group].reset_index(drop=True),
            spikes=SpikesByUnit(path, np.flatnonzero(groups == group)),
            valid_spans=spans,
            waveforms=Waveforms(path, np.flatnonzero(groups == group))
            if "waveform_mean" in table.colnames
            else None,
        )
        for group in sorted(set(groups))
    ]


def _parts(dataset: Any, size: int = 2**22) -> Iterator[np.ndarray]:
    for start in range(0, len(dataset), size):
        yield dataset[start : start + size]


def _first_electrodes(table: Any) -> np.ndarray | None:
    """Row of each unit's first electrode, -1 where it has none; None without such a column."""
    if "electrodes" not in table.colnames:
        return None
    column = table.get("electrodes", index=True) if "electrodes_index" in table else table["electrodes"]
    if hasattr(column, "target"):  # a VectorIndex: several electrodes a unit
        stops = np.asarray(column.data[:], np.int64)
        starts = np.concatenate([[0], stops[:-1]])
        rows = np.asarray(column.target.data[:], np.int64)
        some = starts < stops
        return np.where(some, rows[np.where(some, starts, 0)] if len(rows) else -1, -1)
    return np.asarray(column.data[:], np.int64)


def _observed(table: Any) -> np.ndarray | None:
    """Spans in which every unit was observed (Units.obs_intervals); None where the file says nothing."""
    if "obs_intervals" not in table.colnames:
        return None
    index = table["obs_intervals"]
    spans = np.asarray(index.target.data[:], float)
    stops = np.asarray(index.data[:], np.int64)
    starts = np.concatenate([[0], stops[:-1]])
    common: np.ndarray | None = None
    seen = set()
    for start, stop in zip(starts, stops, strict=True):
        own = spans[start:stop]
        key = own.tobytes()
        if start == stop or key in seen:
            continue
        seen.add(key)
        common = own if common is None else intersect_spans(common, own)
    return common


def without_invalid(nwb: NWBFile, spans: np.ndarray) -> np.ndarray:
    """Take NWB's ``invalid_times`` out of the spans."""
    if nwb.invalid_times is None or not len(nwb.invalid_times):
        return spans
    times = nwb.invalid_times
    return remove_spans(spans, np.stack([times["start_time"][:], times["stop_time"][:]], axis=1))


def _traces(nwb: NWBFile, path: Path, prefix: str, columns: list[str]) -> list[Traces]:
    series = [x for x in nwb.objects.values() if isinstance(x, RoiResponseSeries)]
    chosen = [x for x in series if isinstance(x.parent, DfOverF)] or series
    several = len(chosen) > 1
    found = []
    for one in chosen:
        table = one.rois.table
        rows = np.asarray(one.rois.data[:])
        units = pd.DataFrame(
            {"unit_id": [f"{prefix}{one.name + '_' if several else ''}{table.id[int(r)]}" for r in rows]}
        )
        units = units.assign(**{name: column(table, name, path)[rows] for name in columns})
        if one.rate is not None:
            frame_s, start_s = 1.0 / one.rate, float(one.starting_time or 0.0)
        else:
            times = np.asarray(one.timestamps[:], float)
            gaps = np.diff(times)
            frame_s, start_s = float(np.median(gaps)), float(times[0])
            if (gaps <= 0).any() or (np.abs(gaps - frame_s) > 0.5 * frame_s).any():
                raise DataError(
                    f"{path}: frames of {one.name} are not evenly spaced; split it at the gaps, one file each"
                )
        stop_s = start_s + frame_s * one.data.shape[0]
        found.append(
            Traces(
                path=path,
                population=safe_name(one.name),
                units=units,
                frames=(Frames(path, one.data.name, 0, one.data.shape[0]),),
                frame_s=frame_s,
                start_s=start_s,
                valid_spans=without_invalid(nwb, np.array([[start_s, stop_s]])),
            )
        )
    return found
