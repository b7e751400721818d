"""Pictures of scores. One column wide, legible there, and safe for colour-blind readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from nuclr.evaluation.law import power_law
from nuclr.files import whole

STYLE = Path(__file__).with_name("style.mplstyle")
COLUMN_INCHES = 3.5

# Okabe and Ito's colours; dashes tell the lines apart without them.
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
AXES = {
    "animals": "animals (count)",
    "pretraining_units": "units (count)",
    "pretraining_hours": "recording (hours)",
}


def panels_of(size: tuple[float, float], columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Make a figure of ``size`` inches and its panels, side by side: one, or an array of them.

    Not by ``pyplot``, which would choose a backend for whoever imports this, and keep every figure.
    """
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, columns, **options)


def name_of(representation: str) -> str:
    """Name a representation as figures and tables do."""
    return (
        LINES[representation][0] if representation in LINES else ABLATIONS.get(representation, representation)
    )


def scaling_figure(
    runs: pd.DataFrame, curve: pd.DataFrame, fit: dict[str, Any], controls: dict[str, float], title: str
) -> Figure:
    """Macro-F1 against pretraining animals.

    Where held-out labels chose among several probes, open circles and numbers in brackets are scores of the
    plain one: circles of runs at their animals, of all else at the right end of its line.

    Parameters
    ----------
    runs, curve
        As from :func:`nuclr.evaluation.scaling.scaling_table`.
    fit
        As from :func:`nuclr.evaluation.law.fit_power_law`.
    controls
        Macro-F1 of ``chance`` and, where it was probed, of ``shuffled`` labels.
    title
        What is decoded, and under which protocol.
    """
    with style.context(STYLE):
        figure, ax = panels_of((COLUMN_INCHES, 2.9))
        trained = curve[curve["representation"] == "nuclr"]
        dots = runs[runs["representation"] == "nuclr"]
        n, mean = trained["animals"].to_numpy(), trained["macro_f1"].to_numpy()
        ax.scatter(dots["animals"], dots["macro_f1"], s=9, color=NUCLR, alpha=0.45, linewidths=0, zorder=3)
        _points(ax, n, trained)
        if "refused" not in fit:
            x = np.geomspace(n.min(), n.max(), 200)
            ax.plot(x, 1 - power_law(x, fit["a"], fit["b"], fit["c"]), color=NUCLR, zorder=2)
        _log_axis(ax, n)
        ax.set_xlabel("animals in pretraining (count)")
        ax.set_ylabel("macro-F1 (0 to 1)")
        heights = {"nuclr": float(mean[-1])}
        for name, (_, colour, dashes) in LINES.items():
            rows = curve[curve["representation"] == name]
            if name in controls:
                heights[name] = controls[name]
            elif len(rows):
                heights[name] = float(rows["macro_f1"].iloc[0])
            else:
                continue
            ax.axhline(heights[name], color=colour, linestyle=dashes, linewidth=1.2, zorder=1)
        plain: dict[str, float] = {}
        if "plain_macro_f1" in curve:
            title += "\nopen circles, and in brackets: plain probe"
            rows = curve[curve["representation"].isin(heights)]
            plain = dict(zip(rows["representation"], rows["plain_macro_f1"], strict=True))
            _open_circles(ax, n, trained["plain_macro_f1"], NUCLR)
            for name in sorted(plain.keys() & LINES.keys()):
                _open_circles(ax, 1, plain[name], LINES[name][1], transform=ax.get_yaxis_transform())
        ax.set_title(title, loc="left")
        # Of few test animals there is no interval.
        drawn = [*heights.values(), *plain.values(), *dots["macro_f1"], *trained["low"], *trained["high"]]
        drawn += [*trained.get("plain_macro_f1", [])]
        # A point at 1 is drawn whole.
        bottom, top = max(0.0, np.nanmin(drawn) - 0.06), min(1.02, np.nanmax(drawn) + 0.05)
        ax.set_ylim(bottom, top)
        _label_at_right(ax, heights, plain)
    return figure


def _points(ax: Axes, x: np.ndarray, rows: pd.DataFrame) -> None:
    """Draw means with their 95 % intervals, where these are known."""
    mean = rows["macro_f1"]
    ax.errorbar(
        x,
        mean,
        yerr=np.clip([mean - rows["low"], rows["high"] - mean], 0, None),
        fmt="o",
        markersize=4.5,
        color=NUCLR,
        capsize=2.5,
        elinewidth=1.2,
        zorder=4,
    )


def _open_circles(ax: Axes, x: Any, scores: Any, colour: str, **options: Any) -> None:
    ax.plot(x, scores, "o", markersize=3.5, fillstyle="none", color=colour, clip_on=False, **options)


def _log_axis(ax: Axes, counts: np.ndarray) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(sorted(set(counts))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")


def _label_at_right(ax: Axes, heights: dict[str, float], plain: dict[str, float]) -> None:
    """Name each line beside its right end, moved apart where two would overlap, plain scores in brackets."""
    low, high = ax.get_ylim()
    gap = (high - low) * 0.062
    ordered = sorted(heights.items(), key=lambda item: item[1])
    places = [height for _, height in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    # Those at the top go down again, not up into the title.
    places[-1] = min(places[-1], high - gap / 3)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    for (name, height), place in zip(ordered, places, strict=True):
        label, colour = ("NuCLR", NUCLR) if name == "nuclr" else LINES[name][:2]
        ax.annotate(
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


def axes_figure(runs: pd.DataFrame, title: str) -> Figure:
    """Macro-F1 against animals, units and hours of pretraining: the same runs, one panel each."""
    dots = runs[runs["representation"] == "nuclr"]
    with style.context(STYLE):
        figure, panels = panels_of((2 * COLUMN_INCHES, 2.3), 3, sharey=True)
        for ax, (column, label) in zip(panels, AXES.items(), strict=True):
            means = dots.groupby("animals")[[column, "macro_f1"]].mean()
            ax.scatter(dots[column], dots["macro_f1"], s=9, color=NUCLR, alpha=0.45, linewidths=0)
            ax.plot(means[column], means["macro_f1"], "-o", color=NUCLR, markersize=4)
            if (means[column] > 0).all():
                _log_axis(ax, means[column].to_numpy())
            ax.set_xlabel(label)
        panels[0].set_ylabel("macro-F1 (0 to 1)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=8)
    return figure


def label_figure(grid: pd.DataFrame, gains: dict[str, float], title: str) -> Figure:
    """Macro-F1 for pretraining animals (columns) and shares of the labels (rows).

    Parameters
    ----------
    grid
        As from :func:`nuclr.evaluation.scaling.label_grid`.
    gains
        As from :func:`nuclr.evaluation.scaling.doublings`.
    title
        What is decoded, and under which protocol.
    """
    table = grid.pivot_table(index="label_share", columns="animals", values="macro_f1")
    doubling = ", ".join(f"twice the {name}: {gain:+.3f}" for name, gain in gains.items())
    with style.context(STYLE):
        # Each number has room in its cell.
        width, height = max(COLUMN_INCHES, 1.6 + 0.3 * table.shape[1]), 1.2 + 0.24 * len(table)
        figure, ax = panels_of((width, height))
        image = ax.imshow(table, origin="lower", aspect="auto", cmap="cividis")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for row, column in np.ndindex(table.shape):
            value = float(table.to_numpy()[row, column])
            colour = "white" if value < middle else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=colour)
        ax.set_xticks(range(table.shape[1]), [str(n) for n in table.columns])
        ax.set_yticks(range(len(table)), [_as_fraction(share) for share in table.index])
        ax.set_xlabel("animals in pretraining (count)")
        ax.set_ylabel("share of labels (1)")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        figure.colorbar(image, ax=ax, label="macro-F1 (0 to 1)")
        ax.set_title("\n".join([title, *([f"last doubling: {doubling}"] if doubling else [])]), loc="left")
    return figure


def _as_fraction(share: float) -> str:
    return "1" if share == 1 else f"1/{round(1 / share):d}"


def confusion_figure(table: pd.DataFrame, title: str) -> Figure:
    """Shares of each class's units (rows) that were predicted as each class (columns).

    Parameters
    ----------
    table
        Units, classes by name on both sides.
    title
        What was decoded, by what.
    """
    counts = table.sum(axis=1).to_list()
    shares = table.div(table.sum(axis=1).replace(0, 1), axis=0).to_numpy()
    size = min(2 * COLUMN_INCHES, max(COLUMN_INCHES, 1.6 + 0.42 * len(table)))
    with style.context(STYLE):
        figure, ax = panels_of((size, 0.8 * size))
        image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(shares.shape):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{shares[row, column]:.2f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
        ticks = range(len(table))
        ax.set_xticks(ticks, table.columns, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(ticks, [f"{name} ({n:.0f})" for name, n in zip(table, counts, strict=True)])
        ax.set_xlabel("predicted")
        ax.set_ylabel("true (units)")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        figure.colorbar(image, ax=ax, label="share of the true class (1)")
        ax.set_title(title, loc="left")
    return figure


def animals_figure(table: pd.DataFrame, title: str) -> Figure:
    """Macro-F1 of every test animal alone, in the order of NuCLR's.

    ``table`` is as from :func:`nuclr.evaluation.scaling.by_animal`.
    """
    scores = table.pivot_table(index="animal", columns="representation", values="macro_f1")
    scores = scores.sort_values("nuclr")
    marks = {"nuclr": "o", "population": "s", "single_neuron": "^", "untrained": "x", "which_recording": "+"}
    with style.context(STYLE):
        figure, ax = panels_of((2 * COLUMN_INCHES, 2.4))
        for name, mark in marks.items():
            if name in scores:
                colour = NUCLR if name == "nuclr" else LINES[name][1]
                ax.plot(
                    range(len(scores)),
                    scores[name],
                    mark,
                    color=colour,
                    markersize=4.5 if name == "nuclr" else 3.5,
                    label=name_of(name),
                    zorder=3 if name == "nuclr" else 2,
                )
        ax.set_xticks(range(len(scores)), scores.index if len(scores) <= 40 else [""] * len(scores))
        ax.tick_params(axis="x", rotation=90 if len(scores) > 6 else 0)
        ax.set_xlabel("test animal")
        ax.set_ylabel("macro-F1 (0 to 1)")
        ax.set_title(title, loc="left")
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def ablation_figure(table: pd.DataFrame, title: str) -> Figure:
    """Macro-F1 of the whole model and without its parts, with 95 % intervals.

    ``table`` is as from :func:`nuclr.evaluation.scaling.ablation_table`.
    """
    rows = table.iloc[::-1].reset_index(drop=True)
    with style.context(STYLE):
        figure, ax = panels_of((COLUMN_INCHES, 0.9 + 0.26 * len(rows)))
        whole = table["macro_f1"].iloc[0]
        ax.axvline(whole, color=NUCLR, linewidth=0.8, linestyle=(0, (3, 2)))
        error = np.clip([rows["macro_f1"] - rows["low"], rows["high"] - rows["macro_f1"]], 0, None)
        ax.errorbar(
            rows["macro_f1"], rows.index, xerr=error, fmt="o", color=NUCLR, markersize=4.5, capsize=2.5
        )
        ax.set_yticks(rows.index, [name_of(name) for name in rows["representation"]])
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_xlabel("macro-F1 (0 to 1)")
        ax.set_title(title, loc="left")
    return figure


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``; the same figure is the same file."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    # The style also sets resolution and the salt of the names inside an svg.
    for path in paths:
        with whole(path) as partial, style.context(STYLE):
            figure.savefig(partial, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
