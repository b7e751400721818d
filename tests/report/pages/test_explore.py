"""Test the interactive page of units: self-contained, at any width, with a mouse and with a keyboard."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import ask, colours_when_resized, opened, run
from explored import STRANGE, many, recordings, units_of, write_units
from labelled import MODEL, PUBLISHED, embedded, simulated
from strategies import population

from nuclr.errors import ConfigError, DataError
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.report.pages.explore import write_explore
from nuclr.report.pages.packed import MOST_COLUMNS
from nuclr.report.pages.unit_details import details_of, neighbours
from nuclr.representation.embeddings import write_embeddings
from nuclr.representation.layouts import lay_out


def unpacked(page: Path) -> dict[str, Any]:
    """Return the header of the data in a page."""
    (block,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', page.read_text())
    raw = zlib.decompress(base64.b64decode(block))
    return json.loads(raw[4 : 4 + int.from_bytes(raw[:4], "little")])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page of 42 units of three animals, with two maps and the activity of each unit."""
    folder, recorded = tmp_path_factory.mktemp("explore"), recordings()
    units = units_of(recorded)
    trained = write_units(folder / "trained" / "embeddings.parquet", units)
    untrained = write_units(folder / "untrained.parquet", units.iloc[1:], seed=1, clear=0)
    write_explore([trained], folder / "explore.html", beside=[untrained], populations=recorded)
    return folder / "explore.html"


def test_the_page_holds_units_columns_two_maps_and_activity(page: Path) -> None:
    held = unpacked(page)
    assert len(held["ids"]) == 42
    assert [column["name"] for column in held["columns"]][:2] == ["cell_type", "animal"]
    assert "rate_hz" in [column["name"] for column in held["columns"]]  # from the recordings
    assert [shown["name"] for shown in held["maps"]] == ["trained", "untrained"]
    assert held["details"]["modality"] == "spikes"
    assert held["depths"]["length"] == 42


def test_a_name_from_a_file_is_neither_markup_nor_script(page: Path) -> None:
    text = page.read_text()
    assert STRANGE in unpacked(page)["ids"]
    assert "alert(1)" not in text
    assert text.count("</script>") == 2
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)


def test_neighbours_are_of_other_animals_and_the_most_alike_comes_first() -> None:
    rng = np.random.default_rng(0)
    vectors, animals = rng.standard_normal((60, 8)), np.repeat(["a", "b", "c"], 20)
    vectors[3] = np.nan
    found = neighbours(vectors, animals, 4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = np.where(animals[:, None] == animals, np.nan, unit @ unit.T)
    for row in (0, 25, 59):
        assert found[row].tolist() == np.argsort(-np.nan_to_num(alike[row], nan=-9))[:4].tolist()
    assert (found[3] == -1).all()
    assert not (found == 3).any()


def test_neighbours_of_a_single_animal_are_its_other_units() -> None:
    found = neighbours(np.eye(3) + 0.1, np.array(["a"] * 3), 5)
    assert sorted(found[0]) == [-1, -1, -1, 1, 2]


def test_the_activity_of_a_unit_is_told_in_few_numbers() -> None:
    first, second = recordings(2)
    first.activity[2] = 0
    first.activity[2, ::100] = 1  # one spike every two seconds
    ids = [*second.units["unit_id"], *first.units["unit_id"]]
    found = details_of([first, second], ids, most=100)
    assert found is not None
    (row,) = np.flatnonzero(found.known == 14 + 2)
    assert found.mean_activity[row] == pytest.approx(0.5)
    lag = found.lags_s.index(2.0)
    assert found.autocorrelogram[row].argmax() == lag
    shares = (found.intervals[row] / 255) ** 2
    assert found.edges_s[shares.argmax()] < 2.0 <= found.edges_s[shares.argmax() + 1]
    assert found.rate_top[row] == pytest.approx(1 / 1.5)  # one spike in 1.5 s, a fortieth of the minute
    bounded = details_of([first, second], ids, most=14)
    assert bounded is not None
    assert len(bounded.known) == 14
    assert details_of([first], ["another"], most=9) is None


def test_lags_of_calcium_are_whole_frames() -> None:
    imaged = population(12, 400, modality="calcium", bin_s=0.25)
    found = details_of([imaged], imaged.units["unit_id"].tolist(), most=100)
    assert found is not None
    assert found.modality == "calcium"
    assert (np.array(found.lags_s) % 0.25 == 0).all()
    assert found.widths_s == [0.25, 0.5, 1.0, 3.0]


def test_frame_intervals_that_models_take_as_equal_share_their_axes() -> None:
    first, second = (
        population(12, 400, modality="calcium", bin_s=width, recording=name)
        for width, name in ((0.25, "one"), (0.2500001, "other"))
    )
    ids = [*first.units["unit_id"], *second.units["unit_id"]]
    found = details_of([first, second], ids, most=100)
    assert found is not None
    assert len(found.known) == 24


def test_columns_that_are_left_out_are_named(tmp_path: Path) -> None:
    units = units_of(recordings(1))
    extra = pd.DataFrame({f"extra_{i}": np.arange(len(units)) for i in range(30)})
    path = write_units(tmp_path / "one.parquet", pd.concat([units, extra], axis=1))
    write_explore([path], tmp_path / "explore.html")
    names = [column["name"] for column in unpacked(tmp_path / "explore.html")["columns"]]
    assert names[:2] == ["cell_type", "animal"]
    text = (tmp_path / "explore.html").read_text()
    assert "extra_29" in text
    assert "extra_29" not in names


def test_predictions_are_columns(tmp_path: Path) -> None:
    table, vectors = simulated(4, 30, noise=0.3)
    probe = train_probe(embedded(table, vectors), "kind", **PUBLISHED)
    path = tmp_path / "embeddings.parquet"
    write_embeddings(path, table, vectors, np.ones(len(table), int), {"model": MODEL})
    write_explore([path], tmp_path / "explore.html", probes={"kind": probe})
    names = [column["name"] for column in unpacked(tmp_path / "explore.html")["columns"]]
    assert {"kind likeliest", "kind predicted", "kind probability"} <= set(names)


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    units = units_of(recordings(1))
    one = write_units(tmp_path / "one.parquet", units)
    other = write_units(tmp_path / "other.parquet", units.assign(unit_id=[f"x{i}" for i in range(14)]))
    with pytest.raises(DataError, match="no unit in common"):
        write_explore([one], tmp_path / "e.html", beside=[other])
    with pytest.raises(ConfigError, match="pca, umap, tsne"):
        lay_out(np.eye(4), "mds")  # type: ignore[arg-type]


def test_what_takes_minutes_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def slow(vectors: np.ndarray, seed: int) -> np.ndarray:
        called.append(seed)
        return vectors[:, :2]

    monkeypatch.setattr("nuclr.representation.layouts._umap", slow)
    monkeypatch.setattr("nuclr.representation.layouts.check_layouts", lambda layouts: None)
    vectors = np.random.default_rng(0).standard_normal((9, 4))
    first, again = (lay_out(vectors, "umap", tmp_path) for _ in range(2))
    assert (first == again).all()
    lay_out(vectors + 1, "umap", tmp_path)
    assert called == [0, 0]


def test_sixty_thousand_units_are_less_than_15_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page has two maps, the largest number of columns, and data that cannot be compressed."""
    from nuclr.report.pages import explore
    from nuclr.report.pages.unit_details import RATE_BINS, Details

    units, rng = many(60_000), np.random.default_rng(0)
    n = len(units)
    more = {f"column {i}": rng.random(n) for i in range(MOST_COLUMNS - len(units.columns))}
    units = units.assign(**more)
    noise = Details(
        np.arange(n),
        *(rng.integers(-127, 128, (n, 13), dtype=np.int8), rng.integers(0, 256, (n, 20), dtype=np.uint8)),
        *(rng.integers(0, 256, (n, RATE_BINS), dtype=np.uint8), rng.random(n, np.float32)),
        *(
            rng.random(n, np.float32),
            rng.random(n, np.float32),
            rng.integers(-127, 128, (n, 4), dtype=np.int8),
            rng.random(n),
        ),
        *([1.0] * 13, [1.0] * 21, [1.0] * 4, "spikes"),
    )
    one, other = (
        write_units(tmp_path / f"{name}.parquet", units, seed=i) for i, name in enumerate(("a", "b"))
    )
    monkeypatch.setattr(explore, "details_of", lambda *_: noise)
    # Computing the neighbours takes a minute; this test only needs the size of the array.
    monkeypatch.setattr(explore, "neighbours", lambda *_: rng.integers(0, n, (n, 5)).astype(np.int32))
    write_explore([one], tmp_path / "explore.html", beside=[other])
    assert (tmp_path / "explore.html").stat().st_size < 15e6


def keys(session: str, text: str) -> None:
    """Press keys one after another, on the element that has the focus."""
    strokes = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
    ask(session, "actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])


TAB, ENTER = "\ue004", "\ue007"
# Colours on the first map, other than the background.
PAINTED = """
    const canvas = document.querySelector(".map canvas"), seen = new Set();
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, width, height);
    for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    return seen.size;
"""

# Contrast of text and of drawn colours with the background (WCAG).
CONTRAST = """
    const linear = part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
    const light = colour => {
        const [c] = packed([colour]);
        const parts = [c & 255, c >> 8 & 255, c >> 16 & 255].map(part => linear(part / 255));
        return parts[0] * .2126 + parts[1] * .7152 + parts[2] * .0722;
    };
    const page = light(variable("--page"));
    const ratio = colour => (Math.max(light(colour), page) + .05) / (Math.min(light(colour), page) + .05);
    const least = colours => Math.min(...colours.map(ratio));
    const text = ["--text", "--soft", "--mark"].map(variable);
    return [least(text), least([...(dark.matches ? DARK : LIGHT), variable("--edge")])];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_and_asks_no_network(session: str, page: Path, width: int, scheme: str) -> None:
    opened(session, page, width, scheme)
    assert run(session, PAINTED) > 3
    run(session, "document.getElementById('search').value = 'm1'")
    run(session, "document.getElementById('search').dispatchEvent(new Event('input'))")
    run(session, "document.querySelector('#found button').click()")
    assert run(session, "return document.querySelectorAll('.plots svg').length") == 5
    assert run(session, "return document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert run(session, "return performance.getEntriesByType('resource').length") == 0
    text, drawn = run(session, CONTRAST)
    assert text >= 4.5
    assert drawn >= 3


def test_a_map_is_never_empty_while_its_window_is_resized(session: str, page: Path) -> None:
    opened(session, page)
    assert colours_when_resized(session, "#maps canvas") > 5


def test_a_legend_filters_what_is_drawn(session: str, page: Path) -> None:
    opened(session, page)
    names = "return [...document.querySelectorAll('#legend label')].map(row => row.innerText.split('\\n')[0])"
    assert run(session, names) == ["a", "b", "not known"]
    before = run(session, PAINTED)
    frame = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    run(session, "document.getElementById('none').click()")
    ask(session, "execute/async", script=frame, args=[])
    assert run(session, PAINTED) == 1
    run(session, "document.querySelector('#legend input').click()")
    ask(session, "execute/async", script=frame, args=[])
    assert 1 < run(session, PAINTED) < before
    run(session, "document.getElementById('select-shown').click()")
    assert run(session, "return document.getElementById('selection').textContent") == "15 units selected."


def test_a_click_shows_a_unit_and_its_neighbours_in_other_animals(session: str, page: Path) -> None:
    opened(session, page)
    click = """
        const canvas = document.querySelector(".map canvas"), box = canvas.getBoundingClientRect();
        const at = (x, y) => ({clientX: box.x + x, clientY: box.y + y, pointerId: 9});
        for (let y = 4; y < box.height; y += 8) for (let x = 4; x < box.width; x += 8) {
            for (const kind of ["pointerdown", "pointerup"])
                canvas.dispatchEvent(new PointerEvent(kind, at(x, y)));
            const found = document.querySelector("#unit h2");
            const near = [...document.querySelectorAll(".near li")];
            if (found) return [found.textContent, near.map(row => row.textContent.match(/ (m[0-9]),/)[1])];
        }
    """
    unit, animals = run(session, click)
    assert len(animals) == 10  # five on each of the maps
    assert unit.split("_")[0] not in animals
    assert unit in run(session, "return document.getElementById('chosen').textContent")  # for screen readers
    hover = """
        const canvas = document.querySelector(".map canvas"), box = canvas.getBoundingClientRect();
        const at = (x, y) => ({clientX: box.x + x, clientY: box.y + y, pointerId: 9});
        for (let y = 4; y < box.height; y += 8) for (let x = 4; x < box.width; x += 8) {
            canvas.dispatchEvent(new PointerEvent("pointermove", at(x, y)));
            const tip = document.querySelector(".tip");
            if (!tip.hidden) return tip.textContent;
        }
    """
    assert re.search(r"cell type: .*\nanimal: m", run(session, hover))


def test_a_lasso_selects_in_both_maps_and_the_selection_is_saved(session: str, page: Path) -> None:
    opened(session, page)
    around = """
        window.saved = null;
        URL.createObjectURL = blob => { window.saved = blob; return "data:,"; };
        document.getElementById("lasso").click();
        const canvas = document.querySelector(".map canvas"), box = canvas.getBoundingClientRect();
        const at = (x, y) => ({clientX: box.x + x, clientY: box.y + y, pointerId: 9});
        const [right, low] = [box.width - 1, box.height - 1];
        const send = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, at(x, y)));
        send("pointerdown", 1, 1);
        [[right, 1], [right, low], [1, low]].forEach(corner => send("pointermove", ...corner));
        send("pointerup", 1, 2);
        document.getElementById("save").click();
        return document.getElementById("selection").textContent;
    """
    assert run(session, around) == "42 units selected."
    text = "const done = arguments[0]; window.saved.text().then(done)"
    rows = list(csv.DictReader(io.StringIO(ask(session, "execute/async", script=text, args=[]))))
    assert {row["unit_id"] for row in rows} == {*units_of(recordings())["unit_id"]}
    strange = next(row for row in rows if row["unit_id"] == STRANGE)
    assert strange["untrained x"] == ""  # it is on the first map only
    assert float(strange["trained x"]) == pytest.approx(0, abs=0.51)
    assert [row["animal"] for row in rows] == units_of(recordings())["animal"].tolist()
    assert run(session, "return document.querySelectorAll('#unit h2').length") == 0


def test_a_keyboard_reaches_everything(session: str, page: Path) -> None:
    opened(session, page)
    run(session, "document.getElementById('search').focus()")
    keys(session, "script" + ENTER)
    assert run(session, "return document.querySelector('#unit h2').textContent") == STRANGE
    run(session, "document.getElementById('search').value = ''")
    run(session, "document.getElementById('search').dispatchEvent(new Event('input'))")
    reached = []
    for _ in range(40):
        keys(session, TAB)
        here = run(session, "return document.activeElement.id || document.activeElement.tagName")
        reached.append(here)
        if here == "CANVAS" and reached.count("CANVAS") == 1:
            shown = run(session, "return document.querySelector('#unit h2').textContent")
            assert shown == STRANGE
            keys(session, "\ue014\ue014+" + ENTER)  # right, right, zoom in
            assert run(session, "return document.querySelector('#unit h2').textContent") != STRANGE
        if reached.count("BUTTON") > 1:
            break
    assert {"pan", "lasso", "nearer", "whole", "CANVAS", "all", "none", "INPUT", "select-shown"} <= {*reached}
    named = ask(session, "goog/cdp/execute", cmd="Accessibility.getFullAXTree", params={})["nodes"]
    roles = {"button", "checkbox", "combobox", "searchbox", "application", "image"}
    unnamed = [
        node["role"]["value"]
        for node in named
        if not node["ignored"] and node["role"]["value"] in roles and not node["name"]["value"]
    ]
    assert unnamed == []


def test_numbers_are_coloured_in_ranges(session: str, tmp_path: Path) -> None:
    units = units_of(recordings()).assign(rate_hz=np.r_[np.nan, np.arange(41.0)])
    write_explore([write_units(tmp_path / "one.parquet", units)], tmp_path / "explore.html")
    opened(session, tmp_path / "explore.html")
    choose = """
        const column = document.getElementById("column");
        column.value = [...column.options].find(option => option.text === "rate (Hz)").value;
        column.dispatchEvent(new Event("change"));
        const rows = [...document.querySelectorAll("#legend label")];
        return rows.map(row => row.innerText.replaceAll("\\n", " "));
    """
    rows = run(session, choose)
    assert rows[0] == "0 to 5 5"
    assert rows[-1] == "not known 1"
    assert len(rows) == 9
    table = pd.DataFrame({"n": [int(row.split()[-1]) for row in rows]})
    assert table["n"].sum() == 42
