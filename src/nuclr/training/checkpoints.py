"""Checkpoints after steps, after wall time and on SIGTERM, written completely and checked when read."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from nuclr.errors import TrainingError

logger = logging.getLogger(__name__)
KEEP = 2
# Interval, in steps, at which several processes agree on their clocks and signals.
AGREE_EVERY = 10


class Checkpoints(Callback):
    """Callback that saves a run every few steps, every few minutes, and before it ends on SIGTERM.

    Parameters
    ----------
    folder
        Folder for the checkpoints of this run only.
    every
        Steps between checkpoints.
    minutes
        Longest time between checkpoints.
    """

    def __init__(self, folder: Path, every: int, minutes: float) -> None:
        self.folder = folder
        self.every = every
        self.seconds = 60 * minutes
        self._asked_to_stop = False
        self._before: Any = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Handle SIGTERM, which a scheduler sends before it takes the machine away."""
        self._saved_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, *_: Any) -> None:
        self._asked_to_stop = True

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Save a checkpoint if one is due, and stop after SIGTERM."""
        step = trainer.global_step
        if step >= (trainer.max_steps or 0):
            return
        stop, late = self._asked_to_stop, time.monotonic() - self._saved_at > self.seconds
        if trainer.world_size > 1:
            agree = trainer.strategy.reduce_boolean_decision
            ask = step % AGREE_EVERY == 0
            stop, late = ask and agree(stop, all=False), ask and agree(late, all=False)
        if stop or late or step % self.every == 0:
            save_checkpoint(trainer, self.folder / f"step-{step:08d}.ckpt")
            self._saved_at = time.monotonic()
        if stop:
            raise TrainingError(
                f"pretrain: stopped by SIGTERM after step {step}, which is saved; run the same command to "
                "resume"
            )

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Restore the previous signal handler."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handler."""
        self.on_train_end(trainer, module)


def save_checkpoint(trainer: L.Trainer, path: Path) -> None:
    """Write a checkpoint completely before it gets its name, and delete all but the last few."""
    partial = path.with_suffix(".partial")
    trainer.save_checkpoint(partial)
    if trainer.is_global_zero:
        os.replace(partial, path)
        for old in sorted(path.parent.glob("step-*.ckpt"))[:-KEEP]:
            old.unlink()


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read; damaged ones are skipped with a warning."""
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises different errors for damaged files
            logger.warning(
                "%s cannot be read (%s); resuming from the checkpoint before it", path, type(error).__name__
            )
        else:
            return path
    return None
