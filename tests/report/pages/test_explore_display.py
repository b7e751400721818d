"""Test what the page of units shows of difficult columns, ids and recordings, in a real browser."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import ask, opened, run
from explored import recordings, units_of, write_units
from strategies import population

from nuclr.report.pages.explore import write_explore

COLOUR = """
    const column = document.getElementById("column");
    column.value = [...column.options].find(option => option.text === "%s").value;
    column.dispatchEvent(new Event("change"));
"""
LEGEND = "return [...document.querySelectorAll('#legend label')].map(row => row.innerText.split('\\n'))"
FIRST = """
    const search = document.getElementById("search");
    search.value = "%s";
    search.dispatchEvent(new Event("input"));
    document.querySelector("#found button").click();
"""
FACTS = """
    return Object.fromEntries([...document.querySelectorAll(".facts div")]
        .map(row => [row.children[0].textContent, row.children[1].textContent]));
"""
SAVE = """
    URL.createObjectURL = blob => { window.saved = blob; return "data:,"; };
    document.getElementById("select-shown").click();
    document.getElementById("save").click();
"""
PLOTS = """
    return [...document.querySelectorAll(".plots svg")].map(svg => [
        svg.getAttribute("aria-label").split(":")[0],
        [...svg.querySelectorAll("text")].slice(1).map(text => text.textContent)]);
"""
# Pairs of texts of a plot that overlap.
OVERLAPS = """
    const found = [];
    for (const svg of document.querySelectorAll(".plots svg")) {
        const texts = [...svg.querySelectorAll("text")];
        const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
        boxes.forEach(([a, one], i) => boxes.slice(i + 1).forEach(([b, other]) => {
            if (Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
                && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 4) found.push([a, b]);
        }));
    }
    return found;
"""
OVERFLOW = "return document.documentElement.scrollWidth - window.innerWidth"


def page_of(folder: Path, units: pd.DataFrame, **options: Any) -> Path:
    write_explore([write_units(folder / "units.parquet", units)], folder / "explore.html", **options)
    return folder / "explore.html"


def saved(session: str) -> list[dict[str, str]]:
    """Select all units, and return the rows of the csv."""
    run(session, SAVE)
    text = "const done = arguments[0]; window.saved.text().then(done)"
    return list(csv.DictReader(io.StringIO(ask(session, "execute/async", script=text, args=[]))))


def test_numbers_are_shown_and_saved_exactly(session: str, tmp_path: Path) -> None:
    units = units_of(recordings(1))
    cluster = np.arange(14) + 123_456_789
    units = units.assign(cluster=cluster, flag=np.arange(14) % 2, rate=np.arange(14) / 7 + 1000)
    opened(session, page_of(tmp_path, units))
    run(session, FIRST % "m0_r0_5")
    facts = run(session, FACTS)
    assert (facts["cluster"], facts["flag"]) == ("123456794", "1")
    # Few numbers, such as flags and shanks, are classes of their own.
    run(session, COLOUR % "flag")
    assert run(session, LEGEND) == [["0", "7"], ["1", "7"]]
    run(session, COLOUR % "cluster")
    assert run(session, LEGEND)[0][0] == "123456789 to 123456791"
    rows = saved(session)
    assert [int(row["cluster"]) for row in rows] == cluster.tolist()
    np.testing.assert_allclose([float(row["rate"]) for row in rows], units["rate"], rtol=1e-6)


def test_a_spreadsheet_runs_no_name_from_a_file(session: str, tmp_path: Path) -> None:
    names = ['=HYPERLINK("http://x")', "+1+cmd|' /C calc'!A0", "@SUM(A1)", "-cmd|x"]
    harmless = ["-1.5", "+/+", 'a, (b)\n"c"', "=", "\u05d0 \U0001f9e0"]
    units = units_of(recordings(1)).iloc[:9].assign(genotype=names + harmless)
    opened(session, page_of(tmp_path, units))
    rows = saved(session)
    assert [row["genotype"] for row in rows] == [f"'{name}" for name in names] + harmless


def test_long_names_fit_into_any_window(session: str, tmp_path: Path) -> None:
    units = units_of(recordings(2))
    units = units.assign(**{"n" * 300: "x", "a name of several words " * 9: "L" * 3000, "kind": "L" * 3000})
    units.loc[3, "unit_id"] = "U" * 3000
    page = page_of(tmp_path, units, title="T" * 300, names=["N" * 300])
    hover = """
        const canvas = document.querySelector(".map canvas"), box = canvas.getBoundingClientRect();
        const at = (x, y) => ({clientX: box.x + x, clientY: box.y + y, pointerId: 9});
        const tip = document.querySelector(".tip");
        for (let y = 4; y < box.height; y += 6) for (let x = 4; x < box.width; x += 6) {
            canvas.dispatchEvent(new PointerEvent("pointermove", at(x, y)));
            if (!tip.hidden) return tip.getBoundingClientRect().bottom - box.bottom;
        }
    """
    for width in (1280, 390):
        opened(session, page, width)
        run(session, FIRST % "uuuu")
        run(session, COLOUR % "kind")
        assert run(session, OVERFLOW) <= 0
        assert run(session, hover) <= 0
        height = "return document.querySelector('.facts dt').offsetHeight"
        assert run(session, height) < 30  # "cell type" remains on one line


@pytest.fixture
def no_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the neighbours out, which take a minute for many units."""
    monkeypatch.setattr(
        "nuclr.report.pages.explore.neighbours", lambda vectors, _: np.full((len(vectors), 5), -1, np.int32)
    )


@pytest.mark.usefixtures("no_neighbours")
def test_many_classes_are_coloured_and_filtered_at_once(session: str, tmp_path: Path) -> None:
    n = 30_000
    units = pd.DataFrame({"unit_id": np.arange(n).astype(str), "name": [f"n{i}" for i in range(n)]})
    opened(session, page_of(tmp_path, units.assign(cell_type="a", animal=units["name"])))
    run(session, COLOUR % "name")
    assert run(session, LEGEND)[-1] == ["29941 others", "29,941"]
    # Painting is not included; this was a third of a second for the colours alone.
    click = """
        const begin = performance.now();
        for (let i = 0; i < 4; i++) document.querySelector("#legend label:last-child input").click();
        return (performance.now() - begin) / 4;
    """
    assert run(session, click) < 100


def test_activity_below_zero_has_axes(session: str, tmp_path: Path) -> None:
    made = population(6, 400, modality="calcium", bin_s=0.25)
    below = replace(made, activity=-1 - np.abs(np.asarray(made.activity)))
    silent = replace(made, activity=np.zeros((6, 400), np.float32))
    for shown in (below, silent):
        opened(session, page_of(tmp_path, made.units.assign(animal="m"), populations=[shown]))
        run(session, FIRST % "session_0")
        plots = dict(run(session, PLOTS))
        assert len(plots) == 4
        assert not any("e-" in text for texts in plots.values() for text in texts)
        assert run(session, OVERLAPS) == []
        if shown is below:
            assert float(plots["dF/F over time"][-4]) < -1


def test_the_position_on_the_probe_is_among_the_units_of_the_probe(session: str, tmp_path: Path) -> None:
    units = units_of(recordings(3)).assign(depth_um=np.r_[np.arange(14.0), np.full(14, 5.0), np.arange(14.0)])
    positions = "return document.querySelector('.plots svg').querySelectorAll('circle').length"
    for lacking in ([], ["population"]):
        opened(session, page_of(tmp_path, units.drop(columns=lacking)))
        run(session, FIRST % "m1_r1_3")
        assert run(session, positions) == 14
        assert dict(run(session, PLOTS))["Position on the probe"] == ["5 um"]


@pytest.mark.usefixtures("no_neighbours")
def test_more_units_than_a_function_has_arguments_can_lie_on_one_probe(session: str, tmp_path: Path) -> None:
    n = 150_000
    units = pd.DataFrame(
        {"unit_id": np.arange(n).astype(str), "cell_type": "a", "depth_um": np.arange(n) / 50}
    )
    opened(session, page_of(tmp_path, units))
    run(session, FIRST % "77")
    assert dict(run(session, PLOTS))["Position on the probe"] == ["3000 um", "0 um"]


def test_the_keyboard_stays_at_a_unit_that_was_chosen_among_neighbours(session: str, tmp_path: Path) -> None:
    opened(session, page_of(tmp_path, units_of(recordings())))
    run(session, FIRST % "m0_r0_3")
    run(session, "const near = document.querySelector('.near button'); near.focus(); near.click()")
    assert run(session, "return document.activeElement === document.querySelector('#unit h2')")


def test_a_screen_reader_knows_where_units_will_be_announced(session: str, tmp_path: Path) -> None:
    """A region that appears together with its content is not read out."""
    opened(session, page_of(tmp_path, units_of(recordings(1))))
    regions = "return [...document.querySelectorAll('[role=status]')].map(e => getComputedStyle(e).display)"
    assert "none" not in run(session, regions)


PAPER = """
    const canvas = document.querySelector("figure canvas"), copy = new OffscreenCanvas(1, 1).getContext("2d");
    copy.drawImage(canvas, 2, 2, 1, 1, 0, 0, 1, 1);
    return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
"""


def test_it_is_printed_whole_and_in_light_colours(session: str, tmp_path: Path) -> None:
    units = units_of(recordings()).assign(kind=[f"k{i}" for i in range(42)])
    opened(session, page_of(tmp_path, units), scheme="dark")
    assert max(run(session, PAPER)) < 50
    # A browser prints in light colours, and asks for no frame before.
    run(session, "window.frame = window.requestAnimationFrame; window.requestAnimationFrame = () => {}")
    run(session, COLOUR % "kind")
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "light"}]}
    ask(session, "goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params=media)
    ask(session, "execute/async", script="window.frame(() => window.frame(arguments[0]))", args=[])
    assert run(session, PAPER) == [255, 255, 255]
    legend = "const e = document.getElementById('legend'); return e.scrollHeight - e.clientHeight"
    assert run(session, legend) <= 0
    assert run(session, "return getComputedStyle(document.querySelector('canvas')).objectFit") == "contain"
