"""Test that the page of a population's activity shows every spike and all time that is not used."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import ask, colours_when_resized, opened, run
from explored import STRANGE
from hypothesis import given
from hypothesis import strategies as st
from strategies import population

from nuclr.data.population import Population
from nuclr.errors import DataError
from nuclr.report.pages import activity
from nuclr.report.pages.activity import unused_time, write_activity


def unpacked(page: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Return the header of the data in a page, and its cells ``(unit, bin)``."""
    (block,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', page.read_text())
    raw = zlib.decompress(base64.b64decode(block))
    length = int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4 : 4 + length])
    start = -(-(4 + length) // 8) * 8 + header["cells"]["offset"]
    cells = np.frombuffer(raw, np.uint8, header["cells"]["length"], start)
    return header, cells.reshape(-1, header["bins"])


def with_silence(start_s: float, stop_s: float) -> Population:
    """Make 12 units of 60 s with a silence, which chunking excludes with one second on either side."""
    spans = [(0.0, start_s - 1), (stop_s + 1, 50.0)]
    made = population(units=12, bins=3000, rate=0.2, spans=spans, seed=3)
    counts = np.array(made.activity)
    counts[:, round(start_s / 0.02) : round(stop_s / 0.02)] = 0
    made.units.drop(columns="cell_type", inplace=True)
    made.units["brain_region"] = ["CA1"] * 5 + ["VISp"] * 4 + [""] * 3
    made.units["depth_um"] = np.arange(12)[::-1] * 20.0
    return replace(made, activity=counts)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("activity")
    write_activity(with_silence(20.0, 30.0), folder / "activity.html")
    return folder / "activity.html"


def test_every_spike_is_on_the_page(page: Path) -> None:
    header, cells = unpacked(page)
    np.testing.assert_array_equal(cells, np.asarray(with_silence(20.0, 30.0).activity))
    assert (header["bin"], header["start"], header["stop"]) == (0.02, 0.0, 60.0)


def test_time_without_activity_is_told_from_time_that_the_file_excludes(page: Path) -> None:
    assert unpacked(page)[0]["gaps"] == [
        {"start": 19.0, "stop": 31.0, "silent": True},
        {"start": 50.0, "stop": 60.0, "silent": False},
    ]
    whole = population(units=12, bins=3000)
    assert unused_time(whole, np.asarray(whole.activity), 0.02) == []


@given(
    bins=st.integers(1, 400),
    most=st.integers(6, 3000),
    at_once=st.integers(1, 3000),
    calcium=st.booleans(),
)
def test_wider_bins_keep_every_spike_and_every_mean(
    bins: int, most: int, at_once: int, calcium: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("wide") / "page.html"
    made = population(units=6, bins=bins, modality="calcium" if calcium else "spikes", spans=[(0.0, 0.01)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "MOST_CELLS", most)
        patch.setattr(activity, "CELLS_AT_ONCE", at_once)
        write_activity(made, file)
    header, cells = unpacked(file)
    width = round(header["bin"] / made.bin_s)
    assert cells.size <= most + 6
    counts = np.asarray(made.activity)
    edges = np.arange(0, bins, width)
    total = np.add.reduceat(counts, edges, axis=1, dtype=float)
    if not calcium:
        np.testing.assert_array_equal(cells, np.minimum(total, 255))
        return
    mean = total / np.diff([*edges, bins])
    shown = header["low"] + header["step"] * cells
    inside = (mean >= header["low"]) & (mean <= header["low"] + 255 * header["step"])
    assert np.abs(shown - mean)[inside].max(initial=0) <= header["step"] * 0.51


def test_a_page_of_noise_stays_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(activity, "MOST_BYTES", 60_000)
    noise = np.random.default_rng(0).integers(0, 100, (6, 40_000)).astype(np.uint8)
    made = replace(population(units=6, bins=40_000), activity=noise)
    write_activity(made, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size <= 60_000
    header, cells = unpacked(tmp_path / "page.html")
    width = round(header["bin"] / made.bin_s)
    assert width & (width - 1) == 0
    total = noise[:, : 3 * width].reshape(6, 3, width).sum(axis=-1)
    np.testing.assert_array_equal(cells[:, :3], np.minimum(total, 255))


def test_a_population_without_time_is_refused(tmp_path: Path) -> None:
    empty = replace(population(units=3, bins=10), activity=np.zeros((3, 0), np.uint8))
    with pytest.raises(DataError, match="has no activity to show"):
        write_activity(empty, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_names_from_files_are_neither_markup_nor_script(tmp_path: Path) -> None:
    made = population(units=6, bins=100, animal=STRANGE, recording="r")
    made.units["kind"] = [STRANGE, "x"] * 3
    write_activity(made, tmp_path / "page.html")
    assert STRANGE not in (tmp_path / "page.html").read_text()
    header, _ = unpacked(tmp_path / "page.html")
    (kind,) = (column for column in header["columns"] if column["name"] == "kind")
    assert STRANGE in kind["names"]


# Text in the tooltip at a position of the raster, in fractions of the plot.
SAID = """
    const canvas = document.getElementById("raster"), box = canvas.getBoundingClientRect();
    const x = LEFT + STRIP + %s * (box.width - LEFT - STRIP - RIGHT), y = %s * (box.height - BOTTOM);
    canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: box.x + x, clientY: box.y + y}));
    return document.querySelector(".tip").textContent.split("\\n");
"""
PRESS = """
    const raster = document.getElementById("raster");
    raster.dispatchEvent(new KeyboardEvent("keydown", {key: "%s"}));
"""
READ = PRESS % "Enter" + "return document.getElementById('chosen').textContent.match(/([0-9.]+) s:/)[1]"
SET = """
    const [id, value] = ["%s", "%s"], control = document.getElementById(id);
    control.value = value;
    control.dispatchEvent(new Event("change"));
"""
PAINTED = """
    const canvas = document.getElementById("raster"), copy = new OffscreenCanvas(canvas.width, canvas.height);
    const context = copy.getContext("2d", {willReadFrequently: true}), seen = new Set();
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    return seen.size;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_its_window_and_asks_no_network(session: str, page: Path, width: int, scheme: str) -> None:
    opened(session, page, width, scheme)
    assert run(session, PAINTED) > 5
    assert run(session, "return document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert run(session, "return performance.getEntriesByType('resource').length") == 0
    legend = "return [...document.querySelectorAll('#legend label')].map(row => row.innerText.split('\\n'))"
    assert run(session, legend) == [["CA1", "5"], ["VISp", "4"], ["not known", "3"]]


def test_the_raster_is_never_empty_while_its_window_is_resized(session: str, page: Path) -> None:
    opened(session, page)
    assert colours_when_resized(session, "#raster") > 5


def test_the_pointer_shows_a_unit_and_what_it_did(session: str, page: Path) -> None:
    opened(session, page)
    counts = np.asarray(with_silence(20.0, 30.0).activity)
    # Units are ordered by depth, with the largest depth at the top: the first unit of the table.
    for row, time in ((0, 5.0), (11, 45.01), (6, 25.0), (3, 55.0)):
        said = run(session, SAID % (time / 60, (row + 0.5) / 12))
        bin_shown = round(float(said[-1 if "not used" not in said[-1] else -2].split(" s:")[0]) / 0.02)
        assert abs(bin_shown - int(time / 0.02)) <= 6  # accuracy of one pixel if the whole recording is shown
        spikes = counts[row, bin_shown]
        assert said[0].endswith(f"_{row}")
        assert f"depth: {20 * (11 - row)} um" in said
        assert any(f": {spikes} spike" in line for line in said)
        why = {25.0: "not used: no unit is active", 55.0: "not used: outside the valid spans"}.get(time)
        assert (said[-1] == why) if why else ("not used" not in said[-1])


def test_units_can_be_ordered_and_a_keyboard_moves_through_time(session: str, page: Path) -> None:
    opened(session, page)
    orders = run(session, "return [...document.getElementById('order').options].map(o => o.text)")
    assert orders == ["depth", "as in the file", "mean activity", "brain region"]
    run(session, SET % ("order", "3"))
    tops = [run(session, SAID % (0.1, (row + 0.5) / 12))[1] for row in (0, 4, 5, 8, 11)]
    assert tops == [f"brain region: {name}" for name in ("CA1", "CA1", "VISp", "VISp", "not known")]
    middle = float(run(session, READ))
    assert abs(middle - 30) < 0.1
    for _ in range(4):
        run(session, PRESS % "+")
    assert abs(float(run(session, READ)) - middle) < 0.1
    run(session, PRESS % "ArrowRight")
    assert 0.1 < float(run(session, READ)) - middle < 2
    run(session, SET % ("time", "47"))
    assert abs(float(run(session, READ)) - 47) < 0.1
    run(session, PRESS % "0")
    assert abs(float(run(session, READ)) - middle) < 0.1


def test_traces_are_drawn_as_lines_where_rows_are_tall(session: str, tmp_path: Path) -> None:
    made = population(units=4, bins=400, modality="calcium", bin_s=0.5, seed=1)
    write_activity(made, tmp_path / "page.html")
    opened(session, tmp_path / "page.html")
    assert run(session, PAINTED) > 5
    said = run(session, SAID % (0.5, 0.4))
    cell = float(said[-1].split("dF/F ")[1])
    time = float(said[-1].split(" s:")[0])
    step = unpacked(tmp_path / "page.html")[0]["step"]
    low, high = np.percentile(np.asarray(made.activity), [0.5, 99.8])
    assert cell == pytest.approx(np.clip(made.activity[1, round(time / 0.5)], low, high), abs=step)


# Texts of the raster and of the mean activity, as they are drawn: [text, left, right, bottom], in two frames.
TEXTS = """
    const done = arguments[0], texts = [], draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
        const width = this.measureText(text).width, shift = {center: 0.5, right: 1}[this.textAlign] ?? 0;
        if (this.getTransform().b === 0) texts.push([text, x - shift * width, x + (1 - shift) * width, y]);
        return draw.call(this, text, x, y);
    };
    document.getElementById("raster").dispatchEvent(new Event("focus"));
    requestAnimationFrame(() => requestAnimationFrame(() => {
        CanvasRenderingContext2D.prototype.fillText = draw;
        done(texts);
    }));
"""


def texts_of(session: str) -> list[list[Any]]:
    return ask(session, "execute/async", script=TEXTS, args=[])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("start_s", [0.0, 1e9])
def test_times_are_told_apart_and_do_not_overlap(
    session: str, tmp_path: Path, start_s: float, width: int
) -> None:
    write_activity(population(3, 30_000, start_s=start_s), tmp_path / "page.html")
    opened(session, tmp_path / "page.html", width)
    for zoomed in range(3):
        texts = texts_of(session)
        times = [text for text in texts if text[0].endswith(" s")]
        assert len({text[0] for text in times}) == len(times) >= (1 if start_s else 2)
        below = sorted(text[1:3] for text in texts if text[0].endswith((" s", " Hz")))
        assert all(one[1] < other[0] for one, other in pairwise(below)), zoomed
        for _ in range(8):
            run(session, PRESS % "+")


def test_axes_of_silence_and_of_negative_activity(session: str, tmp_path: Path) -> None:
    write_activity(population(3, 400, rate=0), tmp_path / "page.html")
    opened(session, tmp_path / "page.html")
    assert not any("e-" in text[0] for text in texts_of(session))
    made = population(3, 400, modality="calcium", bin_s=0.25)
    below = replace(made, activity=np.full((3, 400), -2.0, np.float32))
    write_activity(below, tmp_path / "page.html")
    opened(session, tmp_path / "page.html")
    said = [text[0] for text in texts_of(session)]
    assert "-2 to 0 dF/F" in said
    assert not any("e-" in text for text in said)


def test_the_pointer_reads_nothing_outside_the_plot(session: str, page: Path) -> None:
    opened(session, page)
    run(session, PRESS % "+")
    hidden = "return document.querySelector('.tip').hidden"
    for across, expected in ((0.5, False), (-0.005, True), (1.05, True)):
        run(session, SAID % (across, 0.5))
        assert run(session, hidden) == expected


def test_a_label_that_is_called_depth_is_no_axis(session: str, tmp_path: Path) -> None:
    made = population(6, 300)
    made.units["depth"] = ["deep", "superficial"] * 3
    write_activity(made, tmp_path / "page.html")
    opened(session, tmp_path / "page.html")
    orders = run(session, "return [...document.getElementById('order').options].map(o => o.text)")
    run(session, SET % ("order", str(orders.index("depth"))))
    assert {"1", "6"} <= {text[0] for text in texts_of(session)}


def test_an_empty_time_is_not_the_beginning(session: str, page: Path) -> None:
    opened(session, page)
    run(session, SET % ("time", "50"))
    middle = run(session, READ)
    run(session, SET % ("time", ""))
    assert run(session, READ) == middle


def test_long_names_of_columns_fit_into_any_window(session: str, tmp_path: Path) -> None:
    made = population(6, 300, animal="A" * 300, recording="r" * 300)
    made.units["n" * 300] = [*"abcabc"]
    made.units["a name of several words " * 9] = ["L" * 3000, "x"] * 3
    write_activity(made, tmp_path / "page.html")
    for width in (1280, 390):
        opened(session, tmp_path / "page.html", width)
        run(session, SET % ("column", "2"))
        assert run(session, "return document.documentElement.scrollWidth - window.innerWidth") <= 0
        run(session, SAID % (0.5, 0.5))
        tip = "document.querySelector('.tip').getBoundingClientRect()"
        raster = "document.getElementById('raster').getBoundingClientRect()"
        assert run(session, f"return {tip}.bottom - {raster}.bottom") <= 0


def test_it_is_painted_anew_before_it_is_printed(session: str, page: Path) -> None:
    opened(session, page, scheme="dark")
    corner = """
        const copy = new OffscreenCanvas(1, 1).getContext("2d");
        copy.drawImage(document.getElementById("raster"), -2, -2);
        return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
    """
    assert max(run(session, corner)) < 50
    run(session, "window.frame = window.requestAnimationFrame; window.requestAnimationFrame = () => {}")
    feature = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    ask(session, "goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params=feature)
    ask(session, "execute/async", script="window.frame(() => window.frame(arguments[0]))", args=[])
    assert run(session, corner) == [255, 255, 255]


def test_half_a_second_is_not_told_as_no_minute(tmp_path: Path) -> None:
    write_activity(population(3, 25), tmp_path / "page.html")
    assert "0.0083 valid minutes of 0.0083" in (tmp_path / "page.html").read_text()
