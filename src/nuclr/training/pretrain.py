"""Pretraining: the optimisation of NuCLR (arXiv 2512.01199, appendix), on any number of devices.

A run can be killed at any moment. It resumes from its last checkpoint with the same batches and the
same random numbers, and therefore gives the same result.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import lightning as L
import pandas as pd
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from nuclr.config import Machine, Pretrain
from nuclr.data.inputs import longest_span, why_too_short
from nuclr.data.population import Population
from nuclr.errors import TrainingError
from nuclr.model import fused
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.training.cache import SharedShards
from nuclr.training.checkpoints import Checkpoints, last_checkpoint
from nuclr.training.devices import use_gpu
from nuclr.training.module import Pretraining
from nuclr.training.monitor import Monitor, ProgressBar
from nuclr.training.resources import compiles, loader_workers, tensor_cores, uses_kernels
from nuclr.training.selection import Score, Selection
from nuclr.training.windows import PairBatch, PairBatches, StepSampler, ViewSpec, pairs_per_epoch

logger = logging.getLogger(__name__)
PREFETCHED = 4  # batches that each worker has ready
SIGTERM_METHOD = "_broadcast_sigterm_tensor"


class Batches(L.LightningDataModule):
    """Data module of the remaining batches, with this process's share of each."""

    def __init__(
        self,
        populations: Sequence[Population],
        spec: ViewSpec,
        options: Pretrain,
        seed: int,
        machine: Machine,
    ) -> None:
        super().__init__()
        self.arguments = (populations, spec, options.pairs_per_step, seed)
        self.options = options
        self.machine = machine

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return a loader of the batches from the trainer's current step on."""
        trainer = self.trainer
        assert trainer is not None
        batches = PairBatches(
            *self.arguments,
            rank=trainer.global_rank,
            world=trainer.world_size,
            cache=int(self.options.cache_gb * 1e9),
            scratch=SharedShards.of(self.machine),
        )
        on_gpu = trainer.strategy.root_device.type == "cuda"
        workers = loader_workers(self.machine, on_gpu)
        # For the loader, a run is a single epoch, so its workers are kept until the end.
        return DataLoader(
            batches,
            batch_size=None,
            sampler=StepSampler(lambda: trainer.global_step, self.options.steps),
            num_workers=workers,
            prefetch_factor=PREFETCHED if workers else None,
            # From pinned memory a GPU fetches a batch while it processes another.
            pin_memory=on_gpu,
            # Views must not draw from torch's global generator, which is used by dropout.
            generator=torch.Generator(),
        )


def make_logger(machine: Machine, folder: Path) -> Logger | None:
    """Return the logger ``machine.logger``, which writes to a folder; None if it is not set.

    Raises
    ------
    TrainingError
        If the logger is not installed.
    """
    if machine.logger is None:
        return None
    if find_spec(machine.logger) is None:
        raise TrainingError(
            f"machine.logger: {machine.logger} is not installed; run `python -m pip install {machine.logger}`"
        )
    if machine.logger == "tensorboard":
        return TensorBoardLogger(folder, name=None, version="tensorboard")
    return WandbLogger(project="nuclr", name=folder.name, save_dir=folder)


def _environment(machine: Machine) -> ClusterEnvironment:
    """Return what starts the run's processes: ``srun`` or ``torchrun`` on several machines, else Lightning.

    By default, Lightning would assume in any SLURM job that srun started several processes, and wait for
    them; and it would requeue a job that Snakemake is waiting for.

    Raises
    ------
    TrainingError
        If a run on several machines was started on only one of them.
    """
    if machine.num_nodes == 1:
        return LightningEnvironment()
    if os.environ.get("SLURM_NTASKS", "1") != "1":
        return SLURMEnvironment(auto_requeue=False)
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    raise TrainingError(
        f"machine.num_nodes is {machine.num_nodes}, but the command runs on one machine only; start it on "
        f"all of them with `srun --nodes={machine.num_nodes} --ntasks-per-node={machine.devices} nuclr "
        "pretrain ...` (as the workflow's SLURM profile does), or with torchrun"
    )


def _quiet_lightning() -> None:
    """Suppress Lightning's messages about devices, tips and its own dependencies."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def pretrain(
    populations: Sequence[Population],
    specs: tuple[EncoderSpec, ViewSpec],
    options: Pretrain,
    machine: Machine,
    seed: int,
    *,
    checkpoints: Path,
    logs: Path,
    score: Score | None = None,
) -> tuple[Encoder, pd.DataFrame]:
    """Train an encoder, resuming from the last checkpoint if there is one.

    Parameters
    ----------
    populations
        Training populations; those with fewer units than ``views.min_units`` are left out with a warning.
    specs
        Shape of the encoder, and how windows are cut.
    options, machine
        Options of the optimisation and of the machine.
    seed
        Seed of weights, views and dropout.
    checkpoints
        Folder for the checkpoints of this run only.
    logs
        Folder for TensorBoard or Weights & Biases.
    score
        Function that scores an encoder, for ``pretrain.probe_every`` and ``pretrain.keep``.

    Returns
    -------
    encoder
        The encoder in evaluation mode, on the CPU.
    metrics
        One row every few steps: loss and its parts, norm of the gradient, learning rate, speed; after
        each epoch the effective rank of the embeddings; after each probe its score.

    Raises
    ------
    TrainingError
        If there is too little data, the loss is not finite, or the run received SIGTERM.
    """
    encoder_spec, spec = specs
    large = _large_enough(populations, spec)
    # At least one; PairBatches raises an error if there are fewer pairs than one batch.
    epoch = max(1, pairs_per_epoch(large, spec) // options.pairs_per_step)
    if options.epochs is not None:
        options = options.model_copy(update={"steps": options.epochs * epoch})
    _quiet_lightning()
    L.seed_everything(seed, verbose=False)
    module = Pretraining(encoder_spec, options, _warmup(options, epoch))
    _choose_way(module.encoder, machine, options.steps)
    checkpoints.mkdir(parents=True, exist_ok=True)
    monitor = Monitor(options.steps, epoch)
    callbacks: list[L.Callback] = [monitor]
    selection = None
    if score is not None and options.probe_every is not None:
        selection = Selection(score, options.probe_every * epoch, options.steps)
        callbacks.append(selection)
    callbacks.append(Checkpoints(checkpoints, machine.checkpoint_every, machine.checkpoint_minutes))
    if sys.stderr.isatty():
        callbacks.append(ProgressBar(monitor))
    trainer = _trainer(options, machine, callbacks, logs)
    resume = last_checkpoint(checkpoints)
    if resume is not None:
        logger.info("resuming from %s", resume.name)
    data = Batches(large, spec, options, seed, machine)
    with tensor_cores():
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    module.encoder.fused = None
    metrics = pd.DataFrame(monitor.rows)
    if selection is not None and selection.rows:
        metrics = metrics.merge(pd.DataFrame(selection.rows), on="step", how="outer")
        if options.keep == "best":
            module.encoder.load_state_dict(selection.best)
    return module.encoder.cpu().eval(), metrics


def _choose_way(encoder: Encoder, machine: Machine, steps: int) -> None:
    """Choose how the encoder is computed: with the package's kernels, compiled, or neither."""
    on_gpu = use_gpu(machine.accelerator)
    kernels = uses_kernels(machine, encoder.spec, on_gpu)
    encoder.fused = fused.embed if kernels else None
    if compiles(machine, steps, on_gpu, kernels):
        # The numbers of units and populations differ from step to step, so they are dynamic from the start.
        encoder.compile(dynamic=True)


def _large_enough(populations: Sequence[Population], spec: ViewSpec) -> list[Population]:
    """Return the populations with enough units for a view; the others are left out with a warning.

    Raises
    ------
    TrainingError
        If none has enough units, or all are shorter than a window.
    """
    kept, too_short = [], {}
    for population in populations:
        if len(population.units) < spec.min_units:
            logger.warning(
                "population %s has %d units, fewer than views.min_units = %d: it is skipped in pretraining",
                population.population,
                len(population.units),
                spec.min_units,
            )
            continue
        kept.append(population)
        if why := why_too_short(population, spec.window):
            too_short[population.population] = why
    if not kept:
        most = max((len(population.units) for population in populations), default=0)
        raise TrainingError(
            f"pretrain: no population has the {spec.min_units} units that views.min_units requires (the "
            f"largest has {most}); add larger recordings, or lower views.min_units"
        )
    longest = max(kept, key=longest_span)
    # A population without a valid span is silent, which is not the reason to give.
    if too_short and longest_span(longest) < spec.window:
        raise TrainingError(
            f"pretrain: no recording is long enough: population {longest.population} "
            f"{too_short[longest.population]}; add longer recordings, or {_shorter(longest, spec.patch)}"
        )
    for name, why in too_short.items():
        logger.warning("population %s %s: it is skipped in pretraining", name, why)
    return kept


def _shorter(population: Population, patch: int) -> str:
    """Return how to set windows that are short enough for a population: half of its longest valid span."""
    tokens = longest_span(population) // patch
    if not tokens:
        return "lower views.window_s and views.patch"
    return f"set shorter windows with -c views.window_s={max(1, tokens // 2) * patch * population.bin_s:g}"


def _warmup(options: Pretrain, epoch: int) -> int:
    """Return the number of warm-up steps: ``pretrain.warmup_steps``, by default one epoch."""
    warmup = options.warmup_steps if options.warmup_steps is not None else min(epoch, options.steps)
    if warmup >= options.steps:
        logger.warning(
            "pretrain: all %d steps are warm-up (%d steps), so the learning rate never decreases; raise "
            "pretrain.steps or set a smaller pretrain.warmup_steps",
            options.steps,
            warmup,
        )
    return warmup


def _trainer(options: Pretrain, machine: Machine, callbacks: list[L.Callback], logs: Path) -> L.Trainer:
    """Return the trainer of a run, with its devices, precision and processes."""
    on_gpu = use_gpu(machine.accelerator)
    several = machine.devices * machine.num_nodes > 1
    trainer = L.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        plugins=[_environment(machine)],
        # Every parameter is used in every step, and no buffer changes.
        strategy=DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True)
        if several
        else "auto",
        precision="bf16-mixed" if on_gpu else "32-true",
        max_steps=options.steps,
        gradient_clip_val=options.clip,
        use_distributed_sampler=False,
        callbacks=callbacks,
        logger=make_logger(machine, logs) or False,
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
    )
    if several:
        _ask_no_process_about_sigterm(trainer)
    return trainer


def _ask_no_process_about_sigterm(trainer: L.Trainer) -> None:
    """Keep Lightning from asking all processes before every step whether one received SIGTERM.

    Lightning would wait for the answer from the GPU; Checkpoints asks every few steps instead. Lightning has
    no public option for this. In a version without this method it would ask, and training would be slower.
    """
    loop = trainer.fit_loop.epoch_loop
    if hasattr(loop, SIGTERM_METHOD):
        setattr(loop, SIGTERM_METHOD, lambda: None)
