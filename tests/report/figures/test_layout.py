"""Test that no texts of a figure overlap or are cut off, for many combinations of names and numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from nuclr.evaluation.scaling import Scored, confusion_table
from nuclr.report.figures.overview import data_figure, embedding_figure, training_figure
from nuclr.report.figures.scores import (
    LINES,
    ablation_figure,
    animals_figure,
    confusion_figure,
    label_figure,
    scaling_figure,
)

# Overlaps up to this are allowed (pixels), because text boxes have margins that the letters do not fill.
MARGIN = 1.5
COSMOS = ["CB", "CNU", "CTXsp", "HB", "HPF", "HY", "Isocortex", "MB", "OLF", "TH"]
LONG = [f"Subcortical plate layer {i}" for i in range(6)]
TITLE = "Brain region, new units (transductive)\ntested on 4 animals, one of each seed"


def shown_texts(figure: Figure) -> list[Text]:
    """Draw a figure, and return its visible texts."""
    FigureCanvasAgg(figure).draw()
    # Tick labels beyond the ends of an axis are not drawn.
    beyond = set()
    for ax in figure.axes:
        for axis, place in ((ax.xaxis, 0), (ax.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]
            beyond |= {tick for tick in ticks if not low <= tick.get_position()[place] <= high}
    texts = [text for text in figure.findobj(Text) if text not in beyond]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of texts that overlap."""
    boxes = [(text, text.get_window_extent()) for text in shown_texts(figure)]
    found = []
    for (one, a), (other, b) in combinations(boxes, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        # Bounding boxes of rotated texts may overlap although the letters do not.
        slanted = any(text.get_rotation() % 90 for text in (one, other))
        if wide > MARGIN and high > MARGIN and not slanted:
            found.append((one.get_text(), other.get_text()))
    return found


def curve_of(names: list[str], scores: list[float], plain: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    counts = [1, 2, 4, 8, 16, 32, 64, 128]
    rng = np.random.default_rng(0)
    rows = [
        {
            "representation": "nuclr",
            "animals": n,
            "seed": s,
            "macro_f1": scores[0] - 0.015 * (7 - i) + 0.01 * rng.standard_normal(),
            "pretraining_units": 623.0 * n,
            "pretraining_hours": 1.27 * n,
        }
        for i, n in enumerate(counts)
        for s in range(4)
    ]
    rows += [
        {"representation": name, "animals": 0, "seed": 0, "macro_f1": score}
        for name, score in zip(names, scores[1:], strict=True)
    ]
    runs = pd.DataFrame(rows)
    curve = runs.groupby(["representation", "animals"], as_index=False)["macro_f1"].mean()
    curve = curve.assign(low=curve["macro_f1"] - 0.04, high=np.minimum(curve["macro_f1"] + 0.04, 1))
    return runs, curve.assign(plain_macro_f1=curve["macro_f1"] - 0.02) if plain else curve


ALL = [name for name in LINES if name not in ("shuffled", "chance")]
SCALING = {
    "all baselines within a tenth": (ALL, [0.62, *np.linspace(0.55, 0.65, len(ALL))], {"chance": 0.25}),
    "all near 1": (ALL[:4], [0.99, 0.98, 0.985, 0.99, 0.995], {"chance": 0.25, "shuffled": 0.24}),
    "all near chance": (ALL[:5], [0.3, 0.29, 0.28, 0.3, 0.31, 0.27], {"chance": 0.29, "shuffled": 0.3}),
}


def scaling(case: str, plain: bool) -> Figure:
    names, scores, controls = SCALING[case]
    runs, curve = curve_of(list(names), list(scores), plain)
    fit = {"a": 0.5, "b": 0.5, "c": 0.1}
    return scaling_figure(runs, curve, fit, controls, TITLE)


def labels(shares: int, animals: int) -> Figure:
    grid = pd.DataFrame(
        [
            {"animals": 2**i, "label_share": 0.5**j, "macro_f1": 0.5 + 0.03 * i - 0.02 * j}
            for i in range(animals)
            for j in range(shares)
        ]
    )
    return label_figure(grid, {"animals": 0.012, "labels": 0.034}, TITLE)


def confusion(classes: list[str]) -> Figure:
    rng = np.random.default_rng(0)
    own = {"label": rng.choice(classes, 9000), "predicted": rng.choice(classes, 9000)}
    predictions = pd.DataFrame({**own, "animal": rng.integers(0, 12, 9000)})
    table = confusion_table([Scored("nuclr", 16, 0, predictions)], resamples=20)
    return confusion_figure(table, "Brain region, NuCLR, 16 animals")


def animals(names: list[str]) -> Figure:
    rows = [
        {"representation": name, "animal": animal, "macro_f1": 0.5}
        for name in ("nuclr", "population", "single_neuron", "untrained", "which_recording")
        for animal in names
    ]
    return animals_figure(pd.DataFrame(rows), TITLE)


def ablations() -> Figure:
    names = ["nuclr", "no_population_context", "no_unit_dropout", "same_window", "shuffled_units"]
    table = pd.DataFrame({"representation": names, "macro_f1": 0.6, "low": 0.5, "high": 0.7})
    return ablation_figure(table, TITLE)


def embedding(classes: list[str]) -> Figure:
    rng = np.random.default_rng(0)
    values = rng.choice(np.array(classes, object), 300)
    many = np.array([f"animal{i % 40}" for i in range(300)], object)
    points = rng.standard_normal((300, 2))
    return embedding_figure(points, {"brain_region": values, "animal": many}, "300 units, run n16-s0")


def data(classes: list[str]) -> Figure:
    rng = np.random.default_rng(0)
    populations = pd.DataFrame(
        {"animal": [f"a{i}" for i in range(56)], "minutes": 1.0, "units": 25, "store": ""}
    )
    return data_figure(
        pd.DataFrame(), populations, {"brain_region": rng.choice(np.array(classes, object), 900)}
    )


def training() -> Figure:
    steps = np.arange(100)
    table = pd.DataFrame({"step": steps, "loss": 3 - 0.01 * steps, "rankme": 20 + 0.1 * steps})
    return training_figure({f"n{n}-s{s}": table for n in (1, 2, 4, 8, 16, 32, 64) for s in (0, 1)})


CASES: dict[str, Callable[[], Figure]] = {
    **{
        f"scaling, {case}{', plain beside' if plain else ''}": (lambda c=case, p=plain: scaling(c, p))
        for case in SCALING
        for plain in (False, True)
    },
    "labels, 7 shares, 8 counts": lambda: labels(7, 8),
    "labels, 13 shares, 12 counts": lambda: labels(13, 12),
    "confusion, 2 classes": lambda: confusion(["E", "I"]),
    "confusion, Cosmos": lambda: confusion(COSMOS),
    "confusion, long names": lambda: confusion(LONG),
    "animals, 4": lambda: animals(["Cori", "Forssmann", "Hench", "Lederberg"]),
    "animals, 40 long": lambda: animals([f"mouse_2024_{i:04d}" for i in range(40)]),
    "ablations": ablations,
    "embedding, 4 classes": lambda: embedding(["A1", "A2", "B1", "B2"]),
    "embedding, Cosmos": lambda: embedding(COSMOS),
    "embedding, long names": lambda: embedding(LONG),
    "data, Cosmos": lambda: data(COSMOS),
    "data, long names": lambda: data(LONG),
    "training": training,
}


@pytest.mark.parametrize("case", CASES)
def test_no_two_texts_overlap_and_none_is_cut_off(case: str) -> None:
    figure = CASES[case]()
    assert overlaps(figure) == []
    # Saved figures are enlarged to contain all that is drawn; this checks that they do not become too large.
    tight = figure.get_tightbbox()
    assert tight.width < 2.2 * figure.get_size_inches()[0]


def test_an_overlap_is_found() -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "one text")
    figure.text(0.52, 0.5, "another")
    assert overlaps(figure) == [("one text", "another")]
