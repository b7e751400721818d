"""Time and memory used by a subcommand, for the report of a workflow."""

from __future__ import annotations

import os
import re
import sys
import time
from importlib import import_module

from nuclr.rank import rank_told

TOOK = re.compile(r"^nuclr: took ([\d.]+) s, ([\d.]+) s of processors, ([\d.]+|nan) GB$", re.M)


def say_usage(began: float) -> None:
    """Print the time and memory used by this process and its children to standard error.

    ``TOOK`` parses this line.

    The memory is that of the largest process. Snakemake's benchmarks are not used, because they sample a job
    at intervals, miss short jobs, and do not see jobs that run in a warm process.

    Parameters
    ----------
    began
        ``time.monotonic()`` at the start of the subcommand (s).
    """
    if rank_told():
        return  # in a run on several devices, only one process prints it
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
