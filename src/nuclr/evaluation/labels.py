"""Labels that a person gives: a csv of unit ids and what they are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nuclr.data.text import as_text
from nuclr.errors import DataError
from nuclr.words import did_you_mean


def label_units(path: Path, column: str, units: pd.DataFrame) -> pd.DataFrame:
    """Give units the labels of a file, "" where it has none.

    Parameters
    ----------
    path
        A csv with ``unit_id`` and ``column``; it may also have ``animal``, which a sorter's folder does not
        know: units of one animal in two folders must not be told from each other's labels.
    column
        The label.
    units
        With ``unit_id`` and ``animal``.

    Returns
    -------
    DataFrame
        The units with ``column``, and the file's ``animal`` where it says one.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, names a unit twice, or names none of the units.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as csv ({error})") from None
    for name in ("unit_id", column):
        check_column(table, name, str(path))
    if table["unit_id"].duplicated().any():
        twice = table["unit_id"][table["unit_id"].duplicated()].iloc[0]
        raise DataError(f"{path}: unit {twice} stands twice")
    given = table.set_index("unit_id").apply(lambda column_of_text: column_of_text.str.strip())
    ids = units["unit_id"].astype(str)
    labels = as_text(ids.map(given[column]))
    if not (labels != "").any():
        raise DataError(
            f"{path}: none of its {len(table)} units is among the {len(units)} that are embedded; ids there "
            f"are like {table['unit_id'].iloc[0] if len(table) else '(none)'}, here like "
            f"{units['unit_id'].iloc[0]}"
        )
    if "animal" in given and column != "animal":
        animals = as_text(ids.map(given["animal"]))
        units = units.assign(animal=units["animal"].where(animals == "", animals))
    return units.assign(**{column: labels.astype(object)})


def check_column(table: pd.DataFrame, name: str, where: str) -> None:
    """Make sure that a table has a column.

    Raises
    ------
    DataError
        If not, with the nearest that it has.
    """
    if name in table:
        return
    remedy = did_you_mean(name, table.columns, f"there are {', '.join(map(str, table.columns))}")
    raise DataError(f"{where}: no column {name}; {remedy}")
