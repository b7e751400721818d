"""Recordings that lie somewhere on a disk, in any form: what needs no data set and no workflow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nuclr.config import Chunk, Nwb, Reading, Sorter
from nuclr.data.archives.left_out import reason_left_out
from nuclr.data.chunk import chunk_recording, to_population, why_left_out
from nuclr.data.formats import FORMATS, Format, Raw, animal_of, format_of, warn_of_animals
from nuclr.data.population import Population
from nuclr.data.recording import name_of
from nuclr.data.store import identity_of, open_population, stores
from nuclr.errors import DataError
from nuclr.files import check_writable
from nuclr.words import counted

logger = logging.getLogger(__name__)

FORMS = ", ".join(["a population store", *(form.name for form in FORMATS)])
DATASET = "own"


@dataclass(frozen=True)
class Found:
    """A recording on a disk.

    Attributes
    ----------
    path
        A file or a folder.
    recording
        Its name.
    form
        What it is; None for a population store, which is opened as it is.
    """

    path: Path
    recording: str
    form: Format | None

    def read(self, options: Reading, animal: str) -> Raw:
        """Read what populations it holds; the animal begins the ids of units that have none of their own."""
        assert self.form is not None
        return self.form.read(self.path, options, animal)


def animals_of(found: Sequence[Found], options: Reading) -> list[str]:
    """Name the animal of each recording, "" for stores, which know theirs; one warning for all unknown ones.

    Raises
    ------
    DataError
        If a file is damaged, or ``nwb.animal_pattern`` does not fit.
    """
    animals, unknown = [], []
    for recording in found:
        if recording.form is None:
            animals.append("")
            continue
        animal, sure = animal_of(recording.path, recording.form, options)
        animals.append(animal)
        if not sure:
            unknown.append(recording)
    files = sum(recording.form is not None for recording in found)
    # A sorter never knows the animal: of one folder alone there is nothing to say.
    if files > 1 or any(one.form is not None and one.form.subject_of is not None for one in unknown):
        warn_of_animals([one.path for one in unknown], files)
    return animals


def find(paths: Sequence[Path]) -> list[Found]:
    """List the recordings that some paths are, or hold at any depth.

    Raises
    ------
    DataError
        If a path is not there or holds none, or two recordings have one name.
    """
    # A recording that could not be had left its reason behind, and is done without.
    found = [recording for path in paths if reason_left_out(path) is None for recording in _find(path)]
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: nothing there; all is left out")
    seen: dict[str, Path] = {}
    for recording in found:
        name, file = recording.recording, recording.path
        if recording.form is not None and seen.setdefault(name, file) != file:
            raise DataError(f"{file} and {seen[name]} would both be recording {name}; rename one")
    return found


def _find(path: Path) -> list[Found]:
    if not path.exists():
        raise DataError(f"{path}: not there; give {FORMS}, or a folder of them")
    if (itself := _recognised(path)) is not None:
        return [itself]
    if path.is_file():
        raise DataError(f"{path}: not {FORMS}")
    inside = [form for form in map(_recognised, sorted(path.rglob("*"))) if form is not None]
    # Below a recording there is none, and what a kill left half-made is none.
    whole = set(stores(path))
    inside = [
        recording
        for recording in inside
        if not any(other.path in recording.path.parents for other in inside)
        and (recording.form is not None or recording.path in whole)
    ]
    if not inside:
        raise DataError(f"{path}: nothing in it that is {FORMS}")
    return _files_before_stores(path, inside)


def _files_before_stores(path: Path, inside: list[Found]) -> list[Found]:
    """Leave out stores that were made of recordings: of the files beside them, or of files that were there.

    A folder of recordings may hold the stores that an earlier pretraining made of them. They are copies, and
    a file that was taken away since, as one to be tested, must not come back by its copy.
    """
    files = {recording.recording for recording in inside if recording.form is not None}
    if not files:
        return inside
    kept = []
    for recording in inside:
        if recording.form is None:
            identity = identity_of(recording.path)
            if identity.get("dataset") == DATASET or identity.get("recording") in files:
                continue
        kept.append(recording)
    if len(kept) < len(inside):
        copies = counted(len(inside) - len(kept), "store")
        logger.info("%s: %s made of recordings: the recordings themselves are read", path, copies)
    return kept


def _recognised(path: Path) -> Found | None:
    form = format_of(path)
    if form is not None:
        return Found(path, form.recording_of(path), form)
    if not path.name.startswith(".") and path.suffix == ".zarr" and (path / "activity").is_dir():
        return Found(path, name_of(path), None)
    return None


def open_found(found: Sequence[Found], options: Reading, chunk: Chunk) -> Iterator[Population]:
    """Open recordings one after another; spikes are binned when activity is computed.

    Parameters
    ----------
    found
        Of :func:`find`.
    options
        How recordings are read.
    chunk
        How spikes are binned, and the least rate of a unit.

    Raises
    ------
    DataError
        If a file is damaged, or its spikes cannot be trusted.
    """
    for recording, animal in zip(found, animals_of(found, options), strict=True):
        if recording.form is None:
            yield open_population(recording.path)
            continue
        for raw in recording.read(options, animal):
            population = to_population(
                raw,
                dataset=DATASET,
                animal=animal,
                recording=recording.recording,
                options=chunk,
                source={"file": recording.path.name},
            )
            # A silent one can be looked at; one without units cannot.
            if len(population.units):
                yield population
            else:
                why = why_left_out(population, chunk)
                logger.warning("%s: population %s: %s; left out", raw.path, raw.population, why)


def store_found(found: Sequence[Found], folder: Path, options: Reading, chunk: Chunk) -> list[Path]:
    """Make population stores of recordings that are none yet, below a folder; what is made is not made again.

    Processes that are to make the same store wait for the first, and find it made.

    Returns
    -------
    list of Path
        The stores: those that were found, and those of what was found; no others that lie beside them.

    Raises
    ------
    DataError
        As for :func:`nuclr.data.chunk.chunk_recording`.
    """
    from filelock import FileLock

    made = []
    for recording, animal in zip(found, animals_of(found, options), strict=True):
        if recording.form is None:
            made.append(recording.path)
            continue
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # As `srun nuclr pretrain` starts several at once.
        lock = folder / f".{recording.recording}.lock"
        with _nothing_left(lock), FileLock(lock):
            populations = chunk_recording(
                recording.read(options, animal),
                folder / recording.recording,
                dataset=DATASET,
                animal=animal,
                recording=recording.recording,
                options=chunk,
                licence=options.nwb.licence,
            )
        made += [folder / f"{population}.zarr" for population in populations]
    return list(dict.fromkeys(made))


@contextmanager
def _nothing_left(lock: Path) -> Iterator[None]:
    """Take a lock's file away, and its folder if that is empty, where nothing was made."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # another process may be at work there
            lock.unlink(missing_ok=True)
            lock.parent.rmdir()
        raise


def read(
    path: Path | str,
    *,
    bin_s: float = 0.02,
    min_rate_hz: float = 0.0,
    unit_columns: Sequence[str] | None = None,
    region_column: str | None = None,
    sample_rate_hz: float | None = None,
) -> Iterator[Population]:
    """Yield the populations of a recording, or of a folder of them: what ``nuclr.read`` is.

    Files are found at once and opened one after another, so a folder of any size can be gone through.

    Parameters
    ----------
    path
        An NWB file, a Kilosort or phy folder, a sorting that SpikeInterface saved, or a folder of these.
    bin_s
        Bin of spike counts (s): a model's ``bin_s``. Calcium keeps its frames.
    min_rate_hz
        Units that fire less are left out: a model's ``min_rate_hz``.
    unit_columns
        Which columns of an NWB file's unit table are kept as labels; None: those of text or truth values.
    region_column
        Which of them is the brain region; None: the location of a unit's electrode.
    sample_rate_hz
        Samples in a second of a sorter's spike times; None: as its folder says.

    Raises
    ------
    DataError
        If nothing of the kind is there, or it cannot be trusted.
    """
    columns = None if unit_columns is None else list(unit_columns)
    options = Reading(
        nwb=Nwb(unit_columns=columns, region_column=region_column),
        sorter=Sorter(sample_rate_hz=sample_rate_hz),
    )
    # Found here, not when the first is asked for: a wrong path is an error where it is given.
    return open_found(find([Path(path)]), options, Chunk(bin_s=bin_s, min_rate_hz=min_rate_hz))
