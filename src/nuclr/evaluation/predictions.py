"""What probes predicted, unit by unit, as :func:`nuclr.evaluation.probe.probe_all` wrote it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclr.errors import DataError
from nuclr.evaluation.variants import Variant
from nuclr.representation.embeddings import read_recorded


def read_predictions(path: Path, variant: Variant | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read tested units' predictions, and the record of what they come from.

    Parameters
    ----------
    path
        A ``{task}.{protocol}.parquet``.
    variant
        Which of the probes; None: the main one.

    Returns
    -------
    predictions
        One row a tested unit of each ``seed``; none where the main probe had nothing to test.
    record
        As :func:`nuclr.evaluation.probe.probe_all` wrote it.

    Raises
    ------
    DataError
        If the file is not there or not whole, or has no such probe.
    """
    table, record = read_recorded(
        path, "probe", lambda record: asdict(variant) if variant is not None else record["main"]
    )
    if not len(table) and variant is not None:
        raise DataError(f"{path}: no {variant} in it; make it again with `nuclr probe`")
    return table.to_pandas(), record


def read_chosen(path: Path) -> pd.DataFrame:
    """Read tested units' predictions, each fold's by the probe that its own validation units choose.

    Validation units of one fold are test units of another, so a choice over all folds would look at what
    is tested. Where a fold has no validation units its probe is the main one.

    Parameters
    ----------
    path
        A ``{task}.{protocol}.parquet``.

    Returns
    -------
    DataFrame
        As :func:`read_predictions`, with ``validation_macro_f1`` of the fold's probe.

    Raises
    ------
    DataError
        If the file is not there or not whole.
    """
    full = {"label_share": 1.0, "shuffled": False, "tested_on": "panel"}
    table, record = read_recorded(path, "probe", lambda _: full)
    frame = table.to_pandas()
    best: dict[tuple[int, int], dict[str, Any]] = {}
    for judged in record["validation"]:
        place = judged["seed"], judged["fold"]
        # Of equals the first, which is the main one.
        if judged["variant"]["tested_on"] == "panel" and (
            place not in best or judged["macro_f1"] > best[place]["macro_f1"]
        ):
            best[place] = judged
    parts = []
    for (seed, fold), group in frame.groupby(["seed", "fold"]):
        judged = best.get((seed, fold), {"variant": record["main"], "macro_f1": np.nan})
        variant = judged["variant"]
        own = group[(group[list(variant)] == pd.Series(variant)).all(axis=1)]
        parts.append(own.assign(validation_macro_f1=judged["macro_f1"]))
    return pd.concat(parts, ignore_index=True) if parts else frame.assign(validation_macro_f1=np.nan)
