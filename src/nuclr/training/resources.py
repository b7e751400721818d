"""What of this machine a run of pretraining makes use of, where the configuration leaves it open."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from dask.system import cpu_count

from nuclr.config import Machine
from nuclr.model.encoder import EncoderSpec
from nuclr.model.fused import can_fuse

logger = logging.getLogger(__name__)

# Compiling took 35 s at the paper's size, and then saved 0.07 s of each step (one H200): paid for after 500.
PAYS_AFTER_STEPS = 1000


def loader_workers(machine: Machine, on_gpu: bool) -> int:
    """Count the processes that make batches for a device of this machine.

    A process of the run keeps a core for itself, and they share the rest of those that this job may use.
    """
    most = machine.most_workers(on_gpu)
    if machine.workers != "auto":
        return most
    return max(0, min(most, cores() // _processes_here(machine) - 1))


def cores() -> int:
    """Count the cores that this process may use: the system's, its container's and its scheduler's limits."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cpu_count(), int(given)) if given.isdigit() and int(given) else cpu_count()


def _processes_here(machine: Machine) -> int:
    """Count the processes of a run among which the cores of :func:`cores` are shared."""
    started_by_slurm = machine.num_nodes > 1 and os.environ.get("SLURM_NTASKS", "1") != "1"
    return 1 if started_by_slurm else machine.devices


def uses_kernels(machine: Machine, spec: EncoderSpec, on_gpu: bool) -> bool:
    """Whether an encoder is computed by the package's own kernels."""
    if machine.kernels == "torch" or machine.compile is True or not on_gpu:
        return False
    return can_fuse(spec, torch.device("cuda"))


def compiles(machine: Machine, steps: int, on_gpu: bool, kernels: bool) -> bool:
    """Whether the encoder is compiled by torch: own kernels do without, and a short run is over before."""
    if machine.compile != "auto":
        return machine.compile
    return on_gpu and not kernels and steps >= PAYS_AFTER_STEPS


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Let a GPU round the factors of products in single precision to TF32 while the block lasts."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
