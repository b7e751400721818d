"""Figures inside a page: drawn in it, and its files saved from it, with no file beside the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nuclr.errors import DataError
from nuclr.report.marks import inlined

TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".csv": "text/csv"}


@dataclass(frozen=True)
class Embedded:
    """A figure of a page.

    Attributes
    ----------
    name
        Unique on the page.
    caption
        What it shows.
    drawn
        The svg, ready to stand in the page; empty where the figure is a picture.
    picture
        The picture as a data URI; empty where it is an svg.
    files
        What can be saved: suffix, name of the file, content as a data URI.
    """

    name: str
    caption: str
    drawn: Markup
    picture: str
    files: list[tuple[str, str, str]]


def embedded(stem: Path, caption: str, *, name: str) -> Embedded:
    """Read ``stem.svg``, ``stem.png`` and ``stem.csv`` of a figure whose marks answer to the pointer.

    Raises
    ------
    DataError
        If one is missing.
    """
    files = [stem.with_name(stem.name + suffix) for suffix in TYPES]
    saved = [(path.suffix[1:], path.name, data_uri(path)) for path in files]
    try:
        drawn = inlined(stem.with_name(stem.name + ".svg").read_text(encoding="utf-8"), name, caption)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise DataError(f"{stem}.svg: cannot be read ({error}); draw it again with `nuclr scaling`") from None
    # Names in it come from strangers; it was parsed and written anew, so they are text.
    return Embedded(name, caption, Markup(drawn), "", saved)


def pictured(path: Path, caption: str) -> Embedded:
    """Read a figure of very many marks as a picture."""
    return Embedded(path.stem, caption, Markup(), data_uri(path), [])


def data_uri(path: Path) -> str:
    """Return the content of a file as a data URI.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); draw it again") from None
    return f"data:{TYPES[path.suffix]};base64,{content}"
