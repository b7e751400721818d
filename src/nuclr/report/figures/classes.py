"""The order and the colours of classes: the same class has the same colour in all figures of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

SHOWN_CLASSES = 10
# Muted colours of Paul Tol, ordered so that successive colours also differ in lightness.
COLOURS = (
    *("#332288", "#DDCC77", "#88CCEE", "#882255", "#44AA99"),
    *("#CC6677", "#117733", "#AA4499", "#999933", "#661100"),
)
UNKNOWN = "#9AA0A6"


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
