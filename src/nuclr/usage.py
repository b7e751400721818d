"""What a subcommand took, for the report of a workflow."""

from __future__ import annotations

import os
import re
import sys
import time
from importlib import import_module

from nuclr.rank import rank_told

TOOK = re.compile(r"^nuclr: took ([\d.]+) s, ([\d.]+) s of processors, ([\d.]+|nan) GB$", re.M)


def say_usage(began: float) -> None:
    """Say on standard error what this process and those that it started took; ``TOOK`` reads it.

    Of the memory of several processes the largest is said. Snakemake's own benchmarks look at a job every
    now and then, miss short ones, and would not find one that a warm process carries out.

    Parameters
    ----------
    began
        ``time.monotonic()`` at the beginning (s).
    """
    if rank_told():
        return  # of a run on several devices, one process says it
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    wall = time.monotonic() - began
    print(f"nuclr: took {wall:.2f} s, {cpu:.2f} s of processors, {_largest_gb():.3f} GB", file=sys.stderr)


def _largest_gb() -> float:
    if sys.platform == "win32":
        return float("nan")
    resource = import_module("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    which = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(unit * resource.getrusage(whose).ru_maxrss for whose in which) / 1e9
