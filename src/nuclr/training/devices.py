"""Which GPUs a process may use: each belongs to one process at a time, unless sharing was asked for.

Between processes of one machine a GPU is a file, locked by whoever uses it. The system takes the lock
away when its process ends, however it ends, so no GPU is ever lost to a job that was killed. Inside a job of
a cluster the scheduler has given the GPUs out already, and numbers mean nothing outside the job.
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
# What SLURM, PBS, LSF and Grid Engine say to their jobs.
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
# What Lightning says to the processes that a run starts: they use what the run has taken.
OF_A_RUN = "LOCAL_RANK"
# Windows gives each user a temporary folder of her own.
LOCKS = Path(tempfile.gettempdir()) / (f"nuclr-gpus-{os.getuid()}" if hasattr(os, "getuid") else "nuclr-gpus")
ASKED_EVERY_S = 1.0
NONE_THERE = (
    "machine.accelerator is gpu, but this process sees no GPU; request one from the scheduler, install a "
    "build of torch for CUDA, or set machine.accelerator to auto"
)


def visible() -> list[str]:
    """Name the GPUs that this process could use, as CUDA would: by number, or by UUID."""
    named = os.environ.get(VISIBLE)
    if named is None:
        import torch

        # Counted without CUDA being set up, which would fix what is visible.
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def gpus_of_this_machine() -> int:
    """Count the NVIDIA GPUs that the system lists, without loading torch: enough to plan by."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def use_gpu(accelerator: Accelerator) -> bool:
    """Whether to compute on a GPU.

    Raises
    ------
    TrainingError
        If one was demanded and there is none.
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
    """Take some GPUs for as long as the block lasts, waiting until they are free.

    Sets ``CUDA_VISIBLE_DEVICES`` for this process and those that it starts, so it must come before CUDA
    is first used.

    Parameters
    ----------
    count
        How many.
    accelerator
        ``cpu`` takes none; ``auto`` takes none where there is none.
    shared
        Whether GPUs may be used that others use too: then nothing is taken.

    Yields
    ------
    list of str
        Names of those taken; empty where nothing needs to be.

    Raises
    ------
    TrainingError
        If there are fewer than that, used or not, or none where one is demanded.
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
    """Lock as many GPUs, all at once: who waits holds none, so two that wait never block each other."""
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
