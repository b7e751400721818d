"""What the units of a recording are, by all probes of a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nuclr.evaluation.answers.along_probe import depths_of
from nuclr.evaluation.answers.saved_probe import SavedProbe
from nuclr.representation.embeddings import Embeddings, who
from nuclr.words import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """What one probe says.

    Attributes
    ----------
    probe
        The probe.
    table
        A row a unit: ``predicted``, ``probability``, ``why_not``, ``one_of``, ``typical``, ``p_{class}`` (see
        :meth:`nuclr.evaluation.answers.saved_probe.SavedProbe.predict`); where depths are known and
        neighbours help also ``along_probe`` and ``along_probe_probability``.
    boundaries
        Where along the probe one class ends and the next begins; None without these.
    """

    probe: SavedProbe
    table: pd.DataFrame
    boundaries: pd.DataFrame | None


@dataclass(frozen=True)
class Identified:
    """What the units of a recording are.

    Attributes
    ----------
    embeddings
        Of its units.
    answers
        By what the probes tell, as ``brain_region``.
    sure
        How often an answer was to be right.
    depth
        Column with depths (um).
    warnings
        What is to be known of the recording and of the answers.
    """

    embeddings: Embeddings
    answers: Mapping[str, Answers]
    sure: float
    depth: str
    warnings: tuple[str, ...]

    @property
    def units(self) -> pd.DataFrame:
        """A row a unit: what the recording says of it, and ``{task}_predicted``, ``{task}_probability``, ...

        The columns of each probe are those of :attr:`Answers.table`, after its task's name.
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
    """Say what units are.

    Parameters
    ----------
    embeddings
        Of the units, by the model of the probes.
    probes
        By what they tell.
    warnings
        What was said so far, and will be (:func:`warnings_kept`).
    sure
        How often an answer shall be right.
    coverage
        How often the set of classes shall hold the true one; None: 0.9, or what the probe's animals promise.
    depth
        Column with depths on the probe (um).

    Raises
    ------
    ModelError
        If a probe is of another model.
    """
    embeddings = replace(embeddings, units=embeddings.units.reset_index(drop=True))
    units = embeddings.units
    deep = depth in units and bool((~np.isnan(depths_of(units, depth))).any())
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
    return Identified(embeddings, answers, sure, depth, tuple(dict.fromkeys(warnings)))


class _Keeper(logging.Handler):
    """Keeps warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _said_once() -> Iterator[None]:
    """Let what several probes say of a recording be said once while the block lasts."""
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
    """Keep what is warned of while the block lasts, besides showing it."""
    keeper, package = _Keeper(), logging.getLogger("nuclr")
    package.addHandler(keeper)
    try:
        yield keeper.said
    finally:
        package.removeHandler(keeper)


def summary(found: Identified) -> list[str]:
    """Say in words what was found, a sentence for each probe."""
    lines = []
    for task, answers in found.answers.items():
        given = answers.table["predicted"]
        counts = given[given != ""].value_counts()
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        of_all = f"{counts.sum()} of {counted(len(given), 'unit')} answered"
        lines.append(f"{task.replace('_', ' ')}: {of_all}{f' ({listed})' if listed else ''}")
    return lines
