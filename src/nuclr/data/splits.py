"""Who trains, who is labelled, who is tested. Always whole animals.

No animal is in two groups, and the animals of a smaller run are among those of a larger one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nuclr.errors import SplitError
from nuclr.files import write_json

# Fixed, so that asking for another seed leaves splits.json as it is.
ORDERS = 32


@dataclass(frozen=True)
class Splits:
    """The groups of animals of a data set.

    Attributes
    ----------
    test
        Nothing is ever learned from them.
    label
        A probe may learn their labels; they are never in pretraining.
    orders
        For each seed an order of all other animals; a run of n animals takes the first n.
    """

    test: list[str]
    label: list[str]
    orders: list[list[str]]

    def __post_init__(self) -> None:
        groups = [*self.test, *self.label, *(self.orders[0] if self.orders else [])]
        if len(set(groups)) != len(groups):
            twice = next(animal for animal in groups if groups.count(animal) > 1)
            raise SplitError(f"splits: animal {twice} is in two groups; make splits.json again")
        if any(sorted(order) != sorted(self.orders[0]) for order in self.orders):
            raise SplitError("splits: the orders are not of the same animals; make splits.json again")

    def pretraining(self, animals: int, seed: int) -> list[str]:
        """Animals that a run of the given number of animals and seed is pretrained on.

        Raises
        ------
        SplitError
            If there are not so many animals, or no such seed.
        """
        if not 0 <= seed < len(self.orders):
            raise SplitError(f"splits: seed {seed}: there are orders for seeds 0 to {len(self.orders) - 1}")
        order = self.orders[seed]
        if animals > len(order):
            raise SplitError(
                f"scaling.animal_counts: {animals} animals asked for, but only {len(order)} are left for "
                f"pretraining beside {len(self.test)} test and {len(self.label)} label animals"
            )
        return order[:animals]


def make_splits(animals: Sequence[str], test: int, label: int, seed: int) -> Splits:
    """Draw the groups: a pure function of its arguments, whatever the order of ``animals``.

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
    rest = sorted(drawn[test + label :])
    orders = [
        [rest[i] for i in np.random.default_rng([seed, s]).permutation(len(rest))] for s in range(ORDERS)
    ]
    return Splits(test=sorted(drawn[:test]), label=sorted(drawn[test : test + label]), orders=orders)


def write_splits(path: Path, splits: Splits) -> None:
    """Write ``splits.json``."""
    write_json(path, asdict(splits))


def read_splits(path: Path) -> Splits:
    """Read ``splits.json`` and check it.

    Raises
    ------
    SplitError
        If it is not whole, or an animal is in two groups.
    """
    try:
        return Splits(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SplitError(f"{path}: cannot be read ({error}); make it again with `nuclr split`") from None
