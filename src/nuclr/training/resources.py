"""Choose the resources of pretraining (loader processes, kernels, compilation) where they are ``auto``."""

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

# Compiling took 35 s at the paper's size and saved 0.07 s in each step (one H200): it pays off after 500
# steps.
PAYS_AFTER_STEPS = 1000


def loader_workers(machine: Machine, on_gpu: bool) -> int:
    """Return the number of processes that make batches for one device of this machine.

    Each process of the run keeps one core; the remaining cores of the job are shared by the loaders.
    """
    most = machine.most_workers(on_gpu)
    if machine.workers != "auto":
        return most
    return max(0, min(most, cores() // _processes_here(machine) - 1))


def cores() -> int:
    """Return the number of cores for this process, within the limits of system, container and scheduler."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cpu_count(), int(given)) if given.isdigit() and int(given) else cpu_count()


def _processes_here(machine: Machine) -> int:
    """Return the number of processes of a run that share the cores of :func:`cores`."""
    started_by_slurm = machine.num_nodes > 1 and os.environ.get("SLURM_NTASKS", "1") != "1"
    return 1 if started_by_slurm else machine.devices


def uses_kernels(machine: Machine, spec: EncoderSpec, on_gpu: bool) -> bool:
    """Return whether an encoder is computed by the package's own kernels."""
    if machine.kernels == "torch" or machine.compile is True or not on_gpu:
        return False
    return can_fuse(spec, torch.device("cuda"))


def compiles(machine: Machine, steps: int, on_gpu: bool, kernels: bool) -> bool:
    """Return whether torch compiles the encoder: not with the package's kernels, and not for short runs."""
    if machine.compile != "auto":
        return machine.compile
    return on_gpu and not kernels and steps >= PAYS_AFTER_STEPS


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Allow TF32 in matrix products of single precision within the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
