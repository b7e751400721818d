"""Shared functions of all formats of imaged ROIs: selection of cells, and joining of imaging planes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nuclr.data.recording import Traces
from nuclr.data.text import labels_as_text
from nuclr.words import share_of

logger = logging.getLogger(__name__)

NO_CELLS = "no ROI is classified as a cell; set imaging.keep_all: true to keep all ROIs"


def only_cells(rois: Traces, cells: np.ndarray | None, keep_all: bool) -> Traces:
    """Return the ROIs that are cells by a mask ``(unit,)``; all ROIs without a mask, or with ``keep_all``."""
    if cells is None or keep_all or cells.all():
        return rois
    logger.info(
        "%s: %s: %s; the others are left out (imaging.keep_all: true keeps them)",
        rois.path,
        rois.population,
        share_of(int(cells.sum()), len(cells), "ROI", "is a cell", "are cells"),
    )
    return rois.only(cells)


def together(planes: list[Traces]) -> list[Traces]:
    """Join planes that were recorded together, with the same frame length, number of frames and start."""
    groups: list[list[Traces]] = []
    for plane in planes:
        group = next((group for group in groups if _recorded_together(group[0], plane)), None)
        if group is None:
            groups.append([plane])
        else:
            group.append(plane)
    return [join(group) for group in groups]


def _recorded_together(a: Traces, b: Traces) -> bool:
    return (
        abs(a.frame_s / b.frame_s - 1) < 1e-3
        and abs(a.start_s - b.start_s) <= max(a.frame_s, b.frame_s)
        and abs(a.count - b.count) <= max(2, 0.001 * a.count)
    )


def join(planes: Sequence[Traces]) -> Traces:
    """Return one population of planes that were recorded together, with the frames of the shortest."""
    first = planes[0]
    if len(planes) == 1:
        return first
    count = min(plane.count for plane in planes)
    frames, before = [], 0
    for plane in planes:
        frames += [
            replace(part, units=part.units + before, count=min(part.count, count)) for part in plane.frames
        ]
        before += len(plane.units)
    logger.info(
        "%s: %s were recorded together and become one population (nwb.planes: apart separates them)",
        first.path,
        ", ".join(plane.population for plane in planes),
    )
    stop_s = first.start_s + count * first.frame_s
    return replace(
        first,
        population="planes",
        units=labels_as_text(pd.concat([plane.units for plane in planes], ignore_index=True)),
        frames=tuple(frames),
        count=count,
        valid_spans=np.minimum(first.valid_spans, stop_s),
    )
