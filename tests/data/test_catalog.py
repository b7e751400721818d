"""The catalog tabulates every unit once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from strategies import population

from nuclr.data.catalog import catalog
from nuclr.data.population import Population
from nuclr.data.store import write_population
from nuclr.errors import DataError


def write(folder: Path, *made: Population) -> list[Path]:
    paths = [folder / f"{i}.zarr" for i in range(len(made))]
    for one, path in zip(made, paths, strict=True):
        write_population(one, path, chunk_s=5, shard_s=20)
    return paths


def test_no_store_at_all_is_said() -> None:
    with pytest.raises(DataError, match="no population stores found; run `nuclr chunk`"):
        catalog([])


def test_units_and_populations_are_counted(tmp_path: Path) -> None:
    one = population(units=3, bins=500, spans=[(0.0, 4.0), (6.0, 10.0)])
    two = population(units=5, bins=500, animal="rat", recording="other")
    units, populations = catalog(write(tmp_path, one, two))
    assert populations["units"].tolist() == [3, 5]
    assert populations["minutes"].tolist() == pytest.approx([8 / 60, 10 / 60])
    assert units["animal"].value_counts().to_dict() == {"mouse": 3, "rat": 5}
    activity = np.asarray(one.activity)
    inside = np.r_[0:200, 300:500]
    np.testing.assert_allclose(units["rate_hz"][:3], activity[:, inside].sum(1) / 8.0)


def test_a_unit_id_in_two_recordings_is_refused_by_name(tmp_path: Path) -> None:
    one = population(units=3, bins=100)
    with pytest.raises(DataError, match="unit_id mouse_session_0 occurs in recordings session and session"):
        catalog(write(tmp_path, one, one))
