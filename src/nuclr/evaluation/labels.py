"""Read labels of units from a table of unit ids and classes."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from nuclr.data.text import as_text, match_ids, read_table
from nuclr.errors import DataError
from nuclr.words import did_you_mean

logger = logging.getLogger(__name__)


def label_units(path: Path, column: str, units: pd.DataFrame) -> pd.DataFrame:
    """Return the unit table with the labels of a file, "" for units without one.

    Parameters
    ----------
    path
        A table (:func:`nuclr.data.text.read_table`) with ``unit_id`` and ``column``, in upper or lower case;
        ids may lack the prefix of their recording. It may also have ``animal``, which the folder of a spike
        sorter does not contain: units of one animal in two folders must be held out together.
    column
        Column with the label.
    units
        Unit table with ``unit_id`` and ``animal``.

    Returns
    -------
    DataFrame
        The units with ``column``, and with the ``animal`` of the file where it has one.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, contains a unit twice, or contains none of the units.
    """
    if not path.exists():
        raise DataError(
            f"{path}: does not exist; give a table with the columns unit_id and {column}, for example that "
            "of `nuclr suggest`, with your labels added"
        )
    table = pd.DataFrame(read_table(path, str(path)))
    for name in ("unit_id", column.lower()):
        check_column(table, name, str(path))
    ids = list(units["unit_id"].astype(str))
    rows = match_ids(list(table["unit_id"]), ids, str(path))
    matched = pd.Series(rows, index=table.index, dtype="Int64")
    # A unit may be repeated literally, or once with and once without the recording's name.
    again = table["unit_id"].duplicated() | (matched.notna() & matched.duplicated())
    if again.any():
        raise DataError(
            f"{path}: unit {table['unit_id'][again].iloc[0]} occurs twice; keep one row for each unit"
        )
    given = table.assign(row=matched).dropna(subset="row").set_index("row")
    labels = as_text(given[column.lower()].reindex(range(len(ids))))
    if not (labels != "").any():
        raise DataError(
            f"{path}: none of its {len(table)} units is among the {len(units)} embedded units; its first id "
            f"is {table['unit_id'].iloc[0] if len(table) else '(none)'}, the first id of the embeddings is "
            f"{units['unit_id'].iloc[0]}; write the ids like those of the embeddings, which may lack their "
            "beginning up to an underscore"
        )
    without = table["unit_id"][matched.isna()]
    logger.info(
        "%s: %d of %d units have a label%s",
        path,
        (labels != "").sum(),
        len(units),
        f"; {len(without)} rows name unknown units, such as {without.iloc[0]}" if len(without) else "",
    )
    if "animal" in given and column.lower() != "animal":
        animals = as_text(given["animal"].reindex(range(len(ids))))
        animals.index = units.index
        units = units.assign(animal=units["animal"].where(animals == "", animals))
    return units.assign(**{column: labels.to_numpy(object)})


def check_column(table: pd.DataFrame, name: str, where: str) -> None:
    """Check that a table has a column.

    Raises
    ------
    DataError
        If the column is missing; the message suggests the most similar column.
    """
    if name in table:
        return
    remedy = did_you_mean(name, table.columns, f"there are {', '.join(map(str, table.columns))}")
    raise DataError(f"{where}: no column {name}; {remedy}")
