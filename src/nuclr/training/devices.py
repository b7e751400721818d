"""Assign GPUs to processes: each GPU is used by one process at a time, unless sharing is requested.

On one machine, each GPU has a lock file, which is locked by the process that uses the GPU. The system
releases the lock when the process ends, also if it is killed. Inside a job of a cluster, the scheduler has
already assigned the GPUs, and their numbers are only valid within the job.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from nuclr.errors import TrainingError

logger = logging.getLogger(__name__)

Accelerator = Literal["auto", "gpu", "cpu"]
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Variables that SLURM, PBS, LSF and Grid Engine set in their jobs.
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
# Variable that Lightning sets in the processes that a run starts; they use the GPUs of the run.
OF_A_RUN = "LOCAL_RANK"
# On Windows, each user has a temporary folder of their own.
LOCKS = Path(tempfile.gettempdir()) / (f"nuclr-gpus-{os.getuid()}" if hasattr(os, "getuid") else "nuclr-gpus")
ASKED_EVERY_S = 1.0
NONE_THERE = (
    "machine.accelerator is gpu, but this process sees no GPU; request one from the scheduler, install a "
    "build of torch for CUDA, or set machine.accelerator to auto"
)


def visible() -> list[str]:
    """Return the names of the GPUs that CUDA shows to this process: numbers, or UUIDs."""
    named = os.environ.get(VISIBLE)
    if named is None:
        import torch

        # This counts GPUs without initialising CUDA, which would fix the visible devices.
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def gpus_of_this_machine() -> int:
    """Return the number of NVIDIA GPUs that the system lists, without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def use_gpu(accelerator: Accelerator) -> bool:
    """Return whether to compute on a GPU.

    Raises
    ------
    TrainingError
        If ``accelerator`` is ``gpu`` and there is none.
    """
    if accelerator == "cpu":
        return False
    import torch

    there = torch.cuda.is_available()
    if accelerator == "gpu" and not there:
        raise TrainingError(NONE_THERE)
    return there


@contextmanager
def gpus(count: int, accelerator: Accelerator = "auto", shared: bool = False) -> Iterator[list[str]]:
    """Reserve GPUs for the duration of the block, and wait until they are free.

    Sets ``CUDA_VISIBLE_DEVICES`` for this process and its child processes, so it must be called before CUDA
    is used.

    Parameters
    ----------
    count
        Number of GPUs.
    accelerator
        ``cpu`` reserves none; ``auto`` reserves none if the machine has none.
    shared
        Whether GPUs may be shared with other processes; then none is reserved.

    Yields
    ------
    list of str
        Names of the reserved GPUs; empty if none needs to be reserved.

    Raises
    ------
    TrainingError
        If the process sees fewer GPUs than ``count``, free or not, or none although ``accelerator`` is
        ``gpu``.
    """
    there = visible()
    if accelerator == "gpu" and count and not there:
        raise TrainingError(NONE_THERE)
    if accelerator == "cpu" or not count or not there:
        yield []
        return
    if len(there) < count:
        raise TrainingError(
            f"machine.devices: {count} GPUs are requested, but this process sees {len(there)} "
            f"({', '.join(there)}); lower machine.devices, or check the variable {VISIBLE}"
        )
    if shared or OF_A_RUN in os.environ or any(name in os.environ for name in SCHEDULERS):
        yield []
        return
    before = os.environ.get(VISIBLE)
    with ExitStack() as held:
        taken = _take(there, count, held)
        os.environ[VISIBLE] = ",".join(taken)
        logger.info("using GPU %s", ", ".join(taken))
        try:
            yield taken
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def _take(there: Sequence[str], count: int, held: ExitStack) -> list[str]:
    """Lock ``count`` GPUs at once; a waiting process holds none, so two waiting processes cannot deadlock."""
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    told = False
    while True:
        with ExitStack() as locks:
            taken: list[str] = []
            for name in there:
                try:
                    locks.enter_context(FileLock(LOCKS / name.replace("/", "-"), blocking=False))
                except Timeout:
                    continue
                taken.append(name)
                if len(taken) == count:
                    held.push(locks.pop_all())
                    return taken
        if not told:
            logger.info("waiting until %d of the GPUs %s are free", count, ", ".join(there))
            told = True
        time.sleep(ASKED_EVERY_S)
