"""Suite2p's output: dF/F as documented, cells alone, and a dictionary of which nothing is run."""

from __future__ import annotations

import contextlib
import logging
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, maximum_filter1d, minimum_filter1d

from nuclr.config import Chunk, Reading
from nuclr.data.access.pickled import KNOWN, read_dictionary
from nuclr.data.formats.suite2p import read_suite2p, recording_of
from nuclr.data.own import find, open_found
from nuclr.data.population import Population
from nuclr.errors import DataError
from nuclr.files import sha256_of

CELLS = np.array([0, 1, 1, 0, 1], float)
OPS = {"fs": 10.0, "nplanes": 1, "neucoeff": 0.7, "meanImg": np.ones((4, 4))}


def raw(rois: int = 5, frames: int = 900, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fluorescence and neuropil that drift, ``(ROI, frame)``."""
    rng = np.random.default_rng(seed)
    drift = 20 * np.sin(np.arange(frames) / 200)
    return (
        (400 + drift + 10 * rng.standard_normal((rois, frames))).astype(np.float32),
        (300 + drift + 5 * rng.standard_normal((rois, frames))).astype(np.float32),
    )


def write_plane(folder: Path, ops: Any = OPS, seed: int = 0, frames: int = 900) -> Path:
    """Write a plane of five ROIs, of which three are cells; ``ops`` None leaves the dictionary out."""
    folder.mkdir(parents=True)
    fluorescence, neuropil = raw(frames=frames, seed=seed)
    np.save(folder / "F.npy", fluorescence)
    np.save(folder / "Fneu.npy", neuropil)
    np.save(folder / "spks.npy", np.zeros_like(fluorescence))
    np.save(folder / "iscell.npy", np.stack([CELLS, 1 - CELLS / 2], axis=1))
    if ops is not None:
        np.save(folder / "ops.npy", ops, allow_pickle=True)
    return folder


def read(path: Path, planes: str = "together", **imaging: Any) -> list[Population]:
    options = Reading.model_validate({"imaging": imaging, "nwb": {"planes": planes}})
    return list(open_found(find([path]), options, Chunk()))


def documented(share: float, rate_hz: float = 10.0) -> np.ndarray:
    """Compute ``dF/F = (C - B(C)) / B(F)`` of the cells, as the documentation of ``Correction`` says it."""
    fluorescence, neuropil = (traces[CELLS == 1].astype(float) for traces in raw())

    def baseline(traces: np.ndarray) -> np.ndarray:
        window = int(60 * rate_hz)
        smooth = gaussian_filter(traces, [0.0, 10.0])
        return maximum_filter1d(minimum_filter1d(smooth, window), window)

    corrected = fluorescence - share * neuropil
    return (corrected - baseline(corrected)) / baseline(fluorescence)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_dff_is_that_of_the_documented_formula(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_plane(tmp_path / "day1" / "suite2p" / "plane0")
    (only,) = read(tmp_path / "day1")
    assert only.population == "day1/plane0"
    assert only.units["unit_id"].tolist() == ["day1_plane0_1", "day1_plane0_2", "day1_plane0_4"]
    assert only.bin_s == 0.1
    assert only.valid_minutes == pytest.approx(1.5)
    np.testing.assert_allclose(only.activity, documented(0.7), atol=1e-6)
    assert "3 of 5 ROIs are cells" in caplog.text
    assert "dF/F is computed from F - 0.7 Fneu" in caplog.text


def test_the_session_that_suite2p_left(tmp_path: Path) -> None:
    """As in the wild: one plane, of whose twelve ROIs eight are cells."""
    plane = write_plane(tmp_path / "suite2p_session" / "suite2p" / "plane0")
    fluorescence, neuropil = raw(12, 600)
    cells = np.array([0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1], float)
    for name, values in (("F", fluorescence), ("Fneu", neuropil), ("iscell", np.stack([cells, cells], 1))):
        np.save(plane / f"{name}.npy", values)
    (only,) = read(tmp_path)
    assert only.activity.shape == (8, 600)
    assert only.units["unit_id"][0] == "suite2p_session_plane0_1"
    assert np.abs(np.median(only.activity, axis=1)).max() < 0.2


def test_the_share_of_neuropil_is_that_of_the_key_or_of_suite2p(tmp_path: Path) -> None:
    plane = write_plane(tmp_path / "plane0", {**OPS, "neucoeff": np.float32(0.5)})
    np.testing.assert_allclose(read(plane)[0].activity, documented(0.5), atol=1e-6)
    np.testing.assert_allclose(read(plane, neuropil_share=0.25)[0].activity, documented(0.25), atol=1e-6)
    as_it_is = read(plane, dff=False)[0].activity
    np.testing.assert_allclose(as_it_is, raw()[0][CELLS == 1], rtol=1e-6)


def test_all_rois_are_kept_where_that_is_wanted_or_nobody_judged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plane = write_plane(tmp_path / "plane0")
    assert len(read(plane, keep_all=True)[0].units) == 5
    (plane / "iscell.npy").unlink()
    assert len(read(plane)[0].units) == 5
    assert "iscell.npy: file not found; all 5 ROIs are kept" in caplog.text


def test_planes_are_one_population_or_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "day1" / "suite2p"
    for plane in (0, 2, 10):
        write_plane(folder / f"plane{plane}", seed=plane, frames=900 - (plane > 2))
    write_plane(folder / "combined")
    (folder / "plane11").mkdir()
    (together,) = read(tmp_path / "day1")
    assert together.population == "day1/planes"
    assert together.activity.shape == (9, 899)
    assert [name.split("_")[1] for name in together.units["unit_id"]][::3] == ["plane0", "plane2", "plane10"]
    assert "combined, which contains the same planes, is not" in caplog.text
    apart = read(tmp_path / "day1", planes="apart")
    assert [population.population for population in apart] == ["day1/plane0", "day1/plane2", "day1/plane10"]
    np.testing.assert_allclose(together.activity[:3, :400], apart[0].activity[:, :400], atol=1e-6)
    (alone,) = read(folder / "plane2")
    assert alone.units["unit_id"].tolist() == apart[1].units["unit_id"].tolist()
    hashes = {sha256_of(folder, own.files) for own in read_suite2p(folder)}
    np.save(folder / "plane10" / "iscell.npy", np.ones((5, 2)))
    assert {sha256_of(folder, own.files) for own in read_suite2p(folder)} != hashes


def test_newer_versions_write_settings(tmp_path: Path) -> None:
    plane = write_plane(tmp_path / "day1" / "suite2p" / "plane0", None)
    np.save(plane / "db.npy", {"nplanes": 1, "data_path": [tmp_path]}, allow_pickle=True)
    settings = {"fs": 10.0, "extraction": {"neuropil_coefficient": 0.5}, "date_proc": datetime.now(UTC)}
    np.save(plane.parent / "settings.npy", settings, allow_pickle=True)
    np.testing.assert_allclose(read(tmp_path)[0].activity, documented(0.5), atol=1e-6)
    np.save(plane / "settings.npy", {**settings, "fs": 20}, allow_pickle=True)
    assert read(tmp_path)[0].bin_s == 0.05


def test_the_rate_may_come_from_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plane = write_plane(tmp_path / "plane0", None)
    with pytest.raises(DataError, match=r"ops\.npy: the frame rate is unknown .*set imaging\.rate_hz"):
        read(plane)
    (only,) = read(plane, rate_hz=10.0)
    np.testing.assert_allclose(only.activity, documented(0.7), atol=1e-6)
    assert "share of neuropil is unknown; 0.7 is used" in caplog.text


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_numbers_of_every_kind_are_read(tmp_path: Path, protocol: int) -> None:
    ops = {
        "fs": np.float32(7.5),
        "count": np.int64(3),
        "big": np.array(2.5, ">f8"),
        "one": np.array([4.0]),
        "image": np.zeros((30, 30)),
        "list": [1, 2],
        "flag": np.True_,
        "word": "a",
        "date_proc": datetime.now(UTC).astimezone(),
        "path": tmp_path,
        "inside": {"neuropil_coefficient": np.float64(0.3)},
        3: 4,
    }
    with (tmp_path / "ops.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickle.dumps(np.array(ops, object), protocol))
    assert read_dictionary(tmp_path / "ops.npy") == {
        "fs": 7.5,
        "count": 3,
        "big": 2.5,
        "one": 4.0,
        "flag": True,
        "word": "a",
        "inside": {"neuropil_coefficient": 0.3},
    }


class Harmful:
    """Runs a function when it is unpickled."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.given


@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, wrapped: bool) -> None:
    harmful = Harmful(open, str(tmp_path / "ran"), "w")
    plane = write_plane(tmp_path / "plane0", {"fs": 10.0, "x": harmful} if wrapped else harmful)
    with pytest.raises(DataError, match=r"refers to \w+\.open, which is not allowed\); set imaging\.rate_hz"):
        read(plane)
    assert not (tmp_path / "ran").exists()
    # With the keys, what it holds does not matter.
    (only,) = read(plane, rate_hz=10.0, neuropil_share=0.7)
    np.testing.assert_allclose(only.activity, documented(0.7), atol=1e-6)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "named",
    [
        (b"numpy", b"load"),
        (b"numpy", b"fromfile"),
        (b"builtins", b"eval"),
        (b"numpy.core.multiarray", b"fromfile"),
        (b"numpy._core.multiarray", b"_reconstruct.__globals__"),
    ],
)
def test_a_name_that_is_not_known_ends_the_reading(tmp_path: Path, named: tuple[bytes, bytes]) -> None:
    module, name = named
    path = tmp_path / "ops.npy"
    np.save(path, np.array({}, object), allow_pickle=True)
    header = path.read_bytes()[:128]
    path.write_bytes(header + b"\x80\x04c" + module + b"\n" + name + b"\n.")
    with pytest.raises(ValueError, match="which is not allowed"):
        read_dictionary(path)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_what_stands_for_a_name_cannot_be_changed(tmp_path: Path, name: tuple[str, str]) -> None:
    before = dict(vars(KNOWN[name]))
    named = "\n".join(name).encode() + b"\n"
    path = tmp_path / "ops.npy"
    np.save(path, np.array({}, object), allow_pickle=True)
    # The opcode BUILD, with attributes to set.
    path.write_bytes(path.read_bytes()[:128] + b"\x80\x04c" + named + b"N}\x8c\x01xK\x01s\x86b.")
    with pytest.raises(ValueError, match=r"damaged|no dictionary"):
        read_dictionary(path)
    assert dict(vars(KNOWN[name])) == before


@given(content=st.binary(max_size=60), place=st.integers(0, 400), cut=st.integers(0, 400))
def test_a_damaged_dictionary_is_said(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "ops.npy"
    np.save(path, np.array({"fs": np.float64(3.0)}, object), allow_pickle=True)
    whole = path.read_bytes()
    path.write_bytes((whole[:place] + content + whole[place + len(content) :])[: max(cut, 1)])
    with contextlib.suppress(ValueError):
        assert isinstance(read_dictionary(path), dict)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("Fneu.npy", np.ones((5, 3)), r"Fneu\.npy: does not have the shape \(5, 900\)"),
        ("iscell.npy", np.ones((4, 2)), r"iscell\.npy: 4 rows, but F\.npy has 5 ROIs"),
        ("iscell.npy", np.zeros((5, 2)), r"no ROI is classified as a cell; set imaging\.keep_all"),
        ("F.npy", np.ones(5), r"F\.npy: not a two-dimensional array of numbers"),
        ("F.npy", np.ones((5, 1)), "has fewer than two frames"),
        ("ops.npy", np.ones(3), r"it contains no dictionary\); set imaging\.rate_hz"),
        ("ops.npy", np.array({"fs": 0.0}, object), r"frame rate is unknown .*set imaging\.rate_hz"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, values: np.ndarray, said: str) -> None:
    plane = write_plane(tmp_path / "plane0")
    np.save(plane / name, values, allow_pickle=True)
    with pytest.raises(DataError, match=said):
        read(plane)


def test_names_of_folders(tmp_path: Path) -> None:
    names = {
        "day1/suite2p": "day1",
        "day1/suite2p/plane0": "day1_plane0",
        "day1/suite2p/combined": "day1_combined",
        "day1": "day1",
    }
    for folder, name in names.items():
        assert recording_of(tmp_path / folder) == name
