"""Pretraining: the optimisation of NuCLR (arXiv 2512.01199, appendix), on any number of devices.

A run can be killed at any moment. It goes on from its last checkpoint with the same batches, the
same random numbers and so the same result.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from nuclr.config import Pretrain
from nuclr.data.population import Population
from nuclr.errors import TrainingError
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.loss import Projector, contrastive_loss
from nuclr.training.windows import PairBatch, PairBatches, StepSampler, ViewSpec

logger = logging.getLogger(__name__)
LOG_EVERY = 10
SAY_EVERY_S = 15.0


class Pretraining(L.LightningModule):
    """Encoder and projector under the contrastive loss.

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
        self.projector = Projector(spec.dim)
        self.options = options
        self.warmup = warmup
        self.last: dict[str, Tensor] = {}

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Loss of a batch, weighted by matched units over all processes."""
        matched = batch.match.shape[1]
        if not matched:
            # Every pair was too small. The step still counts, or processes would fall out of step.
            total = self._nothing()
        else:
            z = self.projector(
                self.encoder(batch.patches, torch.cat([batch.sizes1, batch.sizes2]), max(batch.largest))
            )
            first = len(z) - batch.second_units
            parts = contrastive_loss(
                z[:first],
                z[first:],
                batch.sizes1,
                batch.sizes2,
                batch.match,
                temperature=self.options.temperature,
                same_view_temperature=self.options.same_view_temperature,
                largest=batch.largest,
            )
            total = parts.total
            self.last = {
                "loss": total.detach(),
                "attraction": parts.attraction.detach(),
                "repulsion": parts.repulsion.detach(),
            }
        if self.trainer.world_size > 1:
            # DDP averages gradients over processes; this makes it a mean over matched units.
            everywhere = total.new_tensor(float(matched))
            torch.distributed.all_reduce(everywhere)
            total = total * matched * self.trainer.world_size / everywhere.clamp_min(1)
        return total

    def _nothing(self) -> Tensor:
        return torch.stack([p.sum() for p in self.parameters()]).sum() * 0.0

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
        """Dropout's generators belong to the run's state."""
        checkpoint["generators"] = [torch.get_rng_state()]
        if torch.cuda.is_available():
            checkpoint["generators"].append(torch.cuda.get_rng_state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the generators until training starts: building the loop draws from them."""
        self._generators = checkpoint["generators"]

    def on_train_start(self) -> None:
        """Set the generators of a run that goes on."""
        generators = getattr(self, "_generators", None)
        if generators is not None:
            torch.set_rng_state(generators[0].cpu())
            if len(generators) > 1 and torch.cuda.is_available():
                torch.cuda.set_rng_state(generators[1].cpu())


class Batches(L.LightningDataModule):
    """The batches still to do, this process's share of each."""

    def __init__(
        self, populations: Sequence[Population], spec: ViewSpec, options: Pretrain, seed: int
    ) -> None:
        super().__init__()
        self.arguments = (populations, spec, options.pairs_per_step, seed)
        self.options = options

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Batches from the step at which the trainer stands."""
        trainer = self.trainer
        assert trainer is not None
        workers = self.options.workers
        batches = PairBatches(
            *self.arguments,
            rank=trainer.global_rank,
            world=trainer.world_size,
            cache=int(self.options.cache_gb * 1e9 / max(1, workers)),
        )
        return DataLoader(
            batches,
            batch_size=None,
            sampler=StepSampler(lambda: trainer.global_step, self.options.steps),
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            # Views take no number from torch's generator, which belongs to dropout.
            generator=torch.Generator(),
        )


class Progress(Callback):
    """Metrics every few steps, a line in the log every few seconds, and checkpoints.

    The rows of metrics are part of a checkpoint, so a run that goes on keeps them.
    """

    def __init__(self, folder: Path, steps: int, checkpoint_every: int) -> None:
        self.folder = folder
        self.steps = steps
        self.checkpoint_every = checkpoint_every
        self.rows: list[dict[str, float]] = []
        self._said = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Rows up to the checkpoint."""
        self.rows = state_dict["rows"]

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Write down where the run stands."""
        assert isinstance(module, Pretraining)
        step = trainer.global_step
        if step % LOG_EVERY == 0 or step == self.steps:
            values = {name: value.item() for name, value in module.last.items()}
            if not all(map(math.isfinite, values.values())):
                raise TrainingError(
                    f"pretrain: the loss is not finite at step {step}; lower pretrain.learning_rate, or look "
                    "for NaN in the recordings"
                )
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.rows.append({"step": step, **values, "learning_rate": rate})
            if time.monotonic() - self._said > SAY_EVERY_S and not sys.stderr.isatty():
                self._said = time.monotonic()
                logger.info("step %d of %d, loss %.3f", step, self.steps, values.get("loss", math.nan))
        if step % self.checkpoint_every == 0 and step < self.steps:
            save_checkpoint(trainer, self.folder / f"step-{step:08d}.ckpt")


def save_checkpoint(trainer: L.Trainer, path: Path, keep: int = 2) -> None:
    """Write a checkpoint under its name only when it is whole; keep the last few."""
    partial = path.with_suffix(".partial")
    trainer.save_checkpoint(partial)
    if trainer.is_global_zero:
        os.replace(partial, path)
        for old in sorted(path.parent.glob("step-*.ckpt"))[:-keep]:
            old.unlink()


def last_checkpoint(folder: Path) -> Path | None:
    """Newest checkpoint that can be read; a damaged one is passed over with a warning."""
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever its unzipping stumbled on
            logger.warning("%s cannot be read (%s); going on from the one before", path, type(error).__name__)
        else:
            return path
    return None


def _quiet_lightning() -> None:
    """Leave out what Lightning says about devices, tips and its own dependencies."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def pretrain(
    populations: Sequence[Population],
    encoder_spec: EncoderSpec,
    view_spec: ViewSpec,
    options: Pretrain,
    seed: int,
    checkpoints: Path,
) -> tuple[Encoder, pd.DataFrame]:
    """Train an encoder, going on from the last checkpoint if there is one.

    Parameters
    ----------
    populations
        What to learn from; those with fewer units than a view needs are left out, and the log says so.
    encoder_spec, view_spec
        Shape of the encoder; how windows are cut.
    options
        The optimisation.
    seed
        Of weights, views and dropout.
    checkpoints
        Folder of this run's checkpoints, for nothing else.

    Returns
    -------
    encoder
        In evaluation mode, on the CPU.
    metrics
        One row every few steps: loss and its parts, learning rate.

    Raises
    ------
    TrainingError
        If there is too little to learn from, or the loss is not finite.
    """
    large = [p for p in populations if len(p.units) >= view_spec.min_units]
    for p in populations:
        if len(p.units) < view_spec.min_units:
            logger.warning(
                "population %s has %d units, fewer than views.min_units = %d: skipped in pretraining",
                p.population,
                len(p.units),
                view_spec.min_units,
            )
    steps_per_epoch = PairBatches(large, view_spec, options.pairs_per_step, seed).steps_per_epoch
    warmup = options.warmup_steps if options.warmup_steps is not None else steps_per_epoch
    _quiet_lightning()
    L.seed_everything(seed, verbose=False)
    module = Pretraining(encoder_spec, options, min(warmup, options.steps))
    checkpoints.mkdir(parents=True, exist_ok=True)
    progress = Progress(checkpoints, options.steps, options.checkpoint_every)
    on_gpu = torch.cuda.is_available()
    at_terminal = sys.stderr.isatty()
    trainer = L.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy="auto" if options.devices * options.num_nodes == 1 else "ddp",
        precision="bf16-mixed" if on_gpu else "32-true",
        max_steps=options.steps,
        gradient_clip_val=options.clip,
        use_distributed_sampler=False,
        callbacks=[progress, *([RichProgressBar(leave=True)] if at_terminal else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=at_terminal,
        enable_model_summary=False,
    )
    resume = last_checkpoint(checkpoints)
    if resume is not None:
        logger.info("going on from %s", resume.name)
    data = Batches(large, view_spec, options, seed)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module.encoder.cpu().eval(), pd.DataFrame(progress.rows)
