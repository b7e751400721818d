"""Record the metrics of a run, and warn of problems during training."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import Tensor

from nuclr.errors import TrainingError
from nuclr.model.encoder import Encoder, rankme
from nuclr.training.windows import PairBatch

logger = logging.getLogger(__name__)
LOG_EVERY = 10
SAY_EVERY_S = 15.0
# Effective rank below which embeddings have collapsed (untrained encoders have 1.4 and more).
COLLAPSED = 1.2


class StepRecord(NamedTuple):
    """Values of a training step for the monitor; tensors stay on their device.

    Attributes
    ----------
    names
        Names of the loss and its parts.
    sums
        Number of matched units of this process, and the sums of the named values over them, ``(1 + name,)``.
    bad_row
        First row of the embeddings that is not finite; -1 if all rows are finite, or none is.
    learning_rate
        Learning rate of this step.
    gradient_norm
        Norm of the gradient before clipping, the same in all processes.
    """

    names: tuple[str, ...]
    sums: Tensor
    bad_row: Tensor
    learning_rate: float
    gradient_norm: Tensor


class Monitor(Callback):
    """Callback that records metrics every few steps, logs a line every few seconds, and gives early warnings.

    Reading a number from a GPU makes the CPU wait, so the numbers of several steps are read together. The
    rows of metrics are part of a checkpoint, so a resumed run keeps them; they are checked before a
    checkpoint is saved.

    Parameters
    ----------
    steps, steps_per_epoch
        Number of steps in the whole run and in an epoch.
    """

    def __init__(self, steps: int, steps_per_epoch: int) -> None:
        self.steps = steps
        self.steps_per_epoch = steps_per_epoch
        self.rows: list[dict[str, float]] = []
        self._pending: list[tuple[int, StepRecord]] = []
        self._newest: dict[str, float] = {}
        self._trainer: L.Trainer | None = None
        self._warned: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, and the values of the next row."""
        self._read()
        return {"rows": self.rows, "newest": self._newest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows up to the checkpoint, and the values of the next row."""
        self.rows, self._newest = state_dict["rows"], state_dict["newest"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clocks."""
        self._trainer = trainer
        self._said = time.monotonic()
        self._restart_clocks()

    def _restart_clocks(self) -> None:
        self._since = self._ended = time.perf_counter()
        self._waited, self._units = 0.0, 0

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_index: int
    ) -> None:
        """Add the time for which the step waited for its batch."""
        self._waited += time.perf_counter() - self._ended
        self._units += len(batch.patches)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Keep the values of the step, and log them if a row is due."""
        record = module.record
        step = trainer.global_step
        if record is not None:
            assert isinstance(record, StepRecord)
            self._pending.append((step, record))
        if step % LOG_EVERY == 0 or step == self.steps:
            self._log(step, module, batch)
        self._ended = time.perf_counter()

    def _log(self, step: int, module: L.LightningModule, batch: PairBatch) -> None:
        assert self._trainer is not None
        self._read()
        row = {"step": step, **self._newest}
        self._newest = {}
        if row.get("learning_rate") == 0:
            self._warn_once(
                "rate", f"the learning rate is 0 at step {step} of {self.steps}, so nothing is learned"
            )
        ended = step // self.steps_per_epoch > (step - LOG_EVERY) // self.steps_per_epoch
        if len(batch.patches) and (ended or step == self.steps):
            row["rankme"] = self._effective_rank(step, module, batch)
        passed = time.perf_counter() - self._since
        row |= {"units_per_s": self._units / passed, "data_wait": self._waited / passed}
        self._restart_clocks()
        self.rows.append(row)
        if self._trainer.logger is not None:
            self._trainer.logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step)
        if time.monotonic() - self._said > SAY_EVERY_S and not sys.stderr.isatty():
            self._said = time.monotonic()
            logger.info("step %d of %d, loss %.3f", step, self.steps, row.get("loss", math.nan))

    @torch.no_grad()
    def _effective_rank(self, step: int, module: L.LightningModule, batch: PairBatch) -> float:
        encoder = module.encoder
        assert isinstance(encoder, Encoder)
        # In evaluation mode, because the noise of dropout would hide a collapse.
        sizes = torch.cat([batch.sizes1, batch.sizes2])
        assert self._trainer is not None
        with self._trainer.precision_plugin.forward_context():
            embeddings = encoder.eval()(batch.patches, sizes, max(batch.largest))
        rank = rankme(embeddings)
        encoder.train()
        if rank < COLLAPSED:
            self._warn_once(
                "collapse",
                f"the embeddings have collapsed by step {step}: their effective rank is {rank:.2f} of "
                f"{encoder.spec.dim}; lower pretrain.learning_rate",
            )
        return rank

    def _read(self) -> None:
        """Read the values of the steps since the last call, check them, and keep the newest.

        All processes of a run call this at the same steps, and their values are summed.
        """
        if not self._pending:
            return
        steps, records = zip(*self._pending, strict=True)
        self._pending = []
        sums = torch.stack([record.sums for record in records])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        means = sums[:, 1:] / sums[:, :1].clamp_min(1)
        own = torch.stack([torch.stack([r.gradient_norm, r.bad_row.float()]) for r in records])
        names = (*records[0].names, "gradient_norm")
        numbers = torch.cat([sums[:, :1], means, own], dim=1).tolist()
        for step, record, (matched, *values, bad_row) in zip(steps, records, numbers, strict=True):
            if not matched:  # every pair of the step was too small
                continue
            named = dict(zip(names, values, strict=True))
            if not all(map(math.isfinite, values)):
                raise TrainingError(self._not_finite(step, named, int(bad_row)))
            self._newest = {**named, "learning_rate": record.learning_rate}

    def _not_finite(self, step: int, values: dict[str, float], bad_row: int) -> str:
        which = next(name for name, value in values.items() if not math.isfinite(value))
        where = ""
        if bad_row >= 0 and self._trainer is not None and self._trainer.train_dataloader is not None:
            # A batch is a pure function of its step, so it can be made again here.
            batches = self._trainer.train_dataloader.dataset
            where = f", first in population {batches.population_of(step - 1, bad_row)}"
        return (
            f"pretrain: the {which.replace('_', ' ')} is not finite at step {step}{where}; lower "
            "pretrain.learning_rate, or check the recordings for very large values"
        )

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning("pretrain: %s", message)


class ProgressBar(RichProgressBar):
    """Lightning's progress bar with the last loss."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(leave=True)
        self.monitor = monitor

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        """Return the loss to show."""
        return {"loss": self.monitor.rows[-1].get("loss", math.nan)} if self.monitor.rows else {}
