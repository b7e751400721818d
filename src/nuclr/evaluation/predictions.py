"""Read the predictions of probes for each unit, as written by :func:`nuclr.evaluation.probe.probe_all`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nuclr.errors import DataError
from nuclr.representation.embeddings import read_recorded


def read_predictions(path: Path, **differs: str | bool | float) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the predictions of one probe for the tested units, and the record of their provenance.

    Parameters
    ----------
    path
        A file ``{task}.{protocol}.parquet``.
    **differs
        Attributes of :class:`nuclr.evaluation.variants.Variant` in which the probe differs from the plain
        one (the first kind with the first centring). Without any, the plain probe is read.

    Returns
    -------
    predictions
        One row per tested unit and ``seed``; empty if the plain probe had nothing to test.
    record
        The record written by :func:`nuclr.evaluation.probe.probe_all`.

    Raises
    ------
    DataError
        If the file is missing or damaged, or has no such probe.
    """
    table, record = read_recorded(path, "probe", lambda record: {**record["main"], **differs})
    if not len(table) and differs:
        raise DataError(
            f"{path}: it has no predictions of a probe with {differs}; make the file again with `nuclr probe`"
        )
    return table.to_pandas(), record


def read_chosen(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the predictions for the tested units, in each fold by the probe that validation units choose.

    Validation units of one fold are test units of another, so a choice over all folds would use test labels.
    A fold without validation units uses the plain probe.

    Parameters
    ----------
    path
        A file ``{task}.{protocol}.parquet``.

    Returns
    -------
    predictions
        As for :func:`read_predictions`; if there were several probes, also ``plain``, the prediction of the
        plain probe.
    record
        The record written by :func:`nuclr.evaluation.probe.probe_all`.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    full = {"label_share": 1.0, "shuffled": False, "tested_on": "panel"}
    table, record = read_recorded(path, "probe", lambda _: full)
    frame = table.to_pandas()
    if len(frame[["probe", "centred"]].drop_duplicates()) < 2:
        return frame, record
    best: dict[tuple[int, int], dict[str, Any]] = {}
    for judged in record["validation"]:
        place = judged["seed"], judged["fold"]
        # Of equal probes the first is kept, which is the plain one.
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
