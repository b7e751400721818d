"""Recordings from NWB files, in HDF5 or Zarr: a Units table, or traces of imaged ROIs.

Source: NWB schema 2.x, https://nwb-schema.readthedocs.io . Spike times and traces, which may not fit in
memory, stay in the file and are read later.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nuclr.config import Reading
from nuclr.data.access.remote import Remote
from nuclr.data.formats.nwb.file import Node, opened
from nuclr.data.formats.nwb.imaging import traces
from nuclr.data.formats.nwb.units import spike_trains, units_table
from nuclr.data.recording import SIMULATED, SpikeTrains, Traces, name_of
from nuclr.errors import NothingToLearn

ZARR = (".zgroup", ".zmetadata")


def is_nwb(path: Path | Remote) -> bool:
    """Return whether a path is an NWB file, or an NWB folder (Zarr)."""
    if isinstance(path, Remote):
        return path.suffix in (".nwb", ".zarr")
    # A broken link counts too, so that it raises an error when it is read.
    if path.suffix == ".nwb" and not path.is_dir():
        return True
    if path.suffix not in (".nwb", ".zarr") or not any((path / name).is_file() for name in ZARR):
        return False
    attributes = path / ".zattrs"
    return path.name.endswith((".nwb.zarr", ".nwb")) or (
        attributes.is_file() and '"NWBFile"' in attributes.read_text(errors="replace")
    )


def subject_of(path: Path | Remote) -> str:
    """Return NWB's ``subject_id`` without reading anything else; "" if the file names no subject.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    with opened(path) as root:
        return _subject(root)


def _subject(root: Node) -> str:
    node = root.get("general/subject/subject_id")
    if node is None or node.is_group:
        return ""
    return node.text().strip()


def read_populations(
    path: Path | Remote, options: Reading | None = None, animal: str | None = None
) -> list[SpikeTrains] | list[Traces]:
    """Read the populations of a file.

    Units are grouped by the electrode group of their first electrode; a file without electrodes is
    one population. If the file has no units, traces of ROIs are read.

    Parameters
    ----------
    path
        The NWB file.
    options
        How the file is read; None: the defaults.
    animal
        Prefix of unit ids; None: the subject, or the name of the file if it names no subject.

    Raises
    ------
    DataError
        If the file is damaged, contains neither units nor traces, or lacks a column.
    """
    with opened(path) as root:
        return populations_of(root, options or Reading(), animal)


def populations_of(
    root: Node, options: Reading, animal: str | None = None
) -> list[SpikeTrains] | list[Traces]:
    """Read the populations of an open file; see :func:`read_populations`."""
    prefix = _unit_prefix(root, animal or _subject(root) or name_of(root.file))
    origin = _origin(root)
    if (table := units_table(root, options.nwb.units_table)) is not None:
        return [replace(raw, origin=origin) for raw in spike_trains(root, table, prefix, options.nwb)]
    imaged = traces(root, prefix, options.nwb, options.imaging)
    if not imaged:
        raise NothingToLearn(
            f"{root.file}: contains neither units nor dF/F (RoiResponseSeries); {_first_step(root)}"
        )
    return [replace(raw, origin=origin) for raw in imaged]


def _origin(root: Node) -> str:
    """Return whether the file says that it is simulated, among NWB's ``keywords`` of the session."""
    node = root.get("general/keywords")
    if node is None or node.is_group:
        return ""
    keywords = {str(word).strip().lower() for word in node.read().ravel()}
    return SIMULATED if keywords & {SIMULATED, "simulation"} else ""


def _first_step(root: Node) -> str:
    """Return how to get units or traces from the raw recording in a file."""
    acquired = root.get("acquisition")
    raw = {node.kind for node in acquired.children().values()} if acquired is not None else set()
    if any("PhotonSeries" in kind for kind in raw):
        return "extract the traces of its ROIs first, for example with Suite2p or CaImAn"
    if any("ElectricalSeries" in kind for kind in raw):
        return "spike-sort it first"
    return "give the file of the session that contains them"


def _unit_prefix(root: Node, animal: str) -> str:
    """Return the prefix of unit ids, which makes them unique to this session."""
    named = (root.get("general/session_id"), root.get("identifier"))
    texts = [node.text().strip() for node in named if node is not None and not node.is_group]
    session = next((text for text in texts if text), name_of(root.file))
    return f"{animal}_{session}_"
