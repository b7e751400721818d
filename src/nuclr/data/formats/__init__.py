"""A file, a folder or an object in memory becomes the populations of a recording.

A new format is one file here and one line in :data:`FORMATS`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclr.config import Reading
from nuclr.data.formats import kilosort, nwb, spikeinterface
from nuclr.data.formats.sorting import recording_of
from nuclr.data.recording import Recording, SpikeTrains, Traces, name_of
from nuclr.errors import DataError
from nuclr.files import whole
from nuclr.words import counted

logger = logging.getLogger(__name__)

Raw = list[SpikeTrains] | list[Traces]


@dataclass(frozen=True)
class Format:
    """One form that recordings have on a disk.

    Attributes
    ----------
    name
        What it is, with its article.
    known_by
        How it is recognised, in words.
    recognised
        Whether a path is a recording of this form.
    read
        Reads what populations a recording of an animal holds.
    recording_of
        Names a recording.
    subject_of
        Names its animal, "" where it does not know it; None where this form never does.
    """

    name: str
    known_by: str
    recognised: Callable[[Path], bool]
    read: Callable[[Path, Reading, str], Raw]
    recording_of: Callable[[Path], str]
    subject_of: Callable[[Path], str] | None = None


FORMATS = (
    Format(
        "an NWB file",
        "the suffix `.nwb`, also of a Zarr folder (`.nwb.zarr`)",
        nwb.is_nwb,
        nwb.read_populations,
        name_of,
        nwb.subject_of,
    ),
    Format(
        "a Kilosort or phy folder",
        "`spike_times.npy` in it",
        kilosort.is_kilosort,
        lambda folder, options, _: kilosort.read_kilosort(folder, options.sorter),
        recording_of,
    ),
    Format(
        "a saved SpikeInterface sorting",
        "`numpysorting_info.json` or `spikes/sample_index` in it",
        spikeinterface.is_spikeinterface,
        lambda folder, options, _: spikeinterface.read_spikeinterface(folder, options.sorter),
        recording_of,
    ),
)


def format_of(path: Path) -> Format | None:
    """Recognise a recording; None if a path is none, or is hidden.

    Hidden are files that a download or another system left beside the others.
    """
    if path.name.startswith("."):
        return None
    return next((form for form in FORMATS if form.recognised(path)), None)


def below(folder: Path) -> list[tuple[Path, Format]]:
    """List the recordings below a folder, by name; below a recording there is none."""
    found: list[tuple[Path, Format]] = []
    for path in sorted(folder.rglob("*")):
        if any(other in path.parents for other, _ in found):
            continue
        if (form := format_of(path)) is not None:
            found.append((path, form))
    return found


def animal_by_pattern(path: Path, pattern: str) -> str:
    """Take the animal's name out of a path (``nwb.animal_pattern``).

    Raises
    ------
    DataError
        If the pattern does not fit.
    """
    found = re.search(pattern, path.absolute().as_posix())
    name = (found[1] if found.re.groups else found[0]) if found else ""
    if not (name or "").strip():
        raise DataError(f"{path}: nwb.animal_pattern: {pattern} finds no animal in this path")
    return name.strip()


def animal_of(path: Path, form: Format, options: Reading) -> tuple[str, bool]:
    """Name the animal of a recording, and say whether that is known.

    By the pattern of the configuration, or as the file says; else the recording's name stands for it.
    """
    if options.nwb.animal_pattern is not None:
        return animal_by_pattern(path, options.nwb.animal_pattern), True
    subject = form.subject_of(path) if form.subject_of is not None else ""
    return subject or form.recording_of(path), bool(subject)


def warn_of_animals(unknown: Sequence[Path], of: int) -> None:
    """Say of which recordings the animal is not known, once for all."""
    if not unknown:
        return
    named = ", ".join(path.name for path in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
    logger.warning(
        "%d of %s (%s) %s no animal (NWB's subject_id): each counts as an animal of its own, by its name; "
        "nwb.animal_pattern finds the animal in the path",
        len(unknown),
        counted(of, "recording"),
        named,
        "names" if len(unknown) == 1 else "name",
    )


def find_recordings(folder: Path, options: Reading, known: Path | None = None) -> list[Recording]:
    """List the recordings below a folder with their animals, by name.

    Parameters
    ----------
    folder
        The user's; nothing is written there.
    options
        How recordings are read.
    known
        File that keeps the animal of each recording, by name, size and time: of one that is still the
        same, it is not asked again. None keeps nothing.

    Raises
    ------
    DataError
        If there are none, one cannot be read, or two have the same name.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set nwb.folder to the folder of your recordings")
    paths = below(folder)
    if not paths:
        names = ", ".join(form.name for form in FORMATS)
        raise DataError(
            f"{folder}: no recording there ({names}); set nwb.folder to the folder of your recordings"
        )
    before = _known_animals(known)
    now: dict[str, str] = {}
    found: dict[str, Recording] = {}
    unknown = []
    for path, form in paths:
        key = f"{_state_of(path)} {options.nwb.animal_pattern or ''}"
        if key not in before:
            animal, sure = animal_of(path, form, options)
            now[key] = animal if sure else ""
        else:
            now[key] = before[key]
        if not now[key]:
            unknown.append(path)
        recording = Recording(path, form.recording_of(path), now[key] or form.recording_of(path))
        if recording.recording in found:
            raise DataError(
                f"{path} and {found[recording.recording].path} would both be recording "
                f"{recording.recording}; rename one"
            )
        found[recording.recording] = recording
    warn_of_animals(unknown, len(found))
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
