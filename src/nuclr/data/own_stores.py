"""Population stores of recordings that pretraining reads, in the folder of the model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from nuclr.config import Chunk, Reading
from nuclr.data.chunk import chunk_recording
from nuclr.data.formats import warn_of_animals
from nuclr.data.formats.folder import quietly
from nuclr.data.kinds import Kind, kind_of, why_apart
from nuclr.data.own import DATASET, Found, LeftOut, animals_of
from nuclr.data.store import identity_of, stores
from nuclr.errors import DataError, NothingToLearn
from nuclr.files import check_writable


def store_found(found: Sequence[Found], folder: Path, options: Reading, chunk: Chunk) -> list[Path]:
    """Write population stores of recordings that are not stores yet, below a folder; existing ones are kept.

    Recordings that no model can read together with most others, because modality, bin or frame length differ,
    are left out with a warning, and none of their stores remains in the folder. If several processes are to
    write the same store, the others wait for the first one.

    Returns
    -------
    list of Path
        The stores that were found and those that were made from the recordings, and no others in the folder.

    Raises
    ------
    DataError
        As for :func:`nuclr.data.chunk.chunk_recording`.
    """
    made: list[Path] = []
    left_out = LeftOut(found, options)
    animals = animals_of(found, options)
    apart = _why_apart(found, animals, options, chunk)
    used: list[tuple[str, bool]] = []
    for recording, (animal, named), why in zip(found, animals, apart, strict=True):
        if why:
            with left_out(recording):
                _remove_stores(recording, folder)
                raise NothingToLearn(f"{recording.path}: {why}")
            continue
        if recording.form is None:
            made.append(recording.local)
            continue
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(recording, folder)
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
            used.append((recording.short, named))
            made += [folder / f"{population}.zarr" for population in populations]
    left_out.say()
    warn_of_animals(used)
    return list(dict.fromkeys(made))


def _why_apart(
    found: Sequence[Found], animals: Sequence[tuple[str, bool]], options: Reading, chunk: Chunk
) -> list[str]:
    """Return why each recording cannot be used with most others; "" if it can, or cannot be read at all."""
    if len(found) == 1:
        return [""]
    kinds: list[Kind | None] = []
    for recording, (animal, _) in zip(found, animals, strict=True):
        if recording.form is None:
            known = identity_of(recording.local)
            complete = {"modality", "bin_s"} <= set(known)
            kinds.append(Kind(known["modality"], known["bin_s"]) if complete else None)
            continue
        try:
            with quietly():  # warnings and errors are repeated when it is stored
                own = kind_of(recording.read(options, animal)[0])
        except DataError:
            kinds.append(None)
        else:
            kinds.append(Kind("spikes", chunk.bin_s) if own.modality == "spikes" else own)
    return why_apart(kinds)


def _remove_stores(recording: Found, folder: Path) -> None:
    """Remove the stores that an earlier pretraining made of a recording that is not used any more."""
    made = folder / recording.recording
    if recording.form is None or not made.exists():
        return
    with FileLock(_lock_of(recording, folder)):
        if any(identity_of(store).get("dataset") == DATASET for store in stores(made)):
            shutil.rmtree(made)


def _lock_of(recording: Found, folder: Path) -> Path:
    """Return the file of a lock, because `srun nuclr pretrain` starts several processes at once."""
    return folder / f".{recording.recording}.lock"


@contextmanager
def _nothing_left(lock: Path) -> Iterator[None]:
    """Remove a lock file, and its folder if that is empty, after an error."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # another process may be working there
            lock.unlink(missing_ok=True)
            lock.parent.rmdir()
        raise
