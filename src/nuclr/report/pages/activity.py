"""Page of a population's activity, to inspect a recording before training: raster or traces with zoom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.filesize import decimal

from nuclr.data.population import Population, summary_of
from nuclr.data.text import as_text
from nuclr.errors import DataError
from nuclr.evaluation.answers.along_probe import depths_of
from nuclr.files import whole
from nuclr.report.pages.packed import Block
from nuclr.report.pages.templates import template
from nuclr.words import counted

# Most cells (units times bins) of a page, so that they fit into a browser's memory and the page below 15 MB.
MOST_CELLS = 24_000_000
MOST_BYTES = 14_000_000
CELLS_AT_ONCE = 20_000_000
# Percentiles of dF/F, over units and frames, at the lowest and the highest of the 255 grey levels.
GREY = (0.5, 99.8)
SILENCE_EDGE_S = 1.0


def write_activity(population: Population, output: Path, *, depth: str = "depth_um") -> str:
    """Write a page of a population's activity, and return a one-line summary of the page.

    The page shows a raster of spikes or traces of dF/F with zoom, the mean activity of each unit, the labels
    and depths of the units, and the time that is not used: because no unit is active, or because the file
    excludes it.

    Parameters
    ----------
    population
        Population to show. Its activity is read once, in parts that fit into memory.
    output
        Path of the page.
    depth
        Column with depths on the probe (um).

    Raises
    ------
    DataError
        If the population has no unit or no time.
    """
    bins, units = population.activity.shape[1], len(population.units)
    if not bins or not units:
        raise DataError(
            f"population {population.population}: has no activity to show ({counted(units, 'unit')}, "
            f"{counted(bins, 'bin')})"
        )
    width = max(1, -(-units * bins // MOST_CELLS))
    summary = summary_of(population)
    cells, low, step = _cells(population, width)
    while True:
        page = _page(population, cells, width, (low, step), summary.mean_activity, depth)
        if len(page) <= MOST_BYTES or cells.shape[1] < 2:
            break
        cells, width = _halved(cells, population.modality), 2 * width
    with whole(output) as partial:
        partial.write_text(page)
    return f"{counted(units, 'unit')} in bins of {width * population.bin_s:.3g} s, {decimal(len(page))}"


def _cells(population: Population, width: int) -> tuple[np.ndarray, float, float]:
    """Sum spikes, or average dF/F, over ``width`` bins; return one byte per cell, ``low`` and ``step``.

    The value of a cell is ``low + step * byte``.
    """
    spikes = population.modality == "spikes"
    parts = []
    for part in _in_parts(population, width):
        edges = np.arange(0, part.shape[1], width)
        total = np.add.reduceat(part, edges, axis=1, dtype=np.float32)
        if not spikes:
            total /= np.diff([*edges, part.shape[1]])
        parts.append(np.minimum(total, 255).astype(np.uint8) if spikes else total)
    cells = np.concatenate(parts, axis=1)
    if spikes:
        return cells, 0.0, 1.0
    low, high = np.nanpercentile(cells[:, :: max(1, cells.size // 2_000_000)], GREY)
    step = max(float(high - low), 1e-9) / 255
    return np.clip(np.nan_to_num((cells - low) / step), 0, 255).round().astype(np.uint8), float(low), step


def _in_parts(population: Population, width: int) -> Iterator[np.ndarray]:
    """Yield the activity in parts, each of a whole number of cells."""
    units, bins = population.activity.shape
    length = width * max(1, CELLS_AT_ONCE // (units * width))
    for start in range(0, bins, length):
        yield np.asarray(population.activity[:, start : start + length])


def _halved(cells: np.ndarray, modality: str) -> np.ndarray:
    """Merge pairs of neighbouring cells: the sum of spikes, or the mean of dF/F."""
    mode: Literal["edge", "constant"] = "edge" if modality == "calcium" else "constant"
    even = np.pad(cells, ((0, 0), (0, cells.shape[1] % 2)), mode=mode)
    total = even[:, ::2].astype(np.uint16) + even[:, 1::2]
    return np.minimum(total if modality == "spikes" else total // 2, 255).astype(np.uint8)


def _page(
    population: Population,
    cells: np.ndarray,
    width: int,
    grey: tuple[float, float],
    mean_activity: np.ndarray,
    depth: str,
) -> str:
    block = Block()
    columns, _ = block.add_columns(population.units)
    bin_s = width * population.bin_s
    gaps = unused_time(population, cells, bin_s)
    header = {
        "ids": as_text(population.units["unit_id"]).tolist(),
        "columns": columns,
        "depths": block.add(_depths(population, depth)),
        "modality": population.modality,
        "bin": bin_s,
        "start": population.start_s,
        "stop": population.stop_s,
        "bins": cells.shape[1],
        "low": grey[0],
        "step": grey[1],
        "cells": block.add(cells),
        "mean": block.add(mean_activity.astype(np.float32)),
        "gaps": gaps,
    }
    low, median, high = np.percentile(mean_activity, [5, 50, 95])
    unit = "Hz" if population.modality == "spikes" else "dF/F"
    return template("activity.html.j2").render(
        population=population,
        units=counted(len(population.units), "unit"),
        minutes=[_brief(population.valid_minutes), _brief((population.stop_s - population.start_s) / 60)],
        activity=f"{median:.3g} ({low:.3g} to {high:.3g}) {unit}",
        shown_bin_s=bin_s,
        gaps=gaps,
        data=block.packed(header),
    )


def _brief(minutes: float) -> str:
    """Write minutes with one decimal place, or with two digits below one minute."""
    return f"{minutes:.1f}" if minutes >= 1 or not minutes else f"{minutes:.2g}"


def _depths(population: Population, depth: str) -> np.ndarray:
    """Return the depths of the units (um); NaN if unknown."""
    if depth not in population.units:
        return np.full(len(population.units), np.nan, np.float32)
    return depths_of(population.units, depth).astype(np.float32)


def unused_time(population: Population, cells: np.ndarray, bin_s: float) -> list[dict[str, Any]]:
    """List the spans of time outside the valid spans.

    Each has ``start`` and ``stop`` (s), and ``silent``, which is true if no unit is active in the span.

    Parameters
    ----------
    population
        Population with the valid spans.
    cells
        Activity of the population, ``(unit, time)``; 0 where there are no spikes.
    bin_s
        Length of the bins of ``cells`` (s).
    """
    ends = [(0.0, population.start_s), *population.valid_spans, (population.stop_s, 0.0)]
    found = []
    for (_, start), (stop, _) in pairwise(ends):
        if stop - start < population.bin_s / 2:
            continue
        # Chunking also excludes one second on either side of a silence, which contains spikes.
        edge = SILENCE_EDGE_S if stop - start > 2 * SILENCE_EDGE_S else 0.0
        first = int(np.ceil((start + edge - population.start_s) / bin_s - 1e-6))
        last = int((stop - edge - population.start_s) / bin_s + 1e-6)
        silent = population.modality == "spikes" and not cells[:, first : max(last, first + 1)].any()
        found.append({"start": float(start), "stop": float(stop), "silent": bool(silent)})
    return found
