"""Environments of the field's own tools, which cannot share ours: each made once, if packages can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
LOCKED = HERE.parents[1] / "envs" / "agreement"
# Making one takes seconds; a machine that needs longer has no index of packages, or a slow one.
LIMIT_S = 120
# Scripts of other environments cannot be imported in this one.
collect_ignore = ["in_spikeinterface.py", "in_suite2p.py"]


@dataclass(frozen=True)
class Environment:
    """A Python that has a tool, and where it finds it."""

    python: str
    packages: dict[str, str] = field(default_factory=dict)

    def run(self, script: str, *arguments: str | Path) -> str:
        """Run a script of this folder, and give what it printed last."""
        command = [self.python, str(HERE / script), *map(str, arguments)]
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            command, capture_output=True, text=True, env={**own, **self.packages}, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]


def without(why: str) -> NoReturn:
    """Skip what needs an environment; or fail, where NUCLR_AGREEMENT says that it must be there."""
    if os.environ.get("NUCLR_AGREEMENT"):
        pytest.fail(why)
    pytest.skip(f"{why} (NUCLR_AGREEMENT=1 makes this a failure)")


def uv(*arguments: str | Path) -> None:
    if (program := shutil.which("uv")) is None:
        without("uv is not installed: pip install nuclr[allen]")
    command = [program, "-q", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        without(f"uv {arguments[0]} took more than {LIMIT_S} s")
    if done.returncode:
        without(f"uv {arguments[0]} failed: {' '.join(done.stderr.split())[-300:]}")


def made(folder: Path, name: str) -> Environment:
    """Make an environment of locked packages alone: with all their dependencies, or as few as will do."""
    uv("venv", "--python", "3.11", folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    uv("pip", "install", "--no-deps", "--python", python, "-r", LOCKED / f"{name}.txt")
    return Environment(str(python))


@pytest.fixture(scope="session")
def spikeinterface(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return made(tmp_path_factory.mktemp("spikeinterface") / "venv", "spikeinterface")


@pytest.fixture(scope="session")
def suite2p(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return made(tmp_path_factory.mktemp("suite2p") / "venv", "suite2p")


@pytest.fixture(scope="session")
def suite2p_1(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give this Python with Suite2p put beside what it has: another torch would be gigabytes."""
    pytest.importorskip("numba", reason="numba is not installed: pip install nuclr[ibl]")
    folder = tmp_path_factory.mktemp("suite2p_1")
    uv("pip", "install", "--no-deps", "--target", folder, "-r", LOCKED / "suite2p_1.txt")
    return Environment(sys.executable, {"PYTHONPATH": str(folder)})
