"""Lists of the public data sets' sessions."""

from __future__ import annotations

import csv
from importlib.resources import files


def manifest(dataset: str) -> list[dict[str, str]]:
    """Return the rows of a data set's manifest; the README of this folder explains the columns."""
    text = (files(__name__) / f"{dataset}.tsv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))
