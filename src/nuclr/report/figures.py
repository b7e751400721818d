"""Every picture. One column wide, legible there, and safe for colour-blind readers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from nuclr.data.population import Population
from nuclr.errors import DataError
from nuclr.evaluation.law import power_law
from nuclr.files import whole

STYLE = Path(__file__).with_name("style.mplstyle")
COLUMN_INCHES = 3.5

# Okabe and Ito's colours; dashes tell the lines apart without them.
NUCLR = "#0072B2"
LINES: dict[str, tuple[str, str, Any]] = {
    "population_correlation": ("population correlations", "#009E73", (0, (6, 2))),
    "single_neuron": ("single neuron", "#D55E00", (0, (4, 1.5))),
    "untrained": ("untrained encoder", "#CC79A7", (0, (3, 1, 1, 1))),
    "which_recording": ("which recording", "#56B4E9", (0, (1, 1))),
    "chance": ("chance", "#555555", (0, (1, 2))),
}


def scaling_figure(
    runs: pd.DataFrame, curve: pd.DataFrame, fit: dict[str, Any], chance: float, title: str
) -> Figure:
    """Macro-F1 against pretraining animals.

    Parameters
    ----------
    runs, curve
        As from :func:`nuclr.evaluation.scaling.scaling_table`.
    fit
        As from :func:`nuclr.evaluation.law.fit_power_law`.
    chance
        Macro-F1 of guessing.
    title
        What is decoded, and under which protocol.
    """
    with plt.style.context(STYLE):
        figure, ax = plt.subplots(figsize=(COLUMN_INCHES, 2.9), layout="constrained")
        trained = curve[curve["representation"] == "nuclr"]
        dots = runs[runs["representation"] == "nuclr"]
        n, mean = trained["animals"].to_numpy(), trained["macro_f1"].to_numpy()
        ax.scatter(dots["animals"], dots["macro_f1"], s=9, color=NUCLR, alpha=0.45, linewidths=0, zorder=3)
        ax.errorbar(
            n,
            mean,
            yerr=np.clip([mean - trained["low"], trained["high"] - mean], 0, None),
            fmt="o",
            markersize=4.5,
            color=NUCLR,
            capsize=2.5,
            elinewidth=1.2,
            zorder=4,
        )
        if "refused" not in fit:
            x = np.geomspace(n.min(), n.max(), 200)
            ax.plot(x, 1 - power_law(x, fit["a"], fit["b"], fit["c"]), color=NUCLR, zorder=2)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator(sorted(set(n))))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xlabel("animals in pretraining (count)")
        ax.set_ylabel("macro-F1 (0 to 1)")
        ax.set_title(title, loc="left")
        heights = {"nuclr": float(mean[-1])}
        for name, (_, colour, dashes) in LINES.items():
            rows = curve[curve["representation"] == name]
            if name != "chance" and not len(rows):
                continue
            heights[name] = chance if name == "chance" else float(rows["macro_f1"].iloc[0])
            ax.axhline(heights[name], color=colour, linestyle=dashes, linewidth=1.2, zorder=1)
        bottom = max(0.0, min([*heights.values(), *dots["macro_f1"], *trained["low"]]) - 0.06)
        top = min(1.0, max([*heights.values(), *dots["macro_f1"], *trained["high"]]) + 0.05)
        ax.set_ylim(bottom, top)
        _label_at_right(ax, heights)
    return figure


def _label_at_right(ax: Axes, heights: dict[str, float]) -> None:
    """Name each line beside its right end, moved apart where two would overlap."""
    low, high = ax.get_ylim()
    gap = (high - low) * 0.062
    places: list[float] = []
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        place = max(height, places[-1] + gap) if places else height
        places.append(place)
        label, colour = ("NuCLR", NUCLR) if name == "nuclr" else LINES[name][:2]
        ax.annotate(
            f"{label} {height:.2f}",
            (1.0, height),
            xytext=(1.03, place),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            color=colour,
            fontsize=7,
            va="center",
            annotation_clip=False,
        )


def activity_figure(population: Population, start_s: float, seconds: float) -> Figure:
    """Activity of all units of a population for some seconds: a raster of spikes, or dF/F in grey.

    What is not valid is shaded.

    Raises
    ------
    DataError
        If the recording holds nothing of that time.
    """
    first = max(0, int((start_s - population.start_s) / population.bin_s))
    last = min(population.activity.shape[1], first + max(1, round(seconds / population.bin_s)))
    if start_s < population.start_s or first >= last:
        raise DataError(
            f"population {population.population}: nothing at {start_s:g} s; it goes from "
            f"{population.start_s:.1f} to {population.stop_s:.1f} s"
        )
    activity = np.asarray(population.activity[:, first:last])
    begin, end = (population.start_s + bins * population.bin_s for bins in (first, last))
    units = len(activity)
    with plt.style.context(STYLE):
        figure, ax = plt.subplots(figsize=(2 * COLUMN_INCHES, 2.9), layout="constrained")
        if population.modality == "spikes":
            unit, time = np.nonzero(activity)
            ax.scatter(
                begin + (time + 0.5) * population.bin_s, unit + 0.5, s=1.2, color="black", linewidths=0
            )
        else:
            image = ax.imshow(
                activity,
                aspect="auto",
                origin="lower",
                cmap="Greys",
                vmin=np.percentile(activity, 1),
                vmax=np.percentile(activity, 99),
                extent=(begin, end, 0, units),
                interpolation="nearest",
            )
            figure.colorbar(image, ax=ax, label="dF/F (1)", pad=0.01)
        valid = [(begin, begin), *population.valid_spans, (end, end)]
        for (_, stop), (start, _) in pairwise(valid):
            if start > stop:
                ax.axvspan(stop, start, color=LINES["single_neuron"][1], alpha=0.25, linewidth=0)
        ax.set_xlim(begin, end)
        ax.set_ylim(0, units)
        ax.set_xlabel("time (s)")
        ax.set_ylabel("unit (row of the table)")
        ax.set_title(f"{population.population}: animal {population.animal}, {units} units", loc="left")
    return figure


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``; the same figure is the same file."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    # The style also sets resolution and the salt of the names inside an svg.
    for path in paths:
        with whole(path) as partial, plt.style.context(STYLE):
            figure.savefig(partial, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return paths
