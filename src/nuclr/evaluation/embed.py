"""Windows to one vector a unit, and the table that every representation shares."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nuclr.config import Views
from nuclr.data.catalog import unit_table
from nuclr.data.population import Population
from nuclr.errors import DataError, ModelError
from nuclr.files import whole
from nuclr.model.encoder import Encoder, as_patches
from nuclr.model.saved import SavedModel
from nuclr.training.windows import ViewSpec, grid_starts, in_memory, view_spec

logger = logging.getLogger(__name__)
UNITS_AT_ONCE = 2048


@torch.no_grad()
def embed_population(
    encoder: Encoder, population: Population, spec: ViewSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Mean embedding of each unit over all consecutive windows in which it was active.

    Parameters
    ----------
    encoder
        In evaluation mode.
    population
        Its activity in memory and scaled (:func:`nuclr.training.windows.in_memory`).
    spec
        Window and grid that the encoder was trained with.

    Returns
    -------
    embeddings
        ``(unit, dim)``; NaN for a unit that was never active.
    windows
        In how many windows each unit was active, ``(unit,)``.
    """
    units = len(population.units)
    device = next(encoder.parameters()).device
    total = torch.zeros(units, encoder.spec.dim, dtype=torch.float64, device=device)
    windows = np.zeros(units, np.int64)
    starts = [
        start * spec.grid
        for first, last in grid_starts(population.valid_bins(), spec.window, spec.grid)
        for start in range(first, last + 1, spec.stride)
    ]
    together = max(1, UNITS_AT_ONCE // units)
    for i in range(0, len(starts), together):
        cuts = [np.asarray(population.activity[:, s : s + spec.window]) for s in starts[i : i + together]]
        active = [np.flatnonzero(cut.any(axis=1)) for cut in cuts]
        rows = np.concatenate(active)
        if not len(rows):
            continue
        counts = np.concatenate([cut[own] for cut, own in zip(cuts, active, strict=True)])
        sizes = torch.tensor([len(own) for own in active if len(own)], device=device)
        embedded = encoder(as_patches(torch.from_numpy(counts).to(device), spec.patch), sizes)
        total.index_add_(0, torch.from_numpy(rows).to(device), embedded.double())
        windows += np.bincount(rows, minlength=units)
    mean = total.cpu().numpy() / np.where(windows, windows, np.nan)[:, None]
    return mean.astype(np.float32), windows


def write_embeddings(
    path: Path, units: pd.DataFrame, embeddings: np.ndarray, windows: np.ndarray, record: dict[str, Any]
) -> None:
    """Write ``embeddings.parquet``: unit table, ``windows``, ``embedding``; ``record`` as metadata.

    Parameters
    ----------
    path
        The file.
    units
        Identity and labels, one row a unit.
    embeddings
        ``(unit, dim)``, float32; a row of NaN is written as null.
    windows
        ``(unit,)``.
    record
        What the embeddings come from: model hash, configuration, versions.
    """
    missing = np.isnan(embeddings).any(axis=1)
    values = pa.FixedSizeListArray.from_arrays(
        pa.array(embeddings.astype(np.float32).ravel()), embeddings.shape[1], mask=pa.array(missing)
    )
    table = pa.Table.from_pandas(units.assign(windows=windows), preserve_index=False)
    table = table.append_column("embedding", values)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"nuclr": json.dumps(record, sort_keys=True).encode()}
    )
    with whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_embeddings(path: Path) -> tuple[pd.DataFrame, np.ndarray, dict[str, Any]]:
    """Read ``embeddings.parquet``: unit table, embeddings ``(unit, dim)`` with NaN, record.

    Raises
    ------
    DataError
        If the file is not there or not whole.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read ({error}); make it again with `nuclr embed`") from None
    column = table["embedding"].combine_chunks()
    dim = column.type.list_size
    embeddings = np.full((len(table), dim), np.nan, np.float32)
    known = np.flatnonzero(np.asarray(column.is_valid()))
    embeddings[known] = np.asarray(column.drop_null().flatten(), np.float32).reshape(-1, dim)
    record = json.loads((table.schema.metadata or {}).get(b"nuclr", b"{}"))
    return table.drop_columns("embedding").to_pandas(), embeddings, record


def concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join unit tables; a label that a recording lacks is unknown (the empty string)."""
    joined = pd.concat(tables, ignore_index=True)
    return joined.fillna({name: "" for name in joined.select_dtypes(["object", "string"])})


def embed_with_model(
    saved: SavedModel, populations: Iterable[Population]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Embed the units of some populations with a saved model, one population in memory at a time.

    Returns
    -------
    units, embeddings, windows
        As for :func:`write_embeddings`.

    Raises
    ------
    ModelError
        If a population is of another modality or bin than the model was trained on.
    """
    views = Views.model_validate(saved.record["config"]["views"])
    tables, embeddings, windows = [], [], []
    for population in populations:
        modality, bin_s = saved.record["modality"], saved.record["bin_s"]
        if population.modality != modality or abs(population.bin_s / bin_s - 1) > 0.05:
            raise ModelError(
                f"population {population.population}: {population.modality} at "
                f"{population.bin_s:.4g} s a bin, but the "
                f"model reads {modality} at {bin_s:.4g} s; use a model trained on such recordings"
            )
        spec = view_spec(views, bin_s)
        if len(population.units) < spec.min_units:
            logger.warning(
                "population %s has %d units; embeddings of such small populations are less certain",
                population.population,
                len(population.units),
            )
        vectors, active = embed_population(saved.encoder, in_memory(population), spec)
        tables.append(unit_table(population))
        embeddings.append(vectors)
        windows.append(active)
    return concatenate(tables), np.concatenate(embeddings), np.concatenate(windows)
