"""Page with the decoded labels of a recording's units: a single file that contains its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nuclr.data.text import as_text, without_unknown
from nuclr.evaluation.answers.along_probe import depths_of
from nuclr.evaluation.answers.saved_probe import COVERAGE, SavedProbe
from nuclr.evaluation.answers.score_protocol import cautions, protocol_of
from nuclr.files import whole
from nuclr.report.figures.classes import UNKNOWN, colour_of, shortened
from nuclr.report.figures.scores import STYLE, panels_of
from nuclr.report.pages.embedded import as_uri
from nuclr.report.pages.templates import template
from nuclr.sharing.identify import Answers, Identified, agreement, summary
from nuclr.words import counted

# Most populations and units on the page; units.csv contains all of them.
SHOWN_POPULATIONS = 8
SHOWN_UNITS = 300
# Width at which a phone shows the figure without shrinking its text.
WIDTH_INCHES = 4.0
# Characters in a row of the legend, with 7 for each symbol. The table of classes has the whole names.
LEGEND_CHARACTERS = 68
LONGEST_IN_LEGEND = 60
# Columns of the table of classes that are shown if a class has a value.
COLUMNS = {
    "rate": "median firing rate here (Hz)",
    "rate_there": "firing rates of training units (Hz, 5th to 95th percentile)",
}
PROBES = {
    "linear": "logistic regression",
    "knn": "k nearest neighbours",
    "mlp": "a network with one hidden layer",
}


def write_identified(
    found: Identified,
    output: Path,
    *,
    title: str,
    trained_on: str,
    rates: Mapping[str, pd.DataFrame],
    provenance: Sequence[tuple[str, str]],
) -> None:
    """Write the page.

    Parameters
    ----------
    found
        Embeddings of the units, and the answers of the probes.
    output
        Path of the page.
    title
        Name of the recording.
    trained_on
        Recordings of the model's pretraining, in words; "" if they are not known.
    rates
        For each task, if known: quantiles of the firing rates (Hz) of each class in the probe's training
        units.
    provenance
        Names and values for the table of provenance.
    """
    units = found.embeddings.units
    populations = list(dict.fromkeys(units["population"]))
    page = template("identified.html.j2").render(
        title=title,
        trained_on=trained_on,
        warnings=found.warnings,
        recorded=_recorded(units),
        sure=round(100 * found.sure),
        sections=[
            _section(found, task, answers, populations, rates.get(task))
            for task, answers in found.answers.items()
        ],
        said=summary(found),
        units=_units(found),
        all_units=len(units),
        provenance=provenance,
    )
    with whole(output) as partial:
        partial.write_text(page)


def _recorded(units: pd.DataFrame) -> str:
    animals = [name for name in dict.fromkeys(units["animal"]) if name]
    whose = f" of {counted(len(animals), 'animal')}" if animals else ""
    if len(animals) == 1:
        whose = f" of animal {animals[0]}"
    return f"{counted(len(units), 'unit')} in {counted(units['population'].nunique(), 'population')}{whose}"


def _section(
    found: Identified, task: str, answers: Answers, populations: Sequence[str], rates: pd.DataFrame | None
) -> dict[str, Any]:
    """Collect the content of the page's section about one probe."""
    record, table = answers.probe.record, answers.table
    reasons = table["why_not"][table["why_not"] != ""].value_counts()
    scores, classes = record["scores"], _classes(found, answers, rates)
    told = found.embeddings.units["population"][answers.has_probabilities]
    drawn = [name for name in populations if name in set(told)]
    return {
        "name": task.replace("_", " "),
        "id": f"task-{task}",
        "classes": classes,
        "columns": [column for column in COLUMNS.items() if any(column[0] in row for row in classes)],
        "reasons": reasons.to_dict(),
        "probe": PROBES[answers.probe.kind] + (" on centred embeddings" if answers.probe.is_centred else ""),
        "learned": f"{counted(record['learned_from']['units'], 'unit')} of "
        f"{counted(len(record['learned_from']['animals']), 'animal')}",
        "scores": scores,
        "protocol": protocol_of(record, found.embeddings.pretraining),
        "cautions": cautions(record),
        "agreement": agreement(found.embeddings, task, answers),
        "low": scores.get("low"),
        "promise": _promise(answers.probe, found.coverage),
        "boundaries": None if answers.boundaries is None else answers.boundaries.to_dict("records"),
        "pictures": [_picture(found, task, answers, name) for name in drawn[:SHOWN_POPULATIONS]],
        "drawn": len(drawn),
        # Only spikes have firing rates; imaged units cannot have depths on a recording probe.
        "on_a_probe": "rate_hz" in found.embeddings.units,
        "neighbours": answers.boundaries is not None,
    }


def _promise(probe: SavedProbe, coverage: float | None) -> str:
    """Return how often prediction sets contain the true class, and why not as often as by default."""
    if "conformal" not in probe.record or not (promise := probe.promise(coverage)):
        return ""
    said = f"It contains the true class of {100 * promise:.0f} % of units"
    if coverage is not None or promise >= COVERAGE:
        return f"{said}."
    groups, name = probe.record["conformal"]["groups"], probe.record["scores"]["measured_on"].split()[1]
    return (
        f"{said}, not {100 * COVERAGE:.0f} %, because {groups} {name.rstrip(',')} were held out to calibrate "
        "the probe, and n of them can guarantee no more than n / (n + 1)."
    )


def _classes(found: Identified, answers: Answers, rates: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Tabulate the classes: number of units with each answer, and their firing rates here and in training."""
    told = answers.has_probabilities
    table, units = answers.table[told], found.embeddings.units[told]
    rate = pd.to_numeric(units["rate_hz"], errors="coerce") if "rate_hz" in units else None
    rows = []
    for name in answers.probe.classes:
        own = (table["predicted"] == name).to_numpy()
        row: dict[str, Any] = {
            "name": name,
            "answered": int(own.sum()),
            "expected": float(table[f"p_{name}"].sum()),
            "possible": int(table["one_of"].str.split("|").map(lambda sets, name=name: name in sets).sum()),
        }
        if rate is not None and own.any():
            row["rate"] = f"{rate[own].median():.3g}"
        if rates is not None and name in rates.index and rates.loc[name].notna().all():
            quantiles = rates.loc[name]
            row["rate_there"] = f"{quantiles.iloc[0]:.3g} to {quantiles.iloc[-1]:.3g}"
        rows.append(row)
    return rows


def _units(found: Identified) -> tuple[list[str], list[list[str]]]:
    """Return column names and rows of the table of the first units, with the answers of each probe."""
    units = found.embeddings.units
    columns = {"unit": _words(units["unit_id"]), "population": _words(units["population"])}
    if found.depth in units:
        columns["depth (um)"] = _numbers(depths_of(units, found.depth), ".0f")
    for task, answers in found.answers.items():
        name, table = task.replace("_", " "), answers.table
        columns[name] = _words(table["predicted"].where(table["predicted"] != "", "don't know"))
        columns[f"probability of {name}"] = _numbers(table["probability"].to_numpy(float), ".2f")
        columns[f"{name}, one of"] = _words(table["one_of"].str.replace("|", ", "))
        if "along_probe" in table:
            columns[f"{name} along the probe"] = _words(table["along_probe"])
        columns[f"typical ({name})"] = _numbers(table["typical"].to_numpy(float), ".2f")
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return list(columns), rows[:SHOWN_UNITS]


def _words(values: pd.Series) -> list[str]:
    return as_text(values).tolist()


def _numbers(values: np.ndarray, form: str) -> list[str]:
    return ["" if np.isnan(value) else format(value, form) for value in values]


def _picture(found: Identified, task: str, answers: Answers, population: str) -> dict[str, Any]:
    """Draw one population: along depth (``deep``) if its depths are known, else unit by unit."""
    units = found.embeddings.units
    rows = np.flatnonzero((units["population"] == population).to_numpy())
    depth = depths_of(units, found.depth)[rows] if found.depth in units else np.full(len(rows), np.nan)
    known = np.isfinite(depth)
    deep = bool(known.any())
    if deep:
        figure = depth_figure(found, task, answers, rows[known], depth[known])
    else:
        figure = units_figure(answers, rows, task)
    n = counted(len(rows), "unit")
    return {"population": population, "n": n, "deep": deep, "picture": _data_uri(figure)}


def depth_figure(
    found: Identified, task: str, answers: Answers, rows: np.ndarray, depth: np.ndarray
) -> Figure:
    """Draw units along a recording probe: the probability of each unit's likeliest class, and strips.

    The strips show the likeliest class of each unit alone, the classes smoothed along the probe with 90 %
    intervals of the boundaries, and the labels in the recording, if it has any.

    Parameters
    ----------
    found
        Embeddings of the units, and the answers of the probes.
    task, answers
        Task to draw, and the answers of its probe.
    rows
        Units to draw, ``(unit,)``.
    depth
        Their depths (um), ``(unit,)``.
    """
    units, table = found.embeddings.units, answers.table.iloc[rows]
    classes = [str(name) for name in answers.probe.classes]
    population = units["population"].iloc[rows[0]]
    strips = {"alone": answers.likeliest[rows].tolist()}
    if "along_probe" in table:
        strips["smoothed"] = _words(table["along_probe"])
    if task in units and any(told := without_unknown(units[task].iloc[rows]).tolist()):
        strips["recorded"] = told
    spread = max(float(np.ptp(depth)), 1.0)
    with style.context(STYLE):
        figure, panels = panels_of(
            (WIDTH_INCHES, 3.6), 1 + len(strips), sharey=True, width_ratios=[3.2] + [1] * len(strips)
        )
        answered = (table["predicted"] != "").to_numpy()
        colours = np.array([colour_of(name, classes) for name in strips["alone"]])
        size = float(np.clip(1500 / max(1, len(rows)), 3, 22))
        values = table["probability"].to_numpy(float)
        panels[0].scatter(values[answered], depth[answered], s=size, c=colours[answered], linewidths=0)
        panels[0].scatter(
            values[~answered],
            depth[~answered],
            s=size,
            facecolors="none",
            edgecolors=colours[~answered],
            linewidths=0.7,
        )
        panels[0].set_xlim(0, 1.02)
        panels[0].set_xlabel("probability of the likeliest class")
        panels[0].set_ylabel("depth on the probe (um)")
        for ax, (name, labels) in zip(panels[1:], strips.items(), strict=True):
            _strip(ax, depth, labels, classes, spread)
            ax.set_xlabel(name, fontsize=7)
        if answers.boundaries is not None:
            own = answers.boundaries[answers.boundaries["population"] == population]
            for row in own.itertuples():
                panels[2].axhspan(row.low_um, row.high_um, color="black", alpha=0.18, linewidth=0)
                panels[2].axhline(row.depth_um, color="black", linewidth=0.9)
        panels[0].set_ylim(depth.min() - 0.03 * spread, depth.max() + 0.03 * spread)
        _legend(figure, classes, not answered.all())
    return figure


def _strip(ax: Any, depth: np.ndarray, labels: Sequence[str], classes: list[str], spread: float) -> None:
    """Draw a strip of classes along depth; each unit extends halfway to its neighbours on either side."""
    order = np.argsort(depth, kind="stable")
    sorted_depth = depth[order]
    middles = (sorted_depth[1:] + sorted_depth[:-1]) / 2
    edges = np.concatenate([[sorted_depth[0] - spread / 100], middles, [sorted_depth[-1] + spread / 100]])
    ax.barh(
        edges[:-1],
        1.0,
        height=np.diff(edges),
        align="edge",
        color=[colour_of(labels[i], classes) for i in order],
        linewidth=0,
    )
    ax.set_xlim(0, 1)
    ax.set_xticks([])
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(left=False)


def units_figure(answers: Answers, rows: np.ndarray, task: str) -> Figure:
    """Draw stacked probabilities of the classes of each unit, with units sorted by their likeliest class.

    Parameters
    ----------
    answers
        Answers of a probe.
    rows
        Units to draw, ``(unit,)``.
    task
        Task of the probe.
    """
    classes = list(answers.probe.classes)
    table = answers.table.iloc[rows]
    probability = np.nan_to_num(table[[f"p_{name}" for name in classes]].to_numpy(float))
    best = probability.argmax(axis=1)
    order = np.lexsort((-probability.max(axis=1), best, probability.sum(axis=1) == 0))
    stacked = np.cumsum(probability[order], axis=1)
    place = np.arange(len(rows) + 1)
    with style.context(STYLE):
        figure, ax = panels_of((WIDTH_INCHES, 2.6))
        below = np.zeros(len(rows))
        for i, name in enumerate(classes):
            ax.stairs(stacked[:, i], place, baseline=below, fill=True, color=colour_of(name, classes))
            below = stacked[:, i]
        answered = np.flatnonzero((table["predicted"] != "").to_numpy()[order])
        ax.plot(
            answered + 0.5,
            np.full(len(answered), 1.04),
            linestyle="",
            marker="|",
            markersize=3,
            color="black",
        )
        ax.set_xlim(0, len(rows))
        ax.set_ylim(0, 1.08)
        ax.set_xlabel(f"units ({len(rows)}), sorted; a tick above marks an answer")
        ax.set_ylabel(f"probability of {task.replace('_', ' ')}")
        _legend(figure, classes, False)
    return figure


def _legend(figure: Figure, classes: Sequence[str], hollow: bool) -> None:
    """Draw the classes below a figure, in as many columns as its width allows; more rows make it taller."""
    said = shortened(classes, LONGEST_IN_LEGEND)
    handles = [
        Line2D([], [], marker="s", linestyle="", markersize=4, color=colour_of(name, classes), label=label)
        for name, label in zip(classes, said, strict=True)
    ]
    if hollow:
        handles.append(
            Line2D(
                *([], []),
                marker="o",
                linestyle="",
                markersize=4,
                markerfacecolor="none",
                color=UNKNOWN,
                label="no answer",
            )
        )
    columns = min(5, len(handles), LEGEND_CHARACTERS // (max(map(len, said), default=0) + 7))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.15 * max(0, rows - 2))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _data_uri(figure: Figure) -> str:
    held = BytesIO()
    with style.context(STYLE):
        figure.savefig(held, format="png", dpi=180)
    return as_uri(held.getvalue(), ".png")
