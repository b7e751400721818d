"""Interactive page of units: one map of embeddings, or two side by side, in a single file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.filesize import decimal

from nuclr.data.population import Population
from nuclr.data.text import as_text
from nuclr.errors import DataError
from nuclr.evaluation.answers.along_probe import depths_of
from nuclr.evaluation.answers.saved_probe import SavedProbe, likeliest
from nuclr.files import whole
from nuclr.report.pages.packed import Block
from nuclr.report.pages.templates import template
from nuclr.report.pages.unit_details import Details, details_of, neighbours
from nuclr.representation.baselines import SHORT_LAGS
from nuclr.representation.embeddings import Embeddings, read_all, read_embeddings, refuse_twice
from nuclr.representation.layouts import Layout, lay_out
from nuclr.words import counted

# Most units with activity. The page stays below 15 MB even if nothing can be compressed: each unit has 84
# bytes of activity, and 4 bytes for each column.
MOST_DETAILED = 60_000
# Columns that each probe adds.
ANSWERS = ("likeliest", "predicted", "probability")


def write_explore(
    paths: Sequence[Path],
    output: Path,
    *,
    beside: Sequence[Path] = (),
    probes: Mapping[str, SavedProbe] | None = None,
    populations: Iterable[Population] = (),
    layouts: Sequence[Layout] = ("pca",),
    depth: str = "depth_um",
    kept: Path | None = None,
    title: str = "",
    names: Sequence[str] = (),
) -> str:
    """Write the page, and return a one-line summary of it.

    Parameters
    ----------
    paths
        Embeddings of one model.
    output
        Path of the page.
    beside
        Embeddings of another model or of an untrained one, for a second map of the same units.
    probes
        Probes for the model of ``paths``, by task. Their predictions become columns.
    populations
        Recordings of the units, from which the activity of single units is shown.
    layouts
        Two-dimensional layouts of the embeddings; the page opens with the first.
    depth
        Column with depths on the probe (um).
    kept
        Folder in which slow layouts are stored.
    title
        Title of the page; if "", the name of the first map.
    names
        Names of the maps; by default the names of the files or of their folders.

    Raises
    ------
    NuclrError
        If a file cannot be read, the two embeddings have no unit in common, or a probe belongs to another
        model.
    """
    first = _embeddings(paths)
    known = _is_known(first.vectors)
    if not known.any():
        raise DataError(f"{paths[0]}: no unit was ever active, so there are no embeddings to map")
    units = _with_answers(first, probes or {})[known].reset_index(drop=True)
    called = [*names, *[_name_of(given) for given in (paths, beside) if given][len(names) :]]
    maps = [_map(called[0], first.vectors[known], units, layouts, kept)]
    if beside:
        second = _matched(_embeddings(beside), units["unit_id"], beside)
        maps.append(_map(called[1], second, units, layouts, kept))
    any_recording, populations = _peeked(populations)
    details = details_of(populations, units["unit_id"].tolist(), MOST_DETAILED)
    if details is not None and "rate_hz" not in units:
        rate = np.full(len(units), np.nan, np.float32)
        rate[details.known] = details.mean_activity
        units["rate_hz" if details.modality == "spikes" else "mean dF/F"] = rate
    wanted = [depth, *(f"{task} {what}" for task in probes or () for what in ANSWERS)]
    packed, left_out = _pack(units, maps, details, depth, wanted)
    notes = []
    if missing := int((~known).sum()):
        notes.append(f"not on the map, because never active: {counted(missing, 'unit')}")
    silent = len(units) - (0 if details is None else len(details.known))
    if any_recording and silent:
        notes.append(
            "without activity, because not in the recordings that can be shown together: "
            + counted(silent, "unit")
        )
    if left_out:
        notes.append(f"columns left out to keep the page small: {', '.join(left_out)}")
    page = template("explore.html.j2").render(
        title=title or called[0],
        two=bool(beside),
        said=_said(units, maps),
        notes=notes,
        data=packed,
    )
    with whole(output) as partial:
        partial.write_text(page)
    active = f"activity of {len(units) - silent} of them, " if any_recording else ""
    return f"{counted(len(units), 'unit')}, {active}{decimal(len(page))}"


def _said(units: pd.DataFrame, maps: Sequence[Mapping[str, Any]]) -> str:
    animals = set(as_text(units["animal"])) - {""} if "animal" in units else set()
    whose = f" of {counted(len(animals), 'animal')}" if animals else ""
    said = f"{counted(len(units), 'unit')}{whose}."
    if len(maps) == 2:
        said += f" Two representations of the same units, {maps[0]['name']} and {maps[1]['name']}."
    return said


def _embeddings(paths: Sequence[Path]) -> Embeddings:
    if len(paths) == 1:
        table, vectors, record = read_embeddings(paths[0])
        refuse_twice(table)
        windows = table.pop("windows").to_numpy() if "windows" in table else np.ones(len(table))
        return Embeddings(table, vectors, windows, record.get("model", ""))
    return read_all(paths)[0]


def _name_of(paths: Sequence[Path]) -> str:
    """Return the name of the file of embeddings, or of its folder if it is ``embeddings.parquet``."""
    path = Path(paths[0]).absolute()
    return path.parent.name if path.stem == "embeddings" else path.stem


def _matched(other: Embeddings, unit_ids: pd.Series, paths: Sequence[Path]) -> np.ndarray:
    """Return other embeddings of the same units in their order, ``(unit, dim)``; NaN for missing units."""
    # As text, because ids that are numbers may be stored as either.
    rows = pd.Index(as_text(other.units["unit_id"])).get_indexer(as_text(unit_ids))
    known = rows >= 0
    known[known] = _is_known(other.vectors[rows[known]])
    if not known.any():
        raise DataError(
            f"--beside {paths[0]}: has no unit in common with the other embeddings; give embeddings of the "
            "same recordings"
        )
    return np.where(known[:, None], other.vectors[rows], np.nan).astype(np.float32)


def _is_known(vectors: np.ndarray) -> np.ndarray:
    """Return which units have an embedding, ``(unit,)``; one with NaN or infinity cannot be mapped."""
    return np.isfinite(vectors).all(axis=1)


def _peeked(populations: Iterable[Population]) -> tuple[bool, Iterable[Population]]:
    """Return whether there is a population, and all of them, without reading more than the first."""
    rest = iter(populations)
    first = list(islice(rest, 1))
    return bool(first), chain(first, rest)


def _with_answers(embeddings: Embeddings, probes: Mapping[str, SavedProbe]) -> pd.DataFrame:
    """Return the table of units with the predictions of the probes as additional columns."""
    units = embeddings.units.assign(windows=embeddings.windows)
    for task, probe in probes.items():
        found = probe.predict(embeddings)
        answer = found["predicted"].where(found["predicted"] != "", "don't know")
        units[f"{task} likeliest"] = likeliest(found, probe.classes)
        units[f"{task} predicted"] = answer.to_numpy(object)
        units[f"{task} probability"] = found["probability"].to_numpy(float)
    return units


def _map(
    name: str, vectors: np.ndarray, units: pd.DataFrame, layouts: Sequence[Layout], kept: Path | None
) -> dict[str, Any]:
    """Compute the layouts of a map, and the nearest neighbours of each unit in other animals."""
    known = _is_known(vectors)
    laid = {}
    for layout in layouts:
        points = np.full((len(vectors), 2), np.nan)
        points[known] = lay_out(vectors[known], layout, kept)
        laid[layout] = points
    group = as_text(units["animal"]).to_numpy() if "animal" in units else np.zeros(len(units), "U1")
    return {
        "name": name,
        "layouts": laid,
        "neighbours": neighbours(vectors, group),
        "others": "other animals" if len(set(group)) > 1 else "the other units",
    }


def _pack(
    units: pd.DataFrame,
    maps: Sequence[Mapping[str, Any]],
    details: Details | None,
    depth: str,
    wanted: Sequence[str],
) -> tuple[str, list[str]]:
    """Return the data of the page as base64, and the names of the columns that were left out."""
    block = Block()
    columns, left_out = block.add_columns(units, wanted)
    # The column itself may be text, in which case it has no numbers for the position on the probe.
    depths = depths_of(units, depth) if depth in units else np.zeros(0)
    header = {
        "ids": as_text(units["unit_id"]).tolist(),
        "columns": columns,
        "depths": block.add(depths.astype(np.float32)) if np.isfinite(depths).any() else None,
        "maps": [
            {
                "name": shown["name"],
                "others": shown["others"],
                "layouts": {name: _points(points, block) for name, points in shown["layouts"].items()},
                "neighbours": block.add(shown["neighbours"]),
            }
            for shown in maps
        ],
        "details": None if details is None else _details(details, len(units), block),
    }
    return block.packed(header), left_out


def _points(points: np.ndarray, block: Block) -> dict[str, Any]:
    """Add coordinates as 16-bit fractions of the map's width; the lowest value means not on the map."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    span = max(float((high - low).max()), 1e-9)
    steps = np.nan_to_num((points - (low + high) / 2) / span * 65_000, nan=-32_768)
    return block.add(np.round(steps).astype(np.int16).T)


def _details(details: Details, units: int, block: Block) -> dict[str, Any]:
    rows = np.full(units, -1, np.int32)
    rows[details.known] = np.arange(len(details.known))
    arrays = {
        "row": rows,
        "autocorrelogram": details.autocorrelogram,
        "intervals": details.intervals,
        "rate": details.rate,
        "rateLow": details.rate_low,
        "rateTop": details.rate_top,
        "minutes": details.minutes,
        "correlation": details.correlation,
    }
    return {
        **{name: block.add(values) for name, values in arrays.items()},
        "lags": details.lags_s,
        "short": len(SHORT_LAGS),  # number of lags in bins of the recording; the later lags use wider bins
        "edges": details.edges_s,
        "widths": details.widths_s,
        "modality": details.modality,
    }
