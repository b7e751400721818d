"""Traces of NWB's imaged ROIs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from pynwb import NWBFile
from pynwb.ophys import DfOverF, RoiResponseSeries

from nuclr.data.formats.nwb.tables import check_numbers, column, numbers, rows_of, with_time, without_invalid
from nuclr.data.recording import Frames, Traces, distinct, safe_name
from nuclr.errors import DataError
from nuclr.words import counted


def _place(series: RoiResponseSeries) -> tuple[str, str]:
    """Name of a series, and where in its file it is."""
    above, parent = [], series.parent
    while parent is not None:
        above.append(parent.name)
        parent = parent.parent
    return series.name, "/".join(reversed(above))


def _timing(series: RoiResponseSeries, path: Path) -> tuple[float, float]:
    """Length of a frame and time of the first (s).

    Raises
    ------
    DataError
        If frames are not evenly spaced in time.
    """
    if series.rate is not None:
        if not series.rate > 0:
            raise DataError(
                f"{path}: {series.name} has a rate of {series.rate:g} Hz; set its rate or timestamps"
            )
        return 1.0 / series.rate, float(series.starting_time or 0.0)
    times = numbers(series.timestamps[:], f"{path}: timestamps of {series.name}")
    gaps = np.diff(times)
    if len(times) < 2 or len(times) != series.data.shape[0]:
        raise DataError(
            f"{path}: {series.name} has {counted(len(times), 'timestamp')} for "
            f"{counted(series.data.shape[0], 'frame')}; it should have one for each, of two or more"
        )
    frame_s = float(np.median(gaps))
    # Asked so that what is not a number is refused too.
    if not ((gaps > 0).all() and (np.abs(gaps - frame_s) <= 0.5 * frame_s).all()):
        raise DataError(
            f"{path}: frames of {series.name} are not evenly spaced; split it at the gaps, one file each"
        )
    return frame_s, float(times[0])


def traces(nwb: NWBFile, path: Path, prefix: str, columns: list[str]) -> list[Traces]:
    """Read the traces of an open file, a population for each series; none where it has none.

    Parameters
    ----------
    nwb, path
        The file.
    prefix
        Of unit ids.
    columns
        Of the plane segmentation, kept as labels.

    Raises
    ------
    DataError
        If traces, their timing or their table make no sense.
    """
    series = [x for x in nwb.objects.values() if isinstance(x, RoiResponseSeries)]
    chosen = [x for x in series if isinstance(x.parent, DfOverF)] or series
    # In the order of their places, which differ where names do not; populations stay in the file's order.
    order = sorted(range(len(chosen)), key=lambda i: _place(chosen[i]))
    names = distinct([chosen[i].name for i in order])
    named = dict(
        zip(order, zip(names, distinct([safe_name(name) for name in names]), strict=True), strict=True)
    )
    several = len(chosen) > 1
    found = []
    for i, series in enumerate(chosen):
        name, population = named[i]
        table = series.rois.table
        rows = rows_of(table, series.rois.data[:], path)
        units = pd.DataFrame(
            {"unit_id": [f"{prefix}{name + '_' if several else ''}{table.id[int(r)]}" for r in rows]}
        )
        units = units.assign(**{label: column(table, label, path)[rows] for label in columns})
        if math.prod(series.data.shape[1:]) != len(rows) or not series.data.shape[0]:
            raise DataError(
                f"{path}: {series.name} has traces {tuple(series.data.shape)} of "
                f"{counted(len(rows), 'ROI')}; they should be (frame, ROI)"
            )
        check_numbers(series.data, f"{path}: {series.name}", tuple(series.data.shape))
        frame_s, start_s = _timing(series, path)
        stop_s = start_s + frame_s * series.data.shape[0]
        found.append(
            Traces(
                path=path,
                population=population,
                units=units,
                frames=(Frames(path, series.data.name, 0, series.data.shape[0]),),
                frame_s=frame_s,
                start_s=start_s,
                valid_spans=without_invalid(nwb, np.array([[start_s, stop_s]]), path),
            )
        )
    return with_time(found, path)
