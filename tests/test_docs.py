"""The documentation is built without a warning, fits its window, and its tutorial runs as it stands."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import page_commands
import pytest
import requests
from browser import ask, show
from warm import warm

import nuclr
from nuclr.config import Config
from nuclr.data.formats import FORMATS

REPOSITORY = Path(__file__).parents[1]
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"
HOW_TO = REPOSITORY / "docs" / "how_to"
TUTORIALS = REPOSITORY / "docs" / "tutorials"
# The commands of one tutorial are run on a SLURM cluster: tests/workflow/test_slurm.py.
PAGES = sorted({*HOW_TO.glob("*.md"), *TUTORIALS.glob("*.md")} - {TUTORIALS / "cluster.md"})


@pytest.fixture(scope="module", params=["mkdocs", "zensical"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build the site with a generator, and with the one that will succeed it; its address."""
    for package in (request.param, "l2m4m"):
        pytest.importorskip(package, reason='pip install "nuclr[dev]"')
    project = tmp_path_factory.mktemp("project")
    for folder in ("docs", "config"):
        shutil.copytree(REPOSITORY / folder, project / folder)
    (project / "src").symlink_to(REPOSITORY / "src")
    shutil.copy(REPOSITORY / "mkdocs.yml", project)
    command = [sys.executable, "-m", request.param, "build", "--strict"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(project / "site"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_their_window_and_equations_are_drawn(browser: str, site: str, width: int) -> None:
    pages = ["", *(f"{path.stem}/" for path in TUTORIAL.parent.glob("*.md") if path.stem != "index")]
    assert "configuration/" in pages
    pages += [f"how_to/{path.stem}/" for path in HOW_TO.glob("*.md")]
    for page in [*pages, "datasets/", "datasets/ibl_brain_wide_map/"]:
        show(browser, f"{site}/{page}", width, "light")
        found = ask(
            browser,
            "execute/sync",
            args=[],
            script="""
                const formulas = [...document.querySelectorAll("math")].map(m => m.getBoundingClientRect());
                return {
                    wide: document.documentElement.scrollWidth,
                    formulas: formulas.filter(f => f.width > 0 && f.height > 0).length,
                    dollars: document.querySelector("article").innerText.includes("$$"),
                    images: [...document.images].map(i => i.complete && i.naturalWidth > 0),
                };
            """,
        )
        assert found["wide"] <= width, page
        assert all(found["images"]), page
        assert not found["dollars"], page
        assert (found["formulas"] > 10) == (page == "method/")
    log = ask(browser, "se/log", type="browser")
    assert [line for line in log if line["level"] in ("SEVERE", "WARNING")] == []


def test_the_reference_names_every_key(site: str) -> None:
    page = requests.get(f"{site}/configuration/", timeout=10).text
    for section in Config.model_json_schema()["$defs"].values():
        for key in section.get("properties", {}):
            assert f"<code>{key}</code>" in page or section["title"] == "Task"


def run_page(page: Path, folder: Path) -> list[str]:
    """Run a page's commands one after another, and see that what it shows they said; then its programs."""
    environment = page_commands.environment()
    commands = page_commands.commands(page)
    for command, shown in commands:
        page_commands.run(command, shown, folder, environment)
    said = []
    for program in page_commands.blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert commands or said
    return said


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    (said,) = run_page(TUTORIAL, tmp_path)
    assert re.search(r"^\{.*'follower': [0-9]+", said, re.M), said


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with the recordings of the how-to pages, and a model that has learned little.

    The pages' commands share one loading of the libraries; those of the tutorial are run without it.
    """
    folder = tmp_path_factory.mktemp("how_to")
    subprocess.run([sys.executable, str(HOW_TO / "recordings.py"), str(folder)], check=True)
    few = {"pretrain": {"steps": 2}}
    nuclr.pretrain(folder / "mouse7.nwb", folder / "model.safetensors", config=few)
    with warm(tmp_path_factory.mktemp("docs")) as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUCLR_WARM", place)
        yield folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_how_to_pages_run_as_they_stand(page: Path, recordings: Path) -> None:
    run_page(page, recordings)
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())
    assert pictures
    assert all((page.parent / picture).is_file() for picture in pictures)


def test_parts_of_pages_that_are_made_from_the_package_are_up_to_date() -> None:
    """To write them again: python docs/parts.py."""
    parts = SourceFileLoader("parts", str(REPOSITORY / "docs" / "parts.py")).load_module()
    for page in parts.PAGES:
        assert page.read_text() == parts.made_anew(page), page
    assert all(form.known_by in (REPOSITORY / "docs" / "own_recordings.md").read_text() for form in FORMATS)
    keys = (REPOSITORY / "config" / "README.md").read_text()
    for name, section in Config.model_fields.items():
        inner = getattr(section.annotation, "model_fields", {})
        assert all(f"| `{key}` |" in keys for key in inner or [name])
