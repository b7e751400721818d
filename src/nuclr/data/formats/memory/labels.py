"""Labels of units in memory: metadata of objects, and labels that a user gives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nuclr.config import Nwb
from nuclr.data.formats.nwb.units import REGION, may_be_label, names_kinds
from nuclr.data.recording import SpikeTrains, Traces
from nuclr.errors import DataError
from nuclr.words import counted, did_you_mean

logger = logging.getLogger(__name__)

Labels = Mapping[str, Any] | pd.DataFrame
ID = "unit_id"
ALL = Nwb()
# Columns that every table of units has in addition to its labels.
TAKEN = ("population", "recording", "animal", "windows", "embedding")


def unit_table(ids: Sequence[str], columns: pd.DataFrame, options: Nwb, named: str) -> pd.DataFrame:
    """Return the table of units with the columns of an object's metadata that are labels.

    Parameters
    ----------
    ids
        Ids of the units.
    columns
        Metadata, one row for each unit.
    options
        Which columns are kept (``unit_columns``; None: columns of text or booleans), and which is the region.
    named
        Name of the recording in messages.

    Raises
    ------
    DataError
        If two units have the same id, or a column does not exist.
    """
    if twice := next((unit for unit in ids if list(ids).count(unit) > 1), None):
        raise DataError(f"{named}: two units have the id {twice}; give each unit a different id")
    units = pd.DataFrame({ID: list(ids)})
    if options.unit_columns is None:
        wanted = [str(name) for name in columns if _is_label(str(name), columns[name])]
    else:
        wanted = options.unit_columns
    for name in [*wanted, *([options.region_column] if options.region_column else [])]:
        if name not in columns:
            known = ", ".join(map(str, columns)) or "none"
            raise DataError(
                f"{named}: no column {name}; {did_you_mean(name, columns, f'its columns: {known}')}"
            )
    if taken := [name for name in wanted if name in TAKEN]:
        logger.warning(
            "%s: %s is the name of a column that every table of units has; not kept as a label",
            named,
            taken[0],
        )
    units = units.assign(**{name: columns[name].to_numpy() for name in wanted if name not in (ID, *TAKEN)})
    if options.region_column:
        units[REGION] = columns[options.region_column].to_numpy()
    return units


def _is_label(name: str, values: pd.Series) -> bool:
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    single = all(np.ndim(value) == 0 for value in values)
    return not number and single and may_be_label(name) and names_kinds(values.to_numpy(object))


def labelled(raw: SpikeTrains | Traces, labels: Labels | None, named: str) -> pd.DataFrame:
    """Return the table of units of a recording with the labels that a user gives.

    Parameters
    ----------
    raw
        The recording.
    labels
        Label columns, with rows in the order of the units or indexed by their ids.
    named
        Name of the recording in messages.

    Raises
    ------
    DataError
        If there are too few or too many rows, or the rows cannot be assigned to units.
    """
    units = raw.units
    if labels is None:
        return units
    if not isinstance(labels, Mapping | pd.DataFrame):
        raise DataError(
            f"{named}: labels must be {{column: values}} or a DataFrame, not {type(labels).__name__}"
        )
    if ID in labels:
        try:
            labels = pd.DataFrame(dict(labels)).set_index(ID)
        except ValueError as error:
            raise DataError(f"{named}: labels: {error}") from None
    if taken := [str(name) for name in labels if str(name) in TAKEN]:
        raise DataError(
            f"{named}: labels: {taken[0]} is the name of a column that every table of units has; rename it"
        )
    ids = list(units[ID])
    return units.assign(
        **{str(name): _values(str(name), values, ids, named) for name, values in labels.items()}
    )


def _values(name: str, values: Any, ids: list[str], named: str) -> np.ndarray:
    """Return the values of a label, one for each unit."""
    if isinstance(values, Mapping):
        values = pd.Series(dict(values), dtype=object)
    if isinstance(values, pd.Series):
        return _by_id(name, values, ids, named)
    if isinstance(values, str) or np.ndim(values) == 0:
        raise DataError(f"{named}: labels: {name} is {values!r}; give a value for each unit")
    values = list(values)
    if len(values) != len(ids):
        raise DataError(
            f"{named}: labels: {name} has {counted(len(values), 'value')} for {counted(len(ids), 'unit')}; "
            "give one value for each unit"
        )
    return pd.Series(values).to_numpy()


def _by_id(name: str, values: pd.Series, ids: list[str], named: str) -> np.ndarray:
    """Return the values of units by their ids, or in their order if the index is the default 0, 1, ..."""
    index = [str(unit) for unit in values.index]
    counts = isinstance(values.index, pd.RangeIndex) and index[:1] in ([], ["0"])
    if counts and (len(values) != len(ids) or not set(ids) <= set(index)):
        return _values(name, values.tolist(), ids, named)
    if counts and ids != index:
        raise DataError(
            f"{named}: labels: {name} has the index 0, 1, ..., but the units have these ids in another "
            "order; "
            "index it by unit id (labels.index = ids)"
        )
    if missing := [unit for unit in ids if unit not in set(index)]:
        raise DataError(
            f"{named}: labels: {name} has no row for unit {missing[0]}; index it by unit id, or give a list "
            "in "
            "the order of the units"
        )
    if len(set(index)) < len(index):
        raise DataError(f"{named}: labels: {name} has two rows for the same unit; remove one")
    return values.set_axis(index).loc[ids].to_numpy()
