"""One training step: NuCLR's optimisation (arXiv 2512.01199, appendix) as a Lightning module."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from nuclr.config import Pretrain
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.loss import (
    LossParts,
    Projector,
    VicregParts,
    WideProjector,
    contrastive_loss,
    vicreg_loss,
)
from nuclr.training.monitor import StepRecord
from nuclr.training.windows import PairBatch

logger = logging.getLogger(__name__)


class Pretraining(L.LightningModule):
    """Lightning module that trains encoder and projector with the contrastive loss or VICReg.

    Parameters
    ----------
    spec
        Shape of the encoder.
    options
        Options of the optimisation.
    warmup
        Steps of linear warm-up, before the cosine decay to zero.
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
        """Return the loss of a batch, scaled so that its mean over processes is that of the whole batch."""
        matched = batch.match.shape[1]
        everywhere = self._matched_everywhere(matched)
        bad_row = torch.full((), -1, device=self.device)
        if matched:
            sizes = torch.cat([batch.sizes1, batch.sizes2])
            embeddings = self.encoder(batch.patches, sizes, max(batch.largest))
            parts = self.loss(self.projector(embeddings), batch)
            bad = ~torch.isfinite(embeddings.detach()).all(dim=1)
            # If all rows are bad, the weights are not finite, and no population is the cause.
            bad_row = torch.where(bad.any() & ~bad.all(), bad.int().argmax(), -1)
        else:
            # Every pair was too small. The step still counts, to keep the processes synchronised.
            parts = self.loss_of_nothing()
        self.record = StepRecord(
            names=("loss", *parts._fields[1:]),
            sums=matched * torch.stack([torch.ones_like(parts.total), *(part.detach() for part in parts)]),
            bad_row=bad_row,
            learning_rate=self.trainer.optimizers[0].param_groups[0]["lr"],
            gradient_norm=parts.total.detach().new_zeros(()),  # known once there are gradients
        )
        if everywhere is None or not isinstance(parts, LossParts):
            # VICReg's loss already is that of all processes.
            return parts.total
        # DDP averages gradients over processes; with these weights the result is a mean over matched units.
        return parts.total * matched * self.trainer.world_size / everywhere.wait().clamp_min(1)

    def _matched_everywhere(self, matched: int) -> _Sum | None:
        """Start to sum the matched units of all processes, asynchronously, while the loss is computed."""
        if self.trainer.world_size == 1:
            return None
        count = torch.full((), float(matched), device=self.device)
        return _Sum(count, torch.distributed.all_reduce(count, async_op=True))

    def loss(self, z: Tensor, batch: PairBatch) -> LossParts | VicregParts:
        """Return the loss of projected embeddings ``(unit, dim)``: all first views, then all second views."""
        # In single precision, because bf16 would round similarities to 1 in 256.
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
        """Return the loss of a process without pairs: 0, with gradients of 0."""
        nothing = torch.stack([p.sum() for p in self.parameters()]).sum() * 0.0
        if self.options.loss == "contrastive":
            return LossParts(nothing, nothing, nothing)
        # The other processes wait for this process in their sums.
        none = nothing.expand(0, 4 * self.encoder.spec.dim)
        match = torch.zeros(2, 0, dtype=torch.long, device=none.device)
        return vicreg_loss(none, none, match, sum_over=sum_over_processes)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient by its norm, and record the norm."""
        assert gradient_clip_val is not None
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        if self.record is not None:
            self.record = self.record._replace(gradient_norm=norm)

    def configure_optimizers(self) -> Any:
        """Return AdamW with weight decay on matrices only, linear warm-up, and cosine decay to zero."""
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
        """Return the learning rate at a step as a share of its peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        rest = max(1, self.options.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup) / rest)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the random generators of every process, which dropout uses."""
        own = [torch.get_rng_state()]
        if self.device.type == "cuda":
            own.append(torch.cuda.get_rng_state(self.device))
        # The same length in every process, so one call gathers them; (process, bytes).
        everyone = self.all_gather(torch.cat(own).to(self.device))
        assert isinstance(everyone, Tensor)
        checkpoint["generators"] = everyone.reshape(self.trainer.world_size, -1).cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the generators' state until training starts: building the loop draws random numbers."""
        self._generators = checkpoint["generators"]

    def on_train_start(self) -> None:
        """Restore the generators of a resumed run; in a new run seed each process differently."""
        rank = self.trainer.global_rank
        if self._generators is None:
            if rank:
                torch.manual_seed(torch.initial_seed() + rank)
            return
        # Without dropout no random numbers are drawn from them.
        if self.encoder.spec.dropout and rank == 0 and len(self._generators) != self.trainer.world_size:
            logger.warning(
                "pretrain: the run started with %d processes and resumes with %d: dropout draws different "
                "random numbers, so the model will differ from that of an uninterrupted run",
                len(self._generators),
                self.trainer.world_size,
            )
        own = self._generators[rank % len(self._generators)]
        length = len(torch.get_rng_state())
        # Copies, because torch reads a state from the start of a tensor's storage, not from that of a slice.
        torch.set_rng_state(own[:length].clone())
        if self.device.type == "cuda" and len(own) > length:
            torch.cuda.set_rng_state(own[length:].clone(), self.device)


class _Sum(NamedTuple):
    """An asynchronous sum over processes."""

    total: Tensor
    work: Any

    def wait(self) -> Tensor:
        """Return the sum; on a GPU only later GPU operations wait for it, not the CPU."""
        self.work.wait()
        return self.total


def sum_over_processes(x: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes of a run; its gradient is summed over them, too."""
    if not torch.distributed.is_initialized():
        return x
    summed = all_reduce(x)
    assert isinstance(summed, Tensor)
    return summed
