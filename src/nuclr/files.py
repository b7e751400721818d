"""Writing of files and folders that are complete or absent, also after a crash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from nuclr.errors import NuclrError

PARTIAL = ".partial-"


def partial_of(path: Path) -> Path:
    """Return the temporary path at which a file or folder is written; after a kill, it remains."""
    return path.with_name(f"{PARTIAL}{path.name}")


def is_half_made(path: Path, below: Path) -> bool:
    """Return whether a path is, or is inside, an incomplete file or folder that a kill left behind."""
    return any(part.startswith(PARTIAL) for part in path.relative_to(below).parts)


@contextmanager
def whole(path: Path, *, alone: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it at the end; after an error, remove it.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    alone
        False if another process may write the same file at the same time; the last one stays.

    Raises
    ------
    NuclrError
        If the disk is full or the folder cannot be written.
    """
    # The suffix is kept, because some writers choose a format by it.
    partial = partial_of(path if alone else path.with_name(f"{uuid4().hex}-{path.name}"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with suppress(OSError):  # if the folder cannot even be read, there is nothing to remove
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill, and rename it at the end; after an error, remove it.

    Raises
    ------
    NuclrError
        If the disk is full or the folder cannot be written.
    """
    partial = partial_of(path)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> NuclrError:
    return NuclrError(
        f"{path}: cannot be written ({error.strerror or error}); free disk space, or write to another folder"
    )


def check_writable(folder: Path) -> None:
    """Check, before any work, that a folder exists or can be created, and is writable.

    Raises
    ------
    NuclrError
        If it is not.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "is not a folder" if not there.is_dir() else "cannot be written to"
        raise NuclrError(f"{folder}: {there} {reason}; choose another folder with the key results")


def sha256_of(path: Path, only: Sequence[Path] = ()) -> str:
    """Return the hash of a file, or of the names and contents of all (or ``only`` some) files in a folder."""
    if path.is_dir():
        inside = _files_in(path, only)
        listed = "".join(f"{sha256_of(file)} {file.relative_to(path).as_posix()}\n" for file in inside)
        return hashlib.sha256(listed.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_of(path: Path, only: Sequence[Path] = ()) -> int:
    """Return the size of the files that :func:`sha256_of` reads."""
    inside = _files_in(path, only) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside)


def _files_in(folder: Path, only: Sequence[Path]) -> list[Path]:
    """Return all files in a folder, or those that are, or are in, ``only`` some of its contents."""
    below = [file for top in only or (folder,) for file in (top, *top.rglob("*"))]
    return sorted({file for file in below if file.is_file()})


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with sorted keys."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
