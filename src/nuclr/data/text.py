"""Columns of labels as text: the empty string is what nobody knows."""

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
    """Give a column of any kind as strings, "" where a value is missing."""
    # As objects first: a column of categories, dates or whole numbers has no room for "".
    return values.astype(object).where(values.notna(), "").astype(str)


# What spreadsheets and files write where nobody knows.
UNKNOWN = frozenset({"", "unknown", "none", "nan", "n/a", "null", "unlabelled", "unlabeled", "<na>"})
# What an atlas calls places where no neuron's body is.
NO_REGION = frozenset({"root", "void", "fiber tracts", "fiber_tracts"})


def without_unknown(values: pd.Series) -> pd.Series:
    """Give a column as strings, "" where it says in any way that nobody knows; 2.0 as "2"."""
    from pandas.api.types import is_float_dtype

    text = as_text(values)
    if is_float_dtype(values):
        text = text.str.removesuffix(".0")
    return text.where(~text.str.strip().str.lower().isin(UNKNOWN), "")


def names_class(value: str) -> bool:
    """Whether a value says what a unit is: neither that nobody knows, nor a place where no neuron is."""
    return value.strip().lower() not in UNKNOWN | NO_REGION


def is_no_region(values: pd.Series) -> pd.Series:
    """Say which values name a place in an atlas where no neuron is."""
    return values.str.strip().str.lower().isin(NO_REGION)


def is_label(values: pd.Series) -> bool:
    """Say whether a column holds something else than numbers or truth values."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return not (is_numeric_dtype(values) or is_bool_dtype(values))


# Columns that every table of units may have; and a sorter's or curator's word on a cluster, which is none on
# the neuron.
NO_LABELS = ("unit_id", "population", "recording", "animal", "quality")


def count_values(units: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count the units that have each value ("" is none) of each column of labels: text or truth values."""
    from pandas.api.types import is_bool_dtype

    labels = [
        str(name)
        for name in units
        if name not in NO_LABELS and (is_label(units[name]) or is_bool_dtype(units[name]))
    ]
    return {name: dict(Counter(as_text(units[name]))) for name in labels}


def labels_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table whose labels are text; a label that some rows lack is unknown there."""
    return table.assign(**{str(name): as_text(table[name]) for name in table if is_label(table[name])})


def read_table(path: Path, named: str) -> dict[str, list[str]]:
    """Read a small table of text, whatever separates its columns.

    Commas, semicolons or tabs; Windows line ends; a byte order mark. Of an Excel workbook (``.xlsx``) the
    first sheet, where openpyxl is installed.

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
    separator = max("\t;,", key=lines[0].count)  # of those that are as frequent, the first
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
    except Exception as error:  # openpyxl raises what it likes on a damaged workbook
        raise DataError(f"{named}: damaged, or not an Excel workbook ({error}); save it again") from None
    rows = [["" if cell is None else str(cell).strip() for cell in row] for row in cells]
    return [row for row in rows if any(row)]


def match_ids(given: Sequence[str], ids: Sequence[str], named: str) -> list[int | None]:
    """Find each of some ids among those of units: as it is, in another case, or without its prefix.

    ``7`` is ``mouse1_monday_7``, and ``monday_7`` too, where no other unit ends so.

    Parameters
    ----------
    given
        Ids that somebody wrote.
    ids
        Those of the units.
    named
        Where they were written, for messages.

    Returns
    -------
    list
        Row of the unit; None where there is none.

    Raises
    ------
    DataError
        If one could be several units.
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
