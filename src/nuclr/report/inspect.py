"""Summarise the contents of recordings, for inspection before training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nuclr.data.own import Found
from nuclr.data.population import Population, summary_of
from nuclr.data.recording import reason_of
from nuclr.data.text import as_text
from nuclr.errors import DataError, NothingToLearn, NuclrError
from nuclr.words import counted


@dataclass(frozen=True)
class Inspection:
    """Contents of some recordings.

    Attributes
    ----------
    populations
        Table from :func:`describe`.
    labels
        Counts from :func:`count_labels`.
    left_out
        Recordings that cannot be used: ``file`` and ``reason`` of each.
    first
        The requested population, or else the first.
    """

    populations: pd.DataFrame
    labels: dict[str, pd.Series]
    left_out: list[dict[str, str]]
    first: Population

    def as_json(self) -> str:
        """Return the contents as JSON, for other programs."""
        content = {
            "populations": self.populations.to_dict("records"),
            "labels": {name: counts.to_dict() for name, counts in self.labels.items()},
            "left_out": self.left_out,
        }
        return json.dumps(content, indent=2)


def inspect(
    opened: Iterable[tuple[Found, list[Population], NuclrError | None]], named: str | None = None
) -> Inspection:
    """Summarise the contents of recordings.

    Parameters
    ----------
    opened
        Recordings from :func:`nuclr.data.own.open_what_can_be`.
    named
        Name of the population to return as ``first``; None: the first one.

    Raises
    ------
    NuclrError
        If no recording can be used, or no population has this name.
    """
    kept: list[Population] = []
    tables, labels, left_out, errors = [], [], [], []
    for recording, populations, error in opened:
        if error is None:
            try:
                tables.append(describe(populations))
            except NuclrError as found:
                error = found
        if error is not None:
            errors.append(error)
            left_out.append({"file": str(recording.path), "reason": reason_of(error, recording.path)})
            continue
        kept += [population for population in populations if not kept or population.population == named]
        labels += [population.units for population in populations]
    if not tables:
        if len(errors) == 1:
            raise errors[0]
        listed = "; ".join(f"{one['file']}: {one['reason']}" for one in left_out)
        raise NothingToLearn(f"none of {counted(len(errors), 'recording')} can be used: {listed}")
    found_populations = pd.concat(tables, ignore_index=True)
    chosen = [population for population in kept if named in (None, population.population)]
    if not chosen:
        names = ", ".join(found_populations["population"])
        raise DataError(f"there is no population {named}; the recordings contain {names}")
    return Inspection(found_populations, count_labels(labels), left_out, chosen[0])


def describe(populations: Sequence[Population]) -> pd.DataFrame:
    """Tabulate populations, one row each.

    Returns
    -------
    DataFrame
        ``population, animal, modality, units, minutes`` (valid time), ``bin_s``, and ``low, median, high``:
        5th percentile, median and 95th percentile over units of the mean activity in the valid spans (Hz
        for spikes, else dF/F).
    """
    rows = []
    for population in populations:
        low, median, high = np.percentile(summary_of(population).mean_activity, [5, 50, 95])
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


def count_labels(units: Sequence[pd.DataFrame]) -> dict[str, pd.Series]:
    """Count the values of each label column in some unit tables, most frequent first; "" means unknown."""
    tables = [table.drop(columns="unit_id") for table in units]
    together = pd.concat(tables, ignore_index=True).select_dtypes(exclude="number")
    return {str(name): as_text(column).value_counts() for name, column in together.items()}
