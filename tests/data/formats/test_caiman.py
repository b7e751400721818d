"""CaImAn's results in HDF5."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nuclr.config import Chunk, Reading
from nuclr.data.fluorescence import Correction
from nuclr.data.formats import format_of
from nuclr.data.own import find, open_found
from nuclr.data.population import Population
from nuclr.errors import DataError

RNG = np.random.default_rng(0)
DFF = RNG.random((6, 400))
DEMIXED = 100 + 20 * RNG.random((6, 400))
NONE = "NoneType"  # as CaImAn writes None


def write_caiman(path: Path, **changes: Any) -> Path:
    """Write what CaImAn saves of six components, of which two did not pass."""
    content = {"F_dff": DFF, "C": DEMIXED, "idx_components": np.array([0, 2, 3, 5]), "fr": 20.0} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["estimates/A/data"] = np.ones(3)
        for name, values in content.items():
            if values is not None:
                file[f"params/data/{name}" if name == "fr" else f"estimates/{name}"] = values
    return path


def read(path: Path, **imaging: Any) -> list[Population]:
    return list(open_found(find([path]), Reading.model_validate({"imaging": imaging}), Chunk()))


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_dff_of_the_components_that_passed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (only,) = read(write_caiman(tmp_path / "monday.hdf5"))
    assert only.units["unit_id"].tolist() == ["monday_0", "monday_2", "monday_3", "monday_5"]
    assert only.modality == "calcium"
    assert only.bin_s == 0.05
    np.testing.assert_allclose(only.activity, DFF[[0, 2, 3, 5]], rtol=1e-6)
    assert "4 of 6 ROIs are cells" in caplog.text
    (every,) = read(tmp_path / "monday.hdf5", keep_all=True, rate_hz=10.0)
    assert (len(every.units), every.bin_s) == (6, 0.1)


@pytest.mark.parametrize("passed", [NONE, None])
def test_components_that_nobody_evaluated_are_all_kept(
    tmp_path: Path, passed: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (only,) = read(write_caiman(tmp_path / "a.h5", idx_components=passed))
    assert len(only.units) == 6
    assert "no estimates/idx_components; all 6 components are kept" in caplog.text


@pytest.mark.parametrize("missing", [NONE, None])
def test_demixed_traces_do_where_there_is_no_dff(
    tmp_path: Path, missing: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_caiman(tmp_path / "a.hdf5", F_dff=missing)
    (only,) = read(path)
    made = Correction(0.05).dff(DEMIXED[[0, 2, 3, 5]], None)
    np.testing.assert_allclose(only.activity, made, atol=1e-6)
    assert "no F_dff" in caplog.text
    (as_it_is,) = read(path, dff=False)
    np.testing.assert_allclose(as_it_is.activity, DEMIXED[[0, 2, 3, 5]], rtol=1e-6)


def test_of_traces_without_a_baseline_no_dff_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    centred = np.maximum(DEMIXED - 115, 1e-9)
    (only,) = read(write_caiman(tmp_path / "a.hdf5", F_dff=None, C=centred))
    np.testing.assert_allclose(only.activity, centred[[0, 2, 3, 5]], rtol=1e-6)
    assert "C has no baseline to divide by; C is read as it is" in caplog.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fr": None}, r"no frame rate at params/data/fr; set imaging\.rate_hz"),
        ({"fr": 0.0}, r"no frame rate at params/data/fr; set imaging\.rate_hz"),
        ({"idx_components": np.zeros(0, int)}, r"no ROI is classified as a cell; set imaging\.keep_all"),
        ({"idx_components": np.array([6])}, "refers to components beyond the 6"),
        ({"F_dff": None, "C": NONE}, "neither estimates/F_dff nor estimates/C contains traces"),
        ({"F_dff": DFF[:5]}, r"F_dff has the shape \(5, 400\) but C \(6, 400\)"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(write_caiman(tmp_path / "a.hdf5", **changes))


def test_other_hdf5_is_not_caimans(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["estimates"] = np.ones(3)
    (tmp_path / "b.hdf5").write_bytes(b"no")
    assert format_of(tmp_path / "a.h5") is None
    assert format_of(tmp_path / "b.hdf5") is None


def test_a_file_called_like_any_other_is_named_after_its_folder(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        write_caiman(tmp_path / day / "analysis_results.hdf5")
    names = [population.recording for population in read(tmp_path)]
    assert names == ["monday_analysis_results", "tuesday_analysis_results"]
