"""Finding and opening recordings on a disk or a server, without a data set or a workflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from nuclr.config import Chunk, Download, Nwb, Reading, Sorter
from nuclr.data.access.opening import looked_at
from nuclr.data.access.remote import DANDI, Remote, place_of
from nuclr.data.archives.left_out import reason_left_out
from nuclr.data.chunk import hash_of, to_population, why_left_out
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
from nuclr.data.kinds import Kind, kind_of, why_unreadable
from nuclr.data.population import Population
from nuclr.data.recording import SpikeTrains, Traces, name_of, reason_of, shown_name
from nuclr.data.store import identity_of, open_population
from nuclr.errors import DataError, NothingToLearn, NuclrError
from nuclr.files import bytes_of, is_half_made
from nuclr.words import counted, listed

logger = logging.getLogger(__name__)

FORMS = ", ".join(["a population store", *(form.name for form in FORMATS)])
DATASET = "own"
DANDI_TRIES = 4
# Larger recordings are not hashed, because reading them would take longer than everything else.
HASHED_BYTES = 2e9


@dataclass(frozen=True)
class Found:
    """A recording on a disk, or on a server.

    Attributes
    ----------
    path
        A file or a folder.
    recording
        Name of the recording.
    form
        Its format; None for a population store, which is opened as it is.
    """

    path: Path | Remote
    recording: str
    form: Format | None

    def read(self, options: Reading, animal: str) -> Raw:
        """Read the populations of the recording; ``animal`` is the prefix of unit ids in some formats."""
        assert self.form is not None
        return self.form.read(self.path, options, animal)

    @property
    def local(self) -> Path:
        """Its path on the disk."""
        assert isinstance(self.path, Path)
        return self.path

    @property
    def called(self) -> str:
        """Its name in provenance records: the name of the file, or the whole address."""
        return self.path.name if isinstance(self.path, Path) else str(self.path)

    @property
    def short(self) -> str:
        """Its name in messages: that of the file; for a folder, which may be "suite2p", the recording's."""
        return shown_name(self.path, self.recording)


def animals_of(found: Sequence[Found], options: Reading) -> list[tuple[str, bool]]:
    """Return the animal of each recording ("" for stores), and whether the recording names it.

    Raises
    ------
    DataError
        If a file is damaged, or ``nwb.animal_pattern`` does not match.
    """
    animals = []
    for recording in found:
        animal, named = "", True
        if recording.form is not None:
            try:
                animal, named = animal_of(recording.path, recording.form, options)
            except DataError as error:
                if len(found) == 1 or not _done_without(error, options):
                    raise
                animal = recording.recording  # the reason is reported when it is read
        animals.append((animal, named))
    return animals


def find(paths: Sequence[Path | Remote], download: Download | None = None) -> list[Found]:
    """Return the recordings at some paths, or inside them at any depth.

    Parameters
    ----------
    paths
        Files and folders, on the disk or on servers.
    download
        Address of DANDI; None: the default.

    Raises
    ------
    DataError
        If a path does not exist or contains no recording, or two recordings have the same name.
    DownloadError
        If DANDI does not answer, or has no such file.
    """
    found: list[Found] = []
    for path in paths:
        if isinstance(path, Remote):
            found += _find_on_server(path, download or Download())
        # A recording that could not be downloaded is a folder with the reason, and is left out.
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

        # A user waits for the answer, so there are fewer attempts than for a download.
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
    """Leave out stores that were made from recordings in the same folder, also from files that were removed.

    A folder of recordings may contain the stores that an earlier pretraining made of them. These are copies:
    a file that was removed in the meantime, for example to test on it, must not be used through its copy.
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
    """Return whether a recording of several with this error is left out instead of stopping the command."""
    return isinstance(error, NothingToLearn) or options.nwb.on_damaged == "leave_out"


class LeftOut:
    """Collects the recordings that are left out, to report them in one warning."""

    def __init__(self, found: Sequence[Found], options: Reading) -> None:
        self._found, self._options = found, options
        self._reasons: dict[str, list[str]] = {}

    @contextmanager
    def __call__(self, recording: Found) -> Iterator[None]:
        """Note the reason why a recording is left out; raise it if it is the only recording."""
        try:
            yield
        except DataError as error:
            if len(self._found) == 1 or not _done_without(error, self._options):
                raise
            reason = reason_of(error, recording.path)
            self._reasons.setdefault(reason, []).append(recording.short)

    def say(self) -> None:
        """Warn of the recordings that were left out; raise an error if none is left."""
        if not self._reasons:
            return
        number = sum(map(len, self._reasons.values()))
        reasons = "; ".join(f"{listed(names)} ({reason})" for reason, names in self._reasons.items())
        said = f"{number} of {counted(len(self._found), 'recording')}: {reasons}"
        if number == len(self._found):
            raise NothingToLearn(f"no recording can be used: {said}")
        logger.warning("left out: %s", said)


def open_found(
    found: Sequence[Found],
    options: Reading,
    chunk: Chunk,
    shown: Callable[[Sequence[Found]], Iterable[Found]] = iter,
    model: Kind | None = None,
    hashed_bytes: float = 0,
) -> Iterator[Population]:
    """Yield the populations of recordings one after another; spikes are binned lazily.

    If several recordings are given, those without units or traces, and those that a model cannot read, are
    left out, with one warning.

    Parameters
    ----------
    found
        Recordings from :func:`find`.
    options
        How recordings are read.
    chunk
        How spikes are binned, and the lowest rate of a unit.
    shown
        Wraps the recordings in a progress bar.
    model
        Kind of recordings that a model reads; None: any.
    hashed_bytes
        Recordings on the disk up to this size get the hash of their files in ``source``.

    Raises
    ------
    DataError
        If a file is damaged, its spikes are not valid, or no recording can be used.
    """
    left_out = LeftOut(found, options)
    used: list[tuple[str, bool]] = []
    for recording, (animal, named) in zip(shown(found), animals_of(found, options), strict=True):
        with left_out(recording):
            for number, population in enumerate(
                _open(recording, animal, options, chunk, model, hashed_bytes)
            ):
                if not number and recording.form is not None:
                    used.append((recording.short, named))
                yield population
    left_out.say()
    warn_of_animals(used)


def _open(
    recording: Found,
    animal: str,
    options: Reading,
    chunk: Chunk,
    model: Kind | None = None,
    hashed_bytes: float = 0,
) -> Iterator[Population]:
    def check(own: Population | Raw) -> None:
        kinds = [kind_of(own)] if isinstance(own, Population) else map(kind_of, own)
        why = "" if model is None else next(filter(None, (why_unreadable(kind, model) for kind in kinds)), "")
        if why:
            raise NothingToLearn(f"{recording.path}: {why}")

    if recording.form is None:
        store = open_population(recording.local)
        check(store)
        yield store
        return
    read = recording.read(options, animal)
    check(read)
    source = {"file": recording.called}
    if read and 0 < _bytes_of(read[0]) <= hashed_bytes:
        source["sha256"] = hash_of(read[0])
    for raw in read:
        population = to_population(
            raw,
            dataset=DATASET,
            animal=animal,
            recording=recording.recording,
            options=chunk,
            source=source,
        )
        # A silent population can be shown, but not one without units.
        if len(population.units):
            yield population
        else:
            why = why_left_out(population, chunk)
            logger.warning("%s: population %s: %s; left out", raw.path, raw.population, why)


def _bytes_of(raw: SpikeTrains | Traces) -> int:
    """Return the size of the files of a recording that :func:`hash_of` reads; 0 if it is on a server."""
    if isinstance(raw.path, Remote):
        return 0
    return bytes_of(raw.path, raw.files)


def open_what_can_be(
    found: Sequence[Found], options: Reading, chunk: Chunk
) -> Iterator[tuple[Found, list[Population], NuclrError | None]]:
    """Yield each recording with its populations, or with the error if it cannot be used."""
    used = []
    for recording in found:
        try:
            animal, named = "", True
            if recording.form is not None:
                animal, named = animal_of(recording.path, recording.form, options)
            populations = list(_open(recording, animal, options, chunk))
            if not populations:
                raise NothingToLearn(f"{recording.path}: no units are left to show")
        except NuclrError as error:
            yield recording, [], error
            continue
        if recording.form is not None:
            used.append((recording.short, named))
        yield recording, populations, None
    warn_of_animals(used)


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

    Files are listed at once and opened one after another, so folders of any size can be read.
    ``model.read(path)`` is the same as ``nuclr.read(path, model=model)``.

    Parameters
    ----------
    path
        An NWB file, a Kilosort or phy folder, a saved SpikeInterface sorting, another format that nuclr
        reads, or a folder of these; or the address of NWB files: ``https://...``, ``s3://bucket/key``,
        ``dandi://000006/...``. Or an object in memory: anything that :func:`nuclr.from_spike_times` accepts,
        pynapple's ``TsdFrame``, xarray's ``DataArray``, or pynwb's ``NWBFile``. Of an ``NWBFile``, the file
        that it was read from is read, or its units if it was not saved or was changed.
    model
        A model from ``nuclr.load_model``: spikes are binned as the model requires, and units that fire less
        than those that the model learned from are left out.
    bin_s
        Bin width of spike counts (s), without a model; None: 0.02. Calcium imaging keeps its frames.
    min_rate_hz
        Units that fire less are left out; None: as the model requires, or without a model none.
    unit_columns
        Columns of an NWB file's unit table, or of an object's metadata, that are kept as labels; None:
        columns of text or booleans.
    region_column
        The column with the brain region; None: the location of a unit's electrode.
    sample_rate_hz
        Sampling rate of a spike sorter's spike times (Hz); None: from its folder.

    Raises
    ------
    DataError
        If there is no recording, it is not valid, or both a model and ``bin_s`` are given.

    Examples
    --------
    >>> import nuclr
    >>> (population,) = nuclr.read({12: [0.5, 1.2, 7.9], 31: [0.1, 3.3, 9.5]}, bin_s=0.1)
    >>> population.units["unit_id"].tolist()
    ['12', '31']
    """
    chunk = binning(bin_s, min_rate_hz, model)
    columns = [unit_columns] if isinstance(unit_columns, str) else unit_columns
    options = Reading(
        nwb=Nwb(unit_columns=None if columns is None else list(columns), region_column=region_column),
        sorter=Sorter(sample_rate_hz=sample_rate_hz),
    )
    if not isinstance(path, str | PathLike):
        saved = saved_at(path) if is_nwbfile(path) else None
        if saved is None:
            return iter(read_object(path, options.nwb, chunk))
        path = saved
    # Listed here and not at the first iteration, so that a wrong path is an error at the call.
    found = find([place_of(path if isinstance(path, str) else Path(path))])
    return open_found(found, options, chunk, hashed_bytes=HASHED_BYTES if model is not None else 0)
