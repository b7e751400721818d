"""The interactive page of units: a map of an embedding, or of two beside each other, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.filesize import decimal

from nuclr.data.population import Population
from nuclr.data.text import as_text
from nuclr.errors import DataError
from nuclr.evaluation.answers.saved_probe import SavedProbe
from nuclr.files import whole
from nuclr.report.layouts import Layout, lay_out
from nuclr.report.packed import Block
from nuclr.report.templates import template
from nuclr.report.unit_details import Details, details_of, neighbours
from nuclr.representation.baselines import SHORT_LAGS
from nuclr.representation.embeddings import Embeddings, read_all
from nuclr.words import counted

# With so many the page stays below 15 MB, be they all noise: 80 bytes a unit of activity, 4 of a column.
MOST_DETAILED = 60_000


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
    """Write the page; return in words what is on it.

    Parameters
    ----------
    paths
        Embeddings of one model.
    output
        ``explore.html``.
    beside
        Embeddings of another model or an untrained one, for a second map of the same units.
    probes
        By what they tell; of the model of ``paths``. Predictions become columns.
    populations
        Recordings of the units, for what is shown of a single one.
    layouts
        How to lay embeddings flat; the first is shown first.
    depth
        Column with depths on the probe (um).
    kept
        Folder for layouts that take minutes.
    title
        Of the page; "": the name of the first map.
    names
        Of the maps; else the names of the files or of their folders.

    Raises
    ------
    NuclrError
        If a file cannot be read, the two have no unit in common, or a probe is of another model.
    """
    first = _embeddings(paths)
    known = ~np.isnan(first.vectors).any(axis=1)
    if not known.any():
        raise DataError(f"{paths[0]}: no unit of it was ever active, so there is no map")
    units = _with_answers(first, probes or {})[known].reset_index(drop=True)
    called = [*names, *[_name_of(given) for given in (paths, beside) if given][len(names) :]]
    maps = [_map(called[0], first.vectors[known], units, layouts, kept)]
    if beside:
        second = _matched(_embeddings(beside), units["unit_id"], beside)
        maps.append(_map(called[1], second, units, layouts, kept))
    details = details_of(populations, units["unit_id"].tolist(), MOST_DETAILED)
    if details is not None and "rate_hz" not in units:
        rate = np.full(len(units), np.nan, np.float32)
        rate[details.known] = details.mean_activity
        units["rate_hz" if details.modality == "spikes" else "mean_df_f"] = rate
    packed, left_out = _pack(units, maps, details, depth)
    notes = []
    if missing := int((~known).sum()):
        notes.append(f"{counted(missing, 'unit')} never active, and so not on the map")
    if left_out:
        notes.append(f"columns that are left out, to keep the page small: {', '.join(left_out)}")
    page = template("explore.html.j2").render(
        title=title or called[0],
        two=bool(beside),
        said=_said(units, maps),
        notes=notes,
        data=packed,
    )
    with whole(output) as partial:
        partial.write_text(page)
    return f"{counted(len(units), 'unit')}, {decimal(len(page))}"


def _said(units: pd.DataFrame, maps: Sequence[Mapping[str, Any]]) -> str:
    whose = f" of {counted(units['animal'].nunique(), 'animal')}" if "animal" in units else ""
    said = f"{counted(len(units), 'unit')}{whose}."
    if len(maps) == 2:
        said += f" Two representations of the same units, {maps[0]['name']} and {maps[1]['name']}."
    return said


def _embeddings(paths: Sequence[Path]) -> Embeddings:
    if len(paths) == 1:
        from nuclr.representation.embeddings import read_embeddings

        table, vectors, record = read_embeddings(paths[0])
        windows = table.pop("windows").to_numpy() if "windows" in table else np.ones(len(table))
        return Embeddings(table, vectors, windows, record.get("model", ""))
    return read_all(paths)[0]


def _name_of(paths: Sequence[Path]) -> str:
    """Name embeddings by their file, or by its folder where the file is called as all are."""
    path = Path(paths[0]).absolute()
    return path.parent.name if path.stem == "embeddings" else path.stem


def _matched(other: Embeddings, unit_ids: pd.Series, paths: Sequence[Path]) -> np.ndarray:
    """Vectors of other embeddings in the order of some units, ``(unit, dim)``; NaN where they have none."""
    rows = pd.Index(other.units["unit_id"]).get_indexer(unit_ids)
    if (rows < 0).all():
        raise DataError(f"--beside {paths[0]}: has no unit in common with the other embeddings")
    return np.where((rows >= 0)[:, None], other.vectors[rows], np.nan).astype(np.float32)


def _with_answers(embeddings: Embeddings, probes: Mapping[str, SavedProbe]) -> pd.DataFrame:
    """Put what probes predict beside the labels of units."""
    units = embeddings.units.assign(windows=embeddings.windows)
    for task, probe in probes.items():
        found = probe.predict(embeddings)
        answer = found["predicted"].where(found["predicted"] != "", "don't know")
        units[f"{task} predicted"] = answer.to_numpy(object)
        units[f"{task} probability"] = found["probability"].to_numpy(float)
    return units


def _map(
    name: str, vectors: np.ndarray, units: pd.DataFrame, layouts: Sequence[Layout], kept: Path | None
) -> dict[str, Any]:
    """Lay embeddings flat, and find each unit's neighbours in other animals."""
    known = ~np.isnan(vectors).any(axis=1)
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
    units: pd.DataFrame, maps: Sequence[Mapping[str, Any]], details: Details | None, depth: str
) -> tuple[str, list[str]]:
    """Pack all that the page shows, as base64; and name the columns that were left out."""
    block = Block()
    columns, left_out = block.add_columns(units)
    header = {
        "ids": as_text(units["unit_id"]).tolist(),
        "columns": columns,
        "depth": depth if depth in units else None,
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
    """Write where units lie as 16-bit steps of the map's width; the least value is none."""
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
        "rateTop": details.rate_top,
        "minutes": details.minutes,
        "correlation": details.correlation,
    }
    return {
        **{name: block.add(values) for name, values in arrays.items()},
        "lags": details.lags_s,
        "short": len(SHORT_LAGS),  # lags in the recording's own bins; those after them are in wider ones
        "edges": details.edges_s,
        "widths": details.widths_s,
        "modality": details.modality,
    }
