"""Pretraining: the optimisation of NuCLR (arXiv 2512.01199, appendix), on any number of devices.

A run can be killed at any moment. It goes on from its last checkpoint with the same batches, the
same random numbers and so the same result.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
from torch import Tensor
from torch.distributed.nn.functional import all_reduce
from torch.utils.data import DataLoader

from nuclr.config import Machine, Pretrain
from nuclr.data.population import Population
from nuclr.errors import TrainingError
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.loss import (
    LossParts,
    Projector,
    VicregParts,
    WideProjector,
    contrastive_loss,
    vicreg_loss,
)
from nuclr.training.checkpoints import Checkpoints, last_checkpoint
from nuclr.training.devices import use_gpu
from nuclr.training.monitor import Monitor, ProgressBar, StepRecord
from nuclr.training.selection import Score, Selection
from nuclr.training.windows import PairBatch, PairBatches, StepSampler, ViewSpec, pairs_per_epoch

logger = logging.getLogger(__name__)


class Pretraining(L.LightningModule):
    """Encoder and projector under the contrastive loss or VICReg.

    Parameters
    ----------
    spec
        Shape of the encoder.
    options
        The optimisation.
    warmup
        Steps of linear warm-up, before the cosine to zero.
    """

    def __init__(self, spec: EncoderSpec, options: Pretrain, warmup: int) -> None:
        super().__init__()
        self.encoder = Encoder(spec)
        self.projector = (WideProjector if options.loss == "vicreg" else Projector)(spec.dim)
        self.options = options
        self.warmup = warmup
        self.record: StepRecord | None = None
        self._generators: Tensor | None = None

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Loss of a batch, all processes' shares of it together."""
        matched = batch.match.shape[1]
        if matched:
            sizes = torch.cat([batch.sizes1, batch.sizes2])
            embeddings = self.encoder(batch.patches, sizes, max(batch.largest))
            parts = self.loss(self.projector(embeddings), batch)
        else:
            # Every pair was too small. The step still counts, or processes would fall out of step.
            parts = self.loss_of_nothing()
        sums = matched * torch.stack([torch.ones_like(parts.total), *(part.detach() for part in parts)])
        total = parts.total
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
            if isinstance(parts, LossParts):
                # DDP averages gradients over processes; weighted so, they are a mean over matched units.
                # VICReg's loss is that of all processes already.
                total = total * matched * self.trainer.world_size / sums[0].clamp_min(1)
        self.record = None
        if matched:
            means = dict(zip(("loss", *parts._fields[1:]), sums[1:] / sums[0], strict=True))
            bad = ~torch.isfinite(embeddings.detach()).all(dim=1)
            self.record = StepRecord(
                values=means,
                # Where all are, it is the weights, and no population is to blame.
                bad_row=torch.where(bad.any() & ~bad.all(), bad.int().argmax(), -1),
                learning_rate=self.trainer.optimizers[0].param_groups[0]["lr"],
            )
        return total

    def loss(self, z: Tensor, batch: PairBatch) -> LossParts | VicregParts:
        """Loss of projected embeddings, ``(unit, dim)``, all first views, then all second views."""
        # In single precision where the encoder is not: bf16 would round similarities to 1 in 256.
        with torch.autocast(z.device.type, enabled=False):
            first, second = z.float().split([len(z) - batch.second_units, batch.second_units])
            if self.options.loss == "vicreg":
                return vicreg_loss(first, second, batch.match, sum_over=sum_over_processes)
            return contrastive_loss(
                first,
                second,
                batch.sizes1,
                batch.sizes2,
                batch.match,
                temperature=self.options.temperature,
                same_view_temperature=self.options.same_view_temperature,
                largest=batch.largest,
            )

    def loss_of_nothing(self) -> LossParts | VicregParts:
        """Loss of a process that holds no pair; its gradient is there, and what it adds to it is 0."""
        nothing = torch.stack([p.sum() for p in self.parameters()]).sum() * 0.0
        if self.options.loss == "contrastive":
            return LossParts(nothing, nothing, nothing)
        # The others wait for this one's share of their sums.
        none = nothing.expand(0, 4 * self.encoder.spec.dim)
        match = torch.zeros(2, 0, dtype=torch.long, device=none.device)
        return vicreg_loss(none, none, match, sum_over=sum_over_processes)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm, and write the norm down."""
        assert gradient_clip_val is not None
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        if self.record is not None:
            self.record.values["gradient_norm"] = norm

    def configure_optimizers(self) -> Any:
        """AdamW, decay on matrices only; linear warm-up, then cosine to zero."""
        matrices = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.options.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.options.learning_rate,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.share_of_peak)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def share_of_peak(self, step: int) -> float:
        """Learning rate at a step as a share of its peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        rest = max(1, self.options.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup) / rest)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Dropout's generators, of every process, belong to the run's state."""
        own = [torch.get_rng_state()]
        if self.device.type == "cuda":
            own.append(torch.cuda.get_rng_state(self.device))
        # The same length in every process, so one call gathers them; (process, bytes).
        everyone = self.all_gather(torch.cat(own).to(self.device))
        assert isinstance(everyone, Tensor)
        checkpoint["generators"] = everyone.reshape(self.trainer.world_size, -1).cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the generators until training starts: building the loop draws from them."""
        self._generators = checkpoint["generators"]

    def on_train_start(self) -> None:
        """Set the generators of a run that goes on; give each process of a new one its own."""
        rank = self.trainer.global_rank
        if self._generators is None:
            if rank:
                torch.manual_seed(torch.initial_seed() + rank)
            return
        # Without dropout nothing draws from them.
        if self.encoder.spec.dropout and rank == 0 and len(self._generators) != self.trainer.world_size:
            logger.warning(
                "pretrain: begun with %d processes and going on with %d: dropout draws other numbers than "
                "it would have, so the model will be another than that of an undisturbed run",
                len(self._generators),
                self.trainer.world_size,
            )
        own = self._generators[rank % len(self._generators)]
        length = len(torch.get_rng_state())
        # Copies: torch reads a state from where a tensor's memory begins, not from where a part of it does.
        torch.set_rng_state(own[:length].clone())
        if self.device.type == "cuda" and len(own) > length:
            torch.cuda.set_rng_state(own[length:].clone(), self.device)


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum a tensor over the processes of a run; its gradient is summed over them too."""
    if not torch.distributed.is_initialized():
        return x
    summed = all_reduce(x)
    assert isinstance(summed, Tensor)
    return summed


class Batches(L.LightningDataModule):
    """The batches still to do, this process's share of each."""

    def __init__(
        self, populations: Sequence[Population], spec: ViewSpec, options: Pretrain, seed: int, workers: int
    ) -> None:
        super().__init__()
        self.arguments = (populations, spec, options.pairs_per_step, seed)
        self.options = options
        self.workers = workers

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Batches from the step at which the trainer stands."""
        trainer = self.trainer
        assert trainer is not None
        batches = PairBatches(
            *self.arguments,
            rank=trainer.global_rank,
            world=trainer.world_size,
            cache=int(self.options.cache_gb * 1e9),
        )
        return DataLoader(
            batches,
            batch_size=None,
            sampler=StepSampler(lambda: trainer.global_step, self.options.steps),
            num_workers=self.workers,
            pin_memory=trainer.strategy.root_device.type == "cuda",
            # Views take no number from torch's generator, which belongs to dropout.
            generator=torch.Generator(),
        )


def make_logger(machine: Machine, folder: Path) -> Logger | None:
    """Make the logger that is asked for beside metrics.csv, writing to a folder.

    Raises
    ------
    TrainingError
        If it is not installed.
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
    """Say who starts the processes of a run: on several machines ``srun`` or ``torchrun``, on one Lightning.

    Left to itself, Lightning takes any SLURM job for one that srun starts several times, and waits for the
    others; and it would put a job back into the queue that Snakemake is waiting for.

    Raises
    ------
    TrainingError
        If a run on several machines was started by itself on one of them.
    """
    if machine.num_nodes == 1:
        return LightningEnvironment()
    if os.environ.get("SLURM_NTASKS", "1") != "1":
        return SLURMEnvironment(auto_requeue=False)
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    raise TrainingError(
        f"machine.num_nodes: {machine.num_nodes}: start it on all of them at once, with `srun "
        f"--nodes={machine.num_nodes} --ntasks-per-node={machine.devices} nuclr pretrain ...` (the "
        "workflow's SLURM profile does), or with torchrun"
    )


def _quiet_lightning() -> None:
    """Leave out what Lightning says about devices, tips and its own dependencies."""
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
    """Train an encoder, going on from the last checkpoint if there is one.

    Parameters
    ----------
    populations
        What to learn from; those with fewer units than a view needs are left out, and the log says so.
    specs
        Shape of the encoder; how windows are cut.
    options, machine
        The optimisation, and how it is carried out.
    seed
        Of weights, views and dropout.
    checkpoints
        Folder of this run's checkpoints, for nothing else.
    logs
        Where TensorBoard or Weights & Biases write.
    score
        Says how good an encoder is, for ``pretrain.probe_every`` and ``keep``.

    Returns
    -------
    encoder
        In evaluation mode, on the CPU.
    metrics
        One row every few steps: loss and its parts, norm of the gradient, learning rate, speed; with
        every epoch the embeddings' effective rank; with every probe its score.

    Raises
    ------
    TrainingError
        If there is too little to learn from, the loss is not finite, or SIGTERM came.
    """
    encoder_spec, spec = specs
    large = [p for p in populations if len(p.units) >= spec.min_units]
    for p in populations:
        if len(p.units) < spec.min_units:
            logger.warning(
                "population %s has %d units, fewer than views.min_units = %d: skipped in pretraining",
                p.population,
                len(p.units),
                spec.min_units,
            )
    # At least one: where there are fewer pairs than that, the batches say so.
    epoch = max(1, pairs_per_epoch(large, spec) // options.pairs_per_step)
    if options.epochs is not None:
        options = options.model_copy(update={"steps": options.epochs * epoch})
    warmup = options.warmup_steps if options.warmup_steps is not None else min(epoch, options.steps)
    if warmup >= options.steps:
        logger.warning(
            "pretrain: all %d steps are warm-up (%d steps): the learning rate never comes down; raise "
            "pretrain.steps or set pretrain.warmup_steps",
            options.steps,
            warmup,
        )
    _quiet_lightning()
    L.seed_everything(seed, verbose=False)
    module = Pretraining(encoder_spec, options, warmup)
    if machine.compile:
        module.encoder.compile(dynamic=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    monitor = Monitor(options.steps, epoch)
    callbacks: list[L.Callback] = [monitor]
    selection = None
    if score is not None and options.probe_every is not None:
        selection = Selection(score, options.probe_every * epoch, options.steps)
        callbacks.append(selection)
    callbacks.append(Checkpoints(checkpoints, machine.checkpoint_every, machine.checkpoint_minutes))
    on_gpu = use_gpu(machine.accelerator)
    at_terminal = sys.stderr.isatty()
    several = machine.devices * machine.num_nodes > 1
    trainer = L.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        plugins=[_environment(machine)],
        # No parameter goes unused, and no buffer changes.
        strategy=DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True) if several else "auto",
        precision="bf16-mixed" if on_gpu else "32-true",
        max_steps=options.steps,
        gradient_clip_val=options.clip,
        use_distributed_sampler=False,
        callbacks=[*callbacks, *([ProgressBar(monitor)] if at_terminal else [])],
        logger=make_logger(machine, logs) or False,
        enable_checkpointing=False,
        enable_progress_bar=at_terminal,
        enable_model_summary=False,
    )
    if several:
        # Lightning asks all processes before every step whether one got SIGTERM, and waits for the answer
        # to come from the GPU. Checkpoints asks every few steps.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    resume = last_checkpoint(checkpoints)
    if resume is not None:
        logger.info("going on from %s", resume.name)
    data = Batches(large, spec, options, seed, machine.workers)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    metrics = pd.DataFrame(monitor.rows)
    if selection is not None and selection.rows:
        metrics = metrics.merge(pd.DataFrame(selection.rows), on="step", how="outer")
        if options.keep == "best":
            module.encoder.load_state_dict(selection.best)
    return module.encoder.cpu().eval(), metrics
