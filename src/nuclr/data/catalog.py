"""Tables of the units and populations in population stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nuclr.data.population import Population, summary_of
from nuclr.data.store import open_population
from nuclr.data.text import labels_as_text
from nuclr.errors import DataError
from nuclr.words import counted


def catalog(paths: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return tables of the units and the populations in some stores.

    Returns
    -------
    units
        One row for each unit: ``unit_id, population, recording, animal``, the labels of the source, and
        ``rate_hz`` over the valid spans (calcium: the mean of dF/F).
    populations
        One row for each population: identity, ``units``, valid ``minutes``, ``mean_activity`` over units
        and ``scale`` (:class:`nuclr.data.population.Summary`), ``store``.

    Raises
    ------
    DataError
        If there is no store, or a ``unit_id`` occurs in two populations.
    """
    if not paths:
        raise DataError("catalog: no population stores found; run `nuclr chunk` on the recordings first")
    units, populations = [], []
    for path in paths:
        population = open_population(path)
        known = summary_of(population)
        units.append(unit_table(population).assign(rate_hz=known.mean_activity))
        populations.append(
            {
                "population": population.population,
                "recording": population.recording,
                "animal": population.animal,
                "modality": population.modality,
                "bin_s": population.bin_s,
                "units": len(population.units),
                "minutes": population.valid_minutes,
                "mean_activity": float(known.mean_activity.mean()),
                "scale": known.scale,
                "file": population.source.get("file", ""),
                "sha256": population.source.get("sha256", ""),
                "store": str(path),
            }
        )
    table = pd.concat(units, ignore_index=True)
    twice = table[table["unit_id"].duplicated(keep=False)]
    if len(twice):
        first, second = twice[twice["unit_id"] == twice["unit_id"].iloc[0]]["recording"].iloc[:2]
        raise DataError(
            f"unit_id {twice['unit_id'].iloc[0]} occurs in recordings {first} and {second}, whose files have "
            "the same subject_id and session_id; remove one of the files, or give them different session ids"
        )
    return labels_as_text(table), pd.DataFrame(populations)


def totals(populations: pd.DataFrame) -> str:
    """Return the numbers of animals, populations, units and minutes in a table of populations, as text."""
    return ", ".join(
        [
            counted(populations["animal"].nunique(), "animal"),
            counted(len(populations), "population"),
            counted(int(populations["units"].sum()), "unit"),
            f"{populations['minutes'].sum():.1f} minutes",
        ]
    )


def unit_table(population: Population) -> pd.DataFrame:
    """Return the unit table of a population with columns for population, recording and animal."""
    identity = {name: getattr(population, name) for name in ("population", "recording", "animal")}
    rest = population.units.drop(columns="unit_id")
    return pd.concat(
        [population.units[["unit_id"]].assign(**identity), rest],
        axis=1,
    )
