"""Folders of recordings in any format, with a cache of what each recording contains."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from nuclr.config import Reading
from nuclr.data.formats import FORMATS, Format, Raw, animal_of, below, warn_of_animals
from nuclr.data.kinds import Kind, why_apart
from nuclr.data.recording import Recording, Traces, list_left_out, shown_name
from nuclr.data.text import count_values
from nuclr.errors import DataError, NothingToLearn
from nuclr.files import whole
from nuclr.provenance import fingerprint

logger = logging.getLogger(__name__)
MOST_VALUES = 500  # columns with more values in one recording name units rather than classes


class Known(BaseModel):
    """Summary of a recording.

    Attributes
    ----------
    animal
        Name of the animal; "" if the recording names none.
    nothing, damaged
        Reason why the recording cannot be used, or cannot be read; "" otherwise.
    frame_s
        Length of a frame (s) of calcium imaging; None for spikes.
    labels
        Number of units with each value, by column.
    """

    animal: str = ""
    nothing: str = ""
    damaged: str = ""
    frame_s: float | None = None
    labels: dict[str, dict[str, int]] = {}


def find_recordings(folder: Path, options: Reading, kept: Path | None = None) -> list[Recording]:
    """Return the recordings below a folder with their animals, sorted by name.

    Recordings have a reason why they are left out if they contain no units or traces, differ from most in
    modality or frame rate, or are damaged and ``nwb.on_damaged`` is ``leave_out``.

    Parameters
    ----------
    folder
        Folder of the user; nothing is written to it.
    options
        How recordings are read.
    kept
        Cache file with the summary of each recording, by name, size and modification time; unchanged
        recordings are not opened again. None: no cache.

    Raises
    ------
    DataError
        If there are no recordings, two have the same name, or the animal of one cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set nwb.folder to the folder of your recordings")
    paths = below(folder)
    if not paths:
        names = ", ".join(form.name for form in FORMATS)
        raise DataError(
            f"{folder}: no recordings found ({names}); set nwb.folder to the folder of your recordings"
        )
    known = _known(paths, options, kept)
    named: dict[str, Path] = {}
    found, used = [], []
    for (path, form), own, left_out in zip(paths, known, _left_out(known), strict=True):
        name = form.recording_of(path)
        if own.damaged and options.nwb.on_damaged == "leave_out":
            left_out = own.damaged
        elif own.damaged and not own.animal:
            raise DataError(f"{own.damaged} (or leave it out with nwb.on_damaged: leave_out)")
        if not left_out:
            used.append((shown_name(path, name), bool(own.animal)))
        if named.setdefault(name, path) != path:
            raise DataError(f"{path} and {named[name]} have the same recording name, {name}; rename one")
        found.append(Recording(path, name, own.animal or name, left_out=left_out, labels=own.labels))
    warn_of_animals(used)
    if all(recording.left_out for recording in found):
        raise NothingToLearn(f"{folder}: no recording can be used: {list_left_out(found)}")
    return found


def _known(paths: Sequence[tuple[Path, Format]], options: Reading, kept: Path | None) -> list[Known]:
    """Return the summaries of recordings, from the cache if they have not changed."""
    before, now = _read_kept(kept), {}
    read_as = fingerprint(options.model_dump(mode="json"))
    for path, form in paths:
        key = f"{_state_of(path)} {read_as}"
        now[key] = before[key] if key in before else look_into(path, form, options)
    if kept is not None and now != before:
        with whole(kept, alone=False) as partial:
            content = {key: own.model_dump(exclude_defaults=True) for key, own in now.items()}
            partial.write_text(json.dumps(content, indent=0))
    return list(now.values())


def look_into(path: Path, form: Format, options: Reading) -> Known:
    """Return the summary of one recording from its tables, without reading spikes or traces."""
    animal = ""
    try:
        name, sure = animal_of(path, form, options)
        animal = name if sure else ""
        with quietly():
            raw = form.read(path, options, name)
    except NothingToLearn as error:
        return Known(animal=animal, nothing=str(error))
    except DataError as error:
        return Known(animal=animal, damaged=str(error))
    frame_s = raw[0].frame_s if isinstance(raw[0], Traces) else None
    return Known(animal=animal, frame_s=frame_s, labels=labels_of(raw))


def labels_of(raw: Raw) -> dict[str, dict[str, int]]:
    """Return the number of units with each value of each label column."""
    units = pd.concat([population.units for population in raw], ignore_index=True)
    return {
        name: {value: count for value, count in own.items() if value}
        for name, own in count_values(units).items()
        if len(own) <= MOST_VALUES
    }


@contextmanager
def quietly() -> Iterator[None]:
    """Context without warnings, because chunking will repeat them."""
    package = logging.getLogger("nuclr")
    level = package.level
    package.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package.setLevel(level)


def _left_out(known: Sequence[Known]) -> list[str]:
    """Return the reason why each recording is left out: a model reads one modality and frame rate."""
    kinds = [None if own.nothing or own.damaged else _kind(own) for own in known]
    return [own.nothing or apart for own, apart in zip(known, why_apart(kinds), strict=True)]


def _kind(own: Known) -> Kind:
    return Kind("spikes") if own.frame_s is None else Kind("calcium", own.frame_s)


def _state_of(path: Path) -> str:
    """Return path, size and modification time, which change when a file in it is written."""
    try:
        status = [path.stat()]
        # Tables of labels, and the metadata of a Zarr folder, are at most at this depth.
        for depth in ("*", "*/*", "*/*/*") if path.is_dir() else ():
            status += [below.stat() for below in path.glob(depth)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); remove it, or repair the link") from None
    size, newest = sum(one.st_size for one in status), max(one.st_mtime_ns for one in status)
    return f"{path.absolute()} {len(status)} {size} {newest}"


def _read_kept(kept: Path | None) -> dict[str, Known]:
    """Return the content of the cache; empty if it cannot be read, or is from another version."""
    try:
        content: Any = json.loads(kept.read_text()) if kept is not None else {}
        return {key: Known.model_validate(own) for key, own in content.items()}
    except (OSError, ValueError, AttributeError, ValidationError):
        return {}
