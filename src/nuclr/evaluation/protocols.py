"""Protocols: which units a probe is trained, validated and tested on, from the unit table and splits.json.

Source: NuCLR (arXiv 2512.01199), section 4.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nuclr.config import Task
from nuclr.data.splits import Splits
from nuclr.data.text import as_text, is_no_region, without_unknown
from nuclr.errors import DataError, SplitError
from nuclr.words import counted

logger = logging.getLogger(__name__)
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Fold:
    """Rows of the unit table for training, validation and test of one probe.

    Attributes
    ----------
    train, validation
        Rows whose labels may be used; validation rows are for choices, such as early stopping.
    test
        Rows whose labels must not reach the probe.
    stopping
        Training rows for early stopping when the validation rows measure the score, because no row may serve
        both purposes.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    stopping: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def learned(self) -> np.ndarray:
        """Training and validation rows, ascending."""
        return np.sort(np.concatenate([self.train, self.validation]))


def class_labels(units: pd.DataFrame, task: Task, min_units: int = 1) -> np.ndarray:
    """Return the class of each unit in a task, ``(unit,)`` of str; the empty string for units without one.

    Classes with fewer than ``min_units`` units are dropped with a warning.

    Raises
    ------
    DataError
        If the unit table lacks the task's column, or no unit has a class.
    """
    if task.column not in units:
        raise DataError(
            f"probe.tasks: the unit table has no column {task.column}; it has {', '.join(units.columns)}. "
            "If the recordings have this column, add it to nwb.unit_columns"
        )
    column = as_text(units[task.column]) if task.classes is not None else without_unknown(units[task.column])
    if task.classes is not None:
        class_of = {value: name for name, members in task.classes.items() for value in members}
        labels = np.array([class_of.get(value, "") for value in column], object)
    else:
        nowhere = is_no_region(column)
        if nowhere.any():
            logger.info(
                "%s: %s not in a brain region (%s) and left out; to keep them, list them in the classes of "
                "the task",
                task.name,
                counted(int(nowhere.sum()), "unit is", "units are"),
                ", ".join(f"{name} {count}" for name, count in column[nowhere].value_counts().items()),
            )
        labels = column.mask(nowhere, "").to_numpy(object)
    if not (labels != "").any():
        raise DataError(
            f"probe.tasks: {task.name}: no unit has a class; check the column {task.column} and the task's "
            "classes"
        )
    names, counts = np.unique(labels[labels != ""].astype(str), return_counts=True)
    few = {name: count for name, count in zip(names, counts, strict=True) if count < min_units}
    if few:
        logger.warning(
            "%s: classes with fewer than %d units (probe.min_units) are dropped: %s",
            task.name,
            min_units,
            ", ".join(f"{name} {count}" for name, count in few.items()),
        )
        labels = np.where(np.isin(labels, list(few)), "", labels)
    return labels


def folds(
    protocol: str,
    units: pd.DataFrame,
    labels: np.ndarray,
    splits: Splits,
    pretraining: Sequence[str],
    n_folds: int,
) -> Iterator[Fold]:
    """Yield the folds of a protocol, each checked by :func:`check_fold`.

    - ``inductive_zero_shot``: train on the label animals, test on the test animals. Neither
      was in pretraining. A published split without label animals trains on the pretraining animals.
    - ``transductive_zero_shot``: leave one of the pretraining animals out at a time.
    - ``transductive``: cross-validation over the units of the pretraining animals.

    In the zero-shot protocols, the units of one in five training animals (at least one) are for validation,
    or none if there is only one training animal; in the transductive protocol one in five training units.

    Parameters
    ----------
    protocol
        One of the protocols above.
    units
        Unit table with ``animal`` and ``recording``, one row per unit.
    labels
        Classes from :func:`class_labels`.
    splits
        The test, label and pretraining animals.
    pretraining
        Animals (or recordings, in a published split) that the representation was pretrained on; in the
        transductive protocols, those that are tested.
    n_folds
        Number of folds in the transductive protocol.

    Raises
    ------
    SplitError
        If the protocol needs animals that the splits do not have, or a test or label animal was in
        pretraining.
    """
    for learned, test in _parts(protocol, units, labels, splits, pretraining, n_folds):
        train, validation = _validation(protocol, units, labels, learned)
        _, stopping = _validation(protocol, units, labels, train)
        fold = Fold(train, validation, test, stopping)
        check_fold(fold, protocol, units, splits, pretraining)
        yield fold


def _parts(
    protocol: str,
    units: pd.DataFrame,
    labels: np.ndarray,
    splits: Splits,
    pretraining: Sequence[str],
    n_folds: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (training and validation, test) rows; see :func:`folds`."""
    animal, member = (units[column].to_numpy(object) for column in ("animal", splits.member))
    known = labels != ""
    if protocol == "inductive_zero_shot":
        learned = splits.label or (pretraining if splits.published else [])
        if not splits.test or not learned:
            raise SplitError(
                "probe.protocols: inductive_zero_shot needs test and label animals; raise "
                "split.test_animals and split.label_animals above 0"
            )
        if seen := sorted({*splits.test, *splits.label} & set(pretraining)):
            raise SplitError(
                f"probe: {splits.member} {seen[0]} was in pretraining, so inductive_zero_shot cannot use it; "
                "split and pretrain again"
            )
        of_learned, of_tested = (known & np.isin(member, group) for group in (learned, splits.test))
        yield np.flatnonzero(of_learned), np.flatnonzero(of_tested)
        return
    mine = known & np.isin(member, pretraining)
    if protocol == "transductive_zero_shot":
        if len(set(animal[np.isin(member, pretraining)])) < 2:
            raise SplitError(
                "probe.protocols: transductive_zero_shot needs at least two pretraining animals; raise the "
                "smallest of scaling.animal_counts"
            )
        for left_out in dict.fromkeys(animal[mine]):
            yield np.flatnonzero(mine & (animal != left_out)), np.flatnonzero(mine & (animal == left_out))
        return
    rows = np.flatnonzero(mine)
    if not len(rows) or np.unique(labels[rows].astype(str), return_counts=True)[1].max() < 2:
        return
    for train, test in _stratified(labels[rows], n_folds, seed=0):
        yield rows[train], rows[test]


def can_be_probed(parts: Sequence[Fold], labels: np.ndarray) -> bool:
    """Return whether there are folds, and each has at least two classes in training."""
    return bool(parts) and all(len(set(labels[fold.learned])) > 1 for fold in parts)


def _stratified(labels: np.ndarray, n_folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold  # imported here, because class_labels needs none

    _, counts = np.unique(labels.astype(str), return_counts=True)
    # A class with fewer units than folds is missing from the test part of some folds.
    splitter = StratifiedKFold(max(2, min(n_folds, counts.max())), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        yield from splitter.split(labels, labels.astype(str))


def _validation(
    protocol: str, units: pd.DataFrame, labels: np.ndarray, learned: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into training and validation rows."""
    if protocol == "transductive":
        counts = np.unique(labels[learned].astype(str), return_counts=True)[1]
        if not len(counts) or counts.max() < 2:
            return learned, learned[:0]
        # The seed differs from that of the test folds.
        train, validation = next(_stratified(labels[learned], round(1 / VALIDATION_SHARE), seed=1))
        return learned[train], learned[validation]
    animal = units["animal"].to_numpy(object)[learned]
    names = sorted(set(animal))
    if len(names) < 2:
        return learned, learned[:0]
    drawn = np.random.default_rng(0).permutation(len(names))[: max(1, round(VALIDATION_SHARE * len(names)))]
    held = np.isin(animal, [names[i] for i in drawn])
    return learned[~held], learned[held]


def check_fold(
    fold: Fold, protocol: str, units: pd.DataFrame, splits: Splits, pretraining: Sequence[str]
) -> None:
    """Check that no test unit leaks into training.

    No unit is in two parts of the fold. In the zero-shot protocols, no label of a test animal reaches the
    probe; in the inductive one, no test animal was in pretraining. A published split may separate recordings
    instead of animals.

    Raises
    ------
    SplitError
        If a unit, animal or recording is in two parts; the message names it.
    """
    rows = np.concatenate([fold.learned, fold.test])
    if len(np.unique(rows)) != len(rows):
        twice = rows[np.flatnonzero(np.bincount(rows)[rows] > 1)[0]]
        raise SplitError(
            f"{protocol}: unit {units['unit_id'].iloc[twice]} is both in training and in test; split again"
        )
    if protocol == "transductive":
        return
    column = splits.member if protocol == "inductive_zero_shot" else "animal"
    tested = set(units[column].iloc[fold.test])
    if both := sorted(tested & set(units[column].iloc[fold.learned])):
        raise SplitError(
            f"{protocol}: the probe would learn from labels of test {column} {both[0]}; split again"
        )
    if protocol == "inductive_zero_shot" and (both := sorted(tested & set(pretraining))):
        raise SplitError(f"{protocol}: test {column} {both[0]} was in pretraining; split and pretrain again")


def label_order(rows: np.ndarray, labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the rows of each class in random order; shares from the start of each list are nested."""
    rng = np.random.default_rng(seed)
    own = labels[rows].astype(str)
    return [rng.permutation(rows[own == name]) for name in np.unique(own)]


def label_share(order: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Return the first share of the rows of each class, at least one row each, ascending."""
    return np.sort(np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in order]))
