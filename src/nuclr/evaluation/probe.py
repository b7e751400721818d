"""Linear probes: which units may be learned from, what is predicted, and how well.

Source: NuCLR (arXiv 2512.01199), section 4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nuclr.config import Probe, Task
from nuclr.data.splits import Splits
from nuclr.errors import DataError, SplitError
from nuclr.evaluation.representations import read_embeddings, read_recorded, write_recorded
from nuclr.files import sha256_of, whole_folder
from nuclr.provenance import versions

logger = logging.getLogger(__name__)


def class_labels(units: pd.DataFrame, task: Task) -> np.ndarray:
    """Class of every unit in a task, ``(unit,)`` of str; the empty string where it has none.

    Raises
    ------
    DataError
        If the unit table lacks the task's column, or no unit has a class.
    """
    if task.column not in units:
        raise DataError(
            f"probe.tasks: no column {task.column} in the unit table; it has {', '.join(units.columns)}. "
            "Name it in nwb.unit_columns if the files have it"
        )
    labels = units[task.column].astype(str).to_numpy(object)
    if task.classes is not None:
        class_of = {value: name for name, members in task.classes.items() for value in members}
        labels = np.array([class_of.get(value, "") for value in labels], object)
    if not (labels != "").any():
        raise DataError(
            f"probe.tasks: {task.name}: no unit has a class; look at column {task.column} and the classes"
        )
    return labels


def folds(
    protocol: str,
    units: pd.DataFrame,
    labels: np.ndarray,
    splits: Splits,
    pretraining: list[str],
    n_folds: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (train, test) rows of ``units`` for a protocol.

    - ``inductive_zero_shot``: learn from the label animals, test on the test animals. Neither
      was in pretraining. A published split without label animals: learn from those of pretraining.
    - ``transductive_zero_shot``: leave one of the pretraining animals out at a time.
    - ``transductive``: folds over the units of the pretraining animals.

    Raises
    ------
    SplitError
        If the protocol needs animals that the splits do not have, or an animal that must be new
        was in pretraining.
    """
    animal, member = (units[column].to_numpy(object) for column in ("animal", splits.of))
    known = labels != ""
    if protocol == "inductive_zero_shot":
        new = {*splits.test, *splits.label}
        learned = splits.label or (pretraining if splits.published else [])
        if not splits.test or not learned:
            raise SplitError(
                "probe.protocols: inductive_zero_shot needs split.test_animals and "
                "split.label_animals above 0"
            )
        if seen := sorted(new & set(pretraining)):
            raise SplitError(f"{splits.of} {seen[0]} was in pretraining and cannot be used as a new one")
        yield (
            np.flatnonzero(known & np.isin(member, learned)),
            np.flatnonzero(known & np.isin(member, splits.test)),
        )
        return
    mine = known & np.isin(member, pretraining)
    if protocol == "transductive_zero_shot":
        if len(set(animal[np.isin(member, pretraining)])) < 2:
            raise SplitError(
                "probe.protocols: transductive_zero_shot needs two animals or more in pretraining"
            )
        for left_out in dict.fromkeys(animal[mine]):
            test = np.flatnonzero(mine & (animal == left_out))
            yield np.flatnonzero(mine & (animal != left_out)), test
        return
    rows = np.flatnonzero(mine)
    _, counts = np.unique(labels[rows], return_counts=True)
    # A class with fewer units than folds is in the training part of some folds only.
    splitter = StratifiedKFold(max(2, min(n_folds, counts.max())), shuffle=True, random_state=0)
    for train, test in splitter.split(rows, labels[rows]):
        yield rows[train], rows[test]


def predict(
    features: np.ndarray, labels: np.ndarray, parts: Iterator[tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """Fit the linear probe on each fold's training units and predict its test units.

    A unit without features (it was never active) counts: it is predicted as the most frequent
    training class, since leaving it out would flatter the representation.

    Returns
    -------
    DataFrame
        ``row``, ``fold``, ``label``, ``predicted``: one row a tested unit.

    Raises
    ------
    DataError
        If a fold has nothing to learn from.
    """
    tables = []
    for fold, (train, test) in enumerate(parts):
        usable = train[~np.isnan(features[train]).any(axis=1)]
        classes, counts = np.unique(labels[usable], return_counts=True)
        if len(classes) < 2:
            raise DataError(
                f"probe: the units to learn from have {len(classes)} class(es) "
                f"({', '.join(classes) or 'no label'}); "
                "a probe needs two. Look at probe.tasks and the label animals"
            )
        probe = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=1.0, class_weight="balanced", solver="newton-cg", max_iter=1000),
        ).fit(features[usable], labels[usable])
        predicted = np.full(len(test), classes[counts.argmax()], object)
        active = ~np.isnan(features[test]).any(axis=1)
        if active.any():
            predicted[active] = probe.predict(features[test[active]])
        tables.append(
            pd.DataFrame({"row": test, "fold": fold, "label": labels[test], "predicted": predicted})
        )
    return pd.concat(tables, ignore_index=True)


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Macro-F1 and balanced accuracy over the classes that occur among the labels."""
    classes = sorted(predictions["label"].unique())
    truth, predicted = predictions["label"], predictions["predicted"]
    return {
        "macro_f1": float(f1_score(truth, predicted, labels=classes, average="macro", zero_division=0)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
    }


def chance(labels: np.ndarray) -> float:
    """Macro-F1 of guessing every class equally often, in expectation of many units.

    For K classes with shares p: precision is p, recall 1 / K, so F1 is 2p / (Kp + 1).
    """
    _, counts = np.unique(labels, return_counts=True)
    shares = counts / counts.sum()
    return float(np.mean(2 * shares / (len(shares) * shares + 1)))


def probe_all(
    path: Path, splits: Splits, animals: int, seed: int, options: Probe, folder: Path
) -> pd.DataFrame:
    """Probe one representation in every task and protocol.

    Writes ``{task}.{protocol}.parquet`` to ``folder``, all or none. A protocol that needs more
    animals than the run had is left out.

    Parameters
    ----------
    path
        embeddings.parquet of a run or a baseline.
    splits
        Who is tested.
    animals, seed
        Name the pretraining animals. What was not pretrained is probed on the same ones.
    options
        Tasks, protocols and folds.
    folder
        Where the predictions go.

    Returns
    -------
    DataFrame
        ``task, protocol, units, macro_f1, balanced_accuracy``.

    Raises
    ------
    DataError, SplitError
        If labels are missing, or an animal is where it must not be.
    """
    units, features, record = read_embeddings(path)
    # What could not be had counts as asked for: runs of one size stay one point of the curve.
    trained_on = [*record.get(f"{splits.of}s", []), *record.get("left_out", [])]
    pretraining = splits.pretraining(animals, seed)
    if trained_on and sorted(trained_on) != sorted(pretraining):
        raise SplitError(
            f"{path}: the model was pretrained on {len(trained_on)} other {splits.of}s than splits.json "
            f"gives for {animals} animals, seed {seed}; pretrain it again"
        )
    source = {
        "representation": record.get("baseline") or ("nuclr" if trained_on else "untrained"),
        "animals": animals if trained_on else 0,
        "split": splits.note,
        "seed": record.get("seed", 0),
        "embeddings": sha256_of(path),
        "model": record.get("model", ""),
        "config": {**record.get("config", {}), "probe": options.model_dump(mode="json")},
        "versions": versions(),
    }
    rows = []
    with whole_folder(folder) as partial:
        for task, protocol in product(options.tasks, options.protocols):
            if protocol == "transductive_zero_shot" and len(pretraining) < 2:
                logger.info("%s: %s needs two animals: left out", path, protocol)
                continue
            labels = class_labels(units, task)
            parts = folds(protocol, units, labels, splits, pretraining, options.folds)
            predictions = predict(features, labels, parts)
            identity = units[["unit_id", "population", "animal"]].iloc[predictions.pop("row")]
            predictions = pd.concat([identity.reset_index(drop=True), predictions], axis=1)
            write_recorded(
                partial / f"{task.name}.{protocol}.parquet",
                pa.Table.from_pandas(predictions, preserve_index=False),
                {**source, "task": task.name, "protocol": protocol},
            )
            rows.append(
                {
                    "task": task.name,
                    "protocol": protocol,
                    "units": len(predictions),
                    **scores(predictions),
                }
            )
    return pd.DataFrame(rows)


def read_predictions(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a tested unit's predictions, one row each, and the record of what they come from.

    Raises
    ------
    DataError
        If the file is not there or not whole.
    """
    table, record = read_recorded(path, "probe")
    return table.to_pandas(), record
