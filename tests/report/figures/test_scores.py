"""Test that figures show the numbers of the tables, and that equal numbers give identical files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from strategies import population

from nuclr.errors import DataError
from nuclr.evaluation.scaling import Scored, confusion_table
from nuclr.report.figures.classes import UNKNOWN
from nuclr.report.figures.overview import embedding_figure
from nuclr.report.figures.raster import activity_figure
from nuclr.report.figures.scores import (
    COLUMN_INCHES,
    LINES,
    ablation_figure,
    animals_figure,
    confusion_figure,
    label_figure,
    save_figure,
    scaling_figure,
)

CONTROLS = {"chance": 0.33, "shuffled": 0.31}


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = pd.DataFrame(
        [
            {
                "representation": "nuclr",
                "animals": n,
                "seed": s,
                "macro_f1": 0.4 + 0.1 * i + 0.02 * s,
                "units": 80 + s,
                "pretraining_units": 620.0 * n,
                "pretraining_hours": 1.5 * n,
            }
            for i, n in enumerate([1, 2, 4, 8])
            for s in (0, 1, 2)
        ]
        + [
            {"representation": name, "animals": 0, "seed": 0, "macro_f1": score}
            for name, score in (("untrained", 0.4), ("single_neuron", 0.41), ("population_correlation", 0.9))
        ]
    )
    curve = runs.groupby(["representation", "animals"], as_index=False)["macro_f1"].mean()
    return runs, curve.assign(low=curve["macro_f1"] - 0.05, high=curve["macro_f1"] + 0.05)


def confusions(label: Sequence[str], predicted: Sequence[str], animals: int = 4) -> pd.DataFrame:
    units = {"label": list(label), "predicted": list(predicted)}
    predictions = pd.DataFrame({**units, "animal": np.arange(len(label)) % animals})
    return confusion_table([Scored("nuclr", 4, 0, predictions)], resamples=50)


def texts(figure: plt.Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def highest_name(figure: plt.Figure) -> float:
    """Check that no two labels of lines overlap, and return the top of the highest one (pixels)."""
    figure.canvas.draw()
    named = [t.get_window_extent() for t in figure.axes[0].texts if "\n" not in t.get_text()]
    boxes = sorted(named, key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
    return float(boxes[-1].y1)


def test_every_line_is_named_and_no_two_names_overlap(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    fit = {"a": 0.5, "b": 0.5, "c": 0.1}
    figure = scaling_figure(*tables, fit, CONTROLS, "Cell type")
    assert figure.get_size_inches()[0] == COLUMN_INCHES
    drawn = ("untrained", "single_neuron", "population_correlation", "shuffled", "chance")
    named = ["NuCLR", *(LINES[name][0] for name in drawn)]
    under = "animals (count)\nunits (count)\nrecording (hours)"
    assert sorted(t.rsplit(" ", 1)[0] for t in texts(figure) if t != under) == sorted(named)
    highest_name(figure)
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["1\n620\n1.5", "2\n1.2k\n3", "4\n2.5k\n6", "8\n5k\n12"]
    assert under in texts(figure)
    assert "(" in figure.axes[0].get_ylabel()
    plt.close(figure)


def test_names_of_lines_near_1_stay_below_the_title(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    runs, curve = (table.assign(macro_f1=1 - 0.01 * table["macro_f1"]) for table in tables)
    curve = curve.assign(low=curve["macro_f1"] - 0.6, high=1.0)
    figure = scaling_figure(runs, curve, {"refused": "too few"}, {"chance": 0.98}, "Cell type\ntested on one")
    highest = highest_name(figure)
    titles = [figure.axes[0].title, figure.axes[0]._left_title]
    assert highest <= min(t.get_window_extent().y0 for t in titles if t.get_text())
    plt.close(figure)


def test_scores_of_the_plain_probe_are_open_circles_and_in_brackets(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    runs, curve = tables
    curve = curve.assign(plain_macro_f1=curve["macro_f1"] - 0.35)
    figure = scaling_figure(runs, curve, {"refused": ""}, CONTROLS, "Cell type")
    ax = figure.axes[0]
    circles = [line for line in ax.lines if line.get_fillstyle() == "none"]
    drawn = np.concatenate([np.atleast_1d(line.get_ydata()) for line in circles])
    np.testing.assert_allclose(np.sort(drawn), np.sort(curve["plain_macro_f1"]))
    assert ax.get_ylim()[0] <= drawn.min()
    assert {"population correlations 0.90 (0.55)", "chance 0.33"} <= set(texts(figure))
    assert "plain probe" in ax.get_title("left")
    without = scaling_figure(*tables, {"refused": ""}, CONTROLS, "Cell type").axes[0]
    assert without.get_title("left") == "Cell type"
    assert not [line for line in without.lines if line.get_fillstyle() == "none"]
    plt.close("all")


def test_whoever_imports_the_package_keeps_the_backend_of_matplotlib() -> None:
    modules = "nuclr.report.pages.results, nuclr.report.figures.overview"
    code = f"import sys, {modules}; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_a_fit_there_is_no_curve(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    with_fit = scaling_figure(*tables, {"a": 0.5, "b": 0.5, "c": 0.1}, CONTROLS, "t")
    without = scaling_figure(*tables, {"refused": "too few"}, CONTROLS, "t")
    assert len(with_fit.axes[0].lines) == len(without.axes[0].lines) + 1
    plt.close("all")


@pytest.mark.parametrize("of", [["nuclr"], ["nuclr", "untrained", "single_neuron"]])
def test_scores_without_intervals_are_drawn(
    tables: tuple[pd.DataFrame, pd.DataFrame], of: list[str], tmp_path: Path
) -> None:
    runs, curve = tables
    curve.loc[curve["representation"].isin(of), ["low", "high"]] = np.nan
    figure = scaling_figure(runs, curve, {"refused": ""}, CONTROLS, "t")
    bottom, top = figure.axes[0].get_ylim()
    assert bottom == pytest.approx(0.31 - 0.06)
    assert top == pytest.approx(0.9 + 0.05)
    save_figure(figure, tmp_path / "curve")
    parts = ablation_figure(curve.assign(representation=["nuclr", "same_window"] * 3 + ["nuclr"]), "t")
    save_figure(parts, tmp_path / "parts")


def test_the_same_numbers_are_the_same_file(
    tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    written = []
    for name in ("one", "two"):
        figure = scaling_figure(*tables, {"refused": ""}, CONTROLS, "t")
        written.append([path.read_bytes() for path in save_figure(figure, tmp_path / name)])
    assert written[0] == written[1]
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".png", ".png", ".svg", ".svg"]


def test_a_raster_has_a_dot_for_each_bin_with_spikes_at_its_time() -> None:
    made = population(units=12, bins=1000, rate=0.05, start_s=5.0, spans=[(5.0, 9.0), (10.0, 25.0)])
    figure = activity_figure(made, 8.0, 4.0)
    (dots,) = figure.axes[0].collections
    unit, time = np.nonzero(np.asarray(made.activity)[:, 150:350])
    expected = np.stack([8.0 + (time + 0.5) * 0.02, unit + 0.5], axis=1)
    np.testing.assert_allclose(dots.get_offsets(), expected)
    assert figure.axes[0].get_xlim() == pytest.approx((8.0, 12.0))
    (shaded,) = figure.axes[0].patches
    assert (shaded.get_x(), shaded.get_width()) == pytest.approx((9.0, 1.0))
    plt.close(figure)


def test_traces_are_an_image_that_ends_with_the_recording() -> None:
    made = population(units=12, bins=100, modality="calcium", bin_s=0.5)
    figure = activity_figure(made, 40.0, 30.0)
    (image,) = figure.axes[0].images
    np.testing.assert_array_equal(image.get_array(), np.asarray(made.activity)[:, 80:])
    assert image.get_extent() == pytest.approx([40.0, 50.0, 0, 12])
    plt.close(figure)


@pytest.mark.parametrize("start", [-1.0, 20.0, 1e9])
def test_a_time_that_was_not_recorded_is_refused(start: float) -> None:
    with pytest.raises(DataError, match=r" s is outside the recording, which goes from 0\.0 to 20\.0 s"):
        activity_figure(population(units=12, bins=1000), start, 10.0)


def test_the_label_grid_says_each_score_and_what_doubling_gains() -> None:
    grid = pd.DataFrame(
        {
            "animals": [1, 1, 2, 2],
            "label_share": [0.5, 1, 0.5, 1],
            "macro_f1": [0.41, 0.52, 0.63, 0.74],
        }
    )
    figure = label_figure(grid, {"animals": 0.22, "labels": 0.11}, "Cell type")
    ax = figure.axes[0]
    # Rows from the bottom: half of the labels first.
    assert [text.get_text() for text in ax.texts] == ["0.41", "0.63", "0.52", "0.74"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1/2", "1"]
    assert "twice the animals: +0.220, twice the labels: +0.110" in ax.get_title("left")
    plt.close(figure)


def test_confusions_are_shares_of_the_true_class() -> None:
    figure = confusion_figure(confusions("xxxxyyyy", "xxxyyyyy"), "t")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.75", "0.25", "0.00", "1.00"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["x (4)", "y (4)"]
    plt.close(figure)


def test_animals_stand_in_the_order_of_the_model() -> None:
    table = pd.DataFrame(
        {
            "representation": ["nuclr", "nuclr", "untrained", "untrained"],
            "animal": ["a", "b", "a", "b"],
            "macro_f1": [0.9, 0.5, 0.3, 0.4],
        }
    )
    figure = animals_figure(table, "t")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["b", "a"]
    drawn = {line.get_xdata()[0]: line.get_ydata()[0] for line in figure.axes[0].lines[:2]}
    assert drawn == {0: 0.5, 1: 0.9}
    plt.close(figure)


def test_the_whole_model_stands_above_its_ablations() -> None:
    table = pd.DataFrame(
        {
            "representation": ["nuclr", "same_window"],
            "macro_f1": [0.8, 0.6],
            "low": [0.7, 0.5],
            "high": [0.9, 0.7],
        }
    )
    figure = ablation_figure(table, "t")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["both views of one window", "NuCLR"]
    plt.close(figure)


def test_units_of_no_class_are_grey() -> None:
    points = np.random.default_rng(0).standard_normal((30, 2))
    values = np.array(["x"] * 20 + [""] * 10, object)
    figure = embedding_figure(points, {"cell_type": values}, "t")
    (dots,) = figure.axes[0].collections
    grey = np.isclose(dots.get_facecolors()[:, :3], to_rgb(UNKNOWN)).all(axis=1)
    assert grey.sum() == 10
    plt.close(figure)
