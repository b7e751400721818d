"""Submissions to IBL BrainWideBench, task suite TS3: the Cosmos region of each unit (arXiv 2609.22064).

The format is that of ibl-bwb-eval 0.1: ``{label}/ts3-unit_cosmos/seed_{seed}.safetensors`` with
``pred_proba`` (unit, class) and ``entity_ids`` (unit, byte), ids padded with NUL; beside them, as text,
``label``, ``task``, ``seed`` and ``label_names``. The package ibl-bwb-eval is not used here, because it pins
other versions of its dependencies.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from nuclr.errors import DataError
from nuclr.evaluation.labels import check_column
from nuclr.files import whole

COSMOS = ("CB", "CNU", "CTXsp", "HB", "HPF", "HY", "Isocortex", "MB", "OLF", "TH")
TASK = "ts3-unit_cosmos"
FORMAT_OF = "0.1.0"
# The multi-unit variant of the benchmark, which follows NEMO.
RADIUS_UM, MOST_NEIGHBOURS = 60.0, 5


def cosmos_probabilities(predictions: pd.DataFrame) -> np.ndarray:
    """Return the ``p_{class}`` columns in the benchmark's order, ``(unit, 10)``.

    A class that the probe does not have gets 0. A unit that was never active gets the mean of the others.

    Raises
    ------
    DataError
        If the probe has no Cosmos regions as classes, or has other classes.
    """
    known = [str(name)[2:] for name in predictions.filter(regex="^p_")]
    if other := sorted(set(known) - set(COSMOS)) or (not known and ["nothing"]):
        raise DataError(
            f"export-bwb: the probe decodes {', '.join(other)}, but the benchmark expects Cosmos "
            f"regions ({', '.join(COSMOS)}); train a probe on labels of these regions only"
        )
    probability = np.zeros((len(predictions), len(COSMOS)), np.float32)
    for name in known:
        probability[:, COSMOS.index(name)] = predictions[f"p_{name}"]
    silent = np.isnan(probability).any(axis=1)
    if silent.all():
        raise DataError("export-bwb: no unit was ever active, so none has probabilities")
    probability[silent] = probability[~silent].mean(axis=0)
    return probability


def over_neighbours(probability: np.ndarray, depth_um: np.ndarray, population: np.ndarray) -> np.ndarray:
    """Average over each unit and its nearest on the probe: at most 5 units, within 60 µm, ``(unit, class)``.

    Source: NEMO (ICLR 2025); the benchmark's multi-unit readout.
    """
    pooled = np.empty_like(probability)
    for name in np.unique(population):
        rows = np.flatnonzero(population == name)
        distance = np.abs(depth_um[rows][:, None] - depth_um[rows][None])
        for row, far in zip(rows, distance, strict=True):
            near = np.argsort(far, kind="stable")[:MOST_NEIGHBOURS]
            pooled[row] = probability[rows[near[far[near] <= RADIUS_UM]]].mean(axis=0)
    return pooled


def write_submission(
    folder: Path,
    label: str,
    seed: int,
    predictions: pd.DataFrame,
    *,
    ids: str = "unit_id",
    depth: str | None = "depth_um",
) -> list[Path]:
    """Write a submission: single units as ``label``, and pooled units as ``{label}-multi-unit``.

    Parameters
    ----------
    folder
        Folder of submissions.
    label
        Name of the submission.
    seed
        Seed of the run; the benchmark reports the mean over 43 to 47.
    predictions
        Table with ``p_{class}``, ``population``, and the columns ``ids`` and ``depth``.
    ids
        Column with the benchmark's unit ids.
    depth
        Column with each unit's depth on its probe (µm); None: single units only.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    DataError
        If a column is missing, an id is empty, not ASCII or not unique, or a depth is missing.
    """
    probability = cosmos_probabilities(predictions)
    for column in (ids, *([depth] if depth else [])):
        check_column(predictions, column, "export-bwb")
    names = predictions[ids].astype(str)
    if bad := [name for name in names if not name or not name.isascii()]:
        raise DataError(f"export-bwb: the id {bad[0]!r} in column {ids} must be ASCII and not empty")
    if names.duplicated().any():
        raise DataError(
            f"export-bwb: the id {names[names.duplicated()].iloc[0]} occurs twice in column {ids}"
        )
    variants = {label: probability}
    if depth:
        depths = predictions[depth].to_numpy(float)
        if np.isnan(depths).any():
            raise DataError(
                f"export-bwb: unit {names[np.isnan(depths)].iloc[0]} has no depth in column {depth}; "
                'complete the column, or give --depth ""'
            )
        variants[f"{label}-multi-unit"] = over_neighbours(
            probability, depths, predictions["population"].to_numpy(str)
        )
    written = []
    for name, values in variants.items():
        path = folder / name / TASK / f"seed_{seed}.safetensors"
        about = {"label": name, "task": TASK, "seed": str(seed), "label_names": ",".join(COSMOS)}
        with whole(path) as partial:
            tensors = {"pred_proba": values, "entity_ids": _encoded(names.tolist())}
            save_file(tensors, partial, metadata={**about, "ibl_bwb_eval_version": FORMAT_OF})
        written.append(path)
    return written


def _encoded(names: list[str]) -> np.ndarray:
    width = max(map(len, names))
    return np.array([list(name.encode("ascii").ljust(width, b"\0")) for name in names], np.uint8)
