"""What the scaling analysis writes says which split it is of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nuclr.errors import DataError
from nuclr.evaluation.representations import write_recorded
from nuclr.report.scaling import write_scaling


def probed(folder: Path, animals: int, split: str) -> Path:
    """Write the probe of a run, as ``nuclr probe`` does."""
    label = np.tile(["x", "y"], 20)
    wrong = np.arange(40) % (2 + animals) == 0
    table = pd.DataFrame(
        {
            "animal": np.repeat(["a", "b"], 20),
            "population": np.repeat(["a/p", "b/p"], 20),
            "label": label,
            "predicted": np.where(wrong, "x", label),
        }
    )
    path = folder / f"n{animals}-s0" / "probes" / "kind.transductive.parquet"
    record = {"representation": "nuclr", "animals": animals, "seed": 0, "split": split}
    write_recorded(path, pa.Table.from_pandas(table, preserve_index=False), record)
    return path.parent


@pytest.mark.parametrize("split", ["", "published split: 1 of 2 test animals are also in pretraining"])
def test_a_published_split_is_said(tmp_path: Path, split: str) -> None:
    probes = [probed(tmp_path, animals, split) for animals in (1, 2, 4, 8)]
    write_scaling(probes, "kind", "transductive", tmp_path / "out", resamples=20)
    assert json.loads((tmp_path / "out.json").read_text())["split"] == split
    # Text in the svg is drawn; the writer of it leaves what it says in comments.
    assert ("published split" in (tmp_path / "out.svg").read_text()) == bool(split)


def test_probes_of_different_splits_are_refused(tmp_path: Path) -> None:
    probes = [probed(tmp_path, 1, ""), probed(tmp_path, 2, "published split")]
    with pytest.raises(DataError, match=r"some probes are of another split \(published split\)"):
        write_scaling(probes, "kind", "transductive", tmp_path / "out", resamples=20)
    assert not list(tmp_path.glob("out*"))
