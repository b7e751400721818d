"""Columns of labels as text, in which the empty string means unknown."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nuclr.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def as_text(values: pd.Series) -> pd.Series:
    """Return a column of any type as strings, with "" for missing values."""
    # Converted to objects first, because columns of categories, dates or integers cannot contain "".
    objects = values.astype(object).where(values.notna(), "")
    try:
        return objects.astype(str)
    except UnicodeDecodeError:  # some bytes are not text
        return objects.map(lambda one: one.decode(errors="replace") if isinstance(one, bytes) else str(one))


# Values that spreadsheets and files use for unknown labels.
UNKNOWN = frozenset({"", "unknown", "none", "nan", "n/a", "null", "unlabelled", "unlabeled", "<na>"})
# Names in an atlas for places without cell bodies.
NO_REGION = frozenset({"root", "void", "fiber tracts", "fiber_tracts"})


def without_unknown(values: pd.Series) -> pd.Series:
    """Return a column as strings, with "" for all values that mean unknown; 2.0 becomes "2"."""
    from pandas.api.types import is_float_dtype

    text = as_text(values)
    if is_float_dtype(values):
        text = text.str.removesuffix(".0")
    return text.where(~text.str.strip().str.lower().isin(UNKNOWN), "")


def names_class(value: str) -> bool:
    """Return whether a value is a class: neither unknown nor a place without neurons."""
    return value.strip().lower() not in UNKNOWN | NO_REGION


def is_no_region(values: pd.Series) -> pd.Series:
    """Return which values are names in an atlas for places without neurons."""
    return values.str.strip().str.lower().isin(NO_REGION)


def is_label(values: pd.Series) -> bool:
    """Return whether a column contains something other than numbers or booleans."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return not (is_numeric_dtype(values) or is_bool_dtype(values))


# Columns that every table of units may have, and the quality of clusters, which is not a label of neurons.
NO_LABELS = ("unit_id", "population", "recording", "animal", "quality")


def count_values(units: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the number of units with each value of each label column (text or booleans); "" is unknown."""
    from pandas.api.types import is_bool_dtype

    labels = [
        str(name)
        for name in units
        if name not in NO_LABELS and (is_label(units[name]) or is_bool_dtype(units[name]))
    ]
    return {name: dict(Counter(as_text(units[name]))) for name in labels}


def labels_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which labels are text, and missing labels are ""."""
    return table.assign(**{str(name): as_text(table[name]) for name in table if is_label(table[name])})


def read_table(path: Path, named: str) -> dict[str, list[str]]:
    """Read a small text table with any common separator.

    Columns are separated by commas, semicolons or tabs; Windows line ends and a byte order mark are allowed.
    Of an Excel workbook (``.xlsx``), the first sheet is read, if openpyxl is installed.

    Parameters
    ----------
    path
        The file; its first line names the columns.
    named
        Name of the table in messages.

    Returns
    -------
    dict
        Columns by name in lower case, as text without surrounding blanks.

    Raises
    ------
    DataError
        If the table cannot be read, is empty, or a row has more columns than the first.
    """
    rows = _rows_of_workbook(path, named) if path.suffix.lower() == ".xlsx" else _rows_of_text(path, named)
    if not rows:
        raise DataError(f"{named}: the table is empty; its first line must name the columns")
    header = [name.lower() for name in rows[0]]
    if len(set(header)) < len(header):
        raise DataError(f"{named}: two columns have the same name ({', '.join(header)}); rename one")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header) and any(row[len(header) :]):
            raise DataError(
                f"{named}: row {number} has {len(row)} columns, but the first row has {len(header)}"
            )
    return {
        name: [row[place] if place < len(row) else "" for row in rows[1:]]
        for place, name in enumerate(header)
    }


def _rows_of_text(path: Path, named: str) -> list[list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{named}: cannot be read ({error.strerror})") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return []
    separator = max("\t;,", key=lines[0].count)  # the first of several that are equally frequent
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error as error:
        raise DataError(f"{named}: not a readable table ({error}); save it as csv") from None


def _rows_of_workbook(path: Path, named: str) -> list[list[str]]:
    try:
        import openpyxl  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(
            f"{named}: reading an Excel workbook needs openpyxl; pip install openpyxl, or save it as csv"
        ) from None
    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        cells = list(workbook.worksheets[0].iter_rows(values_only=True))
        workbook.close()
    except Exception as error:  # openpyxl raises various errors for a damaged workbook
        raise DataError(f"{named}: damaged, or not an Excel workbook ({error}); save it again") from None
    rows = [["" if cell is None else str(cell).strip() for cell in row] for row in cells]
    return [row for row in rows if any(row)]


def match_ids(given: Sequence[str], ids: Sequence[str], named: str) -> list[int | None]:
    """Find the rows of units by their ids, which may be in another case or without their prefix.

    Both ``7`` and ``monday_7`` match ``mouse1_monday_7``, if no other unit id has the same end.

    Parameters
    ----------
    given
        Ids to find, as a user wrote them.
    ids
        Ids of the units.
    named
        Name of the table with the given ids, for messages.

    Returns
    -------
    list
        Row of each unit; None if there is no such unit.

    Raises
    ------
    DataError
        If an id matches several units.
    """
    exact = {name: row for row, name in enumerate(ids)}
    by_ending: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        parts = name.lower().split("_")
        for first in range(len(parts)):
            by_ending.setdefault("_".join(parts[first:]), []).append(row)
    found: list[int | None] = []
    for name in given:
        rows = [exact[name]] if name in exact else by_ending.get(name.lower(), [])
        if len(rows) > 1:
            raise DataError(
                f"{named}: {name} fits both {ids[rows[0]]} and {ids[rows[1]]}; write the full ids"
            )
        found.append(rows[0] if rows else None)
    return found
