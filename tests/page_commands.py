"""The commands of a page of the documentation, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

NUMBER = r"[0-9]+(?:\.[0-9]+)?"


def blocks(page: Path, kind: str) -> list[str]:
    """Find the blocks of a kind, as ``console``."""
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.S)


def commands(page: Path) -> list[tuple[str, str]]:
    """Find the commands of a page's console blocks, each with the output that the page shows."""
    steps = [step for block in blocks(page, "console") for step in block.split("$ ")[1:]]
    return [(command, shown) for command, _, shown in (step.partition("\n") for step in steps)]


def environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Put the programs of this Python first, in a terminal as wide as the pages."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}"
    return {**given, "PATH": path, "COLUMNS": "120"}


def run(command: str, shown: str, folder: Path, env: Mapping[str, str]) -> None:
    """Run a command in a shell, and see that it says each line that is shown; numbers may be others."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in shown.strip().splitlines():
        expected = NUMBER.join(map(re.escape, re.split(NUMBER, line)))
        assert re.search(f"^{expected}$", done.stdout, re.M), f"{command}\n{done.stdout}"
