"""Columns of labels as text: the empty string is what nobody knows."""

from __future__ import annotations

import pandas as pd


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
