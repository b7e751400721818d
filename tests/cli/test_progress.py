"""A bar in a terminal stands below what is logged, and does not outlive an error."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

CODE = """
import logging, sys
from nuclr.cli.progress import bar
logging.basicConfig(format="nuclr: %(message)s", stream=sys.stderr)
try:
    with bar("embedding") as shown:
        for number in shown([1, 2]):
            logging.warning("a warning")
            if {failing}:
                raise ValueError
except ValueError:
    print("nuclr: error", file=sys.stderr)
"""


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_is_removed_by_an_error_and_kept_apart_from_warnings(failing: bool, terminal: bool) -> None:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run(
        [sys.executable, "-c", CODE.format(failing=failing)],
        stderr=theirs,
        env=environment,
        check=True,
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # how a closed terminal ends on Linux
        pass
    os.close(ours)
    lines = [line for line in said.decode().splitlines() if line.strip()]
    assert "nuclr: a warning" in "\n".join(lines)
    if failing:
        # Erased: the last line that is not empty is the message, without a bar before or after it.
        assert lines[-1].endswith("nuclr: error")
        assert "embedding" not in lines[-1]
        erased = "\x1b[2K" in said.decode().rpartition("embedding")[2]
        assert erased if terminal else "embedding" not in said.decode()
    else:
        assert ("100%" in said.decode()) == terminal
