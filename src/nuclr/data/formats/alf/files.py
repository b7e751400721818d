"""Finding the ALF files of a folder, and the folders of a session that contain sortings.

Source: https://int-brain-lab.github.io/ONE/alf_intro.html . A file is named
``[_namespace_]object.attribute[.more].npy``; a folder ``#...#`` contains a revision of the files beside it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from nuclr.data.formats.sorting import OF_ANY_SORTER
from nuclr.data.recording import name_of, safe_name
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

NAME = re.compile(
    r"(?:_[A-Za-z0-9]+_)?(?P<object>spikes|clusters|channels)\.(?P<attribute>\w+)(?P<more>(?:\.[\w-]+)*)"
    r"\.(?P<suffix>npy|pqt|parquet|csv|tsv)"
)
SUFFIXES = ("npy", "pqt", "parquet", "csv", "tsv")  # the first of these is read if there are several
# Servers add a UUID to the name of a file.
UUID = re.compile(r"\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
REVISION = re.compile(r"#.*#")
PROBE = re.compile(r"(?:probe|imec)[ _-]?[A-Za-z0-9]{0,3}|.+_imec[0-9]+", re.IGNORECASE)
SORTER = re.compile(rf"(?:py|ibl)?(?:{OF_ANY_SORTER.pattern})|alf", re.IGNORECASE)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
TIMES = ("spikes.times", "spikes.samples")


def _subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden; none if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _versions(folder: Path) -> list[Path]:
    """Return a folder and its revisions, the newest last."""
    return [folder, *(path for path in _subfolders(folder) if REVISION.fullmatch(path.name))]


def _named(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the attribute of each file (``spikes.times``), the extra parts of its name, and its path."""
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return
    for path in files:
        match = NAME.fullmatch(path.name)
        if match is not None and path.is_file():
            more = UUID.sub("", match["more"]).removeprefix(".")
            yield f"{match['object']}.{match['attribute']}", more, path


def holds_spikes(folder: Path) -> bool:
    """Return whether a folder, with its revisions, contains the spikes of a sorting."""
    names = {name for version in _versions(folder) for name, _, _ in _named(version)}
    return "spikes.clusters" in names and any(name in names for name in TIMES)


def files_of(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the newest file of each attribute, by the extra parts of their names (``probe00``, or "").

    Raises
    ------
    DataError
        If two files are the same attribute.
    """
    found: dict[str, dict[str, Path]] = {}
    for version in _versions(folder):
        own: dict[tuple[str, str], Path] = {}
        for name, more, path in _named(version):
            other = own.setdefault((more, name), path)
            if other.suffix == path.suffix and other != path:
                raise DataError(
                    f"{path} and {other.name} are both {name}; remove one of them from the folder"
                )
            if SUFFIXES.index(path.suffix[1:]) < SUFFIXES.index(other.suffix[1:]):
                own[more, name] = path
        if own and version != folder:
            logger.info(
                "%s: %s are read from the revision %s",
                folder,
                ", ".join(sorted({n for _, n in own})),
                version.name,
            )
        for (more, name), path in own.items():
            found.setdefault(more, {})[name] = path
    return found


def is_alf(folder: Path) -> bool:
    """Return whether a folder is a session, a probe or a sorting in ALF.

    Such a folder contains spikes itself; or it contains a folder ``alf`` with spikes at any depth, or folders
    ``probe*`` or ``imec*`` with spikes, directly or in a sorter's folder; or it is one of these folders.
    Folders above these are not recordings, so that the sessions of a laboratory remain separate.
    """
    return folder.is_dir() and next(_with_spikes(folder), None) is not None


def _with_spikes(folder: Path) -> Iterator[Path]:
    """Yield the folders of a session that contain spikes."""
    if holds_spikes(folder):
        yield folder
    if folder.name == "alf":
        yield from _below(folder)
        return
    if PROBE.fullmatch(folder.name):
        yield from _sorters(folder)
    for child in _subfolders(folder):
        if child.name == "alf":
            yield from filter(holds_spikes, [child])
            yield from _below(child)
        elif PROBE.fullmatch(child.name):
            yield from filter(holds_spikes, [child])
            yield from _sorters(child)


def _below(folder: Path) -> Iterator[Path]:
    for path in _subfolders(folder):
        if not REVISION.fullmatch(path.name):
            yield from filter(holds_spikes, [path])
            yield from _below(path)


def _sorters(probe: Path) -> Iterator[Path]:
    yield from (path for path in _subfolders(probe) if SORTER.fullmatch(path.name) and holds_spikes(path))


def folders_by_probe(session: Path) -> dict[tuple[str, ...], Path]:
    """Return the folder of each probe of a session, by the names that distinguish probes.

    Raises
    ------
    DataError
        If a probe has several sortings.
    """
    found: dict[tuple[str, ...], list[Path]] = {}
    for folder in _with_spikes(session):
        found.setdefault(_probe(folder.relative_to(session).parts), []).append(folder)
    for probe, folders in found.items():
        if len(folders) > 1:
            raise DataError(
                f"{session}: {'_'.join(probe) or 'the session'} has several sortings: "
                f"{', '.join(folder.relative_to(session).as_posix() for folder in folders)}; "
                "give the folder of one of them instead of the session"
            )
    return {probe: folders[0] for probe, folders in found.items()}


def _probe(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts of a path that distinguish probes: up to the probe, without names of sorters."""
    last = next((place for place, name in enumerate(parts) if PROBE.fullmatch(name)), len(parts))
    named = [name for name in parts[: last + 1] if PROBE.fullmatch(name) or not SORTER.fullmatch(name)]
    return tuple(safe_name(name) for name in named)


def recording_of(folder: Path) -> str:
    """Return the name of a recording: the session, and for a folder inside it also the probe and sorter.

    If the session's name is a date, or a number below a date, it includes the names of the folders above.
    """
    path = Path(os.path.abspath(folder))
    inside: list[str] = []
    while path.parent.name and (
        REVISION.fullmatch(path.name) or SORTER.fullmatch(path.name) or PROBE.fullmatch(path.name)
    ):
        if path.name != "alf" and not REVISION.fullmatch(path.name):
            inside.insert(0, name_of(path))
        path = path.parent
    names = [name_of(path)]
    if re.fullmatch(r"[0-9]{1,3}", path.name) and DATE.fullmatch(path.parent.name):
        path = path.parent
        names.insert(0, name_of(path))
    if DATE.fullmatch(path.name) and path.parent.name:
        names.insert(0, name_of(path.parent))
    return "_".join([*names, *inside])


def subject_of(folder: Path) -> str:
    """Return the animal from the path, ``subject/date/number`` in ALF; "" if the path has another form."""
    parts = Path(os.path.abspath(folder)).parts
    for place in range(len(parts) - 1, 1, -1):
        if DATE.fullmatch(parts[place - 1]) and re.fullmatch(r"[0-9]{1,3}", parts[place]):
            return safe_name(parts[place - 2])
    return ""
