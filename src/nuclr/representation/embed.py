"""Windows to one vector a unit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nuclr.config import Views
from nuclr.data.catalog import unit_table
from nuclr.data.inputs import in_memory, same_bin
from nuclr.data.own import read
from nuclr.data.population import Population
from nuclr.errors import DataError, ModelError
from nuclr.model.encoder import Encoder, as_patches
from nuclr.model.saved import SavedModel, read_model
from nuclr.representation.embeddings import Embeddings, concatenate
from nuclr.training.devices import Accelerator, use_gpu
from nuclr.training.windows import ViewSpec, generator, grid_starts, turned, view_spec

logger = logging.getLogger(__name__)
UNITS_AT_ONCE = 2048


@dataclass(frozen=True)
class Model:
    """A trained encoder, ready to embed: what ``nuclr.load_model`` gives.

    Attributes
    ----------
    saved
        The encoder and its record.
    """

    saved: SavedModel

    @property
    def modality(self) -> str:
        """What it reads: ``spikes`` or ``calcium``."""
        return str(self.saved.record["modality"])

    @property
    def bin_s(self) -> float:
        """Length of the bins or frames that it reads (s)."""
        return float(self.saved.record["bin_s"])

    @property
    def min_rate_hz(self) -> float:
        """Least firing rate of the units that it learned from (Hz)."""
        return float(self.saved.record.get("min_rate_hz", 0.0))

    @property
    def sha256(self) -> str:
        """Hash of its weights: its name wherever it is used."""
        return self.saved.sha256

    def read(self, recording: Any, **options: Any) -> Iterator[Population]:
        """Yield the populations of a recording, binned as it reads them: ``nuclr.read`` with this model.

        Parameters
        ----------
        recording
            A file, a folder, or an object in memory.
        options
            Of :func:`nuclr.data.own.read`.
        """
        return read(recording, model=self, **options)

    def embed(self, populations: Population | Iterable[Population]) -> Embeddings:
        """Embed the units of a population, or of one after the other; on a GPU where there is one.

        Raises
        ------
        DataError
            If there is no population, or no window of the model fits into one.
        ModelError
            If one is of another modality or bin than the model reads.
        """
        if isinstance(populations, Population):
            populations = [populations]
        return embed_with_model(self.saved, populations)


def load_model(path: Path | str) -> Model:
    """Read a model: ``model.safetensors``, with ``model.json`` beside it.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the two do not belong together.
    """
    return Model(read_model(Path(path)))


@torch.no_grad()
def embed_population(
    encoder: Encoder, population: Population, spec: ViewSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Mean embedding of each unit over all consecutive windows in which it was active.

    Parameters
    ----------
    encoder
        In evaluation mode.
    population
        Its activity in memory and scaled (:func:`nuclr.data.inputs.in_memory`).
    spec
        Window and grid that the encoder was trained with.

    Returns
    -------
    embeddings
        ``(unit, dim)``; NaN for a unit that was never active.
    windows
        In how many windows each unit was active, ``(unit,)``.
    """
    units = len(population.units)
    device = next(encoder.parameters()).device
    total = torch.zeros(units, encoder.spec.dim, dtype=torch.float64, device=device)
    windows = np.zeros(units, np.int64)
    starts = [
        start * spec.grid
        for first, last in grid_starts(population.valid_bins(), spec.window, spec.grid)
        for start in range(first, last + 1, spec.stride)
    ]
    together = max(1, UNITS_AT_ONCE // units)
    for i in range(0, len(starts), together):
        cuts = [np.asarray(population.activity[:, s : s + spec.window]) for s in starts[i : i + together]]
        if spec.shuffle_units:
            cuts = [turned(cut, generator(0, 0, i + k)) for k, cut in enumerate(cuts)]
        active = [np.flatnonzero(cut.any(axis=1)) for cut in cuts]
        rows = np.concatenate(active)
        if not len(rows):
            continue
        counts = np.concatenate([cut[own] for cut, own in zip(cuts, active, strict=True)])
        sizes = torch.tensor([len(own) for own in active if len(own)], device=device)
        embedded = encoder(as_patches(torch.from_numpy(counts).to(device), spec.patch), sizes)
        total.index_add_(0, torch.from_numpy(rows).to(device), embedded.double())
        windows += np.bincount(rows, minlength=units)
    mean = total.cpu().numpy() / np.where(windows, windows, np.nan)[:, None]
    return mean.astype(np.float32), windows


def embed_with_model(
    saved: SavedModel, populations: Iterable[Population], accelerator: Accelerator = "auto"
) -> Embeddings:
    """Embed the units of some populations with a saved model, one population in memory at a time.

    Raises
    ------
    DataError
        If there is no population, or no window of the model fits into one.
    ModelError
        If a population is of another modality or bin than the model was trained on.
    TrainingError
        If a GPU is demanded and there is none.
    """
    views = Views.model_validate(saved.record["config"]["views"])
    saved.encoder.to("cuda" if use_gpu(accelerator) else "cpu")
    tables, embeddings, windows = [], [], []
    modality, bin_s = saved.record["modality"], saved.record["bin_s"]
    spec = view_spec(views, bin_s, modality)
    longest, window_s = 0, spec.window * bin_s
    for population in populations:
        if population.modality != modality or not same_bin(population.bin_s, bin_s):
            raise ModelError(
                f"population {population.population}: {population.modality} at "
                f"{population.bin_s:.4g} s a bin, but the "
                f"model reads {modality} at {bin_s:.4g} s; use a model trained on such recordings"
            )
        if len(population.units) < spec.min_units:
            logger.warning(
                "population %s has %d units; embeddings of such small populations are less certain",
                population.population,
                len(population.units),
            )
        span = int(max((last - first for first, last in population.valid_bins()), default=0))
        longest = max(longest, span)
        # A population without a valid span is silent, and its units never active, which is an answer.
        if 0 < span < spec.window:
            logger.warning(
                "population %s: not embedded: the longest valid span is %.4g s, and the model's window %g s",
                population.population,
                span * bin_s,
                window_s,
            )
        vectors, active = embed_population(saved.encoder, in_memory(population), spec)
        tables.append(unit_table(population))
        embeddings.append(vectors)
        windows.append(active)
    if not tables:
        raise DataError("nothing to embed: no unit is left")
    if 0 < longest < spec.window:
        raise DataError(
            f"nothing to embed: the model reads windows of {window_s:g} s, and the longest valid span is "
            f"{longest * bin_s:.4g} s; look at obs_intervals and invalid_times"
        )
    return Embeddings(
        concatenate(tables), np.concatenate(embeddings), np.concatenate(windows), model=saved.sha256
    )
