"""Test the page of decoded labels: self-contained, and readable at any width in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import ask, show, started
from shared_model import recorded, write_shared

import nuclr
from nuclr.data.population import Population
from nuclr.report.pages.identified import depth_figure, units_figure, write_identified
from nuclr.sharing.identify import Identified
from nuclr.sharing.loaded import Model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return nuclr.load_model(write_shared(tmp_path_factory.mktemp("shared") / "model"))


def page_of(model: Model, found: Identified, output: Path) -> str:
    write_identified(
        found,
        output,
        title="<b>mine</b>.nwb",
        trained_on=model.trained_on,
        rates=model.rates(),
        provenance=[("model", "sha256 ab")],
    )
    return output.read_text()


def identified(model: Model, *populations: Population) -> Identified:
    return model.identify(populations)


def test_it_says_in_words_what_was_found(model: Model, tmp_path: Path) -> None:
    found = identified(model, recorded("new", seed=9))
    page = page_of(model, found, tmp_path / "report.html")
    assert "&lt;b&gt;mine&lt;/b&gt;.nwb" in page  # names in files are untrusted
    assert "<b>mine" not in page
    for said in ("24 units in 1 population of animal new", "Brain region: 2", "VISp", "CA1", "new_new_23"):
        assert said in page
    assert f"The model was pretrained on recordings of {model.trained_on}." in page
    assert len(re.findall('src="data:image/png', page)) == 2  # one figure for each probe
    assert len(re.findall(r"<figcaption>[^<]* n = 24 units\.", page)) == 2
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)  # no external resources


def test_without_any_answer_it_says_that_the_probe_is_the_reason(model: Model, tmp_path: Path) -> None:
    found = model.identify(recorded("new", seed=9), sure=1.0)
    reason = "probe not shown to be correct often enough"
    assert set(found.units["kind_why_not"]) == {reason}
    page = page_of(model, found, tmp_path / "report.html")
    assert f"24 ({reason})" in page
    assert re.search(
        r"Kind: 0 of 24 units answered; the likeliest classes, which are no answers, agree with the label in "
        r"the recording for \d+ of 24 units, and the most frequent label would for 12<",
        page,
    )
    assert len(re.findall('src="data:image/png', page)) == 2  # probabilities are still drawn


def test_it_says_why_prediction_sets_promise_less(model: Model, tmp_path: Path) -> None:
    page = page_of(model, model.identify(recorded("new", seed=9)), tmp_path / "report.html")
    assert "true class of 85 % of units, not 90 %, because 6 animals were held out to calibrate" in page
    page = page_of(model, model.identify(recorded("new", seed=9), coverage=0.7), tmp_path / "report.html")
    assert "true class of 70 % of units.</p>" in page


def test_of_imaged_units_nothing_is_said_of_rates_and_depths(model: Model, tmp_path: Path) -> None:
    found = model.identify(recorded("new", seed=9, depth=False))
    page = page_of(model, found, tmp_path / "report.html")
    assert "median firing rate here" in page
    assert "The depths of the units are unknown" in page
    imaged = replace(found.embeddings, units=found.embeddings.units.drop(columns="rate_hz"))
    write_identified(
        replace(found, embeddings=imaged),
        tmp_path / "imaged.html",
        title="imaged",
        trained_on="",
        rates={},
        provenance=[],
    )
    page = (tmp_path / "imaged.html").read_text()
    assert not re.search("firing rate|depth", page)


def test_a_strange_recording_stands_first_and_has_no_picture(model: Model, tmp_path: Path) -> None:
    strange = recorded("strange", seed=9)
    strange.activity[:] = np.random.default_rng(0).poisson(20, strange.activity.shape)
    page = page_of(model, identified(model, strange), tmp_path / "report.html")
    assert page.index("strange/probe is unlike") < page.index("24 units in 1 population")
    assert "24 (in a recording unlike the training recordings)" in page
    assert 'src="data:image/png' not in page


def test_many_populations_and_units_are_cut_short_and_it_says_so(model: Model, tmp_path: Path) -> None:
    several = [recorded(f"a{i}", units=40, seed=20 + i, depth=i % 2 == 0) for i in range(9)]
    page = page_of(model, identified(model, *several), tmp_path / "report.html")
    assert "The first 300 of 360 units" in page
    assert "The first 8 of 9 populations are drawn" in page
    assert "360 units in 9 populations of 9 animals" in page


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    with started() as address:
        yield address


@pytest.mark.parametrize("units", [30, 3000])
def test_a_browser_shows_it_at_any_width(model: Model, session: str, tmp_path: Path, units: int) -> None:
    page_of(model, identified(model, recorded("new", units=units, seed=9)), tmp_path / "report.html")
    for width, scheme in ((1280, "light"), (390, "dark")):
        show(session, (tmp_path / "report.html").as_uri(), width, scheme)
        overflow = "return document.documentElement.scrollWidth - window.innerWidth"
        assert ask(session, "execute/sync", script=overflow, args=[]) <= 0
        shown = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
        assert ask(session, "execute/sync", script=shown, args=[])
    assert ask(session, "se/log", type="browser") == []
    assert (tmp_path / "report.html").stat().st_size < 2e6


def test_a_figure_is_described_as_what_it_is(model: Model, tmp_path: Path) -> None:
    shallow, deep = recorded("shallow", seed=9), recorded("deep", seed=10)
    shallow.units["depth_um"] = "unknown"
    page = page_of(model, identified(model, shallow, deep), tmp_path / "report.html")
    pictures = re.findall(r'alt="([^"]*)"></div><figcaption>([^<]*)</figcaption>', page)
    assert len(pictures) == 4
    for alt, caption in pictures:
        along = "deep/probe" in alt
        assert ("along the probe" in alt) == along
        assert ("Each dot is a unit at its depth" in caption) == along
        assert ("The depths of the units are unknown" in caption) != along


def test_a_recording_of_no_known_animal_is_not_of_0_animals(model: Model, tmp_path: Path) -> None:
    page = page_of(model, identified(model, recorded("", seed=9)), tmp_path / "report.html")
    assert "24 units in 1 population." in page


def test_long_names_of_classes_do_not_shrink_a_figure(model: Model) -> None:
    found = identified(model, recorded("new", seed=9))
    (task, answers), *_ = found.answers.items()
    renamed = {
        name: f"{name}, a region with a name of many words, layer {i}" for i, name in enumerate("abcdef")
    }
    columns = {f"p_{name}": 1 / 6 for name in renamed.values()}
    probe = replace(answers.probe, classes=np.array([*renamed.values()], object))
    long = replace(answers, probe=probe, table=answers.table.assign(**columns))
    rows = np.arange(24)
    for figure in (
        depth_figure(found, task, long, rows, rows * 20.0),
        units_figure(long, rows, task),
    ):
        figure.draw_without_rendering()
        inches = figure.get_tightbbox().size
        assert inches[0] < 4.3
        assert figure.axes[0].get_position().height * figure.get_figheight() > 1.5


def test_the_page_forbids_itself_the_network(model: Model, tmp_path: Path) -> None:
    page = page_of(model, identified(model, recorded("new", seed=9)), tmp_path / "report.html")
    assert "default-src 'none'" in page


def test_a_table_is_printed_whole(model: Model, session: str, tmp_path: Path) -> None:
    page_of(model, identified(model, recorded("new", seed=9)), tmp_path / "report.html")
    show(session, (tmp_path / "report.html").as_uri(), 700, "light")  # the width of a page of paper
    ask(session, "goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"media": "print"})
    cut = "return [...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflowX)"
    assert set(ask(session, "execute/sync", script=cut, args=[])) == {"visible"}
