"""Helpers for messages: counts with plurals, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def counted(number: int, what: str, several: str = "") -> str:
    """Return a number with its noun in singular or plural; ``several`` is an irregular plural.

    >>> counted(1, "animal"), counted(0, "process"), counted(12_000, "unit")
    ('1 animal', '0 processes', '12000 units')
    """
    if several:
        return f"{number} {what if number == 1 else several}"
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number} {what}{ending}"


def share_of(number: int, of: int, what: str, one: str = "is", several: str = "are") -> str:
    """Return a number of a total, with its verb in singular or plural.

    >>> share_of(1, 14, "cluster"), share_of(2, 14, "unit", "fires", "fire")
    ('1 of 14 clusters is', '2 of 14 units fire')
    """
    return f"{number} of {counted(of, what)} {one if number == 1 else several}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and the number of others.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], 1)
    ('a, b', 'a and 2 more')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def did_you_mean(name: object, known: Iterable[object], otherwise: str = "") -> str:
    """Return "did you mean X?" for the most similar known name, or ``otherwise`` if none is similar.

    >>> did_you_mean("brain_regions", ["brain_region", "cell_type"])
    'did you mean brain_region?'
    """
    near = difflib.get_close_matches(str(name), list(map(str, known)), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else otherwise
