"""Recordings that lie somewhere on a disk or a server: what needs no data set and no workflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from nuclr.config import Chunk, Download, Nwb, Reading, Sorter
from nuclr.data.access.opening import looked_at
from nuclr.data.access.remote import DANDI, Remote, place_of
from nuclr.data.archives.left_out import reason_left_out
from nuclr.data.chunk import chunk_recording, to_population, why_left_out
from nuclr.data.formats import (
    FORMATS,
    NWB,
    Format,
    Raw,
    animal_of,
    format_of,
    recognised_below,
    warn_of_animals,
)
from nuclr.data.formats.memory import read_object
from nuclr.data.formats.nwb.in_memory import is_nwbfile, saved_at
from nuclr.data.inputs import Reads, binning
from nuclr.data.population import Population
from nuclr.data.recording import name_of
from nuclr.data.store import identity_of, open_population
from nuclr.errors import DataError, NothingToLearn, NuclrError
from nuclr.files import check_writable, is_half_made
from nuclr.words import counted

logger = logging.getLogger(__name__)

FORMS = ", ".join(["a population store", *(form.name for form in FORMATS)])
DATASET = "own"
DANDI_TRIES = 4


@dataclass(frozen=True)
class Found:
    """A recording on a disk, or on a server.

    Attributes
    ----------
    path
        A file or a folder.
    recording
        Its name.
    form
        What it is; None for a population store, which is opened as it is.
    """

    path: Path | Remote
    recording: str
    form: Format | None

    def read(self, options: Reading, animal: str) -> Raw:
        """Read what populations it holds; the animal begins the ids of units that have none of their own."""
        assert self.form is not None
        return self.form.read(self.path, options, animal)

    @property
    def local(self) -> Path:
        """Where on the disk it is."""
        assert isinstance(self.path, Path)
        return self.path

    @property
    def called(self) -> str:
        """What records call it: a file's name, or all of an address."""
        return self.path.name if isinstance(self.path, Path) else str(self.path)


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
        try:
            animal, sure = animal_of(recording.path, recording.form, options)
        except DataError as error:
            if len(found) == 1 or not _done_without(error, options):
                raise
            animal, sure = recording.recording, True  # why it is left out is said when it is read
        animals.append(animal)
        if not sure:
            unknown.append(recording)
    _warn_of_unknown(unknown, found)
    return animals


def _warn_of_unknown(unknown: Sequence[Found], found: Sequence[Found]) -> None:
    """Warn of recordings without an animal; a sorter never knows it: of one folder alone nothing is said."""
    files = sum(recording.form is not None for recording in found)
    if files > 1 or any(one.form is not None and one.form.subject_of is not None for one in unknown):
        warn_of_animals([one.path for one in unknown], files)


def find(paths: Sequence[Path | Remote], download: Download | None = None) -> list[Found]:
    """List the recordings that some paths are, or hold at any depth.

    Parameters
    ----------
    paths
        Files and folders, on the disk or on servers.
    download
        Says where DANDI is; None: where it is by default.

    Raises
    ------
    DataError
        If a path is not there or holds none, or two recordings have one name.
    DownloadError
        If DANDI does not answer, or has nothing of the kind.
    """
    found: list[Found] = []
    for path in paths:
        if isinstance(path, Remote):
            found += _find_on_server(path, download or Download())
        # A recording that could not be had left its reason behind, and is done without.
        elif reason_left_out(path) is None:
            found += _find(path)
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: all recordings are left out; give others")
    seen: dict[str, Path | Remote] = {}
    for recording in found:
        name, file = recording.recording, recording.path
        if recording.form is not None and seen.setdefault(name, file) != file:
            raise DataError(f"{file} and {seen[name]} have the same recording name, {name}; rename one")
    return found


def _find_on_server(place: Remote, download: Download) -> list[Found]:
    if place.url.startswith(DANDI):
        from nuclr.data.archives import dandi
        from nuclr.data.archives.download import Fetcher

        # Somebody waits for an answer: not as long as for a download.
        fetcher = Fetcher(min(download.tries, DANDI_TRIES))
        return [Found(file, name_of(file), NWB) for file in dandi.find(place.url, download.dandi, fetcher)]
    file = looked_at(place)
    return [Found(file, name_of(file), NWB)]


def _find(path: Path) -> list[Found]:
    if not path.exists():
        raise DataError(f"{path}: does not exist; give {FORMS}, or a folder of them")
    if (itself := _recognised(path)) is not None:
        return [itself]
    if path.is_file():
        raise DataError(f"{path}: not recognised; give {FORMS}")
    inside = [
        recording
        for recording in recognised_below(path, _recognised)
        if recording.form is not None or not is_half_made(recording.local, path)
    ]
    if not inside:
        raise DataError(f"{path}: no recordings found in this folder; give a folder that contains {FORMS}")
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
            identity = identity_of(recording.local)
            if identity.get("dataset") == DATASET or identity.get("recording") in files:
                continue
        kept.append(recording)
    if len(kept) < len(inside):
        copies = counted(len(inside) - len(kept), "store")
        logger.info("%s: %s made from recordings are not read; the recordings themselves are", path, copies)
    return kept


def _recognised(path: Path) -> Found | None:
    form = format_of(path)
    if form is not None:
        return Found(path, form.recording_of(path), form)
    if not path.name.startswith(".") and path.suffix == ".zarr" and (path / "activity").is_dir():
        return Found(path, name_of(path), None)
    return None


def _done_without(error: DataError, options: Reading) -> bool:
    """Whether a folder of recordings goes on without one."""
    return isinstance(error, NothingToLearn) or options.nwb.on_damaged == "leave_out"


class _LeftOut:
    """Recordings of many that are done without: said once."""

    def __init__(self, found: Sequence[Found], options: Reading) -> None:
        self._found, self._options = found, options
        self._reasons: list[str] = []

    @contextmanager
    def __call__(self, recording: Found) -> Iterator[None]:
        """Keep the reason why a recording is left out; raise it where that recording is all there is."""
        try:
            yield
        except DataError as error:
            if len(self._found) == 1 or not _done_without(error, self._options):
                raise
            reason = str(error).removeprefix(f"{recording.path}: ")
            self._reasons.append(f"{recording.path.name} ({reason})")

    def say(self) -> None:
        """Warn of them; it is an error if nothing is left."""
        if not self._reasons:
            return
        listed = (
            f"{len(self._reasons)} of {counted(len(self._found), 'recording')}: {'; '.join(self._reasons)}"
        )
        if len(self._reasons) == len(self._found):
            raise NothingToLearn(f"no recording can be used: {listed}")
        logger.warning("left out: %s", listed)


def open_found(
    found: Sequence[Found],
    options: Reading,
    chunk: Chunk,
    shown: Callable[[Sequence[Found]], Iterable[Found]] = iter,
) -> Iterator[Population]:
    """Open recordings one after another; spikes are binned when activity is computed.

    Of several, those that hold nothing to learn from are left out, with one warning.

    Parameters
    ----------
    found
        Of :func:`find`.
    options
        How recordings are read.
    chunk
        How spikes are binned, and the least rate of a unit.
    shown
        Shows how far it has come.

    Raises
    ------
    DataError
        If a file is damaged, its spikes cannot be trusted, or there is nothing to learn from.
    """
    left_out = _LeftOut(found, options)
    for recording, animal in zip(shown(found), animals_of(found, options), strict=True):
        with left_out(recording):
            yield from _open(recording, animal, options, chunk)
    left_out.say()


def _open(recording: Found, animal: str, options: Reading, chunk: Chunk) -> Iterator[Population]:
    if recording.form is None:
        yield open_population(recording.local)
        return
    for raw in recording.read(options, animal):
        population = to_population(
            raw,
            dataset=DATASET,
            animal=animal,
            recording=recording.recording,
            options=chunk,
            source={"file": recording.called},
        )
        # A silent one can be looked at; one without units cannot.
        if len(population.units):
            yield population
        else:
            why = why_left_out(population, chunk)
            logger.warning("%s: population %s: %s; left out", raw.path, raw.population, why)


def open_what_can_be(
    found: Sequence[Found], options: Reading, chunk: Chunk
) -> Iterator[tuple[Found, list[Population], NuclrError | None]]:
    """Open recordings one after another, and of each that cannot be used give the reason in its place."""
    unknown = []
    for recording in found:
        try:
            animal, sure = "", True
            if recording.form is not None:
                animal, sure = animal_of(recording.path, recording.form, options)
            populations = list(_open(recording, animal, options, chunk))
            if not populations:
                raise NothingToLearn(f"{recording.path}: no units are left to show")
        except NuclrError as error:
            yield recording, [], error
            continue
        if not sure:
            unknown.append(recording)
        yield recording, populations, None
    _warn_of_unknown(unknown, found)


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

    made: list[Path] = []
    left_out = _LeftOut(found, options)
    for recording, animal in zip(found, animals_of(found, options), strict=True):
        if recording.form is None:
            made.append(recording.local)
            continue
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # As `srun nuclr pretrain` starts several at once.
        lock = folder / f".{recording.recording}.lock"
        with left_out(recording), _nothing_left(lock), FileLock(lock):
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
    left_out.say()
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
    path: Any,
    *,
    model: Reads | None = None,
    bin_s: float | None = None,
    min_rate_hz: float | None = None,
    unit_columns: Sequence[str] | None = None,
    region_column: str | None = None,
    sample_rate_hz: float | None = None,
) -> Iterator[Population]:
    """Yield the populations of a recording, a folder of them, or an object in memory.

    Files are found at once and opened one after another, so a folder of any size can be gone through.
    ``model.read(path)`` is this with ``model=model``.

    Parameters
    ----------
    path
        An NWB file, a Kilosort or phy folder, a sorting that SpikeInterface saved, or a folder of these; or
        the address of NWB files: ``https://...``, ``s3://bucket/key``, ``dandi://000006/...``.
        Or an object in memory: what :func:`nuclr.from_spike_times` takes, pynapple's ``TsdFrame``, xarray's
        ``DataArray``, or pynwb's ``NWBFile``, of which the file is read that it came from, or its units
        where it is not saved or was changed.
    model
        Of ``nuclr.load_model``: spikes are binned as it reads them, and units that fire less than those it
        learned from are left out.
    bin_s
        Bin of spike counts (s), without a model; None: 0.02. Calcium keeps its frames.
    min_rate_hz
        Units that fire less are left out; None: as the model has it, else none are.
    unit_columns
        Which columns of an NWB file's unit table, or of an object's metadata, are kept as labels; None: those
        of text or truth values.
    region_column
        Which of them is the brain region; None: the location of a unit's electrode.
    sample_rate_hz
        Samples in a second of a sorter's spike times; None: as its folder says.

    Raises
    ------
    DataError
        If nothing of the kind is there, it cannot be trusted, or both a model and ``bin_s`` are given.

    Examples
    --------
    >>> import nuclr
    >>> (population,) = nuclr.read({12: [0.5, 1.2, 7.9], 31: [0.1, 3.3, 9.5]}, bin_s=0.1)
    >>> population.units["unit_id"].tolist()
    ['12', '31']
    """
    chunk = binning(bin_s, min_rate_hz, model)
    columns = None if unit_columns is None else list(unit_columns)
    options = Reading(
        nwb=Nwb(unit_columns=columns, region_column=region_column),
        sorter=Sorter(sample_rate_hz=sample_rate_hz),
    )
    if not isinstance(path, str | PathLike):
        saved = saved_at(path) if is_nwbfile(path) else None
        if saved is None:
            return iter(read_object(path, options.nwb, chunk))
        path = saved
    # Found here, not when the first is asked for: a wrong path is an error where it is given.
    return open_found(find([place_of(path if isinstance(path, str) else Path(path))]), options, chunk)
