"""A subcommand loads what it needs and no more: starting would else take longer than working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from strategies import poisson_trains, write_units

HEAVY = ("matplotlib", "scipy.stats", "sklearn", "distributed", "pynwb", "lightning", "torch")
RUN = """
import sys
from nuclr.cli import main
sys.argv = ["nuclr", *{arguments}]
try:
    main()
finally:
    print("loaded", *(name for name in {heavy} if name in sys.modules))
"""


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    code = RUN.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("loaded"))
    return set(line.split()[1:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imports")
    write_units(folder / "a.nwb", poisson_trains(3, 9.0), animal="a")
    return folder


@pytest.mark.parametrize("command", ["inspect a.nwb", "chunk a.nwb -o stores", "inspect stores"])
def test_looking_and_chunking_load_neither_pictures_nor_networks(folder: Path, command: str) -> None:
    assert loaded_by(folder, *command.split()) == set()


def test_a_picture_loads_what_draws_it(folder: Path) -> None:
    assert "matplotlib" in loaded_by(folder, "inspect", "a.nwb", "--picture", "raster")
