"""Score an encoder on the label animals during training, to keep the best epoch without the test animals."""

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
    """Callback that scores the encoder before training, every few epochs and at the end, and keeps the best.

    Parameters
    ----------
    score
        Score function, higher is better; it is called with the encoder in evaluation mode by all processes.
    every
        Steps between scores.
    steps
        Number of steps in the whole run.
    """

    def __init__(self, score: Score, every: int, steps: int) -> None:
        self.score = score
        self.every = every
        self.steps = steps
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the scores so far, and the best weights."""
        return {"rows": self.rows, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores up to the checkpoint, and the best weights."""
        self.rows, self.best = state_dict["rows"], state_dict["best"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Score the untrained encoder, so that errors of the probes appear before any training."""
        if not self.rows:
            self._judge(trainer, module)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Score if a score is due."""
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
