"""Decode the units of a recording with all probes of a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from nuclr.data.text import without_unknown
from nuclr.evaluation.answers.along_probe import depths_of
from nuclr.evaluation.answers.saved_probe import UNANSWERED, SavedProbe, likeliest
from nuclr.representation.embeddings import Embeddings, who
from nuclr.sharing.seen_before import seen_before, trained
from nuclr.words import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """The answers of one probe.

    Attributes
    ----------
    probe
        The probe.
    table
        One row per unit: ``predicted``, ``probability``, ``why_not``, ``one_of``, ``typical``, ``p_{class}``
        (see :meth:`nuclr.evaluation.answers.saved_probe.SavedProbe.predict`); with known depths, and if
        neighbours help, also ``along_probe`` and ``along_probe_probability``.
    boundaries
        Boundaries between classes along the recording probe; None if neighbours are not used.
    """

    probe: SavedProbe
    table: pd.DataFrame
    boundaries: pd.DataFrame | None

    @property
    def has_probabilities(self) -> np.ndarray:
        """Which units have probabilities that can be used, with or without an answer, ``(unit,)``."""
        return self.table["why_not"].isin(["", *UNANSWERED]).to_numpy()

    @property
    def likeliest(self) -> np.ndarray:
        """The likeliest class of each unit, also without an answer; "" without probabilities, ``(unit,)``."""
        return likeliest(self.table, self.probe.classes)


@dataclass(frozen=True)
class Identified:
    """The decoded units of a recording.

    Attributes
    ----------
    embeddings
        Embeddings of the units.
    answers
        Answers by task, such as ``brain_region``.
    sure
        Accuracy that was requested of the answers.
    depth
        Column with depths (um).
    warnings
        Warnings about the recording and the answers.
    coverage
        Coverage that was requested of the prediction sets; None: the default.
    """

    embeddings: Embeddings
    answers: Mapping[str, Answers]
    sure: float
    depth: str
    warnings: tuple[str, ...]
    coverage: float | None = None

    @property
    def units(self) -> pd.DataFrame:
        """One row per unit: the recording's columns, ``{task}_predicted``, ``{task}_probability``, ...

        The columns of each probe are those of :attr:`Answers.table`, prefixed with its task.
        """
        table = self.embeddings.units.assign(windows=self.embeddings.windows)
        for task, answers in self.answers.items():
            table = table.join(answers.table.add_prefix(f"{task}_"))
        return table


def identify(
    embeddings: Embeddings,
    probes: Mapping[str, SavedProbe],
    warnings: Sequence[str] = (),
    *,
    sure: float = 0.8,
    coverage: float | None = None,
    depth: str = "depth_um",
) -> Identified:
    """Decode units with several probes.

    Parameters
    ----------
    embeddings
        Embeddings of the units, by the model of the probes.
    probes
        Probes by task.
    warnings
        List that collects warnings (:func:`warnings_kept`).
    sure
        Accuracy requested of the answers.
    coverage
        How often ``one_of`` shall contain the true class; None: 0.9, or what the probe's number of animals
        allows.
    depth
        Column with depths on the recording probe (um).

    Raises
    ------
    ModelError
        If a probe reads embeddings of another model.
    """
    embeddings = replace(embeddings, units=embeddings.units.reset_index(drop=True))
    units = embeddings.units
    deep = depth in units and bool((~np.isnan(depths_of(units, depth))).any())
    for sentence in seen_before(embeddings, probes):
        logger.warning("%s", sentence)
    answers = {}
    with _said_once():
        for task, probe in probes.items():
            table = probe.predict(embeddings, sure, coverage)
            table = table[[name for name in table if name not in who(table)]]
            boundaries = None
            if deep and probe.neighbours_help:
                smoothed, boundaries = probe.along_probe(embeddings, depth)
                table = table.join(smoothed.drop(columns="unit_id"))
            answers[task] = Answers(probe, table, boundaries)
            for sentence in probe.unkept(sure, coverage):
                logger.warning("%s: %s", task, sentence)
    return Identified(embeddings, answers, sure, depth, tuple(dict.fromkeys(warnings)), coverage)


class _Keeper(logging.Handler):
    """Handler that collects warnings in a list."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _said_once() -> Iterator[None]:
    """Log each warning about a recording once within the block, even if several probes give it."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in said
        said.add(message)
        return new

    predicting = logging.getLogger(SavedProbe.__module__)
    predicting.addFilter(is_new)
    try:
        yield
    finally:
        predicting.removeFilter(is_new)


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Collect the warnings that are logged within the block, besides showing them."""
    keeper, package = _Keeper(), logging.getLogger("nuclr")
    package.addHandler(keeper)
    try:
        yield keeper.said
    finally:
        package.removeHandler(keeper)


def summary(found: Identified) -> list[str]:
    """Return one line for each probe: how many units were answered, and with which classes."""
    lines = []
    for task, answers in found.answers.items():
        given = answers.table["predicted"]
        counts = given[given != ""].value_counts()
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        of_all = f"{counts.sum()} of {counted(len(given), 'unit')} answered"
        agreed = _agreed(found.embeddings, task, answers)
        lines.append(f"{task.replace('_', ' ')}: {of_all}{f' ({listed})' if listed else ''}{agreed}")
    return lines


class Agreement(NamedTuple):
    """How many answers, and how many likeliest classes, agree with the labels of a recording.

    Attributes
    ----------
    answers, agreeing_answers
        Number of answers for labelled units, and of those that agree.
    units, agreeing_units
        Number of labelled units with probabilities, and of those whose likeliest class agrees.
    most_frequent
        Number of units with the most frequent label.
    """

    answers: int
    agreeing_answers: int
    units: int
    agreeing_units: int
    most_frequent: int


def agreement(embeddings: Embeddings, task: str, answers: Answers) -> Agreement | None:
    """Compare the answers of a probe with the labels of the recording; None if it has no such labels."""
    if task not in embeddings.units:
        return None
    label = without_unknown(embeddings.units[task]).to_numpy(str)
    compared = np.isin(label, answers.probe.classes) & answers.has_probabilities
    if not compared.any():
        return None
    label, given = label[compared], answers.table["predicted"].to_numpy(str)[compared]
    return Agreement(
        answers=int((given != "").sum()),
        agreeing_answers=int((given == label).sum()),
        units=len(label),
        agreeing_units=int((answers.likeliest[compared] == label).sum()),
        most_frequent=int(np.unique(label, return_counts=True)[1].max()),
    )


def _agreed(embeddings: Embeddings, task: str, answers: Answers) -> str:
    """Return in words how many answers agree; if there are none, how many of the likeliest classes do."""
    found = agreement(embeddings, task, answers)
    if found is None:
        return ""
    no_test = " (not a test: such labels trained the probe)" if trained(answers.probe, embeddings) else ""
    if found.answers:
        agreed = f"{found.agreeing_answers} of {found.answers} agree"
        return f"; {agreed} with the label in the recording{no_test}"
    return (
        "; the likeliest classes, which are no answers, agree with the label in the recording for "
        f"{found.agreeing_units} of {found.units} units{no_test}, and the most frequent label would for "
        f"{found.most_frequent}"
    )
