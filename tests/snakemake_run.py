"""The workflow, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SMALL = REPOSITORY / "config" / "small.yaml"


def snakemake(
    folder: Path,
    *arguments: str,
    configfile: Path | None = SMALL,
    snakefile: Path = REPOSITORY / "Snakefile",
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """Run the workflow with its results in ``folder``, and ``more`` in its environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **more}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    command += ["--configfile", str(configfile)] if configfile else []
    command += ["--cores", "2", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout + done.stderr, "")


def planned(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Read the jobs by rule that a dry run would do."""
    assert done.returncode == 0, done.stdout
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", done.stdout, re.M | re.S)
    if table is None:
        assert "Nothing to be done" in done.stdout
        return {}
    return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines()}
