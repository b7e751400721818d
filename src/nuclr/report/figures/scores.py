"""Figures of scores, legible at the width of one column and for colour-blind readers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rcParams, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from nuclr.evaluation.law import power_law
from nuclr.files import whole
from nuclr.report.figures.classes import room_for, shortened
from nuclr.report.figures.marks import Kind, mark, with_titles
from nuclr.words import counted

STYLE = Path(__file__).with_name("style.mplstyle")
COLUMN_INCHES = 3.5
ROOM_FOR_COUNTS = 6

# Colours of Okabe and Ito; the dashes distinguish the lines without colours.
NUCLR = "#0072B2"
LINES: dict[str, tuple[str, str, Any]] = {
    "population": ("population features", "#009E73", (0, (6, 2))),
    "population_correlation": ("population correlations", "#117755", (0, (6, 1))),
    "single_neuron": ("single neuron", "#D55E00", (0, (4, 1.5))),
    "rate_regularity": ("rate, regularity", "#AA4400", (0, (3, 1.5))),
    "isi_histogram": ("ISI histogram", "#996633", (0, (5, 1, 1, 1))),
    "autocorrelogram": ("autocorrelogram", "#BB8800", (0, (2, 1))),
    "nemo": ("NEMO", "#882255", (0, (7, 1))),
    "lolcat": ("LOLCAT", "#332288", (0, (5, 2, 1, 2))),
    "untrained": ("untrained encoder", "#CC79A7", (0, (3, 1, 1, 1))),
    "which_recording": ("which recording", "#56B4E9", (0, (1, 1))),
    "shuffled": ("shuffled labels", "#777777", (0, (2, 2))),
    "chance": ("chance", "#555555", (0, (1, 2))),
}
ABLATIONS = {
    "nuclr": "NuCLR",
    "no_population_context": "no population context",
    "no_unit_dropout": "no unit dropout",
    "same_window": "both views of one window",
    "shuffled_units": "units shuffled in time",
}


def panels_of(size: tuple[float, float], columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of ``size`` inches and its panels side by side: one Axes, or an array of them.

    It does not use ``pyplot``, which would set a matplotlib backend on import and keep all figures in memory.
    """
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, columns, **options)


def name_of(representation: str) -> str:
    """Return the name of a representation for figures and tables."""
    return (
        LINES[representation][0] if representation in LINES else ABLATIONS.get(representation, representation)
    )


def scaling_figure(
    runs: pd.DataFrame, curve: pd.DataFrame, fit: dict[str, Any], controls: dict[str, float], title: str
) -> Figure:
    """Draw the scaling curve: macro-F1 against the number of animals in pretraining.

    If held-out labels chose among several probes, open circles and numbers in brackets show the scores of the
    plain probe: for runs at their number of animals, for all others at the right end of their line.

    Parameters
    ----------
    runs, curve
        Tables from :func:`nuclr.evaluation.scaling.scaling_table`.
    fit
        Result of :func:`nuclr.evaluation.law.fit_power_law`.
    controls
        Macro-F1 of ``chance`` and, if it was probed, of ``shuffled`` labels.
    title
        Task and protocol.
    """
    with style.context(STYLE):
        figure, ax = panels_of((COLUMN_INCHES, 2.9))
        trained = curve[curve["representation"] == "nuclr"]
        dots = runs[runs["representation"] == "nuclr"]
        n, mean = trained["animals"].to_numpy(), trained["macro_f1"].to_numpy()
        for run in dots.to_dict("records"):
            look: dict[str, Any] = {"markersize": 3, "alpha": 0.45, "markeredgewidth": 0, "zorder": 3}
            _dot(ax, run["animals"], run["macro_f1"], _of_run(run), NUCLR, kind="seed", **look)
        _points(ax, n, trained)
        if "refused" not in fit:
            x = np.geomspace(n.min(), n.max(), 200)
            ax.plot(x, 1 - power_law(x, fit["a"], fit["b"], fit["c"]), color=NUCLR, zorder=2)
        _pretraining_axis(ax, dots)
        ax.set_ylabel("macro-F1 (0 to 1)")
        heights = {"nuclr": float(mean[-1])}
        said = {"nuclr": _of_mean(trained.iloc[-1].to_dict())}
        for name, (_, colour, dashes) in LINES.items():
            rows = curve[curve["representation"] == name]
            if name in controls:
                heights[name] = controls[name]
                said[name] = f"{LINES[name][0]}\nmacro-F1 {controls[name]:.4f}"
            elif len(rows):
                heights[name] = float(rows["macro_f1"].iloc[0])
                said[name] = _of_mean(rows.iloc[0].to_dict())
            else:
                continue
            line = ax.axhline(heights[name], color=colour, linestyle=dashes, linewidth=1.2, zorder=1)
            mark(line, said[name])
        plain: dict[str, float] = {}
        if "plain_macro_f1" in curve:
            title += "\nopen circles, and in brackets: plain probe"
            rows = curve[curve["representation"].isin(heights)]
            plain = dict(zip(rows["representation"], rows["plain_macro_f1"], strict=True))
            for animals, score in zip(n, trained["plain_macro_f1"], strict=True):
                _open_circle(ax, animals, score, f"NuCLR, {counted(animals, 'animal')}", NUCLR)
            for name in sorted(plain.keys() & LINES.keys()):
                label, colour, _ = LINES[name]
                _open_circle(ax, 1, plain[name], label, colour, transform=ax.get_yaxis_transform())
        ax.set_title(title, loc="left")
        # With few test animals, low and high are NaN.
        drawn = [*heights.values(), *plain.values(), *dots["macro_f1"], *trained["low"], *trained["high"]]
        drawn += [*trained.get("plain_macro_f1", [])]
        # The upper limit is above 1, so that a point at 1 is not cut off.
        bottom, top = max(0.0, np.nanmin(drawn) - 0.06), min(1.02, np.nanmax(drawn) + 0.05)
        ax.set_ylim(bottom, top)
        _label_at_right(ax, heights, plain, said)
    return figure


def _points(ax: Axes, x: np.ndarray, rows: pd.DataFrame) -> None:
    """Draw means, and their 95 % intervals if there are any."""
    mean = rows["macro_f1"]
    error = np.clip([mean - rows["low"], rows["high"] - mean], 0, None)
    ax.errorbar(x, mean, yerr=error, fmt="none", color=NUCLR, capsize=2.5, elinewidth=1.2, zorder=4)
    for place, row in zip(x, rows.to_dict("records"), strict=True):
        _dot(ax, place, row["macro_f1"], _of_mean(row), NUCLR, markersize=4.5, zorder=4)


def _dot(
    ax: Axes, x: Any, y: float, text: str, colour: str, style: str = "o", kind: Kind = "mean", **look: Any
) -> None:
    """Draw one mark that shows ``text`` under the pointer."""
    (drawn,) = ax.plot([x], [y], style, color=colour, **look)
    mark(drawn, text, kind)


def _open_circle(ax: Axes, x: Any, score: float, whose: str, colour: str, **options: Any) -> None:
    text = f"{whose}, plain probe\nmacro-F1 {score:.4f}"
    _dot(ax, x, score, text, colour, markersize=3.5, fillstyle="none", clip_on=False, **options)


def _score_of(row: dict[Any, Any]) -> str:
    """Describe a score, its interval, and the numbers of test units and animals, as far as a row has them."""
    tested = [f"{row['units']:.0f} test units"] if "units" in row else []
    tested += [counted(int(row["test_animals"]), "test animal")] if "test_animals" in row else []
    seeds = f"mean of {counted(int(row['seeds']), 'seed')}" if row.get("seeds", 1) > 1 else ""
    lines = [f"macro-F1 {row['macro_f1']:.4f}{_interval_of(row)}", ", ".join(tested), seeds]
    return "\n".join(line for line in lines if line)


def _interval_of(row: dict[Any, Any]) -> str:
    """Describe the 95 % interval of a row; "" if it is not known."""
    low = row.get("low")
    return "" if low is None or np.isnan(low) else f" (95 % {low:.4f} to {row['high']:.4f})"


def _of_mean(row: dict[Any, Any]) -> str:
    """Describe a row of the curve: representation, animals in pretraining, and score."""
    whose = name_of(row["representation"])
    trained = f", {counted(int(row['animals']), 'animal')} in pretraining" if row["animals"] else ""
    plain = row.get("plain_macro_f1")
    probes = f"\nprobe: {row['probes']}\nwith the plain probe {plain:.4f}" if "probes" in row else ""
    return f"{whose}{trained}\n{_score_of(row)}{probes}"


def _of_run(run: dict[Any, Any]) -> str:
    """Describe a run: animals and seed, score, and amount of pretraining data."""
    learned = (
        f"pretrained on {run['pretraining_units']:.0f} units, {60 * run['pretraining_hours']:.3g} minutes"
    )
    whose = f"NuCLR, {counted(int(run['animals']), 'animal')} in pretraining, seed {run['seed']}"
    return f"{whose}\n{_score_of(run)}\n{learned}"


def _pretraining_axis(ax: Axes, runs: pd.DataFrame) -> None:
    """Set up a logarithmic axis of animals, with units and hours (means over seeds) below each number."""
    means = runs.groupby("animals")[["pretraining_units", "pretraining_hours"]].mean()
    ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_locator(NullLocator())
    recorded = (means > 0).all().all()
    unit, of_an_hour = ("hours", 1) if means["pretraining_hours"].max() >= 1 else ("minutes", 60)
    # Units and hours fit below about six of the numbers; the largest number always has them.
    step = -(-len(means) // ROOM_FOR_COUNTS)
    names = [
        f"{animals}\n{_brief(units)}\n{_brief(of_an_hour * hours)}"
        if (len(means) - 1 - place) % step == 0
        else f"{animals}\n\n"
        for place, (animals, units, hours) in enumerate(means.itertuples())
    ]
    size = rcParams["xtick.labelsize"] - (1 if step > 1 else 0)
    ax.set_xticks(means.index, names if recorded else means.index.astype(str), fontsize=size)
    if not recorded:
        ax.set_xlabel("animals in pretraining (count)")
        return
    ax.set_xlabel("in pretraining")
    ax.annotate(
        f"animals (count)\nunits (count)\nrecording ({unit})",
        (1.1, 0),
        xytext=(0, -rcParams["xtick.major.size"] - rcParams["xtick.major.pad"]),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=size,
        va="top",
        annotation_clip=False,
    )


def _brief(amount: float) -> str:
    """Round to two digits, or to whole thousands: 1.3, 620, 2.5k, 160k."""
    if amount < 1000:
        return f"{amount:.2g}" if amount < 10 else f"{amount:.0f}"
    return f"{amount / 1000:.2g}k" if amount < 10_000 else f"{amount / 1000:.0f}k"


def _label_at_right(
    ax: Axes, heights: dict[str, float], plain: dict[str, float], said: dict[str, str]
) -> None:
    """Label each line at its right end, without overlaps; scores of the plain probe are in brackets."""
    low, high = ax.get_ylim()
    gap = (high - low) * 0.062
    ordered = sorted(heights.items(), key=lambda item: item[1])
    places = [height for _, height in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    # Labels that would run into the title are moved down again.
    places[-1] = min(places[-1], high - gap / 3)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    for (name, height), place in zip(ordered, places, strict=True):
        label, colour = ("NuCLR", NUCLR) if name == "nuclr" else LINES[name][:2]
        text = ax.annotate(
            f"{label} {height:.2f}" + (f" ({plain[name]:.2f})" if name in plain else ""),
            (1.0, height),
            xytext=(1.03, place),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            color=colour,
            fontsize=7,
            va="center",
            annotation_clip=False,
        )
        mark(text, said[name], "label")


def label_figure(grid: pd.DataFrame, gains: dict[str, float], title: str) -> Figure:
    """Draw macro-F1 for each number of animals in pretraining (columns) and share of the labels (rows).

    Parameters
    ----------
    grid
        Table from :func:`nuclr.evaluation.scaling.label_grid`.
    gains
        Result of :func:`nuclr.evaluation.scaling.doublings`.
    title
        Task and protocol.
    """
    table = grid.pivot_table(index="label_share", columns="animals", values="macro_f1")
    doubling = ", ".join(f"twice the {name}: {gain:+.3f}" for name, gain in gains.items())
    with style.context(STYLE):
        # The figure grows with the table, so that each number fits into its cell.
        # It is at least as tall as the label of its colour bar.
        width, height = max(COLUMN_INCHES, 1.6 + 0.3 * table.shape[1]), max(2.2, 1.2 + 0.24 * len(table))
        figure, ax = panels_of((width, height))
        image = ax.imshow(table, origin="lower", aspect="auto", cmap="cividis")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for row, column in np.ndindex(table.shape):
            value = float(table.to_numpy()[row, column])
            colour = "white" if value < middle else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=colour)
        columns, rows = _places(table.columns), _places(table.index)
        for cell in grid.to_dict("records"):
            column, row = columns[cell["animals"]], rows[cell["label_share"]]
            share = _as_fraction(cell["label_share"])
            whose = f"{counted(int(cell['animals']), 'animal')} in pretraining, {share} of the labels"
            _cell(ax, column, row, f"{whose}\n{_score_of(cell)}")
        ax.set_xticks(range(table.shape[1]), [str(n) for n in table.columns])
        ax.set_yticks(range(len(table)), [_as_fraction(share) for share in table.index])
        ax.set_xlabel("animals in pretraining (count)")
        ax.set_ylabel("share of labels (1)")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        figure.colorbar(image, ax=ax, label="macro-F1 (0 to 1)")
        ax.set_title("\n".join([title, *([f"last doubling: {doubling}"] if doubling else [])]), loc="left")
    return figure


def _cell(ax: Axes, column: int, row: int, text: str) -> None:
    """Add an invisible mark with a text over a cell of an image."""
    mark(ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, alpha=0.0)), text)


def _places(names: pd.Index) -> dict[Any, int]:
    return {name: place for place, name in enumerate(names)}


def _as_fraction(share: float) -> str:
    return "1" if share == 1 else f"1/{round(1 / share):d}"


def confusion_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the confusion matrix: the share of units of each true class (rows) by predicted class (columns).

    Parameters
    ----------
    table
        Table from :func:`nuclr.evaluation.scaling.confusion_table`.
    title
        Task, protocol and representation.
    """
    shares = table.pivot_table(index="label", columns="predicted", values="share", sort=False)
    counts = table.groupby("label", sort=False)["units"].sum()
    size = min(2 * COLUMN_INCHES, max(COLUMN_INCHES, 1.6 + 0.42 * len(shares)))
    names = shortened(shares.columns)
    room = room_for(names)
    with style.context(STYLE):
        figure, ax = panels_of((size + room, 0.8 * size + 0.7 * room))
        image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        places = _places(shares.columns)
        for cell in table.to_dict("records"):
            column, row = places[cell["predicted"]], places[cell["label"]]
            colour = "white" if cell["share"] > 0.55 else "black"
            text = f"{cell['share']:.2f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
            _cell(ax, column, row, _of_confusion(cell, counts[cell["label"]]))
        ticks = range(len(shares))
        ax.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(
            ticks, [f"{name} ({n:.0f})" for name, n in zip(shortened(counts.index), counts, strict=True)]
        )
        ax.set_xlabel("predicted")
        ax.set_ylabel("true (units)")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        figure.colorbar(image, ax=ax, label="share of the true class (1)")
        ax.set_title(title, loc="left")
    return figure


def _of_confusion(cell: dict[Any, Any], units: float) -> str:
    return (
        f"true {cell['label']}, predicted {cell['predicted']}\n"
        f"share {cell['share']:.4f}{_interval_of(cell)}\n"
        f"{cell['units']:.4g} of {units:.4g} units of {counted(int(cell['test_animals']), 'test animal')}"
    )


def animals_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw macro-F1 of each test animal, sorted by the score of NuCLR.

    ``table`` is the result of :func:`nuclr.evaluation.scaling.by_animal`.
    """
    scores = table.pivot_table(index="animal", columns="representation", values="macro_f1")
    scores = scores.sort_values("nuclr")
    shapes = {"nuclr": "o", "population": "s", "single_neuron": "^", "untrained": "x", "which_recording": "+"}
    names = shortened(scores.index) if len(scores) <= 40 else [""] * len(scores)
    upright = len(scores) > 6 or sum(map(len, names)) > 60
    with style.context(STYLE):
        figure, ax = panels_of((2 * COLUMN_INCHES, 2.4 + (room_for(names) if upright else 0)))
        places = _places(scores.index)
        for name, shape in shapes.items():
            own = table[table["representation"] == name].to_dict("records")
            colour = NUCLR if name == "nuclr" else LINES[name][1]
            look: dict[str, Any] = {"markersize": 3.5, "zorder": 2}
            if name == "nuclr":
                look = {"markersize": 4.5, "zorder": 3}
            for row in own:
                text = f"{name_of(name)}, animal {row['animal']}\n{_score_of(row)}"
                _dot(ax, places[row["animal"]], row["macro_f1"], text, colour, style=shape, **look)
            if own:
                ax.plot([], [], shape, color=colour, label=name_of(name), **look)
        ax.set_xticks(range(len(scores)), names)
        ax.tick_params(axis="x", rotation=90 if upright else 0)
        ax.set_xlabel("test animal")
        ax.set_ylabel("macro-F1 (0 to 1)")
        ax.set_title(title, loc="left")
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def ablation_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw macro-F1 of the complete method and of its ablations, with 95 % intervals.

    ``table`` is the result of :func:`nuclr.evaluation.scaling.ablation_table`.
    """
    rows = table.iloc[::-1].reset_index(drop=True)
    with style.context(STYLE):
        figure, ax = panels_of((COLUMN_INCHES, 0.9 + 0.26 * len(rows)))
        whole = table["macro_f1"].iloc[0]
        ax.axvline(whole, color=NUCLR, linewidth=0.8, linestyle=(0, (3, 2)))
        error = np.clip([rows["macro_f1"] - rows["low"], rows["high"] - rows["macro_f1"]], 0, None)
        ax.errorbar(rows["macro_f1"], rows.index, xerr=error, fmt="none", color=NUCLR, capsize=2.5)
        for place, row in enumerate(rows.to_dict("records")):
            text = f"{name_of(row['representation'])}\n{_score_of(row)}"
            _dot(ax, row["macro_f1"], place, text, NUCLR, markersize=4.5)
        ax.set_yticks(rows.index, [name_of(name) for name in rows["representation"]])
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_xlabel("macro-F1 (0 to 1)")
        ax.set_title(title, loc="left")
    return figure


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png``, and ``stem.svg`` with the texts of marks; equal figures give identical files."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    # The style also sets the resolution, and the hash salt of the ids inside an svg.
    with style.context(STYLE):
        with whole(paths[0]) as partial:
            figure.savefig(partial, format="png")
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    with whole(paths[1]) as partial:
        partial.write_text(with_titles(drawn.getvalue()), encoding="utf-8")
    return paths
