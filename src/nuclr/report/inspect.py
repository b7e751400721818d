"""What a recording holds, to look at before anything is learned from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nuclr.data.own import Found
from nuclr.data.population import Population, summary_of
from nuclr.data.text import as_text
from nuclr.errors import DataError, NothingToLearn, NuclrError
from nuclr.words import counted


@dataclass(frozen=True)
class Inspection:
    """What some recordings hold.

    Attributes
    ----------
    populations
        Of :func:`describe`.
    labels
        Of :func:`count_labels`.
    left_out
        ``file``, and ``reason`` why it cannot be used, of each.
    first
        The first of the populations, or the one that was asked for.
    """

    populations: pd.DataFrame
    labels: dict[str, pd.Series]
    left_out: list[dict[str, str]]
    first: Population

    def as_json(self) -> str:
        """Write it for other programs."""
        content = {
            "populations": self.populations.to_dict("records"),
            "labels": {name: counts.to_dict() for name, counts in self.labels.items()},
            "left_out": self.left_out,
        }
        return json.dumps(content, indent=2)


def inspect(
    opened: Iterable[tuple[Found, list[Population], NuclrError | None]], named: str | None = None
) -> Inspection:
    """Look at recordings as :func:`nuclr.data.own.open_what_can_be` gives them.

    Parameters
    ----------
    opened
        The recordings.
    named
        The population that is looked at more closely; None: the first.

    Raises
    ------
    NuclrError
        If none can be used, or there is no population of this name.
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
            reason = str(error).removeprefix(f"{recording.path}: ")
            left_out.append({"file": str(recording.path), "reason": reason})
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
        raise DataError(f"there is no population {named}; there are {names}")
    return Inspection(found_populations, count_labels(labels), left_out, chosen[0])


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
    """Count the values of every label column over tables of units, most frequent first; "" is unknown."""
    tables = [table.drop(columns="unit_id") for table in units]
    together = pd.concat(tables, ignore_index=True).select_dtypes(exclude="number")
    return {str(name): as_text(column).value_counts() for name, column in together.items()}
