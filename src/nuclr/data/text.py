"""Columns of labels as text: the empty string is what nobody knows."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from nuclr.errors import DataError


def as_text(values: pd.Series) -> pd.Series:
    """Give a column of any kind as strings, "" where a value is missing."""
    # As objects first: a column of categories, dates or whole numbers has no room for "".
    return values.astype(object).where(values.notna(), "").astype(str)


def is_label(values: pd.Series) -> bool:
    """Say whether a column holds something else than numbers or truth values."""
    return not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values))


def labels_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table whose labels are text; a label that some rows lack is unknown there."""
    return table.assign(**{str(name): as_text(table[name]) for name in table if is_label(table[name])})


def read_table(path: Path, named: str) -> dict[str, list[str]]:
    """Read a small table of text, whatever separates its columns.

    Commas, semicolons or tabs; Windows line ends; a byte order mark.

    Parameters
    ----------
    path
        The file; its first line names the columns.
    named
        What it is, for messages.

    Returns
    -------
    dict
        Columns by name, in lower case, as text without blanks around it.

    Raises
    ------
    DataError
        If it cannot be read, is empty, or a row has another number of columns than the first.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{named}: cannot be read ({error.strerror})") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{named}: empty; its first line names the columns")
    separator = max("\t;,", key=lines[0].count)  # of those that are as frequent, the first
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error as error:
        raise DataError(f"{named}: not a table ({error})") from None
    header = [name.lower() for name in rows[0]]
    if len(set(header)) < len(header):
        raise DataError(f"{named}: a column stands twice: {', '.join(header)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header) and any(row[len(header) :]):
            raise DataError(f"{named}: row {number} has {len(row)} columns, the first row {len(header)}")
    return {
        name: [row[place] if place < len(row) else "" for row in rows[1:]]
        for place, name in enumerate(header)
    }
