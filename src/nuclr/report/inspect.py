"""What a recording holds, to look at before anything is learned from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nuclr.data.population import Population, summary_of
from nuclr.data.text import as_text


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


def count_labels(populations: Sequence[Population]) -> dict[str, pd.Series]:
    """Count the values of every label column over all units, most frequent first; "" is unknown."""
    tables = [population.units.drop(columns="unit_id") for population in populations]
    together = pd.concat(tables, ignore_index=True).select_dtypes(exclude="number")
    return {str(name): as_text(column).value_counts() for name, column in together.items()}
