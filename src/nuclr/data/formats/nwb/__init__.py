"""Recordings from NWB files: a Units table, or dF/F of imaged ROIs.

Source: NWB schema 2.x, https://nwb-schema.readthedocs.io . Metadata go through pynwb. Spike times
and traces, which may not fit in memory, are left in the file: what is returned says where.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
from pynwb import NWBHDF5IO, NWBFile

from nuclr.data.formats.nwb.imaging import traces
from nuclr.data.formats.nwb.units import spike_trains
from nuclr.data.recording import (
    Recording,
    SpikeTrains,
    Traces,
    name_of,
)
from nuclr.errors import DataError
from nuclr.files import whole

logger = logging.getLogger(__name__)


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
        return spike_trains(nwb, path, prefix, columns, region_column)
    imaged = traces(nwb, path, prefix, columns)
    if not imaged:
        raise DataError(f"{path}: neither units nor dF/F (RoiResponseSeries) in it; spike-sort it first")
    return imaged


def _unit_prefix(nwb: NWBFile, path: Path) -> str:
    animal = nwb.subject.subject_id if nwb.subject is not None and nwb.subject.subject_id else None
    if not animal:
        raise DataError(f"{path}: no subject_id; set subject.subject_id in the file, animals are split by it")
    return f"{animal}_{nwb.session_id or nwb.identifier}_"
