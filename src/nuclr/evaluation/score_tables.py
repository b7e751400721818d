"""Read the score tables in the probes folders of runs and baselines, and combine them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nuclr.errors import DataError
from nuclr.evaluation.predictions import read_chosen
from nuclr.evaluation.scaling import Scored, scaling_table
from nuclr.files import whole
from nuclr.representation.embeddings import write_csv

SCORES, CLASSES = "scores.csv", "classes.csv"
# Columns of a score that the model card shows.
CARD = ["task", "protocol", "units", "test_animals", "macro_f1", "low", "high", "within_recordings", "chance"]


def card_scores(folder: Path) -> list[dict[str, Any]]:
    """Return the scores of each task and protocol in a probes folder, one row each, for the model card.

    The scores are those of the probe that held-out labels chose. If there were several probes, the name of
    the protocol is followed by the chosen probe and the score of the plain one.

    Raises
    ------
    DataError
        If the folder contains no scores.
    """
    (table,) = _tables([folder], SCORES)
    full = table[(table["label_share"] == 1) & ~table["shuffled"].astype(bool)]
    rows = []
    for plain in full.drop_duplicates(["task", "protocol"]).to_dict("records"):
        row = {str(name): plain[name] for name in CARD if name in plain}
        predictions, record = read_chosen(folder / f"{row['task']}.{row['protocol']}.parquet")
        run = Scored(plain["representation"], plain["animals"], plain["seed"], predictions)
        if run.chosen:
            (score,) = scaling_table([run], record["config"]["probe"]["bootstrap"])[1].to_dict("records")
            row |= {str(name): value for name, value in score.items() if name in CARD}
            row["protocol"] += f"; probe: {score['probes']} (plain: {score['plain_macro_f1']:.3f})"
        rows.append(row)
    return rows


def gather_scores(folders: Sequence[Path], output: Path) -> pd.DataFrame:
    """Combine the scores of several probes folders in one table: ``output`` (parquet) and a csv beside it.

    The scores of single classes are written to ``{output's stem}.classes.csv``.

    Raises
    ------
    DataError
        If a folder contains no scores.
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
            # A class may be named NA.
            yield pd.read_csv(folder / name, keep_default_na=False, na_values=[""])
        except (OSError, pd.errors.ParserError) as error:
            raise DataError(
                f"{folder / name}: cannot be read ({error}); make it again with `nuclr probe`"
            ) from None
