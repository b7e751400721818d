"""Test that long names of classes and animals leave room for what a figure shows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from nuclr.report.figures.classes import shortened
from nuclr.report.figures.overview import data_figure, embedding_figure
from nuclr.report.figures.scores import animals_figure, confusion_figure, label_figure

NAMES = [f"Primary somatosensory area, barrel field, layer {i} of the left hemisphere" for i in range(6)]


def confusion(names: list[str] = NAMES) -> Figure:
    rows = [
        {"label": a, "predicted": b, "share": 1 / 6, "units": 3.0, "test_animals": 2}
        for a in names
        for b in names
    ]
    return confusion_figure(pd.DataFrame(rows), "title\nwith\na long line that is wider than the matrix")


def small_confusion() -> Figure:
    return confusion(NAMES[:3])


def data() -> Figure:
    units = pd.DataFrame({"animal": ["a", "b"] * 6})
    populations = pd.DataFrame({"animal": ["a", "b"], "minutes": 1.0, "units": 6})
    return data_figure(units, populations, {task: np.array(NAMES * 2, object) for task in ("one", "other")})


def embedding() -> Figure:
    labels = np.array(NAMES * 2, object)
    points = np.random.default_rng(0).standard_normal((12, 2))
    return embedding_figure(points, {"region": labels, "kind": labels, "animal": labels}, "title")


def animals(count: int = 6) -> Figure:
    rows = [{"animal": name, "representation": "nuclr", "macro_f1": 0.5} for name in NAMES[:count]]
    return animals_figure(pd.DataFrame(rows), "title")


def labels() -> Figure:
    rows = [{"label_share": share, "animals": 1, "macro_f1": share} for share in (1.0, 0.5)]
    return label_figure(pd.DataFrame(rows), {"animals": 0.1, "labels": 0.1}, "one\ntwo")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("drawn", [confusion, small_confusion, data, embedding, animals, labels])
def test_long_names_leave_room_for_what_a_figure_shows(drawn) -> None:  # type: ignore[no-untyped-def]
    figure = drawn()
    figure.draw_without_rendering()
    assert figure.get_tightbbox().width < (1.2 if drawn is labels else 1.05) * figure.get_figwidth()
    boxes = []
    for ax in figure.axes:
        box = ax.get_window_extent()
        assert box.height > 0.8 * figure.dpi * (0.5 if drawn is labels else 1)
        assert box.width > 0.7 * figure.dpi or ax.get_label() == "<colorbar>"
        ticks = [text for text in [*ax.get_xticklabels(), *ax.get_yticklabels()] if text.get_text()]
        boxes += [(ax, box), *((ax, text.get_window_extent()) for text in ticks)]
        boxes += [(ax, text.get_window_extent()) for text in (ax.xaxis.label, ax.yaxis.label)]
        boxes += [(ax, ax._left_title.get_window_extent())]
    for i, (ax, one) in enumerate(boxes):
        for other_ax, other in boxes[i + 1 :]:
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            down = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert other_ax is ax or across < 2 or down < 2


@pytest.mark.filterwarnings("error")
def test_names_of_few_animals_do_not_overlap() -> None:
    figure = animals(4)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


@given(st.lists(st.text("ab ", max_size=40), unique=True), st.integers(5, 30))
def test_shortened_names_are_short_and_in_order(names: list[str], most: int) -> None:
    short = shortened(names, most)
    assert all(len(one) <= most for one in short)
    assert [one for one, name in zip(short, names, strict=True) if one == name] == [
        name for name in names if len(name) <= most
    ]


def test_shortened_names_can_be_told_apart() -> None:
    assert shortened(["CA1", f"{NAMES[0][:48]}5"]) == ["CA1", "Primary soma…ld, layer 5"]
    assert len(set(shortened(NAMES))) == len(NAMES)
    assert "yer 3 of" in shortened(NAMES)[3]
