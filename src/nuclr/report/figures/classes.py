"""The order and the colours of classes: the same class has the same colour in all figures of a data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

SHOWN_CLASSES = 10
# Muted colours of Paul Tol, ordered so that successive colours also differ in lightness.
COLOURS = (
    *("#332288", "#DDCC77", "#88CCEE", "#882255", "#44AA99"),
    *("#CC6677", "#117733", "#AA4499", "#999933", "#661100"),
)
UNKNOWN = "#9AA0A6"
# Characters of a name beside a figure; the tables and the texts of marks have the whole names.
LONGEST_NAME = 24


def in_order(labels: pd.Series | np.ndarray) -> list[str]:
    """Return the classes of some units: the ten most frequent ones by name, then the others by frequency.

    Parameters
    ----------
    labels
        Class of each unit, ``(unit,)``; "" for units without one.
    """
    known = pd.Series(labels)
    counts = known[known != ""].value_counts()
    frequent = sorted(counts.index, key=lambda name: (-counts[name], name))
    return [*sorted(frequent[:SHOWN_CLASSES]), *frequent[SHOWN_CLASSES:]]


def colour_of(name: str, classes: Sequence[str]) -> str:
    """Return the colour of a class by its place in the order of classes; grey for any other text."""
    return COLOURS[classes.index(name) % len(COLOURS)] if name in classes else UNKNOWN


def shortened(names: Collection[str], most: int = LONGEST_NAME) -> list[str]:
    """Return names with at most ``most`` characters, which can be told apart if they differ in one place.

    A long name becomes its beginning and its end. If these are the same in several names, each of them begins
    a little before the first character in which they differ.
    """
    kept = most - 1
    short = {
        name: name if len(name) <= most else f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"
        for name in names
    }
    alike: dict[str, list[str]] = {}
    for name, own in short.items():
        alike.setdefault(own, []).append(name)
    for several in alike.values():
        if len(several) > 1:
            letters = enumerate(zip(*several, strict=False))
            differ = next((place for place, own in letters if len(set(own)) > 1), 0)
            first = max(0, differ - most // 3)
            short.update({name: f"…{name[first : first + kept]}" for name in several})
    return [short[name] for name in names]


def room_for(names: Sequence[str]) -> float:
    """Return the room (inches) that the longest of some names needs beside a figure, beyond a usual one."""
    return 0.055 * max(0, max(map(len, names), default=0) - 12)
