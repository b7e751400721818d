"""LOLCAT: a supervised classifier of the interspike intervals of a neuron in many windows.

Source: Schneider, Azabou et al. 2023, Transcriptomic cell type structures in vivo neuronal activity
across multiple timescales (Cell Reports 42:112318). As in the paper, a perceptron encodes the ISI
distribution of each window, attention heads weight the windows, and a perceptron classifies the pooled
encodings; windows are dropped at random in training. This implementation differs in these points:

- Intervals come from the bins of the store (20 ms by default), not from spike times.
- Windows are consecutive stretches of 3 s, 64 at most, not trials of a stimulus.
- Classes are balanced by weights in the loss, not by adaptive oversampling.
- Sizes are small (64, 32; four heads), and the epoch is chosen by validation units.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, POOLED, HEADS = 64, 32, 4
BATCH = 128
# Largest number of rounds, and of rounds without improvement; a round is at least one epoch and about so
# many steps.
MOST_ROUNDS, PATIENCE, ROUND = 100, 15, 10
WINDOWS_KEPT = 0.7


class _Network(nn.Module):
    def __init__(self, bins: int, classes: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(bins, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.weigh = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, HEADS))
        self.pool = nn.Linear(WIDTH, HEADS * POOLED)
        self.read = nn.Sequential(
            nn.ReLU(), nn.Dropout(0.3), nn.Linear(HEADS * POOLED, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes)
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Map ``(unit, window, bin)`` to logits ``(unit, class)``; empty windows are ignored."""
        there = windows.any(dim=-1)
        if self.training:
            there = there & (torch.rand(there.shape) < WINDOWS_KEPT)
        x = self.encode(windows)
        # Far below any weight, but finite, because a unit may have no window at all.
        weight = self.weigh(x).masked_fill(~there[..., None], -1e4).softmax(dim=1)
        pooled = self.pool(x).unflatten(-1, (HEADS, POOLED))
        return self.read((weight[..., None] * pooled).sum(dim=1).flatten(1))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread within the block, because synchronisation costs more than such small products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Lolcat:
    """The LOLCAT classifier, with the interface of scikit-learn.

    Parameters
    ----------
    bins
        Number of bins in the histogram of a window; features are ``(unit, window * bins)``.
    seed
        Seed of weights, batches and dropped windows.
    """

    def __init__(self, bins: int, seed: int = 0) -> None:
        self.bins = bins
        self.seed = seed

    def fit(self, train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray]) -> Lolcat:
        """Train on the training units, and keep the epoch with the best macro-F1 on the validation units.

        Both arguments are features and classes. Without validation units, the training units are used.
        """
        self.classes_ = np.unique(train[1])
        x, y = self._windows(train[0]), torch.from_numpy(np.searchsorted(self.classes_, train[1]))
        balance = compute_class_weight("balanced", classes=self.classes_, y=train[1])
        weight = torch.tensor(balance, dtype=torch.float32)
        judge, truth = validation if len(validation[1]) else train
        epochs = max(1, ROUND * BATCH // len(x))
        best, since = -1.0, 0
        with _one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = _Network(self.bins, len(self.classes_))
            optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3, weight_decay=1e-2)
            for _ in range(MOST_ROUNDS):
                self.network.train()
                for rows in [part for _ in range(epochs) for part in torch.randperm(len(x)).split(BATCH)]:
                    optimizer.zero_grad()
                    F.cross_entropy(self.network(x[rows]), y[rows], weight).backward()
                    optimizer.step()
                score = f1_score(truth, self.predict(judge), average="macro", zero_division=0)
                since += 1
                if score > best:
                    best, since, kept = score, 0, copy.deepcopy(self.network.state_dict())
                if since >= PATIENCE:
                    break
        self.network.load_state_dict(kept)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the most probable class of each unit."""
        return self.classes_[self.predict_proba(features).argmax(axis=1)]

    @torch.no_grad()
    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class, ``(unit, class)``."""
        parts = [self.network.eval()(part) for part in self._windows(features).split(4096)]
        return torch.cat(parts).softmax(dim=1).numpy()

    def _windows(self, features: np.ndarray) -> Tensor:
        x = torch.from_numpy(np.asarray(features, np.float32)).unflatten(1, (-1, self.bins))
        return x.sqrt()
