"""What all tests share."""

import os
from collections.abc import Iterator

# Tests run in a process for each core, so each, and what it starts, has one thread. Libraries read this
# when they are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

from nuclr.training.devices import gpus_of_this_machine

# Kernels for GPUs run on a CPU, slowly, where Triton is told so before it is imported.
if not gpus_of_this_machine():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
from browser import ask, started
from hypothesis import settings

# A shared machine may stand still for longer than hypothesis would wait.
settings.register_profile("nuclr", deadline=None)
settings.load_profile("nuclr")


@pytest.fixture(scope="session")
def browser() -> Iterator[str]:
    """Give the address of a session in headless Chromium."""
    with started() as session:
        yield session


@pytest.fixture
def session(browser: str) -> Iterator[str]:
    """Give the browser, and make sure that the pages of the test logged no errors."""
    yield browser
    assert ask(browser, "se/log", type="browser") == []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process works on one alone at the end.

    Those that wait for a scheduler most of their time come first of all: others run beside them.
    """
    items.sort(key=lambda item: ("test_slurm" not in item.nodeid, "tests/workflow" not in item.nodeid))
