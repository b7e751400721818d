"""Test that the marks of a figure have exact numbers, in the svg and on the page, for arbitrary names."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from nuclr.evaluation.scaling import Scored, confusion_table
from nuclr.report.figures.marks import SVG, inlined, mark, with_titles
from nuclr.report.figures.scores import confusion_figure, label_figure, save_figure

# Possible labels in untrusted files: markup, formulas, line breaks.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), min_size=1, max_size=12)


def titles(svg: str) -> list[str]:
    return [title.text or "" for title in ElementTree.fromstring(svg).iter(f"{{{SVG}}}title")]


def drawn(text: str, folder: Path) -> str:
    figure = Figure()
    (dot,) = figure.subplots().plot([1], [1], "o")
    mark(dot, text, "seed")
    save_figure(figure, folder / "figure")
    return (folder / "figure.svg").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("figures")


@given(text=NAMES, rest=NAMES)
def test_any_text_comes_back(text: str, rest: str, folder: Path) -> None:
    svg = drawn(f"{text}\n{rest}", folder)
    assert titles(svg) == [f"{text}\n{rest}"]
    assert 'class="mark seed"' in svg
    assert titles(inlined(svg, "f", "a figure")) == [f"{text}\n{rest}"]


@given(text=st.text())
def test_no_text_makes_a_figure_that_cannot_be_read(text: str, folder: Path) -> None:
    assert len(titles(drawn(text, folder))) == 1


def test_a_page_takes_only_drawings_from_an_svg() -> None:
    svg = (
        f'<svg xmlns="{SVG}" onload="a()"><script>b()</script><g onclick="c()"><path d="M 0 0"/></g>'
        "<style>* {color: red}</style><foreignObject><p>d</p></foreignObject></svg>"
    )
    page = inlined(svg, "f", "a figure")
    assert "<path" in page
    assert not re.search(r"script|onload|onclick|style|foreign|[abc]\(\)", page)


@pytest.mark.parametrize("name", ["$", "$\\foo$", "a_{b", "<script>", "x]]>", "L2/3 & L4"])
def test_names_of_classes_are_never_formulas_or_markup(name: str, tmp_path: Path) -> None:
    predictions = pd.DataFrame({"label": [name, "y"], "predicted": [name, name], "animal": ["a", "b"]})
    table = confusion_table([Scored("nuclr", 4, 0, predictions)], resamples=10)
    save_figure(confusion_figure(table, f"Task {name}"), tmp_path / "f")
    svg = (tmp_path / "f.svg").read_text(encoding="utf-8")
    shown = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{{{SVG}}}text")]
    assert shown.count(f"{name} (1)") == 1
    assert f"true {name}, predicted {name}\nshare 1.0000\n1 of 1 units of 1 test animal" in titles(svg)


def test_a_cell_says_its_numbers() -> None:
    row = {"animals": 4, "label_share": 0.25, "macro_f1": 0.61234, "low": 0.5, "high": 0.7}
    grid = pd.DataFrame([{**row, "units": 120.5, "seeds": 3, "test_animals": 12}])
    figure = label_figure(grid, {}, "t")
    (cell,) = figure.axes[0].patches
    assert cell.get_gid().split("\u2028") == [
        "mark:mean:4 animals in pretraining, 1/4 of the labels",
        "macro-F1 0.6123 (95 % 0.5000 to 0.7000)",
        "120 test units, 12 test animals",
        "mean of 3 seeds",
    ]


def test_two_figures_on_one_page_share_no_id(folder: Path) -> None:
    svg = drawn("a", folder)
    one, other = (inlined(svg, name, "a figure") for name in ("one", "other"))
    ids = [set(re.findall(r' id="([^"]*)"', text)) for text in (one, other)]
    assert not ids[0] & ids[1]
    for name, text, own in (("one", one, ids[0]), ("other", other, ids[1])):
        assert own
        used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', text))
        assert used == own
        assert all(identity.startswith(f"{name}-") for identity in own)
        assert "<style" not in text


def test_an_svg_without_marks_stays_as_it_is_drawn() -> None:
    svg = f'<svg xmlns="{SVG}" width="1pt" height="1pt"><g id="axes_1"><path d="M 0 0"/></g></svg>'
    assert "<title" not in with_titles(svg)
    assert "axes_1" in with_titles(svg)
