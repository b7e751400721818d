"""What probes predicted, unit by unit, as :func:`nuclr.evaluation.probe.probe_all` wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nuclr.errors import DataError
from nuclr.representation.embeddings import read_recorded


def read_predictions(path: Path, **differs: str | bool | float) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read tested units' predictions by one probe, and the record of what they come from.

    Parameters
    ----------
    path
        A ``{task}.{protocol}.parquet``.
    **differs
        What tells the probe from the plain one, which is the first kind with the first centring: attributes
        of :class:`nuclr.evaluation.variants.Variant`. Nothing: the plain one itself.

    Returns
    -------
    predictions
        One row a tested unit of each ``seed``; none where the plain probe had nothing to test.
    record
        As :func:`nuclr.evaluation.probe.probe_all` wrote it.

    Raises
    ------
    DataError
        If the file is not there or not whole, or has no such probe.
    """
    table, record = read_recorded(path, "probe", lambda record: {**record["main"], **differs})
    if not len(table) and differs:
        raise DataError(
            f"{path}: it has no predictions of a probe with {differs}; make the file again with `nuclr probe`"
        )
    return table.to_pandas(), record


def read_chosen(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read tested units' predictions, each fold's by the probe that its own validation units choose.

    Validation units of one fold are test units of another, so a choice over all folds would look at what
    is tested. Where a fold has no validation units its probe is the plain one.

    Parameters
    ----------
    path
        A ``{task}.{protocol}.parquet``.

    Returns
    -------
    predictions
        As :func:`read_predictions`; where there was a choice, also ``plain``, what the plain probe predicted.
    record
        As :func:`nuclr.evaluation.probe.probe_all` wrote it.

    Raises
    ------
    DataError
        If the file is not there or not whole.
    """
    full = {"label_share": 1.0, "shuffled": False, "tested_on": "panel"}
    table, record = read_recorded(path, "probe", lambda _: full)
    frame = table.to_pandas()
    if len(frame[["probe", "centred"]].drop_duplicates()) < 2:
        return frame, record
    best: dict[tuple[int, int], dict[str, Any]] = {}
    for judged in record["validation"]:
        place = judged["seed"], judged["fold"]
        # Of equals the first, which is the plain one.
        if judged["variant"]["tested_on"] == "panel" and (
            place not in best or judged["macro_f1"] > best[place]["macro_f1"]
        ):
            best[place] = judged
    parts = []
    for place, fold in frame.groupby(["seed", "fold"]):
        chosen = best[place]["variant"] if place in best else record["main"]
        # All probes of a fold test the same units in the same order.
        plain = _of(fold, record["main"])["predicted"].to_numpy(object)
        parts.append(_of(fold, chosen).assign(plain=plain))
    return pd.concat(parts, ignore_index=True), record


def _of(predictions: pd.DataFrame, variant: Mapping[str, Any]) -> pd.DataFrame:
    return predictions[(predictions[list(variant)] == pd.Series(variant)).all(axis=1)]
