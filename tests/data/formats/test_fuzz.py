"""Whatever a file holds, looking at it ends in a table or in one line that says what is wrong."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import h5py
import numpy as np
import pytest
from damaged import (
    arrays,
    edited,
    flipped,
    npy_bytes,
    nwb_files,
    rois_tree,
    units_tree,
    write_hdf5,
    zarr_files,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sorted_folders import write_phy, write_spikeinterface, write_spikeinterface_zarr
from strategies import poisson_trains

from nuclr.cli.report import inspect
from nuclr.config import Chunk, Reading
from nuclr.data.chunk import to_population
from nuclr.data.inputs import in_memory
from nuclr.data.own import find, open_found
from nuclr.data.population import Population
from nuclr.data.text import read_table
from nuclr.errors import DataError, NuclrError

# More, and other ones each time: NUCLR_FUZZ=5000.
MANY = int(os.environ.get("NUCLR_FUZZ", "0"))


def fuzz(examples: int) -> settings:
    return settings(
        max_examples=MANY or examples,
        derandomize=not MANY,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


class _Strict(logging.Handler):
    """What is said must be one line that any terminal can show."""

    def emit(self, record: logging.LogRecord) -> None:
        check_line(record.getMessage())


def check_line(text: str) -> None:
    text.encode()
    assert "\n" not in text


@contextmanager
def everything_checked() -> Iterator[None]:
    handler, logger = _Strict(), logging.getLogger("nuclr")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with (
            redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")),
            warnings.catch_warnings(),
            dask.config.set(scheduler="synchronous"),
        ):
            warnings.simplefilter("error", RuntimeWarning)
            yield
            sys.stdout.flush()
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def outcome(path: Path) -> str:
    """Look at a recording as `nuclr inspect`, and read it as `nuclr embed` does; what was wrong, or ""."""
    opened: list[Population] = []

    def remembered(*given: Any, **named: Any) -> Population:
        opened.append(to_population(*given, **named))
        return opened[-1]

    with everything_checked():
        try:
            with mock.patch("nuclr.data.own.to_population", remembered):
                inspect(f"{path}")
            for population in opened:
                check(population)
        except NuclrError as error:
            check_line(str(error))
            return str(error)
    return ""


def check(population: Population) -> None:
    """Make sure that numbers are such as a recording can have."""
    assert 0 <= population.valid_minutes < 60 * 24 * 30
    assert population.activity.nbytes < 2**28
    assert np.isfinite(population.start_s)
    assert np.isfinite(population.bin_s)
    assert np.isfinite(np.asarray(in_memory(population).activity)).all()


@pytest.mark.parametrize("tree", [units_tree, rois_tree])
def test_what_is_whole_is_read(folder: Path, tree: Callable[[], Any]) -> None:
    assert outcome(write_hdf5(folder / "whole.nwb", *tree())) == ""


@given(drawn=nwb_files())
@fuzz(500)
def test_nwb_of_any_content(folder: Path, drawn: Any) -> None:
    outcome(write_hdf5(folder / "any.nwb", *drawn))


@given(data=st.data(), tree=st.sampled_from([units_tree, rois_tree]))
@fuzz(150)
def test_nwb_of_damaged_bytes(folder: Path, data: st.DataObject, tree: Callable[[], Any]) -> None:
    path = write_hdf5(folder / "bytes.nwb", *tree())
    path.write_bytes(data.draw(flipped(path.read_bytes())))
    outcome(path)


def whole_folder(path: Path) -> dict[str, bytes]:
    """Give what is in each file of a folder."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def put(path: Path, files: dict[str, bytes | None]) -> Path:
    """Make a folder anew."""
    shutil.rmtree(path, ignore_errors=True)
    for name, content in files.items():
        if content is not None:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    path.mkdir(exist_ok=True)
    return path


def as_npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


TRAINS = [np.round(train * 30000) / 30000 for train in poisson_trains(4, 10.0)]


@pytest.fixture(scope="module")
def phy(folder: Path) -> dict[str, bytes]:
    files = whole_folder(write_phy(folder / "phy-whole", TRAINS, ["good", "noise", "", "mua"]))
    return {**files, "cluster_KSLabel.tsv": b"cluster_id\tKSLabel\n10\tgood\n12\tmua\n"}


ARRAYS = ["spike_times.npy", "spike_clusters.npy", "spike_templates.npy"]
TABLES = ["cluster_group.tsv", "cluster_group.csv", "cluster_info.tsv", "cluster_KSLabel.tsv"]
PARAMS = [
    b"", b"sample_rate = 30000.\n", b"sample_rate = 1e400", b"sample_rate = 0", b"sample_rate = 1e-300",
    b"sample_rate = 1e300", b"sample_rate = 3_0000", b"sample_rate = nan", b"sample_rate = 1_",
    b"\xff\xfe\x00s", b"sample_rate = 2e4\r\n", b"sample_rate = \xd9\xa1", b"sample_rate=30000.0#x",
]  # fmt: skip
CELLS = [
    "10", "12", "1e999", "nan", "-1", "", "good", "noise", "x" * 200_000, "\0", '"', '"a\nb"', "[/red]",
    "\x1b",
]  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Draw a table of any cells, or any bytes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=80))
    separator = draw(st.sampled_from(["\t", ",", ";", " "]))
    names = st.sampled_from(["cluster_id", "id", "group", "KSLabel", "quality", *CELLS])
    rows = [draw(st.lists(names, max_size=4)), *draw(st.lists(st.lists(st.sampled_from(CELLS), max_size=4)))]
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(map(separator.join, rows))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))


@st.composite
def phy_folders(draw: st.DrawFn, whole: dict[str, bytes]) -> dict[str, bytes | None]:
    """Draw a folder of which up to three files are missing or hold anything."""
    files: dict[str, bytes | None] = {**whole}
    for name in draw(st.lists(st.sampled_from([*ARRAYS, *TABLES, "params.py"]), min_size=1, max_size=3)):
        how = draw(st.integers(0, 5))
        if how == 0:
            files[name] = None
        elif name.endswith(".npy"):
            before = np.load(io.BytesIO(whole.get(name, whole["spike_clusters.npy"])))
            files[name] = as_npy(draw(arrays(before))) if how < 4 else draw(npy_bytes(whole.get(name, b"")))
        else:
            files[name] = draw(st.sampled_from(PARAMS)) if name == "params.py" else draw(tables())
    return files


@given(data=st.data())
@fuzz(500)
def test_phy_folders_of_any_content(folder: Path, phy: dict[str, bytes], data: st.DataObject) -> None:
    outcome(put(folder / "phy-any", data.draw(phy_folders(phy))))


def alf_files() -> dict[str, bytes]:
    """Give the files of a sorting in ALF."""
    times, clusters = np.arange(240) / 24, np.arange(240) % 4
    return {
        "spikes.times.npy": as_npy(times),
        "spikes.clusters.npy": as_npy(clusters),
        "clusters.depths.npy": as_npy(np.arange(4.0)),
        "clusters.brainLocationIds_ccf_2017.npy": as_npy(np.arange(4)),
    }


def suite2p_files() -> dict[str, bytes]:
    """Give the files of a plane of Suite2p's."""
    traces = np.random.default_rng(0).uniform(1, 2, (4, 200)).astype(np.float32)
    return {
        "F.npy": as_npy(traces),
        "Fneu.npy": as_npy(traces),
        "iscell.npy": as_npy(np.ones((4, 2))),
        "ops.npy": as_npy(np.array({"fs": 10.0}, object)),
    }


@given(drawn=npy_bytes(as_npy(np.arange(240))), data=st.data(), form=st.integers(0, 2))
@fuzz(500)
def test_npy_files_of_any_header(
    folder: Path, phy: dict[str, bytes], drawn: bytes, data: st.DataObject, form: int
) -> None:
    whole = ({name: phy[name] for name in (*ARRAYS[:2], "params.py")}, alf_files(), suite2p_files())[form]
    name = data.draw(st.sampled_from(sorted(whole)))
    outcome(put(folder / f"npy-any{form}", {**whole, name: drawn}))


def test_what_is_whole_in_other_forms_is_read(folder: Path) -> None:
    assert outcome(put(folder / "alf", {**alf_files()})) == ""
    assert outcome(put(folder / "plane0", {**suite2p_files()})) == ""


@pytest.fixture(scope="module")
def zarrs(folder: Path) -> list[dict[str, bytes]]:
    return [
        zarr_files(folder / f"whole{place}.nwb.zarr", *tree())
        for place, tree in enumerate((units_tree, rois_tree))
    ]


def test_what_is_whole_in_zarr_is_read(folder: Path, zarrs: list[dict[str, bytes]]) -> None:
    assert [
        outcome(put(folder / f"read{place}.nwb.zarr", {**files})) for place, files in enumerate(zarrs)
    ] == [
        "",
        "",
    ]


@given(data=st.data(), which=st.integers(0, 1))
@fuzz(40)
def test_zarr_of_any_metadata(
    folder: Path, zarrs: list[dict[str, bytes]], data: st.DataObject, which: int
) -> None:
    changed = data.draw(edited(zarrs[which]))
    outcome(put(folder / "any.nwb.zarr", {**zarrs[which], **changed}))


@pytest.fixture(scope="module")
def sortings(folder: Path) -> list[dict[str, bytes]]:
    quality = ["good", "noise", "", "mua"]
    return [
        whole_folder(write_spikeinterface(folder / "si", TRAINS, quality)),
        whole_folder(write_spikeinterface_zarr(folder / "si.zarr", TRAINS, quality)),
    ]


@given(data=st.data(), which=st.integers(0, 1))
@fuzz(150)
def test_saved_sortings_of_any_content(
    folder: Path, sortings: list[dict[str, bytes]], data: st.DataObject, which: int
) -> None:
    whole = sortings[which]
    changed = data.draw(edited(whole))
    name = "spikes.npy" if which == 0 else ""
    if name and data.draw(st.booleans()):
        spikes = np.load(io.BytesIO(whole[name])).copy()
        field = data.draw(st.sampled_from(spikes.dtype.names))
        own = np.asarray(data.draw(arrays(spikes[field])))
        if own.shape == spikes.shape:
            kinds = [(each, own.dtype if each == field else "<i8") for each in spikes.dtype.names]
            other = np.zeros(len(spikes), kinds)
            for each in spikes.dtype.names:
                other[each] = own if each == field else spikes[each]
            spikes = other
        changed[name] = as_npy(spikes)
    outcome(put(folder / f"any-sorting{which}{'.zarr' if which else ''}", {**whole, **changed}))


@given(content=tables())
@fuzz(300)
def test_tables_of_any_bytes(folder: Path, content: bytes) -> None:
    path = folder / "labels.csv"
    path.write_bytes(content)
    try:
        columns = read_table(path, "labels.csv")
    except DataError as error:
        check_line(str(error))
        return
    assert columns
    assert len({len(column) for column in columns.values()}) == 1


TIMES, SERIES = "units/spike_times", "processing/ophys/DfOverF/dff"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # Without what says otherwise, the session would be as long as its latest spike.
        ({TIMES: [1e300], "units/obs_intervals": None}, "times must be in seconds"),
        (
            {TIMES: 1.7e18 + np.arange(240), "units/obs_intervals": None},
            r"the session is from 0 to 1\.7e\+18 s",
        ),
        ({"units/obs_intervals": np.full((4, 2), 1e308)}, r"unit 0: .* is beyond 1e\+11 s"),
        ({f"{TIMES}_index": np.array([60, 120, 180, 2**64 - 1], np.uint64)}, "is larger than any row number"),
        ({f"{TIMES}_index": np.array([60, 120, 180.5, 240])}, "180.5 is not an integer"),
        ({"units/electrodes": np.array([0, 1, np.nan, 3])}, "nan is not an integer"),
        ({"units/kind_elements": np.arange(2)}, "column kind .* has no names for its numbers"),
        (
            {TIMES: np.zeros(240) + 5.0, "units/obs_intervals": None, "intervals/": None},
            "less than one bin of 0.02 s",
        ),
    ],
)
def test_what_would_be_read_wrongly_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    tree, attributes = units_tree()
    for place, value in changes.items():
        if value is None:
            tree = {name: own for name, own in tree.items() if not name.startswith(place)}
            continue
        tree[place] = np.asarray(value)
        if len(tree[place]) == 1:
            tree[place] = np.concatenate([np.linspace(0, 1, 239), tree[place]])
    assert re.search(said, outcome(write_hdf5(folder / "wrong.nwb", tree, attributes)))


@pytest.mark.parametrize("rate", [1e-300, 1e300, True, 0.0])
def test_frames_of_no_camera_are_refused(folder: Path, rate: float) -> None:
    tree, attributes = rois_tree()
    attributes[f"{SERIES}/starting_time", "rate"] = rate
    assert "set imaging.rate_hz to the frame rate" in outcome(
        write_hdf5(folder / "rate.nwb", tree, attributes)
    )


def test_a_shape_that_was_never_written_is_not_read_for_ever(folder: Path) -> None:
    tree, attributes = units_tree()
    path = write_hdf5(folder / "endless.nwb", tree, attributes)
    with h5py.File(path, "a") as file:
        del file[TIMES]
        file.create_dataset(TIMES, (2**50,), "f8", chunks=(2**10,))
    assert "bytes cannot contain an array of shape (1125899906842624,)" in outcome(path)


def test_a_message_is_one_line_that_a_terminal_can_show() -> None:
    assert str(DataError("a\nb\x1b[31m \udcff \u202e é Δ")) == r"a b\x1b[31m \udcff \u202e é Δ"


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64, np.float16])
def test_spike_times_of_small_numbers_are_counted(folder: Path, kind: type) -> None:
    """The end of the session is beyond the largest number of 8 bits, and became 0 in them."""
    samples = np.array([0, 10, 20, 255] if kind is np.uint8 else [0, 10, 20, 2000], kind)
    path = folder / f"small-{kind.__name__}"
    files = {"spike_times.npy": as_npy(samples), "spike_clusters.npy": as_npy(np.array([0, 1, 0, 1]))}
    put(path, {**files, "params.py": b"sample_rate = 10."})
    (population,) = open_found(find([path]), Reading(), Chunk())
    assert np.asarray(population.activity).sum(axis=1).tolist() == [2, 2]


@pytest.mark.parametrize(
    "codecs",
    [
        {"filters": [{"id": "delta", "dtype": "<f8"}, {"id": "pickle"}]},
        {"dtype": "|O", "fill_value": "", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}]},
        {"compressor": {"id": "pickle"}},
    ],
)
def test_an_array_that_is_pickled_in_any_way_is_passed_over(
    folder: Path, zarrs: list[dict[str, bytes]], codecs: dict[str, Any]
) -> None:
    described = json.loads(zarrs[0]["units/spike_times/.zarray"])
    changed = json.dumps({**described, **codecs}).encode()
    said = outcome(put(folder / "pickled.nwb.zarr", {**zarrs[0], "units/spike_times/.zarray": changed}))
    assert "have no spike_times" in said


def test_links_that_lead_to_each_other_end(folder: Path, zarrs: list[dict[str, bytes]]) -> None:
    links = [{"name": "units", "path": "/other", "source": "."}, {"name": "other", "path": "/units"}]
    root = {**json.loads(zarrs[1][".zattrs"]), "zarr_link": links}
    said = outcome(put(folder / "loop.nwb.zarr", {**zarrs[1], ".zattrs": json.dumps(root).encode()}))
    assert "more than 16 links that lead to links" in said
