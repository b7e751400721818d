"""Outputs appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nuclr.errors import NuclrError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; put the file in its place when it is whole, else leave nothing.

    Raises
    ------
    NuclrError
        If the disk is full or the folder cannot be written.
    """
    # The suffix stays, since some writers choose a format by it.
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise NuclrError(
            f"{path}: cannot be written ({error.strerror or error}); free space, or write elsewhere"
        ) from None
    finally:
        with suppress(OSError):  # its folder cannot even be read: nothing of ours is there
            partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read and compare."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
