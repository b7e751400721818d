"""Scores as tables: what the probes folders of runs and baselines hold, one by one and gathered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nuclr.errors import DataError
from nuclr.files import whole
from nuclr.representation.embeddings import write_csv

SCORES, CLASSES = "scores.csv", "classes.csv"


def main_scores(folder: Path) -> list[dict[str, Any]]:
    """Scores of the main probe of every task and protocol in a probes folder, a row each.

    Raises
    ------
    DataError
        If the folder holds no scores.
    """
    (table,) = _tables([folder], SCORES)
    main = table[(table["label_share"] == 1) & ~table["shuffled"].astype(bool)]
    first = main.drop_duplicates(["task", "protocol"])
    return [{str(name): value for name, value in row.items()} for row in first.to_dict("records")]


def gather_scores(folders: Sequence[Path], output: Path) -> pd.DataFrame:
    """Gather the scores of many probes folders in one tidy table, ``output`` (parquet) and a csv beside it.

    What the scores of single classes are goes to ``{output's stem}.classes.csv``.

    Raises
    ------
    DataError
        If a folder holds no scores.
    """
    scores, classes = (pd.concat(_tables(folders, name), ignore_index=True) for name in (SCORES, CLASSES))
    with whole(output) as partial:
        scores.to_parquet(partial, index=False)
    write_csv(output.with_suffix(".csv"), scores)
    write_csv(output.with_suffix(".classes.csv"), classes)
    return scores


def _tables(folders: Sequence[Path], name: str) -> Iterator[pd.DataFrame]:
    for folder in folders:
        try:
            # A class may be called NA.
            yield pd.read_csv(folder / name, keep_default_na=False, na_values=[""])
        except (OSError, pd.errors.ParserError) as error:
            raise DataError(
                f"{folder / name}: cannot be read ({error}); make it again with `nuclr probe`"
            ) from None
