"""Embed figures in a page, with their files as downloads, so that the page needs no other file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nuclr.errors import DataError
from nuclr.report.figures.marks import inlined

TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".csv": "text/csv"}


@dataclass(frozen=True)
class Embedded:
    """A figure that is embedded in a page.

    Attributes
    ----------
    name
        Identifier, unique on the page.
    caption
        Caption of the figure.
    drawn
        The svg element; empty if the figure is a raster image.
    picture
        The raster image as a data URI; empty if the figure is an svg.
    files
        Files that can be saved: suffix, file name, content as a data URI.
    """

    name: str
    caption: str
    drawn: Markup
    picture: str
    files: list[tuple[str, str, str]]


def embedded(stem: Path, caption: str, *, name: str) -> Embedded:
    """Embed a figure with interactive marks from ``stem.svg``, ``stem.png`` and ``stem.csv``.

    Raises
    ------
    DataError
        If a file is missing or cannot be read.
    """
    files = [stem.with_name(stem.name + suffix) for suffix in TYPES]
    saved = [(path.suffix[1:], path.name, data_uri(path)) for path in files]
    try:
        drawn = inlined(stem.with_name(stem.name + ".svg").read_text(encoding="utf-8"), name, caption)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise DataError(
            f"{stem}.svg: cannot be read ({error}); draw the figure again with `nuclr scaling`"
        ) from None
    # Safe although it contains names from untrusted files: it was parsed and serialised again as text.
    return Embedded(name, caption, Markup(drawn), "", saved)


def pictured(path: Path, caption: str) -> Embedded:
    """Embed a figure as a raster image, for figures with too many marks for svg."""
    return Embedded(path.stem, caption, Markup(), data_uri(path), [])


def data_uri(path: Path) -> str:
    """Return the content of a file as a data URI.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    try:
        return as_uri(path.read_bytes(), path.suffix)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); draw the figure again") from None


def as_uri(content: bytes, suffix: str) -> str:
    """Return the content of a file with this suffix as a data URI."""
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(content).decode()}"
