"""CaImAn's results, as ``CNMF.save`` writes them to HDF5.

Source: https://caiman.readthedocs.io : ``estimates/F_dff`` and ``estimates/C`` are ``(component, frame)``,
``estimates/idx_components`` are the components that passed evaluation, ``params/data/fr`` is the frame rate.
None is written as the text NoneType.
"""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from nuclr.config import Imaging, Reading
from nuclr.data.access.columns import Column
from nuclr.data.fluorescence import Correction, Frames
from nuclr.data.formats.rois import NO_CELLS, only_cells
from nuclr.data.recording import Traces, name_of, safe_name
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = (".hdf5", ".h5")
DFF, DEMIXED, ACCEPTED = "estimates/F_dff", "estimates/C", "estimates/idx_components"
RATE = "params/data/fr"
# File names that do not identify a recording.
OF_ANY_SESSION = re.compile(
    r"(?:(?:analysis|caiman|cnmfe?|cnm|onacid|online|estimates|results?|output)[0-9._ -]*)+", re.IGNORECASE
)
# If the lowest value of a trace is a smaller share of the largest, the baseline has already been subtracted.
BASELINE = 0.01


def is_caiman(path: Path) -> bool:
    """Return whether a file is from CaImAn: HDF5 with a group ``estimates`` that contains ``A`` or ``C``."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    try:
        with h5py.File(path, "r") as file:
            estimates = file.get("estimates")
            return isinstance(estimates, h5py.Group) and ("A" in estimates or "C" in estimates)
    except (OSError, RuntimeError, KeyError):
        return False


def recording_of(path: Path) -> str:
    """Return the name of a recording: that of its file, with the folder's if the file name is common."""
    path = Path(os.path.abspath(path))
    name = safe_name(path.stem)
    return f"{name_of(path.parent)}_{name}" if OF_ANY_SESSION.fullmatch(path.stem) else name


def read_caiman(path: Path, options: Reading | None = None) -> list[Traces]:
    """Read the components that passed CaImAn's evaluation: dF/F, or else the demixed traces.

    Parameters
    ----------
    path
        The HDF5 file.
    options
        The frame rate, and which components are kept; None: the defaults.

    Raises
    ------
    DataError
        If the file is damaged or contains no traces, its frame rate is unknown, or no component passed.
    """
    imaging = (options or Reading()).imaging
    try:
        with h5py.File(path, "r") as file:
            name, shape = _chosen(file, path)
            cells = _accepted(file, path, shape[0])
            frame_s = 1.0 / _rate_hz(file, path, imaging)
        every = np.arange(shape[0])
        chosen = every if cells is None or imaging.keep_all else np.flatnonzero(cells)
        if not len(chosen):
            raise DataError(f"{path}: {NO_CELLS}")
        frames = Frames(Column(path, dataset=name), every, every, 0, shape[1], True)
        correction = _correction(path, name, frames.only(np.isin(every, chosen)), frame_s, imaging)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); save it again") from None
    recording = recording_of(path)
    rois = Traces(
        path=path,
        population="rois",
        units=pd.DataFrame({"unit_id": [f"{recording}_{roi}" for roi in every]}),
        frames=(replace(frames, correction=correction),),
        count=shape[1],
        frame_s=frame_s,
        start_s=0.0,
        valid_spans=np.array([[0.0, frame_s * shape[1]]]),
    )
    return [only_cells(rois, cells, imaging.keep_all)]


def _traces(file: h5py.File, name: str) -> tuple[int, int] | None:
    """Return the shape of some traces; None if there are none."""
    found = file.get(name)
    numbers = isinstance(found, h5py.Dataset) and found.dtype.kind in "fiu" and found.ndim == 2
    return (int(found.shape[0]), int(found.shape[1])) if numbers and min(found.shape) else None


def _chosen(file: h5py.File, path: Path) -> tuple[str, tuple[int, int]]:
    """Return the path and the shape of the traces that are read."""
    dff, demixed = _traces(file, DFF), _traces(file, DEMIXED)
    if dff is not None:
        if demixed is not None and dff != demixed:
            raise DataError(
                f"{path}: F_dff has the shape {dff} but C {demixed} (component, frame); compute F_dff again"
            )
        return DFF, dff
    if demixed is None:
        raise DataError(f"{path}: neither {DFF} nor {DEMIXED} contains traces; fit them and save again")
    return DEMIXED, demixed


def _accepted(file: h5py.File, path: Path, count: int) -> np.ndarray | None:
    """Return which components passed, ``(component,)``; None if they were not evaluated."""
    found = file.get(ACCEPTED)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiu":
        logger.warning("%s: no %s; all %d components are kept", path, ACCEPTED, count)
        return None
    passed = np.asarray(found[()]).ravel()
    if not (np.isfinite(passed).all() and ((passed >= 0) & (passed < count)).all()):
        raise DataError(
            f"{path}: {ACCEPTED} refers to components beyond the {count} in the file; save it again"
        )
    cells = np.zeros(count, bool)
    cells[passed.astype(np.int64)] = True
    return cells


def _rate_hz(file: h5py.File, path: Path, imaging: Imaging) -> float:
    if imaging.rate_hz is not None:
        return imaging.rate_hz
    found: Any = file.get(RATE)
    if isinstance(found, h5py.Dataset) and found.dtype.kind in "fiu" and found.size == 1:
        rate = float(np.asarray(found[()]).ravel()[0])
        if 0 < rate < math.inf:
            return rate
    raise DataError(f"{path}: no frame rate at {RATE}; set imaging.rate_hz to the frame rate")


def _correction(path: Path, name: str, kept: Frames, frame_s: float, imaging: Imaging) -> Correction | None:
    """Return how dF/F is computed from demixed traces, which contain no neuropil."""
    if name == DFF:
        return None
    if not imaging.dff:
        logger.info("%s: no F_dff; C is read as it is (imaging.dff: false)", path)
        return None
    some = kept.read(0, min(kept.count, 1000))
    # Silent components are ignored.
    above = some.min(axis=1) > BASELINE * some.max(axis=1)
    if above.all():
        logger.warning(
            "%s: no F_dff (CaImAn computes it with estimates.detrend_df_f); dF/F is computed from C", path
        )
        return Correction(frame_s)
    logger.warning(
        "%s: no F_dff, and C has no baseline to divide by; C is read as it is. CaImAn computes F_dff with "
        "estimates.detrend_df_f",
        path,
    )
    return None
