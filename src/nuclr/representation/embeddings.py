"""Read and write ``embeddings.parquet``, the table of embeddings or baseline features of units."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nuclr.data.text import labels_as_text
from nuclr.errors import DataError, ModelError
from nuclr.files import whole
from nuclr.representation.training_recordings import TrainingRecordings, pretraining_of


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of units; unpacks as ``units, vectors, windows``.

    Attributes
    ----------
    units
        Unit table with identity and labels, one row per unit.
    vectors
        ``(unit, dim)``, float32; NaN for a unit that was never active.
    windows
        Number of windows in which each unit was active, ``(unit,)``.
    model
        Hash of the model that embedded the units; embeddings of two models cannot be compared.
    pretraining
        The recordings that the model was pretrained on; None if they are not known.
    hashes
        Hash of the file of each population, where it is known.
    """

    units: pd.DataFrame
    vectors: np.ndarray
    windows: np.ndarray
    model: str
    pretraining: TrainingRecordings | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.units, self.vectors, self.windows))


def read_all(paths: Sequence[Path]) -> tuple[Embeddings, dict[str, Any]]:
    """Return the embeddings of one model from several files, and the record of the first file.

    The record of a file contains that of the model, from which the recordings of its pretraining are known.

    Raises
    ------
    ModelError
        If the embeddings do not come from a model, or come from different models.
    DataError
        If a file cannot be read, or a unit occurs twice.
    """
    read = [read_embeddings(path) for path in paths]
    (_, _, record), *_ = read
    for path, (_, _, other) in zip(paths, read, strict=True):
        if not other.get("model"):
            raise ModelError(f"{path}: these are not the embeddings of a model; make them with `nuclr embed`")
        if other["model"] != record["model"]:
            raise ModelError(
                f"{path}: embedded by another model than {paths[0]}; embed both with the same model"
            )
    units = concatenate([table for table, _, _ in read])
    refuse_twice(units)
    vectors = np.concatenate([part for _, part, _ in read])
    embeddings = Embeddings(
        units.drop(columns="windows"),
        vectors,
        units["windows"].to_numpy(),
        record["model"],
        pretraining_of(record),
        {name: sha256 for _, _, other in read for name, sha256 in other.get("hashes", {}).items()},
    )
    return embeddings, record


def refuse_twice(units: pd.DataFrame) -> None:
    """Refuse a unit table in which an id occurs twice.

    Raises
    ------
    DataError
        If it does.
    """
    if units["unit_id"].duplicated().any():
        twice = units["unit_id"][units["unit_id"].duplicated()].iloc[0]
        raise DataError(f"unit {twice} occurs twice in the embeddings; give each recording only once")


def write_embeddings(
    path: Path, units: pd.DataFrame, embeddings: np.ndarray, windows: np.ndarray, record: dict[str, Any]
) -> None:
    """Write ``embeddings.parquet``: unit table, ``windows``, ``embedding``; ``record`` as metadata.

    Parameters
    ----------
    path
        The file.
    units
        Unit table with identity and labels, one row per unit.
    embeddings
        ``(unit, dim)``, float32; a row with NaN is written as null.
    windows
        ``(unit,)``.
    record
        Provenance of the embeddings: model hash, configuration, versions.
    """
    missing = np.isnan(embeddings).any(axis=1)
    values = pa.FixedSizeListArray.from_arrays(
        pa.array(embeddings.astype(np.float32).ravel()), embeddings.shape[1], mask=pa.array(missing)
    )
    table = pa.Table.from_pandas(units.assign(windows=windows), preserve_index=False)
    table = table.append_column("embedding", values)
    write_recorded(path, table, record)


def read_embeddings(path: Path) -> tuple[pd.DataFrame, np.ndarray, dict[str, Any]]:
    """Return unit table, embeddings ``(unit, dim)`` with NaN, and record of ``embeddings.parquet``.

    Raises
    ------
    DataError
        If the file is missing, damaged or not a table of embeddings.
    """
    table, record = read_recorded(path, "embed")
    for name in ("unit_id", "embedding"):
        if name not in table.column_names:
            raise DataError(
                f"{path}: has no column {name}, so it is not a table of embeddings (its columns are "
                f"{', '.join(table.column_names[:6])}); give the file that `nuclr embed` writes"
            )
    column = table["embedding"].combine_chunks()
    present, dim = column.drop_null(), _length_of(column, path)
    embeddings = np.full((len(table), dim), np.nan, np.float32)
    known = np.flatnonzero(np.asarray(column.is_valid()))
    embeddings[known] = np.asarray(present.flatten(), np.float32).reshape(-1, dim)
    return table.drop_columns("embedding").to_pandas(), embeddings, record


def _length_of(column: pa.Array, path: Path) -> int:
    """Return the length of the lists in a column of embeddings; 0 if it is not known."""
    if pa.types.is_fixed_size_list(column.type):
        return column.type.list_size
    # A table that pandas has read and written again has lists of any length.
    lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    lengths = pc.unique(pc.list_value_length(column.drop_null())).to_pylist() if lists else []
    if len(lengths) > 1 or not lists:
        raise DataError(
            f"{path}: the column embedding does not hold lists of one length; make it with `nuclr embed`"
        )
    return lengths[0] if lengths else 0


def write_recorded(path: Path, table: pa.Table, record: dict[str, Any]) -> None:
    """Write a table as parquet, with the record of its provenance as metadata."""
    metadata = {**(table.schema.metadata or {}), b"nuclr": json.dumps(record, sort_keys=True).encode()}
    with whole(path) as partial:
        # Row groups allow filtered reads to skip rows.
        pq.write_table(
            table.replace_schema_metadata(metadata), partial, compression="zstd", row_group_size=2**16
        )


def read_recorded(
    path: Path, command: str, where: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table and the record written by :func:`write_recorded`.

    Parameters
    ----------
    path
        The file.
    command
        The subcommand that writes the file, for the error message.
    where
        Function of the record that returns the values that columns must have; None: all rows are read.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    try:
        record = json.loads((pq.read_schema(path).metadata or {}).get(b"nuclr", b"{}"))
        chosen = [(name, "==", value) for name, value in where(record).items()] if where is not None else None
        return pq.read_table(path, filters=chosen), record
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: {_why_unread(path, error, command)}") from None


def _why_unread(path: Path, error: Exception, command: str) -> str:
    """Return why a file is not one that a subcommand wrote, and what to give instead."""
    if not path.exists():
        return f"does not exist; write it with `nuclr {command}`"
    if path.is_dir():
        inside = sorted(path.glob("*.parquet"))
        which = f"a file in it, such as {inside[0]}" if inside else f"the file that `nuclr {command}` writes"
        return f"is a folder, but a parquet file is expected; give {which}"
    if path.suffix != ".parquet":
        return f"is not a parquet file; give the one that `nuclr {command}` writes"
    return f"cannot be read ({error}); make it again with `nuclr {command}`"


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as csv with six digits, completely or not at all, and return the path."""
    with whole(path) as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    return path


def who(units: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that identify units, as far as they exist: id, population, recording, animal."""
    return units[[name for name in ("unit_id", "population", "recording", "animal") if name in units]]


def concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate unit tables; a label that a recording lacks becomes the empty string (unknown)."""
    return labels_as_text(pd.concat(tables, ignore_index=True))
