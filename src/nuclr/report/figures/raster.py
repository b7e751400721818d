"""Figure of a population's activity: a raster of spikes, or dF/F in grey levels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nuclr.data.population import Population
from nuclr.errors import DataError
from nuclr.report.figures.scores import COLUMN_INCHES, LINES, STYLE, panels_of
from nuclr.words import counted


def activity_figure(population: Population, start_s: float, seconds: float) -> Figure:
    """Draw the activity of all units for some seconds: a raster of spikes, or dF/F in grey levels.

    Time outside the valid spans is shaded.

    Raises
    ------
    DataError
        If the time is outside the recording.
    """
    first = max(0, int((start_s - population.start_s) / population.bin_s))
    last = min(population.activity.shape[1], first + max(1, round(seconds / population.bin_s)))
    if start_s < population.start_s or first >= last:
        raise DataError(
            f"population {population.population}: {start_s:g} s is outside the recording, which goes from "
            f"{population.start_s:.1f} to {population.stop_s:.1f} s"
        )
    activity = np.asarray(population.activity[:, first:last])
    begin, end = (population.start_s + bins * population.bin_s for bins in (first, last))
    units = len(activity)
    with style.context(STYLE):
        figure, ax = panels_of((2 * COLUMN_INCHES, 2.9))
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
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        whose = f"animal {population.animal}, {counted(units, 'unit')}"
        ax.set_title(f"{population.population}: {whose}", loc="left")
    return figure
