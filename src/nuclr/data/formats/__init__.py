"""Formats of recordings: each reads a file, a folder or an object in memory as populations.

A new format needs one file in this package and one entry in :data:`FORMATS`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nuclr.config import Reading
from nuclr.data.access.remote import Remote
from nuclr.data.formats import alf, caiman, kilosort, nwb, spikeinterface, suite2p
from nuclr.data.formats.sorting import recording_of
from nuclr.data.recording import SpikeTrains, Traces, name_of
from nuclr.errors import DataError
from nuclr.words import counted, listed

logger = logging.getLogger(__name__)

Raw = list[SpikeTrains] | list[Traces]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Format:
    """A format of recordings on a disk; NWB files may also be on a server, with paths of type ``Remote``.

    Attributes
    ----------
    name
        Name of the format, with its article.
    known_by
        How it is recognised, as text.
    animal
        Where the name of the animal comes from, as text.
    labels
        Which labels the units have, as text.
    recognised
        Returns whether a path is a recording in this format.
    read
        Reads the populations of a recording of an animal.
    recording_of
        Returns the name of a recording.
    subject_of
        Returns the name of its animal, "" if the recording does not name it; None if this format never does.
    """

    name: str
    known_by: str
    animal: str
    labels: str
    recognised: Callable[[Any], bool]
    read: Callable[[Any, Reading, str], Raw]
    recording_of: Callable[[Any], str]
    subject_of: Callable[[Any], str] | None = None


NWB = Format(
    "an NWB file",
    "the suffix `.nwb`, also of a Zarr folder (`.nwb.zarr`)",
    "`subject_id`, or `nwb.animal_pattern` in the path",
    "electrodes' `location` as `brain_region`, their position as `depth_um`; columns of text or booleans",
    nwb.is_nwb,
    nwb.read_populations,
    name_of,
    nwb.subject_of,
)
FORMATS = (
    NWB,
    Format(
        "a Kilosort or phy folder",
        "`spike_times.npy` in it",
        "name of the folder",
        "`quality` (the curated label, else Kilosort's; `noise` is left out), `depth_um`",
        kilosort.is_kilosort,
        lambda folder, options, _: kilosort.read_kilosort(folder, options.sorter),
        recording_of,
    ),
    Format(
        "a saved SpikeInterface sorting or SortingAnalyzer",
        "`numpysorting_info.json` or `spikes/` in it, or `sorting/` beside `recording_info/`",
        "name of the folder",
        "properties that contain text; units whose `quality` is noise are left out",
        spikeinterface.is_spikeinterface,
        lambda folder, options, _: spikeinterface.read_spikeinterface(folder, options.sorter),
        recording_of,
    ),
    Format(
        "an ALF session",
        "`spikes.times.npy` and `spikes.clusters.npy` in it, below its `alf`, or in its `probe*` folders",
        "`subject` of `subject/date/number` in the path, else name of the folder",
        "regions of clusters or channels as `brain_region`; `quality`, `depth_um`",
        alf.is_alf,
        lambda folder, options, _: alf.read_alf(folder, options.sorter),
        alf.recording_of,
        alf.subject_of,
    ),
    Format(
        "Suite2p's output",
        "`plane*/F.npy` in it, or `F.npy` with `iscell.npy`, `Fneu.npy` or `ops.npy`",
        "name of the folder",
        "none (`iscell.npy` determines which ROIs are kept)",
        suite2p.is_suite2p,
        lambda folder, options, _: suite2p.read_suite2p(folder, options),
        suite2p.recording_of,
    ),
    Format(
        "CaImAn's results",
        "the suffix `.hdf5` or `.h5`, with `estimates` in it",
        "name of the file",
        "none (`idx_components` determines which components are kept)",
        caiman.is_caiman,
        lambda path, options, _: caiman.read_caiman(path, options),
        caiman.recording_of,
    ),
)


def format_of(path: Path) -> Format | None:
    """Return the format of a recording; None if a path is not a recording, or is hidden.

    Hidden files are those that a download or an operating system leaves in folders.
    """
    if path.name.startswith("."):
        return None
    return next((form for form in FORMATS if form.recognised(path)), None)


def below(folder: Path) -> list[tuple[Path, Format]]:
    """Return the recordings below a folder, sorted by name; recordings do not contain other recordings."""

    def recognise(path: Path) -> tuple[Path, Format] | None:
        form = format_of(path)
        return (path, form) if form is not None else None

    return list(recognised_below(folder, recognise))


def recognised_below(folder: Path, recognise: Callable[[Path], Found | None]) -> Iterator[Found]:
    """Yield what is recognised at any depth below a folder, sorted by name, without searching inside it."""
    try:
        paths = sorted(folder.iterdir())
    except PermissionError:
        return
    for path in paths:
        found = recognise(path)
        if found is not None:
            yield found
        elif path.is_dir() and not path.is_symlink():
            yield from recognised_below(path, recognise)


def animal_by_pattern(path: Path | Remote, pattern: str) -> str:
    """Return the name of the animal in a path (``nwb.animal_pattern``).

    Raises
    ------
    DataError
        If the pattern does not match.
    """
    found = re.search(pattern, str(path) if isinstance(path, Remote) else path.absolute().as_posix())
    name = (found[1] if found.re.groups else found[0]) if found else ""
    if not (name or "").strip():
        raise DataError(
            f"{path}: nwb.animal_pattern: {pattern} does not match this path; correct the pattern"
        )
    return name.strip()


def animal_of(path: Path | Remote, form: Format, options: Reading) -> tuple[str, bool]:
    """Return the name of a recording's animal, and whether it is known.

    It is found by the pattern of the configuration, or read from the file; otherwise it is the recording's
    name.
    """
    if options.nwb.animal_pattern is not None:
        return animal_by_pattern(path, options.nwb.animal_pattern), True
    subject = form.subject_of(path) if form.subject_of is not None else ""
    return subject or form.recording_of(path), bool(subject)


def warn_of_animals(used: Sequence[tuple[str, bool]]) -> None:
    """Warn once of all recordings that do not name their animal.

    Parameters
    ----------
    used
        Name of each recording that is used, and whether it names its animal.
    """
    unknown = [name for name, named in used if not named]
    if not unknown:
        return
    which = f"{len(unknown)} of {counted(len(used), 'recording')} ({listed(unknown, 3)})"
    logger.warning(
        "%s no animal; %s as a separate animal, named like the recording. Set nwb.animal_pattern to find the "
        "animal in the path",
        f"{unknown[0]} names" if len(used) == 1 else f"{which} {'names' if len(unknown) == 1 else 'name'}",
        "it counts" if len(unknown) == 1 else "each counts",
    )
