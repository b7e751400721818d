"""Figures of the data set, of training, and of the embeddings of all units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps, style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nuclr.config import Probe
from nuclr.data.defaults import completed_probe
from nuclr.errors import DataError
from nuclr.evaluation.protocols import class_labels
from nuclr.report.figures.classes import SHOWN_CLASSES, colour_of, in_order, shortened
from nuclr.report.figures.scores import COLUMN_INCHES, NUCLR, STYLE, panels_of, save_figure
from nuclr.representation.embeddings import read_embeddings, write_csv
from nuclr.representation.layouts import flat
from nuclr.words import counted

SHOWN_UNITS = 20_000
LONGEST_BESIDE_BARS = 18


def data_figure(units: pd.DataFrame, populations: pd.DataFrame, labels: dict[str, np.ndarray]) -> Figure:
    """Draw the size of a data set: units and minutes of each animal, and units of each class.

    Parameters
    ----------
    units, populations
        Tables from :func:`nuclr.data.catalog.catalog`.
    labels
        Classes of the units in each task; "" for units without one.
    """
    animals = populations.groupby("animal").agg(minutes=("minutes", "sum"), units=("units", "sum"))
    animals = animals.sort_values("units", ascending=False)
    with style.context(STYLE):
        figure, panels = panels_of((2 * COLUMN_INCHES, 2.2), 2 + len(labels), squeeze=False)
        for ax, (column, label) in zip(
            panels[0], (("units", "units (count)"), ("minutes", "valid time (minutes)")), strict=False
        ):
            ax.bar(range(len(animals)), animals[column], width=1.0, color=NUCLR, linewidth=0)
            ax.set_xlabel(f"animal ({len(animals)})")
            ax.set_ylabel(label)
            ax.set_xticks([])
        for ax, (task, own) in zip(panels[0, 2:], labels.items(), strict=True):
            classes = in_order(own)[:SHOWN_CLASSES]
            counts = [np.sum(own == name) for name in classes]
            ax.barh(range(len(counts)), counts, color=[colour_of(name, classes) for name in classes])
            ax.set_yticks(range(len(counts)), shortened(classes, LONGEST_BESIDE_BARS))
            ax.invert_yaxis()
            ax.set_xlabel(f"units of {task.replace('_', ' ')} (count)")
    return figure


def training_figure(metrics: dict[str, pd.DataFrame]) -> Figure:
    """Draw the loss and the effective rank of the embeddings of each run against the training step.

    Parameters
    ----------
    metrics
        ``metrics.csv`` of each run, by the name of the run, ``n{animals}-s{seed}``.
    """
    counts = sorted({int(name[1:].split("-")[0]) for name in metrics})
    shade = colormaps["viridis_r"]
    with style.context(STYLE):
        figure, panels = panels_of((2 * COLUMN_INCHES, 2.3), 2)
        for name, table in metrics.items():
            place = counts.index(int(name[1:].split("-")[0]))
            colour = shade(0.1 + 0.9 * place / max(1, len(counts) - 1))
            label = counted(counts[place], "animal") if name.endswith("-s0") else None
            window = max(1, len(table) // 50)
            loss = table["loss"].rolling(window, min_periods=1).mean()
            panels[0].plot(table["step"], loss, color=colour, linewidth=0.9)
            ranks = table.dropna(subset="rankme") if "rankme" in table else table.iloc[:0]
            panels[1].plot(ranks["step"], ranks.get("rankme", []), color=colour, linewidth=0.9, label=label)
        panels[0].set_ylabel("loss (nats, running mean)")
        panels[1].set_ylabel("effective rank of embeddings (1)")
        for ax in panels:
            ax.set_xlabel("step")
        panels[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def embedding_figure(points: np.ndarray, colourings: dict[str, np.ndarray], title: str) -> Figure:
    """Draw units along two principal components, with one panel for each colouring.

    Parameters
    ----------
    points
        Coordinates from :func:`flat`, ``(unit, 2)``.
    colourings
        Class of each unit, ``(unit,)``, by the name of the panel; units with "" are grey.
    title
        Title of the figure.
    """
    with style.context(STYLE):
        figure, panels = panels_of((2 * COLUMN_INCHES, 2.6), len(colourings), squeeze=False)
        chosen = np.random.default_rng(0).permutation(len(points))[:SHOWN_UNITS]
        rows = 5
        for ax, (name, values) in zip(panels[0], colourings.items(), strict=True):
            classes = in_order(values)
            shown = classes[:SHOWN_CLASSES]
            colour = [colour_of(value, shown) for value in values[chosen]]
            # Large dots for few units, small ones for many.
            size = np.clip(1000 / max(1, len(chosen)), 3, 25)
            ax.scatter(*points[chosen].T, s=size, c=colour, linewidths=0, alpha=0.7)
            ax.set_xlabel("PC 1 (1)")
            ax.set_xticks([])
            ax.set_yticks([])
            if len(classes) <= SHOWN_CLASSES:
                said = shortened(classes)
                handles = [
                    Line2D([], [], marker="o", linestyle="", ms=3, color=colour_of(name, shown), label=label)
                    for name, label in zip(classes, said, strict=True)
                ]
                columns = 1 if max(map(len, said), default=0) > 14 else 2
                rows = max(rows, -(-len(classes) // columns))
                ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=columns)
            ax.set_title(f"{name.replace('_', ' ')} ({len(classes)})", loc="left")
        panels[0, 0].set_ylabel("PC 2 (1)")
        figure.set_figheight(2.6 + 0.15 * (rows - 5))  # legends with more rows make it taller
        figure.suptitle(title, x=0.01, ha="left", fontsize=8)
    return figure


def run_metrics(folders: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Read ``metrics.csv`` of some runs, by the name of the run; runs without any step are left out.

    Raises
    ------
    DataError
        If a file is missing.
    """
    tables = {}
    for folder in folders:
        try:
            table = pd.read_csv(folder / "metrics.csv")
        except OSError as error:
            raise DataError(
                f"{folder / 'metrics.csv'}: cannot be read ({error}); run the pretraining again"
            ) from None
        if len(table):
            tables[folder.name] = table
    return tables


def write_overview(folder: Path, runs: Sequence[str], options: Probe, output: Path) -> list[Path]:
    """Write the figures ``data``, ``training`` and ``embedding`` (png, svg, csv) to a folder.

    Parameters
    ----------
    folder
        ``results/{dataset}``.
    runs
        Names of pretrained runs; the last one provides the embeddings that are drawn.
    options
        Options of the probes, with the tasks whose classes are shown.
    output
        Folder of the figures.

    Returns
    -------
    list of Path
        Paths of the files.

    Raises
    ------
    DataError
        If a result is missing.
    """
    try:
        units, populations = (
            pd.read_parquet(folder / f"{name}.parquet") for name in ("units", "populations")
        )
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error}); run `nuclr catalog` first") from None
    tasks = completed_probe(options, units, apart=True).tasks or []
    labels = {task.name: class_labels(units, task) for task in tasks}
    metrics = run_metrics([folder / "runs" / name for name in runs])
    mapped, features, _ = read_embeddings(folder / "runs" / runs[-1] / "embeddings.parquet")
    known = ~np.isnan(features).any(axis=1)
    mapped, features = mapped[known].reset_index(drop=True), features[known]
    points = flat(features)
    colourings = {task.name: class_labels(mapped, task) for task in tasks}
    colourings["animal"] = mapped["animal"].to_numpy(object)
    coordinates = mapped[["unit_id"]].assign(first=points[:, 0], second=points[:, 1], **colourings)
    curves = pd.concat([table.assign(run=name) for name, table in metrics.items()], ignore_index=True)
    title = f"{counted(len(mapped), 'unit')}, run {runs[-1]}"
    written = []
    for name, figure, table in (
        ("data", data_figure(units, populations, labels), populations.drop(columns=["store"])),
        ("training", training_figure(metrics), curves),
        ("embedding", embedding_figure(points, colourings, title), coordinates),
    ):
        written += save_figure(figure, output / name)
        written.append(write_csv(output / f"{name}.csv", table))
    return written
