"""Reference statistics of the units that a probe was trained on, by class, to compare other units with.

``reference/{task}.safetensors`` holds quantiles of their embeddings and of their firing rates; the ``.json``
beside it names the classes, the quantiles, and how many units there are of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclr.errors import ModelError
from nuclr.model.tensor_files import read_tensors
from nuclr.representation.embeddings import Embeddings

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# With fewer units, quantiles would be the values of single units.
FEWEST_UNITS = 5


def reference(
    embeddings: Embeddings, column: str, classes: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Compute quantiles of the embeddings and firing rates of labelled units, by class.

    Parameters
    ----------
    embeddings
        Embeddings of all units; the unit table has the column, and may have ``rate_hz``.
    column
        Column with the class of each labelled unit.
    classes
        Names of all classes.

    Returns
    -------
    tensors
        ``embedding`` ``(class, quantile, dim)`` and, where rates are known, ``rate_hz``
        ``(class, quantile)``; NaN for a class of fewer than five units.
    record
        ``classes``, ``quantiles`` and ``units`` of each class.
    """
    units = embeddings.units
    label = units[column].to_numpy(object)
    vectors = embeddings.vectors.astype(np.float64)
    columns = {"embedding": vectors}
    if "rate_hz" in units:
        columns["rate_hz"] = pd.to_numeric(units["rate_hz"], errors="coerce").to_numpy(float)[:, None]
    members = {name: np.flatnonzero((label == name) & ~np.isnan(vectors).any(axis=1)) for name in classes}
    tensors = {}
    for column, values in columns.items():
        table = np.full((len(classes), len(QUANTILES), values.shape[1]), np.nan, np.float32)
        for row, own in enumerate(members.values()):
            if len(own) >= FEWEST_UNITS and not np.isnan(values[own]).all():
                table[row] = np.nanquantile(values[own], QUANTILES, axis=0)
        tensors[column] = table if column == "embedding" else table[..., 0]
    return tensors, {
        "classes": list(classes),
        "quantiles": list(QUANTILES),
        "units": {name: len(own) for name, own in members.items()},
    }


def rates_of(path: Path) -> tuple[str, pd.DataFrame] | None:
    """Return the task and the quantiles of the firing rates of its classes (Hz), one row per class.

    None if the file does not exist or contains no rates.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    if not path.exists():
        return None
    tensors, record = read_tensors(path, "reference", "train the probe again")
    rates = tensors.get("rate_hz")
    if rates is None:
        return None
    classes, quantiles = record.get("classes"), record.get("quantiles")
    named = isinstance(classes, list) and isinstance(quantiles, list)
    if not named or rates.shape != (len(classes or ()), len(quantiles or ())):
        raise ModelError(f"{path}: the reference file is incomplete or damaged; train the probe again")
    return str(record.get("task", "")), pd.DataFrame(rates, index=classes, columns=quantiles)
