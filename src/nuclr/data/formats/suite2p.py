"""Suite2p's output: a folder of planes, each with fluorescence, neuropil and a classification of ROIs.

Source: https://suite2p.readthedocs.io/en/latest/outputs.html . ``ops.npy`` (``settings.npy`` from 1.0) is a
pickled dictionary; only its numbers are read, and nothing is executed.
"""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclr.config import Imaging, Reading
from nuclr.data.access.columns import Column, map_npy
from nuclr.data.access.pickled import read_dictionary
from nuclr.data.fluorescence import Correction, Frames
from nuclr.data.formats.rois import NO_CELLS, only_cells, together
from nuclr.data.formats.sorting import OF_ANY_SORTER
from nuclr.data.recording import Traces, name_of
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

PLANE = re.compile(r"plane([0-9]+)")
# Suite2p's folder with a copy of all planes.
COMBINED = "combined"
OF_PLANE = ("Fneu.npy", "iscell.npy", "ops.npy")
SETTINGS = ("ops.npy", "settings.npy")
SHARE = 0.7  # Suite2p's default
OF_ANY_SESSION = re.compile(rf"suite2p|{COMBINED}|{PLANE.pattern}|{OF_ANY_SORTER.pattern}", re.IGNORECASE)
COPY_AGAIN = "copy the whole folder again"


def is_suite2p(folder: Path) -> bool:
    """Return whether a folder is a plane of Suite2p, or contains planes.

    The folder of a session that contains a folder ``suite2p`` is not, because it may contain other
    recordings.
    """
    return folder.is_dir() and (_is_plane(folder) or bool(_planes_in(folder)))


def _is_plane(folder: Path) -> bool:
    return (folder / "F.npy").is_file() and any((folder / name).is_file() for name in OF_PLANE)


def _planes_in(folder: Path) -> list[Path]:
    """Return the planes with fluorescence in a folder, sorted by number."""
    try:
        named = [(match, path) for path in folder.iterdir() if (match := PLANE.fullmatch(path.name))]
    except OSError:
        return []
    ordered = [path for _, path in sorted(named, key=lambda plane: int(plane[0][1]))]
    return [path for path in ordered if (path / "F.npy").is_file()]


def recording_of(folder: Path) -> str:
    """Return the name of a recording: that of its folder, with those above if Suite2p named the folder."""
    path = Path(os.path.abspath(folder))
    names = [name_of(path)]
    while OF_ANY_SESSION.fullmatch(path.name) and path.parent.name:
        path = path.parent
        names.insert(0, name_of(path))
    return "_".join([names[0], *(name for name in names[1:] if name.lower() != "suite2p")])


def read_suite2p(folder: Path, options: Reading | None = None) -> list[Traces]:
    """Read the ROIs that are classified as cells; planes recorded together are one population.

    dF/F is computed from the fluorescence minus a share of the neuropil, see
    :class:`nuclr.data.fluorescence.Correction`.

    Parameters
    ----------
    folder
        A folder of planes, or one plane.
    options
        The frame rate, the share of neuropil, which ROIs are kept, and whether planes are joined; None: the
        defaults.

    Raises
    ------
    DataError
        If a file is missing or damaged, the frame rate is unknown, or no ROI is a cell.
    """
    options = options or Reading()
    planes = _planes_in(folder)
    if planes and (folder / COMBINED / "F.npy").is_file():
        logger.info("%s: the planes are read; %s, which contains the same planes, is not", folder, COMBINED)
    recording = recording_of(folder)
    made = [_plane(folder, path, f"{recording}_{path.name}_", options.imaging) for path in planes]
    if not planes:
        made = [_plane(folder, folder, f"{recording}_", options.imaging)]
    kept = [plane for plane in made if len(plane.units)]
    if not kept:
        raise DataError(f"{folder}: {NO_CELLS}")
    populations = kept if options.nwb.planes == "apart" else together(kept)
    # Each population lists the files of all, so that a change of any file is a change of the recording.
    files = tuple(file for plane in made for file in plane.files)
    return [replace(population, files=files) for population in populations]


@dataclass(frozen=True)
class _Settings:
    """Settings of a plane: the frame rate, and the share of neuropil that Suite2p subtracts."""

    rate_hz: float
    share: float
    files: tuple[Path, ...]


def _plane(folder: Path, path: Path, prefix: str, imaging: Imaging) -> Traces:
    """Read one plane; ``folder`` is that of the recording."""
    fluorescence = path / "F.npy"
    shape = _array(fluorescence).shape
    said = _settings(path, imaging)
    read = [fluorescence, *said.files]
    frame_s = 1.0 / said.rate_hz
    correction = None
    if imaging.dff:
        neuropil = path / "Fneu.npy"
        if not neuropil.is_file():
            logger.warning("%s: file not found; dF/F is computed without subtracting neuropil", neuropil)
            correction = Correction(frame_s)
        else:
            if _array(neuropil).shape != shape:
                raise DataError(f"{neuropil}: does not have the shape {shape} of F.npy; {COPY_AGAIN}")
            read.append(neuropil)
            correction = Correction(frame_s, Column(neuropil), said.share)
            logger.info("%s: dF/F is computed from F - %g Fneu", path, said.share)
    every = np.arange(shape[0])
    cells, cells_from = _cells(path, shape[0])
    rois = Traces(
        path=folder,
        population=name_of(path),
        units=pd.DataFrame({"unit_id": [f"{prefix}{roi}" for roi in every]}),
        frames=(Frames(Column(fluorescence), every, every, 0, shape[1], True, correction),),
        count=shape[1],
        frame_s=frame_s,
        start_s=0.0,
        valid_spans=np.array([[0.0, frame_s * shape[1]]]),
        files=(*read, *cells_from),
    )
    return only_cells(rois, cells, imaging.keep_all)


def _array(path: Path) -> np.ndarray:
    """Memory-map an array of numbers.

    Raises
    ------
    DataError
        If the file is damaged, or not a two-dimensional array of numbers.
    """
    try:
        values = map_npy(path)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: damaged ({error}); {COPY_AGAIN}") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub" or values.ndim != 2:
        raise DataError(f"{path}: not a two-dimensional array of numbers; run Suite2p again")
    if path.name == "F.npy" and values.shape[1] < 2:
        raise DataError(
            f"{path}: the shape {values.shape} (ROI, frame) has fewer than two frames; run Suite2p again"
        )
    return values


def _cells(path: Path, count: int) -> tuple[np.ndarray | None, list[Path]]:
    """Return which ROIs are cells, and the file that was read; None if there is no classification."""
    file = path / "iscell.npy"
    if not file.is_file():
        logger.warning("%s: file not found; all %d ROIs are kept", file, count)
        return None, []
    values = _array(file)
    if len(values) != count or not values.shape[1]:
        raise DataError(f"{file}: {values.shape[0]} rows, but F.npy has {count} ROIs; {COPY_AGAIN}")
    return np.asarray(values[:, 0] > 0), [file]


def _settings(path: Path, imaging: Imaging) -> _Settings:
    """Return the frame rate and the share of neuropil, from the configuration or from Suite2p's files."""
    rate_hz, share = imaging.rate_hz, imaging.neuropil_share
    # If a plane has no settings, those that Suite2p writes to the folder of planes are read.
    files = [path / name for name in SETTINGS] + [path.parent / "settings.npy"] * bool(PLANE.match(path.name))
    read, unread = [], ""
    for file in files:
        if (rate_hz is not None and share is not None) or not file.is_file():
            continue
        try:
            said = read_dictionary(file)
        except ValueError as error:
            unread = f" ({file.name}: {error})"
            continue
        read.append(file)
        rate_hz = _number(said, "fs") if rate_hz is None else rate_hz
        extraction = said.get("extraction")
        for holder, name in ((said, "neucoeff"), (extraction, "neuropil_coefficient")):
            if share is None and isinstance(holder, dict):
                share = _number(holder, name)
    if rate_hz is None or rate_hz <= 0:
        raise DataError(
            f"{path / SETTINGS[0]}: the frame rate is unknown{unread or ' (no file, or no fs in it)'}; "
            "set imaging.rate_hz to the frame rate"
        )
    if share is None:
        share = SHARE
        if imaging.dff:
            logger.warning(
                "%s: the share of neuropil is unknown%s; %g is used (imaging.neuropil_share changes it)",
                path,
                unread,
                share,
            )
    return _Settings(rate_hz, share, tuple(read))


def _number(said: dict[str, Any], name: str) -> float | None:
    value = said.get(name)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known and value is not None else None
