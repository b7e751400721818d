"""Traces of imaged ROIs in NWB files: one series for each set of ROIs, and joining of imaging planes."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nuclr.config import Imaging, Nwb
from nuclr.data.fluorescence import Correction, Frames, frame_length
from nuclr.data.formats.nwb.file import Node
from nuclr.data.formats.nwb.tables import Table, check_numbers, numbers, with_time, without_invalid
from nuclr.data.formats.nwb.units import labels_of
from nuclr.data.formats.rois import NO_CELLS, only_cells, together
from nuclr.data.recording import Traces, distinct, safe_name
from nuclr.errors import DataError
from nuclr.words import counted

logger = logging.getLogger(__name__)

SERIES = "RoiResponseSeries"
# Names of series that are not the fluorescence of cells.
OTHERS = re.compile(
    r"neuropil|background|bkg|deconv|spike|spks|event|inferred|firing|decay|residual",
    re.IGNORECASE,
)
DFF = re.compile(r"d(?:elta)?[-_ ]?f(?:[-_ ]?(?:/|over)?[-_ ]?f)|Δf", re.IGNORECASE)
# Columns of a plane segmentation that say whether a ROI is a cell.
ACCEPTED = ("iscell", "is_cell", "accepted", "Accepted")


@dataclass(frozen=True)
class _Series:
    """A series, its data, the table of its ROIs, and the rows of its ROIs in this table."""

    node: Node
    data: Node
    table: Table
    rows: np.ndarray

    @property
    def parent(self) -> str:
        """Path of the group that contains the series."""
        return self.node.path.rpartition("/")[0]


def traces(root: Node, prefix: str, named: Nwb, imaging: Imaging) -> list[Traces]:
    """Return the traces in an open file; an empty list if it has none.

    For each set of ROIs one series is read: dF/F, or else fluorescence, from which dF/F is computed.
    Planes that were recorded together are one population.

    Parameters
    ----------
    root
        Root of the file.
    prefix
        Prefix of unit ids.
    named
        Which columns are labels, which series are read, and whether planes are joined.
    imaging
        The frame rate if the file lacks it, and which ROIs are kept.

    Raises
    ------
    DataError
        If traces, their timing or their table are not valid.
    """
    found = [node for node in root.nodes() if node.is_group and node.kind == SERIES]
    if not found:
        if named.series:
            raise DataError(f"{root.file}: nwb.series: the file contains no {SERIES}; leave nwb.series empty")
        return []
    chosen = [_opened(node) for node in _chosen(root, found, named.series)]
    # Sorted by path, because names may not be unique; populations stay in the order of the file.
    order = sorted(range(len(chosen)), key=lambda i: (chosen[i].node.name, chosen[i].parent))
    labels = distinct([chosen[i].node.name for i in order])
    names = dict(zip(order, labels, strict=True))
    populations = dict(zip(order, distinct([safe_name(name) for name in labels]), strict=True))
    several = len(chosen) > 1
    made = [
        _population(root, one, populations[i], f"{prefix}{names[i] + '_' if several else ''}", named, imaging)
        for i, one in enumerate(chosen)
    ]
    kept = [one for one in made if len(one.units)]
    if not kept:
        raise DataError(f"{root.file}: {NO_CELLS}")
    return with_time(kept if named.planes == "apart" else together(kept), root.file)


def _chosen(root: Node, found: list[Node], named: Sequence[str]) -> list[Node]:
    """Return one series for each set of ROIs, or those in ``nwb.series``."""
    places = ", ".join(node.path for node in found)
    if named:
        by_name = [[node for node in found if name.strip("/") in (node.name, node.path)] for name in named]
        for name, nodes in zip(named, by_name, strict=True):
            if not nodes:
                raise DataError(f"{root.file}: nwb.series: no series {name}; the file contains {places}")
        return [node for node in found if any(node in nodes for nodes in by_name)]
    sets: dict[str, list[Node]] = {}
    for node in found:
        rois = node.get("rois")
        table = rois.target("table") if rois is not None else None
        sets.setdefault(table.path if table is not None else node.path, []).append(node)
    chosen = []
    for nodes in sets.values():
        ranks = [_rank(root, node) for node in nodes]
        best = min(ranks)
        if best == 2:
            continue
        same = [node for node, rank in zip(nodes, ranks, strict=True) if rank == best]
        # Several series may contain different cells of one table; these are not repetitions.
        taken = _without_repetitions(same)
        others = [node.path for node in nodes if node not in taken]
        if others:
            logger.warning(
                "%s: of several series of the same ROIs, %s is read and not %s (nwb.series names another)",
                root.file,
                ", ".join(node.path for node in taken),
                ", ".join(others),
            )
        chosen += taken
    if not chosen:
        raise DataError(
            f"{root.file}: contains neither dF/F nor fluorescence, but {places}; name the series to read "
            "with "
            "nwb.series"
        )
    return [node for node in found if node in chosen]


def _rank(root: Node, node: Node) -> int:
    """Return 0 for dF/F, 1 for fluorescence, and 2 for other series."""
    above = root.get(node.path.rpartition("/")[0])
    if OTHERS.search(node.name):
        return 2
    if (above is not None and above.kind == "DfOverF") or DFF.search(node.name):
        return 0
    return 2 if above is not None and OTHERS.search(above.name) else 1


def _without_repetitions(nodes: list[Node]) -> list[Node]:
    """Return the first of several series with the same ROIs, and all series with different ROIs."""
    taken: list[Node] = []
    seen: set[int] = set()
    for node in nodes:
        rois = node.get("rois")
        rows = (
            set(map(int, np.nan_to_num(rois.read().ravel())))
            if rois is not None and _numeric(rois)
            else set()
        )
        if not taken or (rows and not rows & seen):
            taken.append(node)
        seen |= rows
    return taken


def _numeric(node: Node) -> bool:
    return not node.is_group and node.dtype.kind in "biuf"


def _opened(node: Node) -> _Series:
    """Return a series after checking that it has data and a table of ROIs."""
    data, rois = node.get("data"), node.get("rois")
    target = rois.target("table") if rois is not None else None
    parts = data is not None and rois is not None and not (data.is_group or rois.is_group)
    if not parts or target is None or not target.is_group:
        raise DataError(
            f"{node.file}: {node.path} has no data, or no table of its ROIs; write the file again"
        )
    assert data is not None
    assert rois is not None
    table = Table(target)
    rows = table.check_rows(rois.read(), f"{node.file}: rois of {node.name}")
    return _Series(node, data, table, rows)


def _population(
    root: Node, series: _Series, population: str, prefix: str, named: Nwb, imaging: Imaging
) -> Traces:
    path, node, data, rows = root.file, series.node, series.data, series.rows
    ids = series.table.ids
    units = pd.DataFrame({"unit_id": [f"{prefix}{ids[int(row)]}" for row in rows]})
    columns = labels_of(series.table) if named.unit_columns is None else named.unit_columns
    units = units.assign(**{label: series.table.column(label)[rows] for label in columns})
    by_roi = _by_roi(series)
    check_numbers(data, f"{path}: {node.name}", data.shape)
    count = data.shape[1] if by_roi else data.shape[0]
    frame_s, start_s = _timing(node, count, imaging.rate_hz)
    frames = Frames(data.column(), np.arange(len(rows)), np.arange(len(rows)), 0, count, by_roi)
    if _rank(root, node) == 1 and imaging.dff and frames.raw():
        logger.info("%s: dF/F is computed from %s (imaging.dff: false reads it as it is)", path, node.name)
        frames = replace(frames, correction=Correction(frame_s))
    made = Traces(
        path=path,
        population=population,
        units=units,
        frames=(frames,),
        count=count,
        frame_s=frame_s,
        start_s=start_s,
        valid_spans=without_invalid(root, np.array([[start_s, start_s + frame_s * count]])),
    )
    return only_cells(made, _accepted(series), imaging.keep_all)


def _by_roi(series: _Series) -> bool:
    """Return whether the traces are ``(ROI, frame)``, which is not NWB's order.

    Raises
    ------
    DataError
        If they are in neither order.
    """
    shape, count, name = series.data.shape, len(series.rows), series.node.name
    if shape and shape[0] and math.prod(shape[1:]) == count:
        return False
    if len(shape) == 2 and shape[0] == count and shape[1] > 1:
        logger.warning(
            "%s: %s is (ROI, frame), but NWB requires (frame, ROI); transposed", series.node.file, name
        )
        return True
    raise DataError(
        f"{series.node.file}: {name} has traces of shape {shape} for {counted(count, 'ROI')}; they must be "
        "(frame, ROI); write the file again"
    )


def _accepted(series: _Series) -> np.ndarray | None:
    """Return which ROIs are cells; None if the table has no such column."""
    name = next((name for name in ACCEPTED if name in series.table), None)
    if name is None:
        return None
    values = series.table.dataset(name).read()
    if values.shape[:1] != (len(series.table),) or values.dtype.kind not in "biuf":
        return None
    first = values.reshape(len(values), -1)[:, 0] if values.size else np.zeros(len(values))
    return first[series.rows] > 0


def _timing(node: Node, count: int, rate_hz: float | None) -> tuple[float, float]:
    """Return the length of a frame and the time of the first one (s).

    Raises
    ------
    DataError
        If frames are not evenly spaced in time, or the rate is not valid.
    """
    path, starting, stamps = node.file, node.get("starting_time"), node.get("timestamps")
    start_s = 0.0
    if starting is not None and not starting.is_group:
        values = starting.read().ravel()
        if len(values) and values.dtype.kind in "biuf" and np.isfinite(values[0]):
            start_s = float(values[0])
        rate = starting.attribute("rate", None) if rate_hz is None else rate_hz
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < math.inf:
            raise DataError(
                f"{path}: {node.name} has a rate of {rate} Hz; set imaging.rate_hz to the frame rate, or the "
                "rate or timestamps in the file"
            )
        return 1.0 / rate, start_s
    if rate_hz is not None:
        return 1.0 / rate_hz, start_s
    if stamps is None or stamps.is_group:
        raise DataError(
            f"{path}: {node.name} has neither a rate nor timestamps; set imaging.rate_hz to the frame rate"
        )
    times = numbers(stamps, f"{path}: timestamps of {node.name}")
    if len(times) < 2 or len(times) != count:
        raise DataError(
            f"{path}: {node.name} has {counted(len(times), 'timestamp')} for "
            f"{counted(count, 'frame')}; it must have one for each frame, and at least two"
        )
    if (frame_s := frame_length(np.diff(times))) is None:
        raise DataError(f"{path}: frames of {node.name} are not evenly spaced; split the file at the gaps")
    return frame_s, float(times[0])
