"""Subcommands as a user gives them, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from warm import warm

NUCLR = [sys.executable, "-c", "from nuclr.cli import main; main()"]


@contextmanager
def libraries_loaded_once(folder: Path) -> Iterator[None]:
    """Let all commands that the block gives share one loading of the libraries."""
    with warm(folder) as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUCLR_WARM", place)
        yield


def nuclr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*NUCLR, *arguments], cwd=folder, capture_output=True, text=True)


def done(folder: Path, *arguments: str) -> str:
    """Say what a command printed that went well."""
    result = nuclr(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(folder: Path, *arguments: str) -> str:
    """Say the only line of a command's error."""
    result = nuclr(folder, *arguments)
    assert result.returncode == 1, result.stdout
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("nuclr: error: ")]
    return error
