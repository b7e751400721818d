"""A process that has loaded the libraries already, for files of tests that run many commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def warm(folder: Path, *options: str, **environment: str) -> Iterator[str]:
    """Start it with options of Python's; give its socket in ``folder``, which is to be in ``NUCLR_WARM``.

    Where it cannot listen, as on macOS, the commands load what they need, as they do without it.
    """
    place = folder / "warm"
    command = [sys.executable, *options, "-m", "nuclr.cli.server", str(place)]
    process = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        while not place.exists() and process.poll() is None:
            time.sleep(0.02)
        yield str(place)
    finally:
        process.kill()
        process.wait()
