"""Commands that a warm process carries out are what they would be alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_run import SMALL, same
from strategies import poisson_trains, write_units
from warm import warm

from nuclr.config import load_config
from nuclr.model.tensor_files import read_record

NUCLR = Path(sys.executable).with_name("nuclr")
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux has what it takes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm")
    for animal in "ab":
        write_units(folder / f"{animal}.nwb", poisson_trains(20, 40.0), animal=animal)
    return folder


@pytest.fixture(scope="module")
def place(folder: Path) -> Iterator[str]:
    with warm(folder) as place:
        yield place


def nuclr(folder: Path, *arguments: str, place: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUCLR_WARM": place}
    pipe = subprocess.PIPE
    command = [str(NUCLR), *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize(
    "command", ["--version", "inspect a.nwb --json", "inspect missing.nwb", "inspect", "chunk a.nwb"]
)
def test_what_is_said_and_how_it_ends(folder: Path, place: str, command: str) -> None:
    alone, *asked = (nuclr(folder, *command.split(), place=where) for where in ("", place, place, place))
    said = alone.communicate()
    for process in asked:
        assert process.communicate() == said
        assert process.returncode == alone.returncode


def test_a_model_is_the_same_to_the_last_bit(folder: Path, place: str) -> None:
    config = folder / "config.json"
    config.write_text(load_config(SMALL).sections(*SMALL))
    for name, where in (("alone", ""), ("first", place), ("second", place), ("third", place)):
        process = nuclr(
            folder, "pretrain", ".", "-o", f"{name}/m.safetensors", "--config", str(config), place=where
        )
        assert process.wait() == 0, process.communicate()
        assert same(folder / "alone" / "m.safetensors", folder / name / "m.safetensors")


def test_a_run_on_two_devices_starts_its_other_process(folder: Path, place: str) -> None:
    config = folder / "two.json"
    config.write_text(load_config(SMALL, {"machine": {"devices": 2}}).sections(*SMALL))
    process = nuclr(folder, "pretrain", ".", "-o", "two/m.safetensors", "--config", str(config), place=place)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert read_record(folder / "two" / "m.safetensors", "model", "")["machine"]["devices"] == 2


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("end", ["term", "kill"])
def test_it_ends_with_whoever_asked(folder: Path, tmp_path: Path, end: str) -> None:
    """Asked to stop, it saves where it is; killed, it is not left behind."""
    config = folder / "long.json"
    config.write_text(load_config(SMALL, {"pretrain": {"steps": 100_000}}).sections(*SMALL))
    with warm(tmp_path) as place:
        process = nuclr(
            folder, "pretrain", ".", "-o", f"{end}/m.safetensors", "--config", str(config), place=place
        )
        wait_for(lambda: list((folder / end).rglob("*.ckpt")))
        process.send_signal(signal.SIGTERM if end == "term" else signal.SIGKILL)
        said = process.communicate()[1]
        if end == "term":
            assert process.returncode == 1
            assert "stopped by SIGTERM" in said
        newest = max(path.stat().st_mtime for path in (folder / end).rglob("*.ckpt"))
        time.sleep(2)
        assert max(path.stat().st_mtime for path in (folder / end).rglob("*.ckpt")) <= newest + 1


def test_where_nobody_listens_a_command_loads_for_itself(folder: Path, tmp_path: Path) -> None:
    process = nuclr(folder, "--version", place=str(tmp_path / "nobody"))
    assert process.communicate()[0].startswith("nuclr ")
    assert process.returncode == 0


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its new parent to take notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    place = tmp_path / "own" / "socket"
    place.parent.mkdir()
    code = (
        "import subprocess, sys, os, time\n"
        "server = subprocess.Popen([sys.executable, '-m', 'nuclr.cli.server', sys.argv[1]])\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.02)\n"
        "print(server.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True
    )
    wait_for(lambda: not runs(int(done.stdout)))
    assert not place.parent.exists()


def test_another_installation_is_not_asked(tmp_path: Path) -> None:
    """What it would run is not what this one would."""
    code = "import sys; from nuclr.cli import warm; warm.WHO[0] += 'x'; print(warm.ask(sys.argv[1]))"
    with warm(tmp_path) as place:
        done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
