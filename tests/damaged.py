"""Recordings with anything in them: small files of every form, and what may have happened to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from hypothesis import strategies as st

NAMES = [
    "", ".", "..", "/", "a/b", "../../up", "[/red]", "[bold]", "é", "\x1b[31m", "\n", "a\nb\r", "x" * 300,
    " ", "=1+1", "nan", "None", "\u202eabc", "{", '{"region": {"a": [1]}}', "{'region': 1e999}", "{[]: 1}",
    "{{}}", "region: x; region: y", "{" * 500, "-" + "9" * 5000, "unit_id", "id", "a_index", "activity",
]  # fmt: skip


# What stands before something else.
LEFT_OUT = [
    "obs_intervals", "units/electrodes", "electrode_group", "intervals/", "invalid_times", "starting_time",
    "DfOverF/", "Fluorescence/other", "waveform_mean", "iscell",
]  # fmt: skip


@dataclass(frozen=True)
class Ref:
    """A reference to another object of the file."""

    to: str


GROUP = object()
ROWS, SPIKES, FRAMES = 4, 240, 200


def units_tree() -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Give the datasets and attributes of an NWB file with a Units table that has everything."""
    rng = np.random.default_rng(0)
    times = np.concatenate([np.sort(rng.uniform(0, 20, SPIKES // ROWS)) for _ in range(ROWS)])
    index = np.arange(1, ROWS + 1)
    text = np.array(["a", "b", "a", ""], object)
    electrodes = "general/extracellular_ephys/electrodes"
    tree: dict[str, Any] = {
        "identifier": "x",
        "general/session_id": "one",
        "general/subject/subject_id": "mouse",
        "general/extracellular_ephys/probe": GROUP,
        f"{electrodes}/id": np.arange(ROWS),
        f"{electrodes}/location": np.array(["CA1", '{"region": "TH"}', "area: V1", ""], object),
        f"{electrodes}/group_name": np.array(["p", "p", "q", "q"], object),
        "units/id": np.arange(ROWS),
        "units/spike_times": times,
        "units/spike_times_index": index * (SPIKES // ROWS),
        "units/obs_intervals": np.tile([[0.0, 20.0]], (ROWS, 1)),
        "units/obs_intervals_index": index,
        "units/electrodes": np.arange(ROWS),
        "units/electrodes_index": index,
        "units/electrode_group": np.array([Ref("general/extracellular_ephys/probe")] * ROWS, object),
        "units/cell_type": text,
        "units/kind": np.array([0, 1, 0, 1]),
        "units/kind_elements": np.array(["x", "y"], object),
        "units/good": np.array([True, False, True, True]),
        "units/peak_channel_id": np.arange(ROWS),
        "units/waveform_mean": rng.normal(size=(ROWS, 8)),
        "intervals/trials/id": np.arange(2),
        "intervals/trials/start_time": np.array([0.0, 10.0]),
        "intervals/trials/stop_time": np.array([9.0, 19.0]),
        "intervals/invalid_times/id": np.arange(1),
        "intervals/invalid_times/start_time": np.array([3.0]),
        "intervals/invalid_times/stop_time": np.array([4.0]),
    }
    named = ["spike_times", "obs_intervals", "electrodes", "electrode_group", "cell_type", "kind", "good"]
    attributes: dict[tuple[str, str], Any] = {
        ("", "nwb_version"): "2.7.0",
        ("", "neurodata_type"): "NWBFile",
        ("units", "neurodata_type"): "Units",
        ("units", "colnames"): np.array(named, object),
        ("units/electrodes", "table"): Ref(electrodes),
        ("units/kind", "elements"): Ref("units/kind_elements"),
        (electrodes, "colnames"): np.array(["location", "group_name"], object),
    }
    return tree, attributes


def rois_tree() -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Give the datasets and attributes of an NWB file with fluorescence, dF/F and a plane segmentation."""
    rng = np.random.default_rng(0)
    rois = "processing/ophys/ImageSegmentation/rois"
    tree: dict[str, Any] = {
        "identifier": "x",
        "general/subject/subject_id": "mouse",
        f"{rois}/id": np.arange(ROWS),
        f"{rois}/iscell": np.array([[1, 0.9], [1, 0.8], [0, 0.1], [1, 0.6]]),
        f"{rois}/cell_type": np.array(["a", "b", "a", ""], object),
        "intervals/invalid_times/id": np.arange(1),
        "intervals/invalid_times/start_time": np.array([3.0]),
        "intervals/invalid_times/stop_time": np.array([4.0]),
    }
    attributes: dict[tuple[str, str], Any] = {
        ("", "nwb_version"): "2.7.0",
        ("", "neurodata_type"): "NWBFile",
        ("processing/ophys/DfOverF", "neurodata_type"): "DfOverF",
        (rois, "colnames"): np.array(["iscell", "cell_type"], object),
        (rois, "neurodata_type"): "PlaneSegmentation",
    }
    for place in ("DfOverF/dff", "Fluorescence/raw", "Fluorescence/other"):
        series = f"processing/ophys/{place}"
        tree[f"{series}/data"] = rng.uniform(1, 2, (FRAMES, ROWS))
        tree[f"{series}/rois"] = np.arange(ROWS)
        if place.endswith("other"):
            tree[f"{series}/timestamps"] = np.arange(FRAMES) / 10
        else:
            tree[f"{series}/starting_time"] = np.array(0.0)
            attributes[f"{series}/starting_time", "rate"] = 10.0
        attributes[f"{series}/rois", "table"] = Ref(rois)
        attributes[series, "neurodata_type"] = "RoiResponseSeries"
    return tree, attributes


def _filled(values: Any, *put: float) -> Any:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf" or not values.size:
        return values
    changed = values.astype(np.float64).ravel()
    for place, number in enumerate(put):
        changed[(place * 7 + 1) % len(changed)] = number
    return changed.reshape(values.shape)


def _array(values: Any) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else np.array([0.0, 1.0, 2.0])


# What may have happened to a dataset, by name; None: it is not there.
CHANGES: dict[str, Callable[[Any], Any]] = {
    "missing": lambda v: None,
    "shorter": lambda v: np.atleast_1d(_array(v))[:-1],
    "longer": lambda v: np.concatenate([np.atleast_1d(_array(v))] * 2),
    "empty": lambda v: np.atleast_1d(_array(v))[:0],
    "null": lambda v: h5py.Empty("f8"),
    "null text": lambda v: h5py.Empty(h5py.string_dtype()),
    "scalar": lambda v: _array(v).ravel()[:1].reshape(()),
    "column": lambda v: _array(v)[..., None],
    "three": lambda v: _array(v)[None, ..., None],
    "row": lambda v: _array(v)[None],
    "flat": lambda v: _array(v).ravel(),
    "turned": lambda v: _array(v).T,
    "text": lambda v: np.array(list(map(str, _array(v).ravel())), object).reshape(_array(v).shape),
    "fixed text": lambda v: np.full(_array(v).shape, b"7"),
    "bad text": lambda v: np.full(_array(v).shape, b"\xff\xfe\x80", object),
    "bad fixed text": lambda v: np.full(_array(v).shape, b"\xff\xfe\x80"),
    "numbers": lambda v: np.arange(_array(v).size, dtype=float).reshape(_array(v).shape),
    "complex": lambda v: np.ones(_array(v).shape, complex),
    "truth": lambda v: np.ones(_array(v).shape, bool),
    "half": lambda v: np.ones(_array(v).shape, np.float16),
    "big endian": lambda v: np.ones(_array(v).shape, ">i4"),
    "bytes": lambda v: np.zeros(_array(v).shape, np.uint8),
    "unsigned": lambda v: np.full(_array(v).shape, 2**64 - 1, np.uint64),
    "signed": lambda v: np.full(_array(v).shape, -(2**63), np.int64),
    "largest": lambda v: np.full(_array(v).shape, 2**63 - 1, np.int64),
    "compound": lambda v: np.zeros(_array(v).shape, [("a", "f8"), ("b", "i4")]),
    "opaque": lambda v: np.zeros(_array(v).shape, "V5"),
    "dates": lambda v: np.zeros(_array(v).shape, "i8").view(h5py.opaque_dtype("M8[s]")),
    "references": lambda v: np.full(_array(v).shape, Ref("identifier"), object),
    "ragged": lambda v: [np.arange(3.0)] * len(_array(v).ravel()),
    "nan": lambda v: _filled(v, np.nan),
    "all nan": lambda v: np.full(_array(v).shape, np.nan),
    "infinite": lambda v: _filled(v, np.inf, -np.inf),
    "huge": lambda v: _filled(v, 1e308, -1e308),
    "large": lambda v: _filled(v, 1e300),
    "2**63": lambda v: _filled(v, 2.0**63),
    "days": lambda v: _filled(v, 1e9),
    "ns of the epoch": lambda v: np.linspace(1.7e18, 1.7e18 + 20e9, _array(v).size).reshape(_array(v).shape),
    "s of the epoch": lambda v: np.linspace(1.7e9, 1.7e9 + 20, _array(v).size).reshape(_array(v).shape),
    "negative": lambda v: _filled(v, -1, -5),
    "below": lambda v: -_array(v) if _array(v).dtype.kind in "iuf" else v,
    "tiny": lambda v: _array(v) * 1e-320 if _array(v).dtype.kind in "iuf" else v,
    "same": lambda v: np.zeros(_array(v).shape),
    "backwards": lambda v: _array(v)[::-1] if _array(v).ndim else v,
    "group": lambda v: GROUP,
    "lost link": lambda v: h5py.SoftLink("/nowhere"),
    "lost file": lambda v: h5py.ExternalLink("nowhere.h5", "/x"),
    "link to root": lambda v: h5py.SoftLink("/"),
    "link to units": lambda v: h5py.SoftLink("/units"),
    "link to times": lambda v: h5py.SoftLink("/units/spike_times"),
    "hard link to root": lambda v: h5py.HardLink(),
}
ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "missing": lambda v: None,
    "zero": lambda v: 0.0,
    "negative": lambda v: -1,
    "nan": lambda v: np.nan,
    "infinite": lambda v: np.inf,
    "huge": lambda v: 1e308,
    "tiny": lambda v: 1e-308,
    "truth": lambda v: True,
    "text": lambda v: "x",
    "units": lambda v: "Units",
    "series": lambda v: "RoiResponseSeries",
    "bad text": lambda v: b"\xff\xfe",
    "numbers": lambda v: np.arange(3),
    "grid": lambda v: np.ones((2, 2)),
    "complex": lambda v: 1j,
    "null": lambda v: h5py.Empty("f8"),
    "empty": lambda v: np.zeros(0),
    "texts": lambda v: np.array(NAMES[2:9], object),
    "opaque": lambda v: np.zeros((), "V5"),
    "compound": lambda v: np.zeros((), [("a", "f8")]),
    "to nothing": lambda v: Ref(""),
    "to a text": lambda v: Ref("identifier"),
    "to a group": lambda v: Ref("general"),
    "to units": lambda v: Ref("units"),
    "to times": lambda v: Ref("units/spike_times"),
    "array of one": lambda v: np.array([v if isinstance(v, Ref) else Ref("identifier")], object),
    "what a link says": lambda v: '{"path": "/", "source": "."}',
}


@st.composite
def nwb_files(
    draw: st.DrawFn, kinds: tuple[Callable[[], Any], ...] = (units_tree, rois_tree)
) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Draw what is in an NWB file of which up to four things are changed."""
    tree, attributes = draw(st.sampled_from(kinds))()
    # What takes precedence is left out, so that what stands in for it is read too.
    for gone in draw(st.sampled_from([(), (), ()]) | st.lists(st.sampled_from(LEFT_OUT), max_size=2)):
        tree = {place: value for place, value in tree.items() if gone not in place}
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from([*tree, *attributes]))
        if isinstance(place, tuple):
            changed = ATTRIBUTES[draw(st.sampled_from([*ATTRIBUTES]))](attributes[place])
            attributes[place] = changed
        elif draw(st.integers(0, 5)):
            tree[place] = CHANGES[draw(st.sampled_from([*CHANGES]))](tree[place])
        elif draw(st.booleans()):
            new = draw(st.sampled_from([name for name in NAMES if name and "\0" not in name]))
            tree[f"{place.rpartition('/')[0]}/{new}"] = tree.pop(place)
        elif isinstance(tree[place], np.ndarray) and tree[place].dtype.kind == "O":
            count = tree[place].size
            texts = draw(st.lists(st.sampled_from(NAMES), min_size=count, max_size=count))
            tree[place] = np.array(texts, object)
        else:
            tree[place] = draw(st.sampled_from(NAMES))
    return tree, attributes


def write_hdf5(path: Path, tree: dict[str, Any], attributes: dict[Any, Any]) -> Path:
    """Write what was drawn, as far as HDF5 takes it."""

    def value_of(file: h5py.File, value: Any) -> Any:
        if isinstance(value, Ref):
            return file[value.to].ref if value.to in file else h5py.Reference()
        if isinstance(value, np.ndarray) and value.size and isinstance(value.flat[0], Ref):
            found = np.full(value.shape, value_of(file, value.flat[0]), object)
            return found.astype(h5py.ref_dtype)
        return value

    with h5py.File(path, "w") as file:
        for place, value in tree.items():
            try:
                if value is GROUP:
                    file.create_group(place)
                elif isinstance(value, h5py.HardLink):
                    file[place] = file["/"]
                elif isinstance(value, list):
                    made = file.create_dataset(place, (len(value),), h5py.vlen_dtype(np.float64))
                    made[...] = value
                elif value is not None:
                    file[place] = value_of(file, value)
            except (ValueError, TypeError, OSError, KeyError, RuntimeError):
                continue  # a parent is a dataset, or the name is none
        for (place, name), value in attributes.items():
            try:
                if value is not None:
                    file[place or "/"].attrs[name] = value_of(file, value)
            except (ValueError, TypeError, OSError, KeyError, RuntimeError):
                continue
    return path


def zarr_files(folder: Path, tree: dict[str, Any], attributes: dict[Any, Any]) -> dict[str, bytes]:
    """Write a file as hdmf-zarr does, and give what is in each file of its folder."""
    root = zarr.create_group(folder, zarr_format=2)
    for place, value in tree.items():
        if value is GROUP:
            root.create_group(place)
            continue
        values = np.atleast_1d(np.asarray(value))
        if values.dtype.kind == "O" and isinstance(values.flat[0], Ref):
            continue
        if values.dtype.kind in "OU":
            values = values.astype(np.dtypes.StringDType())
        root.create_array(place, data=values)
    for (place, name), value in attributes.items():
        target: Any = value
        if isinstance(value, Ref):
            target = {"zarr_dtype": "object", "value": {"source": ".", "path": f"/{value.to}"}}
        (root[place] if place else root).attrs[name] = (
            target.tolist() if isinstance(target, np.ndarray) else target
        )
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


JSON: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, 1, -1, 3, 2**31, 2**63, 2**70, 10**400, 0.5, 1e308, 1e-320, float("nan"), float("inf")]
    ),
    st.sampled_from(
        [*NAMES, "|O", "<f8", ">i4", "<U5", "|S3", "|V8", "<M8[ns]", "<f8 ", "F", "NaN", "\ud800"]
    ),
    st.sampled_from([[], [0], [-1], [2**40], [10**15, 10**5], ["a", None], [[1]], {}, {"id": "pickle"}]),
    st.sampled_from([[{"id": "pickle"}], [{"id": "nothing"}], {"id": "zlib", "level": "x"}, {"value": {}}]),
    st.sampled_from(
        [
            {"value": {"path": "/", "source": "."}},
            {"value": {"path": "/units", "source": "other.nwb"}},
            {"value": {"path": 3, "source": []}},
            [{"name": "units", "path": "/units", "source": "."}],
            [{"name": "x", "path": "/", "source": "."}],
            [{"name": ["a"], "path": "/", "source": "."}],
            [["<f8", "a"]],
            [["a", "<f8"], ["b", "<i4"]],
        ]
    ),
)


@st.composite
def edited(draw: st.DrawFn, files: dict[str, bytes], most: int = 3) -> dict[str, bytes | None]:
    """Draw files of a folder of which some are missing, cut, flipped, or, where JSON, edited."""
    changed: dict[str, bytes | None] = {}
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=most)):
        content = changed.get(name, files[name])
        how = draw(st.integers(0, 9))
        if content is None or how == 0:
            changed[name] = None
        elif how == 1:
            changed[name] = draw(flipped(content))
        elif how == 2:
            changed[name] = draw(st.binary(max_size=60))
        elif name.rpartition("/")[2] in (".zarray", ".zattrs", ".zgroup", ".zmetadata") or name.endswith(
            "json"
        ):
            changed[name] = draw(edited_json(content))
    return changed


@st.composite
def edited_json(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw a JSON text of which one key has another value."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    if not isinstance(value, dict) or draw(st.integers(0, 9)) == 0:
        return json.dumps(draw(JSON)).encode()
    into = value
    key = draw(st.sampled_from([*value, "zarr_link", "new"]))
    if isinstance(value.get(key), dict) and value[key] and draw(st.booleans()):
        into = value[key]
        key = draw(st.sampled_from([*into]))
    if draw(st.integers(0, 5)) == 0:
        into.pop(key, None)
    else:
        into[key] = draw(JSON)
    return json.dumps(value).encode()


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw bytes of which some are others, or the end is cut off."""
    changed = bytearray(content)
    if draw(st.booleans()):
        del changed[draw(st.integers(0, len(changed))) :]
    if changed:
        for _ in range(draw(st.integers(0, 8))):
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


DTYPES = [
    "'<f8'", "'<f4'", "'<f2'", "'<i4'", "'>i4'", "'<i8'", "'<u8'", "'|u1'", "'|b1'", "'<c16'", "'|O'",
    "'|V8'", "'|S4'", "'<U3'", "'<M8[ns]'", "'<m8[s]'", "[('a', '<f8'), ('b', '|O')]",
    "[('sample_index', '<i8')]",
    "[('sample_index', '<i8'), ('unit_index', '<i8'), ('segment_index', '<i8')]", "('<f8', (2,))", "'<f8",
    "3", "None", "{}", "'f8,' * 9", "[('a',)]", "'<g'", "'<f16'", "'T'",
]  # fmt: skip
SHAPES = [
    "()", "(0,)", "(1,)", "(5,)", "(240,)", "(240, 1)", "(1, 240)", "(240, 2)", "(2, 240)", "(120, 2, 1)",
    "(-1,)", "(-240, -1)", "(10**15,)", "(2**62,)", "(1000000000000000,)", "(9223372036854775807, 2)",
    "(2.5,)", "('a',)", "240", "[240]", "None", "(True,)", "(0, 5)", "(5, 0)", "(99999999999999999999999,)",
]  # fmt: skip
PIECES = [
    b"", b"\x00" * 64, b"\xff" * 64, np.full(30, 1e300).tobytes(), np.full(30, -1.0).tobytes(),
    np.full(30, np.nan).tobytes(), np.full(30, np.inf).tobytes(), np.full(30, 2**62).tobytes(),
    np.arange(300.0).tobytes(), np.arange(300).tobytes(), np.arange(300)[::-1].tobytes(),
    np.arange(300, dtype="<i4").tobytes(), np.arange(240, dtype=np.int64).repeat(3).tobytes(),
    bytes(range(256)), (np.arange(300) * 10**13).tobytes(), np.array([-(2**63), 2**63 - 1] * 40).tobytes(),
    b"cos\nsystem\n(S'x'\ntR.",
]  # fmt: skip


@st.composite
def npy_bytes(draw: st.DrawFn, whole: bytes = b"") -> bytes:
    """Draw the bytes of a ``.npy`` file: random ones, damaged ones, or a header of any dtype and shape."""
    how = draw(st.integers(0, 9))
    if how == 0:
        return draw(st.binary(max_size=200))
    if how == 1 and whole:
        return draw(flipped(whole))
    order = draw(st.sampled_from(["True", "0", "'a'"])) if how == 5 else "False"
    header = f"{{'descr': {draw(st.sampled_from(DTYPES))}, 'fortran_order': {order}, "
    header += f"'shape': {draw(st.sampled_from(SHAPES))}, }}"
    if how == 2:
        header = draw(
            st.sampled_from(
                [
                    "",
                    "{}",
                    "{'descr': '<f8'}",
                    "__import__('os').abort()",
                    "{'descr': '<f8', " * 3,
                    "\x00",
                    "[" * 3000,
                    "1" * 5000,
                    header + ", 3",
                    header[:-3],
                    "L" + header,
                    "é" + header,
                ]
            )
        )
    version = draw(st.sampled_from([(2, 0), (3, 0), (4, 0), (0, 0), (255, 255)])) if how == 3 else (1, 0)
    encoded = header.encode("utf-8", "replace") + b"\n"
    width = 2 if version == (1, 0) else 4
    lengths = [0, len(encoded) - 1, len(encoded) + 99, 65535]
    length = draw(st.sampled_from(lengths)) if how == 4 else len(encoded)
    data = b"".join(draw(st.lists(st.sampled_from(PIECES), max_size=4)))
    return b"\x93NUMPY" + bytes(version) + length.to_bytes(width, "little") + encoded + data


@st.composite
def arrays(draw: st.DrawFn, whole: np.ndarray) -> np.ndarray:
    """Draw an array that is changed as a dataset may be."""
    changed = CHANGES[draw(st.sampled_from([*CHANGES]))](whole)
    if isinstance(changed, list):
        changed = np.array([*changed, None], object)
    return (
        changed if isinstance(changed, np.ndarray) and changed.dtype != object else np.asarray(whole).ravel()
    )
