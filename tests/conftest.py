"""What all tests share."""

from collections.abc import Iterator

import pytest
from browser import started
from hypothesis import settings

# A shared machine may stand still for longer than hypothesis would wait.
settings.register_profile("nuclr", deadline=None)
settings.load_profile("nuclr")


@pytest.fixture(scope="session")
def browser() -> Iterator[str]:
    """Give the address of a session in headless Chromium."""
    with started() as session:
        yield session


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait for a scheduler most of their time: others run beside them."""
    items.sort(key=lambda item: "test_slurm" not in item.nodeid)
