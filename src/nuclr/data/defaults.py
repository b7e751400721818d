"""Choice of test animals, tasks and protocols by the recordings, where the configuration leaves them null.

All choices are reported, so that it is clear what was tested on what.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from nuclr.config import TRANSDUCTIVE, Config, Probe, Protocol, Split, Task
from nuclr.data.recording import Recording, distinct
from nuclr.data.splits import Splits, make_splits
from nuclr.data.text import count_values, names_class
from nuclr.errors import SplitError
from nuclr.words import counted

if TYPE_CHECKING:
    import pandas as pd

# With fewer animals there are no separate test animals; each animal is left out in turn.
FEWEST_TO_SET_APART = 8
MOST_TESTED, MOST_LABELLED = 32, 16


def completed(
    config: Config, recordings: Sequence[Recording], labels: Sequence[str]
) -> tuple[Config, list[str]]:
    """Return the configuration with the split, the tasks and the protocols filled in where they are null.

    Parameters
    ----------
    config
        The configuration; keys that are not null are kept.
    recordings
        All recordings of the data set.
    labels
        Columns that are probed if the labels of the recordings are unknown.

    Returns
    -------
    config
        Without null in ``split``, ``probe.tasks`` and ``probe.protocols``.
    said
        The choices, one line each.

    Raises
    ------
    SplitError
        If there is only one animal, and the configuration does not choose a protocol for it.
    """
    said = []
    animals = {recording.animal for recording in recordings}
    labelled = labelled_animals(recordings) or animals
    tasks = config.probe.tasks
    if tasks is not None:
        made, why_split = _split(config.split, len(labelled), bool(tasks))
    else:
        candidates, why = tasks_of(recordings, labels, config.probe.min_units)
        made, why_split = _split(config.split, len(labelled), bool(candidates))
        tasks = _that_can_be_tested(candidates, recordings, config.model_copy(update={"split": made}))
        passed_over = [task.name for task in candidates if task not in tasks]
        if passed_over:
            why += f"; too few units of a class in an animal: {', '.join(passed_over)}"
            made, why_split = _split(config.split, len(labelled), bool(tasks))
        said.append(f"probe.tasks: {', '.join(task.name for task in tasks) or 'none'} ({why})")
    if made != config.split:
        numbers = f"test_animals: {made.test_animals}, label_animals: {made.label_animals}"
        said.append(f"split: {numbers} ({why_split})")
    protocols = config.probe.protocols
    if protocols is None:
        if len(animals) == 1 and tasks:
            raise SplitError(
                f"there is only one animal ({next(iter(animals))}), so no other animal can be tested. Use "
                "`nuclr pretrain` and `nuclr embed` to compute its embeddings and `nuclr predict` with a "
                "probe "
                "of other animals, or set probe.protocols: [transductive] to test some units by the others"
            )
        apart = sets_apart(made)
        protocols = _protocols(apart)
        if tasks:
            first = "animals that were never seen" if apart else "each animal left out in turn"
            said.append(f"probe.protocols: {', '.join(protocols)} ({first}; other units of the same animals)")
    probe = config.probe.model_copy(update={"tasks": tasks, "protocols": protocols})
    return config.model_copy(update={"split": made, "probe": probe}), said


def sets_apart(split: Split) -> bool:
    """Return whether a split has separate animals, not in pretraining, for labels and for testing."""
    return split.by == "paper" or bool(split.test_animals and split.label_animals)


def _that_can_be_tested(tasks: Sequence[Task], recordings: Sequence[Recording], config: Config) -> list[Task]:
    """Return the tasks that can be tested with the smallest number of animals with which any task can be."""
    animals = [recording.animal for recording in recordings]
    split = config.split
    tested, labelled = split.test_animals or 0, split.label_animals or 0
    known = any(recording.labels for recording in recordings)
    if not known or split.by == "paper" or tested + labelled >= len(set(animals)) or len(set(animals)) < 2:
        return list(tasks)
    splits = make_splits(animals, tested, labelled, split.seed, labelled=labelled_animals(recordings))
    for count in splits.counts:
        if can := [task for task in tasks if can_be_tested(task, recordings, splits, count, config)]:
            return can
    return []


def can_be_tested(
    task: Task, recordings: Sequence[Recording], splits: Splits, animals: int, config: Config
) -> bool:
    """Return whether runs with this number of animals have enough labels for the protocols, for every seed.

    The conditions are those of :func:`nuclr.evaluation.protocols.folds`: each class has ``probe.min_units``
    units among those that the run is probed on, and each test animal has two of these classes.
    """
    protocols = config.probe.protocols or _protocols(sets_apart(config.split))
    units = _units_of_classes(task, recordings)
    for seed, protocol in product(range(config.scaling.seeds), protocols):
        needed = TRANSDUCTIVE.get(protocol, 0)
        if animals < needed:
            continue
        total: Counter[str] = Counter()
        for animal in splits.probed(animals, seed):
            total.update(units[animal])
        kept = [name for name, count in total.items() if count >= config.probe.min_units]
        tested = splits.panel(animals, seed) if needed else splits.test
        can = [name for name in tested if sum(units[name][own] > 1 for own in kept) > 1]
        if len(can) < max(needed, 1):
            return False
    return True


def _units_of_classes(task: Task, recordings: Sequence[Recording]) -> dict[str, Counter[str]]:
    """Return the number of units in each class of a task, by animal."""
    found: dict[str, Counter[str]] = {}
    for recording in recordings:
        own = found.setdefault(recording.animal, Counter())
        for value, count in recording.labels.get(task.column, {}).items():
            for name in _classes([value], task):
                own[name] += count
    return found


def labelled_animals(recordings: Sequence[Recording]) -> set[str]:
    """Return the animals with two classes in every column that can be probed, or else in any such column.

    The result is empty if no labels are known. It does not depend on the chosen tasks, so that the choice of
    test animals does not depend on them either.
    """
    each = [_units_of_classes(task, recordings) for task in tasks_of(recordings)[0]]
    of_tasks = [{animal for animal, own in units.items() if len(own) > 1} for units in each]
    return set.intersection(*of_tasks) or set.union(*of_tasks) if of_tasks else set()


def _classes(values: Iterable[str], task: Task) -> set[str]:
    """Return the classes of a task to which some values belong."""
    if task.classes is not None:
        return {name for name, members in task.classes.items() if not set(members).isdisjoint(values)}
    return set(filter(names_class, values))


def _split(split: Split, animals: int, probed: bool) -> tuple[Split, str]:
    """Return the split with its numbers of test and label animals, and the reason; keep a published split."""
    if split.by == "paper":
        return split, ""
    few = animals < FEWEST_TO_SET_APART
    tested = 0 if few or not probed else min(MOST_TESTED, max(3, animals // 4))
    labelled = 0 if few or not probed else min(MOST_LABELLED, max(2, animals // 4))
    chosen = {"test_animals": tested, "label_animals": labelled}
    unset = {key: value for key, value in chosen.items() if getattr(split, key) is None}
    why = f"of {counted(animals, 'animal')} with labels" if probed else f"of {counted(animals, 'animal')}"
    if not probed:
        why += ": nothing to test"
    elif few:
        why += f": with fewer than {FEWEST_TO_SET_APART} none is set apart"
    return split.model_copy(update=unset), why


def _protocols(apart: bool) -> list[Protocol]:
    return ["inductive_zero_shot", "transductive"] if apart else ["transductive_zero_shot", "transductive"]


def tasks_of(
    recordings: Sequence[Recording], otherwise: Sequence[str] = (), least: int = 10
) -> tuple[list[Task], str]:
    """Return the columns that can be probed: at least two classes, each in two animals and with enough units.

    Parameters
    ----------
    recordings
        Recordings with their labels.
    otherwise
        Columns that are used if no recording has known labels.
    least
        Smallest number of units in a class (``probe.min_units``).

    Returns
    -------
    tasks
        Tasks, brain regions first.
    why
        The reason for the choice.
    """
    if not any(recording.labels for recording in recordings):
        why = "what this data set has" if otherwise else "no column of labels in the recordings"
        return [Task(name=name, column=name) for name in otherwise], why
    alone = len({recording.animal for recording in recordings}) == 1
    columns = list(dict.fromkeys(column for recording in recordings for column in recording.labels))
    chosen = []
    for column in columns:
        units = _units_of_classes(Task(name="task", column=column), recordings)
        total = sum(units.values(), Counter())
        animals = Counter(name for own in units.values() for name in own)
        kept = {name for name, count in total.items() if count >= least and (alone or animals[name] > 1)}
        if sum(len(kept & own.keys()) > 1 for own in units.values()) > (0 if alone else 1):
            chosen.append(column)
    passed_over = [column for column in columns if column not in chosen]
    why = f"columns with two classes of {least} units or more in several animals"
    if passed_over:
        why += f"; not {', '.join(passed_over)}"
    chosen.sort(key=lambda column: column != "brain_region")
    names = distinct([re.sub(r"[^A-Za-z0-9_-]+", "-", column).strip("-_") or "labels" for column in chosen])
    return [Task(name=name, column=column) for name, column in zip(names, chosen, strict=True)], why


def completed_probe(options: Probe, units: pd.DataFrame, apart: bool) -> Probe:
    """Return probe options with tasks and protocols filled in from a table of units, outside the workflow."""
    tasks, protocols = options.tasks, options.protocols
    if tasks is None:
        by_animal = [
            Recording(Path(), "", str(animal), labels=count_values(own))
            for animal, own in units.groupby("animal")
        ]
        tasks, _ = tasks_of(by_animal, least=options.min_units)
    return options.model_copy(update={"tasks": tasks, "protocols": protocols or _protocols(apart)})
