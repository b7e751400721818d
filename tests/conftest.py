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
