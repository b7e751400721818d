"""Splits: which animals are used for pretraining, for labels and for testing.

No animal is in two groups, and the animals of a smaller run are among those of a larger one. In a published
split of recordings, the same holds for recordings; its note states how many animals are shared between
groups.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nuclr.errors import SplitError
from nuclr.files import write_json

# Fixed, so that requesting more seeds does not change splits.json.
ORDERS = 32
# What is divided into groups; also the column of the unit table that names it.
Member = Literal["animal", "recording"]


@dataclass(frozen=True)
class Splits:
    """The groups of animals of a data set, or of recordings in a published split.

    Attributes
    ----------
    test
        Test animals, from which nothing is learned.
    label
        Label animals, whose labels a probe may learn; they are never in pretraining.
    orders
        For each seed, an order of all other animals; a run of n animals uses the first n. A published
        split has one order for all seeds.
    member
        Whether the names are those of animals or of recordings.
    published
        Pretraining sets of a published split as (animals, recordings): each set consists of that many
        recordings from the beginning of the order. Empty for other splits.
    note
        A remark on the split for readers of the results.
    recordings
        Names of each member's recordings, which are the folder names of their stores; empty if they are
        unknown.
    """

    test: list[str]
    label: list[str]
    orders: list[list[str]]
    member: Member = "animal"
    published: tuple[tuple[int, int], ...] = ()
    note: str = ""
    recordings: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.member not in ("animal", "recording"):
            raise SplitError(
                f"splits: member is {self.member}, but must be animal or recording; make splits.json again"
            )
        groups = [*self.test, *self.label, *(self.orders[0] if self.orders else [])]
        if len(set(groups)) != len(groups):
            twice = next(animal for animal in groups if groups.count(animal) > 1)
            raise SplitError(f"splits: {self.member} {twice} is in two groups; make splits.json again")
        if any(sorted(order) != sorted(self.orders[0]) for order in self.orders):
            raise SplitError(f"splits: the orders contain different {self.member}s; make splits.json again")
        for name in (name for names in self.recordings.values() for name in names):
            if Path(name).name != name or name in ("", ".", ".."):
                raise SplitError(
                    f"splits: recording {name} is not a valid folder name; make splits.json again"
                )

    @property
    def sets_apart(self) -> bool:
        """Whether there are separate animals, not in pretraining, for labels and for testing."""
        return bool(self.test) and bool(self.label or self.published)

    @property
    def counts(self) -> list[int]:
        """Default numbers of animals of the runs: the published ones, or 1, 2, 4, ... and all."""
        most = len(self.orders[0])
        doubled = [2**i for i in range(most.bit_length()) if 2**i < most]
        return [animals for animals, _ in self.published] or [*doubled, most]

    def pretraining(self, animals: int, seed: int) -> list[str]:
        """Return the members that a run with a number of animals and a seed is pretrained on.

        Raises
        ------
        SplitError
            If there are fewer animals, no such seed, or no such published set.
        """
        if self.published:
            sizes = {0: 0, **dict(self.published)}
            if animals not in sizes:
                raise SplitError(
                    f"scaling.animal_counts: {animals} is not a published number of animals; use "
                    f"{', '.join(str(known) for known, _ in self.published)}"
                )
            return self.orders[0][: sizes[animals]]
        if not 0 <= seed < len(self.orders):
            raise SplitError(f"splits: no order for seed {seed}; use seeds 0 to {len(self.orders) - 1}")
        order = self.orders[seed]
        if animals > len(order):
            raise SplitError(
                f"scaling.animal_counts: {animals} animals requested, but only {len(order)} are left for "
                f"pretraining without the {len(self.test)} test and {len(self.label)} label animals"
            )
        return order[:animals]

    def panel(self, animals: int, seed: int) -> list[str]:
        """Return the members in pretraining of all runs of a seed with at least this number of animals.

        In a published split, this is the smallest set with at least this number of animals.

        Raises
        ------
        SplitError
            Like :meth:`pretraining`.
        """
        if self.published:
            animals = min((size for size, _ in self.published if size >= animals), default=animals)
        return self.pretraining(animals, seed)

    def first(self, seed: int) -> list[str]:
        """Return three members that define the bin width of an untrained encoder; some may be left out."""
        return self.orders[min(seed, len(self.orders) - 1)][:3]

    def probed(self, animals: int, seed: int) -> list[str]:
        """Return the members that a run is probed on: those in its pretraining, label and test members."""
        return [*self.pretraining(animals, seed), *self.label, *self.test]

    def folders(self, roots: Sequence[Path], members: Sequence[str]) -> list[Path]:
        """Return the folders below ``roots`` with the stores of some members.

        A command can thus be given one folder with ten thousand recordings, and opens only those that it
        needs. If the recordings are unknown, or none is found (another layout of folders), the roots are
        returned.

        Raises
        ------
        SplitError
            If a recording of these members is in none of the roots, although others are.
        """
        names = [name for member in members for name in self.recordings.get(member, ())]
        every = (name for group in self.recordings.values() for name in group)
        if not any((root / name).is_dir() for root in roots for name in every):
            return list(roots)
        found: list[Path] = []
        for name in names:
            own = [root / name for root in roots if (root / name).is_dir()]
            if not own:
                whose = next(member for member in members if name in self.recordings.get(member, ()))
                raise SplitError(
                    f"recording {name} of {self.member} {whose} is not in {', '.join(map(str, roots))}; "
                    "chunk it with `nuclr chunk`, or leave it out with split.leave_out"
                )
            found += own
        return found


def make_splits(
    animals: Sequence[str], test: int, label: int, seed: int, labelled: Collection[str] | None = None
) -> Splits:
    """Draw test and label animals at random, independently of the order of ``animals``.

    Animals without labels cannot be used for labels or for testing, so the animals in ``labelled``, if given,
    are drawn first.

    Raises
    ------
    SplitError
        If no animal would be left for pretraining.
    """
    names = sorted(set(animals))
    if test + label >= len(names):
        raise SplitError(
            f"split: {test} test and {label} label animals leave none of {len(names)} for pretraining; "
            "lower split.test_animals or split.label_animals"
        )
    drawn = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    if labelled:
        drawn.sort(key=lambda animal: animal not in labelled)
    rest = sorted(drawn[test + label :])
    orders = [
        [rest[i] for i in np.random.default_rng([seed, s]).permutation(len(rest))] for s in range(ORDERS)
    ]
    if labelled:
        # The transductive protocols test the first animals of an order.
        orders = [sorted(order, key=lambda animal: animal not in labelled) for order in orders]
    return Splits(test=sorted(drawn[:test]), label=sorted(drawn[test : test + label]), orders=orders)


def published_splits(recordings: Sequence[tuple[str, str, str]]) -> Splits:
    """Return the splits of a published split of recordings: nested pretraining sets, and a test set.

    Parameters
    ----------
    recordings
        Name, animal and group of each recording, in the order of the pretraining sets. The group of test
        recordings is ``test``; recordings with the group "" are ignored.
    """
    test = [(name, animal) for name, animal, group in recordings if group == "test"]
    order = [(name, animal, group) for name, animal, group in recordings if group not in ("test", "")]
    ends = [i + 1 for i, row in enumerate(order) if i + 1 == len(order) or order[i + 1][2] != row[2]]
    tested, trained = {animal for _, animal in test}, {animal for _, animal, _ in order}
    return Splits(
        test=[name for name, _ in test],
        label=[],
        orders=[[name for name, _, _ in order]],
        member="recording",
        published=tuple((len({animal for _, animal, _ in order[:end]}), end) for end in ends),
        note=f"published split: {len(tested & trained)} of {len(tested)} test animals "
        "are also in pretraining",
    )


def write_splits(path: Path, splits: Splits) -> None:
    """Write ``splits.json``."""
    write_json(path, asdict(splits))


def read_splits(path: Path) -> Splits:
    """Read ``splits.json`` and check it.

    Raises
    ------
    SplitError
        If the file is damaged, or an animal is in two groups.
    """
    try:
        content = Splits(**_with_member(json.loads(path.read_text())))
        return replace(content, published=tuple((int(a), int(r)) for a, r in content.published))
    except (OSError, ValueError, TypeError) as error:
        raise SplitError(f"{path}: cannot be read ({error}); write it again with `nuclr split`") from None


def _with_member(content: object) -> dict[str, Any]:
    """Return the content with the key ``member``, which was called ``of`` in earlier versions."""
    if not isinstance(content, dict):
        raise TypeError("not an object")
    return {"member" if key == "of" else key: value for key, value in content.items()}
