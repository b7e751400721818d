"""What a recording holds, to look at before anything is learned from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.config import Chunk, Nwb
from nuclr.data.catalog import mean_activity
from nuclr.data.chunk import to_population
from nuclr.data.population import Population
from nuclr.data.sources import nwb
from nuclr.data.store import open_population, stores
from nuclr.errors import DataError


def populations_in(path: Path, columns: Nwb, chunk: Chunk) -> list[Population]:
    """Open all populations of a store, of an NWB file, or of a folder of either.

    Parameters
    ----------
    path
        What to look at.
    columns
        Which columns of an NWB file's unit table are labels.
    chunk
        How an NWB file's spikes are binned.

    Raises
    ------
    DataError
        If nothing of the kind is there.
    """
    if not path.exists():
        raise DataError(f"{path}: not there; give a population store, an NWB file, or a folder of either")
    if path.suffix == ".zarr":
        return [open_population(path)]
    if found := stores(path):
        return [open_population(store) for store in found]
    files = [path] if path.suffix == ".nwb" else sorted(path.rglob("*.nwb"))
    if not files:
        raise DataError(f"{path}: no population store (.zarr) and no NWB file (.nwb) there")
    return [
        to_population(
            raw,
            dataset="nwb",
            animal=nwb.animal_of(file),
            recording=nwb.name_of(file),
            options=chunk,
            source={"file": file.name},
        )
        for file in files
        for raw in nwb.read_populations(file, columns.unit_columns, columns.region_column)
    ]


def describe(populations: Sequence[Population]) -> pd.DataFrame:
    """Tabulate populations, one row each.

    Returns
    -------
    DataFrame
        ``population, animal, modality, units, minutes`` (valid ones), ``bin_s``, and 5th percentile,
        median and 95th percentile over units of the mean activity over the valid spans: spikes per
        second, or dF/F.
    """
    rows = []
    for population in populations:
        low, median, high = np.percentile(mean_activity(population), [5, 50, 95])
        rows.append(
            {
                "population": population.population,
                "animal": population.animal,
                "modality": population.modality,
                "units": len(population.units),
                "minutes": population.valid_minutes,
                "bin_s": population.bin_s,
                "low": low,
                "median": median,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def count_labels(populations: Sequence[Population]) -> dict[str, pd.Series]:
    """Count the values of every label column over all units, most frequent first; "" is unknown."""
    tables = [population.units.drop(columns="unit_id") for population in populations]
    together = pd.concat(tables, ignore_index=True).select_dtypes(["object", "string", "bool"])
    return {str(name): column.fillna("").astype(str).value_counts() for name, column in together.items()}
