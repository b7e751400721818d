"""Probes of the label animals while a run goes on: the best epoch, chosen without the test animals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from nuclr.model.encoder import Encoder

logger = logging.getLogger(__name__)
Score = Callable[[Encoder], float]


class Selection(Callback):
    """Score the encoder before the first step, every few epochs and at the end; remember the best.

    Parameters
    ----------
    score
        Higher is better; called with the encoder in evaluation mode, by all processes of a run.
    every
        Steps between scores.
    steps
        Of the whole run.
    """

    def __init__(self, score: Score, every: int, steps: int) -> None:
        self.score = score
        self.every = every
        self.steps = steps
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Scores so far, and the weights of the best."""
        return {"rows": self.rows, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Scores up to the checkpoint, and the weights of the best."""
        self.rows, self.best = state_dict["rows"], state_dict["best"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Score what is untrained: what cannot be probed is found out before any work is done."""
        if not self.rows:
            self._judge(trainer, module)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Score at the end of every so many epochs."""
        if trainer.global_step % self.every == 0 or trainer.global_step == self.steps:
            self._judge(trainer, module)

    def _judge(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        encoder = module.encoder
        assert isinstance(encoder, Encoder)
        with torch.no_grad():
            score = self.score(encoder.eval())
        encoder.train()
        if not self.rows or score > max(row["label_score"] for row in self.rows):
            self.best = {name: value.detach().cpu().clone() for name, value in encoder.state_dict().items()}
        self.rows.append({"step": trainer.global_step, "label_score": score})
        if trainer.is_global_zero:
            logger.info("step %d: macro-F1 of the label animals %.3f", trainer.global_step, score)
        if trainer.logger is not None:
            trainer.logger.log_metrics({"label_score": score}, trainer.global_step)
