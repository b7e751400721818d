"""NEMO: contrastive embeddings of the waveform and the autocorrelogram of a neuron.

Source: Yu et al. 2025, In vivo cell-type and brain region classification via multimodal contrastive
learning (ICLR 2025; bioRxiv 2024.11.05.622159). As in the paper, a perceptron of 600 and 300 units encodes
the mean waveform of the largest channel, and a convolutional encoder of 200 units encodes an image of
autocorrelograms (ten deciles of the local rate by lags). Both encodings are projected to 512 dimensions,
normalised, and aligned by the symmetric contrastive loss of CLIP. The embedding of a unit is the
concatenation of both encodings before projection. This implementation differs in these points:

- Autocorrelograms come from the store's bins (20 ms by default), not from spike times at 1 ms: 32 lags,
  log-spaced from one bin to 2 s, of at most 5,000 spikes of a unit.
- There are two convolutions of stride two, chosen for this image; the temperature is fixed at 0.5.
- Waveforms are resampled to 90 samples and scaled to a largest value of 1; noise on the waveforms is the
  only augmentation.
- Training takes 1,500 steps of 512 units, without validation or fine-tuning; the embeddings are read by the
  same probes as all others.
- It is trained only on the pretraining animals of the largest run of seed 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nuclr.data.population import Population
from nuclr.errors import DataError

SAMPLES, DECILES, LAGS = 90, 10, 32
LONGEST_LAG_S = 2.0
RATE_WINDOW_S = 0.25
MOST_SPIKES = 5000
STEPS, BATCH, TEMPERATURE = 1500, 512, 0.5


def acg_image(counts: np.ndarray, bin_s: float) -> np.ndarray:
    """Return autocorrelograms of a unit by deciles of its local rate, ``(DECILES, LAGS)``.

    A value is the mean number of spikes at a lag after a spike, divided by the unit's mean count; 0 for a
    silent unit.

    Parameters
    ----------
    counts
        Spikes of one unit, ``(time,)``.
    bin_s
        Length of a bin (s).
    """
    lags = np.unique(np.geomspace(1, max(2, LONGEST_LAG_S / bin_s), 8 * LAGS).round().astype(int))
    lags = lags[np.linspace(0, len(lags) - 1, LAGS).round().astype(int)]
    spikes = np.flatnonzero(counts[: max(0, len(counts) - lags[-1])])
    image = np.zeros((DECILES, LAGS), np.float32)
    if not len(spikes):
        return image
    spikes = spikes[np.linspace(0, len(spikes) - 1, min(len(spikes), MOST_SPIKES)).round().astype(int)]
    width = max(1, round(RATE_WINDOW_S / bin_s))
    rate = np.convolve(counts, np.ones(width), mode="same")[spikes]
    # Ties are broken by time, so that all deciles have the same number of spikes.
    decile = np.argsort(np.argsort(rate, kind="stable"), kind="stable") * DECILES // len(spikes)
    following = counts[spikes[:, None] + lags].astype(np.float64)
    total = np.zeros((DECILES, LAGS))
    np.add.at(total, decile, following)
    image[:] = total / np.maximum(np.bincount(decile, minlength=DECILES), 1)[:, None] / counts.mean()
    return image


def as_template(waveforms: np.ndarray) -> np.ndarray:
    """Resample waveforms ``(unit, sample)`` to 90 samples and scale each to a largest value of 1."""
    old, new = np.linspace(0, 1, waveforms.shape[1]), np.linspace(0, 1, SAMPLES)
    made = np.stack([np.interp(new, old, waveform) for waveform in waveforms])
    return (made / np.maximum(np.abs(made).max(axis=1, keepdims=True), 1e-12)).astype(np.float32)


class _Encoders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.waveform = nn.Sequential(
            *(nn.Linear(SAMPLES, 600), nn.GELU(), nn.Dropout(0.1)),
            *(nn.Linear(600, 300), nn.GELU(), nn.Dropout(0.1)),
        )
        self.acg = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.GELU()),
            *(
                nn.Conv2d(8, 16, 3, stride=2, padding=1),
                nn.GELU(),
                nn.Flatten(),
                nn.LazyLinear(200),
                nn.GELU(),
            ),
        )
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 512), nn.LayerNorm(512)) for width in (300, 200)
        )

    def forward(self, waveforms: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encodings of waveforms ``(unit, SAMPLES)`` and images ``(unit, DECILES, LAGS)``."""
        return self.waveform(waveforms), self.acg(images[:, None])


def acg_images(population: Population) -> np.ndarray:
    """Return the autocorrelogram images of all units of a population, ``(unit, DECILES * LAGS)``."""
    images = [acg_image(counts, population.bin_s) for counts in np.asarray(population.activity)]
    return np.stack(images).reshape(len(images), -1)


def templates(populations: Sequence[Population]) -> np.ndarray:
    """Return the waveforms of all units of several populations, ``(unit, SAMPLES)``; NaN if missing.

    Raises
    ------
    DataError
        If a population was stored without waveforms.
    """
    parts = []
    for population in populations:
        if population.waveforms is None:
            raise DataError(
                f"population {population.population}: its store has no waveforms, which the baseline nemo "
                "needs; set chunk.waveforms if the recording has them, or remove nemo from probe.baselines"
            )
        parts.append(as_template(population.waveforms))
    return np.concatenate(parts)


def nemo(waveforms: np.ndarray, images: np.ndarray, learned: np.ndarray, seed: int = 0) -> np.ndarray:
    """Train on some units and return the embeddings of all, ``(unit, 500)``; NaN without a waveform.

    Parameters
    ----------
    waveforms
        Waveforms from :func:`templates`.
    images
        Images from :func:`acg_images`, of the same units.
    learned
        Whether each unit is used for training, ``(unit,)``.
    seed
        Seed of weights, batches and noise.

    Raises
    ------
    DataError
        If fewer than two training units have a waveform.
    """
    wave = torch.from_numpy(waveforms)
    acgs = torch.from_numpy(images.reshape(-1, DECILES, LAGS))
    there = torch.isfinite(wave).all(dim=1)
    rows = torch.from_numpy(learned).logical_and(there).nonzero()[:, 0]
    if len(rows) < 2:
        raise DataError(
            f"nemo: {len(rows)} of the units to learn from have a waveform; it needs at least two"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = _trained(wave, acgs.log1p(), rows)
    embedded = np.full((len(there), 500), np.nan, np.float32)
    with torch.no_grad():
        both = encoders.eval()(wave[there], acgs[there].log1p())
    embedded[there.numpy()] = torch.cat(both, dim=1).numpy()
    return embedded


def _trained(waveforms: Tensor, acgs: Tensor, rows: Tensor) -> _Encoders:
    encoders = _Encoders()
    encoders(waveforms[rows[:2]], acgs[rows[:2]])  # initialises the size of the lazy layer
    optimizer = torch.optim.AdamW(encoders.parameters(), lr=5e-4)
    for _ in range(STEPS):
        chosen = rows[torch.randperm(len(rows))[:BATCH]]
        noisy = waveforms[chosen] + 0.05 * torch.randn(len(chosen), SAMPLES)
        both = encoders(noisy, acgs[chosen])
        from_waveforms, from_images = (
            F.normalize(project(part), dim=1) for project, part in zip(encoders.project, both, strict=True)
        )
        similarity = from_waveforms @ from_images.T / TEMPERATURE
        own = torch.arange(len(chosen))
        loss = (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoders
