"""Test the report page: a single file, complete and readable, also in a real browser if there is one."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import ask, run, show
from labelled import SPLITS, features_of, units
from strategies import population

from nuclr.config import load_config
from nuclr.data.catalog import catalog
from nuclr.data.store import write_population
from nuclr.errors import DataError
from nuclr.evaluation.probe import probe_all
from nuclr.evaluation.score_tables import gather_scores
from nuclr.report.figures.curves import write_scaling
from nuclr.report.figures.overview import write_overview
from nuclr.report.pages.results import _best_description, cost_table, write_page
from nuclr.representation.embeddings import write_embeddings

# Name of a class that must not become markup of the page.
CONFIG = load_config(
    {
        "dataset": "steinmetz_2019",
        "probe": {
            "tasks": [{"name": "brain_region", "column": "kind", "classes": {"<b>&x": ["x"], "y": ["y"]}}],
            "protocols": ["transductive", "inductive_zero_shot"],
            "label_halvings": 1,
            "bootstrap": 20,
        },
    }
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the results of two runs, a baseline and a control, from synthetic features."""
    folder = tmp_path_factory.mktemp("results")
    table = units()
    stores = []
    for animal in sorted(set(table["animal"])):
        own = population(units=12, bins=200, animal=animal, recording=animal)
        own.units["kind"] = ["x", "y"] * 6
        write_population(own, folder / "populations" / f"{animal}.zarr", chunk_s=60, shard_s=60)
        stores.append(folder / "populations" / f"{animal}.zarr")
    catalogued, populations = catalog(stores)
    catalogued.to_parquet(folder / "units.parquet")
    populations.to_parquet(folder / "populations.parquet")
    runs: dict[str, dict[str, Any]] = {f"n{n}-s0": {"animals": SPLITS.pretraining(n, 0)} for n in (1, 2)}
    runs |= {
        "single_neuron": {"baseline": "single_neuron"},
        "which_recording": {"baseline": "which_recording"},
    }
    probes = []
    for i, (name, record) in enumerate(runs.items()):
        path = folder / "runs" / name / "embeddings.parquet"
        features = features_of(table, noise=0.5 + i)
        write_embeddings(path, table, features, np.ones(len(table), int), {"seed": 0, **record})
        probes.append(path.with_name("probes"))
        probe_all(path, SPLITS, len(record.get("animals", "xx")), 0, CONFIG.probe, probes[-1], panel=1)
        if "animals" in record:
            metrics = pd.DataFrame({"step": [10, 20], "loss": [3.0, 2.0], "rankme": [np.nan, 4.0]})
            metrics.to_csv(path.with_name("metrics.csv"), index=False)
    gather_scores(probes, folder / "probes.parquet")
    for protocol in CONFIG.probe.protocols:
        stem = folder / "scaling" / f"brain_region.{protocol}"
        write_scaling(probes, "brain_region", protocol, stem, resamples=20)
    write_overview(folder, ["n1-s0", "n2-s0"], CONFIG.probe, folder / "figures")
    log = folder / "logs" / "pretrain" / "n2-s0.log"
    log.parent.mkdir(parents=True)
    log.write_text("loss 3\nnuclr: took 7200.00 s, 3600.00 s of processors, 2.000 GB\n")
    machine = {"machine": {"accelerator": "gpu", "devices": 2}}
    (folder / "runs" / "n2-s0" / "config.json").write_text(json.dumps(machine))
    write_page(CONFIG, SPLITS, folder, folder / "report.html")
    return folder


def test_the_page_holds_everything_and_asks_for_nothing(results: Path) -> None:
    page = (results / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "0.959 (NEMO 0.699)" in page  # the published score, for the transductive protocol only
    assert page.count("0.959") == 1
    # The paper tested on all animals in pretraining, so its score is in the row of this test.
    assert page.index("tested on all animals of pretraining") < page.index("0.959 (NEMO 0.699)")
    assert "No law was fitted: there are too few test animals (1); intervals need at least 3." in page
    assert "&lt;b&gt;&amp;x" in page
    assert "<b>&x" not in page
    assert "knowing only which recording a unit is from" in page
    for name in ("torch", '"temperature": 0.2', SPLITS.test[0]):
        assert name in page.replace("&#34;", '"')
    assert "p value" not in page
    # Every table with intervals also has the number of test animals.
    with_intervals = [head for head in re.findall(r"<thead>.*?</thead>", page) if "(95 %)" in head]
    assert len(with_intervals) == 1 + 2 + 1
    assert all("<th>test animals</th>" in head for head in with_intervals)
    # The score of the plain probe is beside that of the chosen probe.
    assert sum("<th>plain probe</th>" in head for head in with_intervals) == 1 + 2
    assert not re.search(r"\bnan\b", re.sub(r"data:[^\"]+", "", page))
    for picture in re.findall(r"data:image/png;base64,([^\"]+)", page):
        assert base64.b64decode(picture).startswith(b"\x89PNG")


def test_every_figure_of_scores_can_be_saved_from_the_page(results: Path) -> None:
    page = (results / "report.html").read_text()
    saved = re.findall(r'href="data:[^;]*;base64,([^"]*)" download="([^"]*)"', page)
    names = {path.name for path in (results / "scaling").iterdir()}
    figures = {name for name in names if name.endswith((".png", ".svg"))}
    tables = {name.replace(".png", ".csv") for name in figures if name.endswith(".png")}
    assert {name for _, name in saved} == figures | tables
    for content, name in saved:
        assert base64.b64decode(content) == (results / "scaling" / name).read_bytes()


def test_every_caption_says_how_many_were_tested(results: Path) -> None:
    page = (results / "report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    of_scores = [caption for caption in captions if "Save as" in caption]
    assert len(of_scores) == 2 * 4
    assert [caption.split(" n = ")[1] for caption in captions if "Save as" not in caption] == [
        "8 animals, 96 units.",
        "2 runs.",
        "240 units.",
    ]
    assert all(
        re.search(r"n = [12] test animals?, \d+ units in each run, 1 seed\.", one) for one in of_scores
    )


def test_the_map_of_units_is_linked_where_it_was_made(results: Path, tmp_path: Path) -> None:
    assert "explore.html" not in (results / "report.html").read_text()
    (tmp_path / "explore.html").touch()
    write_page(CONFIG, SPLITS, results, tmp_path / "report.html")
    assert 'href="explore.html"' in (tmp_path / "report.html").read_text()


def test_a_published_split_that_shares_animals_is_said_on_the_page(results: Path, tmp_path: Path) -> None:
    shared = "published split: 57 of 64 test animals are also in pretraining"
    splits = type(SPLITS)(test=SPLITS.test, label=SPLITS.label, orders=SPLITS.orders, note=shared)
    write_page(CONFIG, splits, results, tmp_path / "report.html")
    assert shared in (tmp_path / "report.html").read_text()
    assert shared not in (results / "report.html").read_text()


def test_simulated_recordings_are_named_on_the_page(results: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"source": "simulated"})
    write_page(config, SPLITS, results, tmp_path / "report.html")
    assert "these recordings are simulated" in (tmp_path / "report.html").read_text()
    assert "these recordings are simulated" not in (results / "report.html").read_text()


@pytest.mark.parametrize(
    ("aic", "said"),
    [
        ((-20.0, -17.0, -3.0), "the law describes the curve best"),
        ((-20.0, -21.9, -3.0), "the law and a line in log n describe the curve equally well"),
        (
            (-2.0, -1.5, -3.0),
            "the law, a line in log n and a constant describe the curve equally well, so the curve does",
        ),
        (
            (-1.0, 1.5, -5.0),
            "a constant describes the curve best, so the curve does not show that more animals help",
        ),
    ],
)
def test_the_best_description_of_a_curve_is_named(aic: tuple[float, ...], said: str) -> None:
    names = ("power_law", "line_in_log_n", "constant")
    assert _best_description(dict(zip(names, aic, strict=True))).startswith(said)


def test_of_one_probe_the_page_shows_no_other(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    for path in (tmp_path / "copy" / "scaling").glob("*.csv"):
        pd.read_csv(path).drop(columns=["plain_macro_f1", "probes"], errors="ignore").to_csv(
            path, index=False
        )
    write_page(CONFIG, SPLITS, tmp_path / "copy", tmp_path / "report.html")
    # The figures in the copied results still show several probes.
    page = re.sub(r"<svg.*?</svg>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    assert "plain probe" not in page
    assert "beside it" not in page
    assert "held-out" not in page
    assert "<th>NuCLR (95 %)</th>" in page


def test_costs_are_added_up_and_a_gpu_counts_as_long_as_its_job(results: Path) -> None:
    (row,) = cost_table(results)
    assert row == {
        "step": "pretrain",
        "jobs": 1,
        "wall_hours": 2.0,
        "core_hours": 1.0,
        "gpu_hours": 4.0,
        "largest_gb": 2.0,
    }


def test_a_missing_result_is_named(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    (tmp_path / "copy" / "scaling" / "brain_region.transductive.labels.png").unlink()
    with pytest.raises(DataError, match=r"brain_region\.transductive\.labels\.png: cannot be read"):
        write_page(CONFIG, SPLITS, tmp_path / "copy", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_results_of_an_earlier_version_are_named(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    path = tmp_path / "copy" / "scaling" / "brain_region.transductive.csv"
    pd.read_csv(path).drop(columns="units").to_csv(path, index=False)
    with pytest.raises(
        DataError, match=r"transductive\.csv: has no column units, as an earlier version wrote it"
    ):
        write_page(CONFIG, SPLITS, tmp_path / "copy", tmp_path / "page.html")


def contrast(one: str, other: str) -> float:
    """Contrast of two colours ``rgb(r, g, b)`` (WCAG 2.1)."""

    def light(colour: str) -> float:
        parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
            @ [0.2126, 0.7152, 0.0722]
        )

    low, high = sorted([light(one), light(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_can_be_read(
    browser: str, results: Path, width: int, scheme: str
) -> None:
    show(browser, (results / "report.html").as_uri(), width, scheme)
    found = ask(
        browser,
        "execute/sync",
        args=[],
        script="""
            const all = [...document.querySelectorAll("p, td, th, h1, h2, h3, summary, figcaption, a, pre")];
            const body = getComputedStyle(document.body);
            return {
                wide: document.documentElement.scrollWidth, window: window.innerWidth,
                images: [...document.images].map(i => i.complete && i.naturalWidth > 0),
                figures: [...document.querySelectorAll("figure svg")].filter(s => s.clientWidth > 100).length,
                asked: performance.getEntriesByType("resource").length,
                colours: [...new Set(all.map(e => getComputedStyle(e).color))], page: body.backgroundColor,
            };
        """,
    )
    assert found["window"] == width
    assert found["wide"] <= width
    assert len(found["images"]) == 3
    assert found["figures"] == 2 * 4
    assert found["asked"] == 0
    assert all(found["images"])
    assert (contrast(found["page"], "rgb(0, 0, 0)") < 2) == (scheme == "dark")
    assert min(contrast(colour, found["page"]) for colour in found["colours"]) >= 4.5
    log = ask(browser, "se/log", type="browser")
    assert [line for line in log if line["level"] in ("SEVERE", "WARNING")] == []


TIP = "const tip = document.querySelector('.tip:not([hidden])'); return tip && tip.textContent"


@pytest.mark.parametrize("width", [1280, 390])
def test_every_mark_answers_to_the_pointer(browser: str, results: Path, width: int) -> None:
    show(browser, (results / "report.html").as_uri(), width, "light")
    answers = run(
        browser,
        """
        return [...document.querySelectorAll("figure svg")].map(svg => {
            const said = new Set();
            for (const mark of svg.querySelectorAll(".mark")) {
                const box = mark.getBoundingClientRect();
                const at = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true};
                svg.dispatchEvent(new PointerEvent("pointermove", at));
                const tip = svg.parentElement.querySelector(".tip");
                const inside = tip.getBoundingClientRect(), frame = svg.parentElement.getBoundingClientRect();
                if (tip.hidden) said.add("nothing");
                else if (inside.left < frame.left - 1 || inside.right > frame.right + 1) said.add("cut off");
                else said.add(tip.textContent);
            }
            svg.dispatchEvent(new PointerEvent("pointerleave"));
            return [...said];
        });
        """,
    )
    assert run(browser, TIP) is None
    assert len(answers) == 2 * 4
    said = {text for texts in answers for text in texts}
    assert not {"nothing", "cut off"} & said
    curve = pd.read_csv(results / "scaling" / "brain_region.transductive.csv")
    for row in curve.to_dict("records"):
        assert any(f"macro-F1 {row['macro_f1']:.4f}\n" in text for text in said)
    confusion = pd.read_csv(results / "scaling" / "brain_region.transductive.confusion.csv")
    for row in confusion.to_dict("records"):
        cell = f"true {row['label']}, predicted {row['predicted']}\nshare {row['share']:.4f}"
        assert any(text.startswith(cell) for text in said)


def test_the_pointer_on_a_mean_shows_the_mean_though_runs_lie_under_it(browser: str, results: Path) -> None:
    show(browser, (results / "report.html").as_uri(), 1280, "light")
    said = run(
        browser,
        """
        const svg = document.querySelector("figure svg"), tip = svg.parentElement.querySelector(".tip");
        return [...svg.querySelectorAll(".mark.mean")].map(mark => {
            const box = mark.getBoundingClientRect();
            const at = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true};
            svg.dispatchEvent(new PointerEvent("pointermove", at));
            return tip.textContent;
        });
        """,
    )
    # One seed, so that each mean lies on its run.
    means = [text for text in said if re.match(r"NuCLR, [12] animals? in pretraining\n", text)]
    assert len(set(means)) == 2


def test_the_arrow_keys_go_through_the_numbers_of_a_figure(browser: str, results: Path) -> None:
    show(browser, (results / "report.html").as_uri(), 1280, "light")
    run(browser, "document.querySelector('figure svg').focus()")
    press = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '%s'}));" + TIP
    first, second = run(browser, press % "ArrowRight"), run(browser, press % "ArrowRight")
    assert "macro-F1" in first
    assert "macro-F1" in second
    assert first != second
    assert run(browser, press % "ArrowLeft") == first
    assert run(browser, press % "Escape") is None


def test_one_control_leaves_the_means_alone(browser: str, results: Path) -> None:
    show(browser, (results / "report.html").as_uri(), 1280, "light")
    seen = """
        const seen = kind => [...document.querySelectorAll(`.mark.${kind}`)]
            .filter(mark => getComputedStyle(mark).display !== "none").length;
        return [seen("seed"), seen("mean")];
    """
    seeds, means = run(browser, seen)
    assert seeds == 2 * 2  # runs, in each protocol
    run(browser, "document.querySelector('#only-mean').click()")
    assert run(browser, seen) == [0, means]
    run(browser, "document.querySelector('#all-seeds').click()")
    assert run(browser, seen) == [seeds, means]
