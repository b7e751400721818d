"""Embed recordings with an encoder: the mean over windows gives one vector per unit."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nuclr.config import Machine, Precision, Views
from nuclr.data.catalog import unit_table
from nuclr.data.inputs import in_memory, longest_span, why_too_short
from nuclr.data.kinds import Kind, kind_of, why_unreadable
from nuclr.data.population import Population, summary_of
from nuclr.errors import DataError, ModelError
from nuclr.model import fused
from nuclr.model.encoder import Encoder, as_patches
from nuclr.model.saved import SavedModel
from nuclr.representation.embeddings import Embeddings, concatenate
from nuclr.representation.training_recordings import pretraining_of
from nuclr.training.devices import use_gpu
from nuclr.training.resources import uses_kernels
from nuclr.training.windows import ViewSpec, generator, grid_starts, is_active, turned, view_spec

logger = logging.getLogger(__name__)
# Tokens that are embedded together: what fits in a CPU's cache, and what keeps a GPU busy.
TOKENS_AT_ONCE = {"cpu": 20_480, "cuda": 2**18}
# Windows of units that a GPU embeds in the time that compilation takes: half a minute at 159,000 per second
# (one H200).
MANY_WINDOWS = 5_000_000


class _Windows(NamedTuple):
    """A batch of windows of a population, each with the units that are active in it.

    Attributes
    ----------
    patches
        ``(unit, token, patch)``, one window after another.
    sizes
        Number of active units in each window, ``(window,)``.
    rows
        Row of each of these units in the population, ``(unit,)``.
    largest
        The largest of ``sizes``.
    """

    patches: Tensor
    sizes: Tensor
    rows: Tensor
    largest: int

    def each(self, move: Callable[[Tensor], Tensor]) -> _Windows:
        """Return the batch with a function, such as a copy to a device, applied to all tensors."""
        return _Windows(move(self.patches), move(self.sizes), move(self.rows), self.largest)


def _windows(population: Population, spec: ViewSpec, tokens: int) -> Iterator[_Windows]:
    """Yield all consecutive windows of a population, in batches of about ``tokens`` tokens."""
    starts = [
        start * spec.grid
        for first, last in grid_starts(population.valid_bins(), spec.window, spec.grid)
        for start in range(first, last + 1, spec.stride)
    ]
    together = max(1, tokens // (spec.tokens * len(population.units)))
    for i in range(0, len(starts), together):
        cuts = [np.array(population.activity[:, s : s + spec.window]) for s in starts[i : i + together]]
        if spec.shuffle_units:
            cuts = [turned(cut, generator(0, 0, i + k)) for k, cut in enumerate(cuts)]
        active = [np.flatnonzero(is_active(cut)) for cut in cuts]
        rows = np.concatenate(active)
        if not len(rows):
            continue
        counts = np.concatenate([cut[own] for cut, own in zip(cuts, active, strict=True)])
        sizes = torch.tensor([len(own) for own in active if len(own)])
        patches = as_patches(torch.from_numpy(counts), spec.patch)
        yield _Windows(patches, sizes, torch.from_numpy(rows), int(sizes.max()))


def _ready(windows: Iterator[_Windows], device: torch.device) -> Iterator[_Windows]:
    """Yield batches on a device; the next batch is cut while a GPU works on the current one."""
    if device.type == "cpu":
        yield from windows
        return

    def next_pinned() -> _Windows | None:
        cut = next(windows, None)
        return cut and cut.each(Tensor.pin_memory)

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next_pinned)
        while (cut := coming.result()) is not None:
            coming = pool.submit(next_pinned)
            yield cut.each(lambda tensor: tensor.to(device, non_blocking=True))


def _in_half(device: torch.device, precision: Precision) -> bool:
    """Return whether to embed in bf16: on GPUs that support it, unless single precision is requested."""
    if device.type != "cuda" or precision == "fp32":
        return False
    return torch.cuda.is_bf16_supported(including_emulation=False)


def precision_used(machine: Machine, precision: Precision) -> Literal["bf16", "fp32"]:
    """Return the precision in which embeddings are computed on this machine."""
    on_gpu = use_gpu(machine.accelerator)
    return "bf16" if on_gpu and _in_half(torch.device("cuda", 0), precision) else "fp32"


@torch.no_grad()
def embed_population(
    encoder: Encoder, population: Population, spec: ViewSpec, precision: Precision = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean embedding of each unit over all consecutive windows in which it was active.

    Parameters
    ----------
    encoder
        The encoder in evaluation mode.
    population
        A population with activity in memory and scaled (:func:`nuclr.data.inputs.in_memory`).
    spec
        Window and grid with which the encoder was trained.
    precision
        ``auto``: bf16 on GPUs that support it. ``fp32``: single precision.

    Returns
    -------
    embeddings
        ``(unit, dim)``; NaN for a unit that was never active.
    windows
        Number of windows in which each unit was active, ``(unit,)``.
    """
    units = len(population.units)
    device = next(encoder.parameters()).device
    total = torch.zeros(units, encoder.spec.dim, dtype=torch.float64, device=device)
    windows = torch.zeros(units, dtype=torch.int64, device=device)
    cut = _windows(population, spec, TOKENS_AT_ONCE["cpu" if device.type == "cpu" else "cuda"])
    with torch.autocast(device.type, torch.bfloat16, enabled=_in_half(device, precision)):
        for batch in _ready(cut, device):
            embedded = encoder(batch.patches, batch.sizes, batch.largest)
            # Unlike index_add_, this sums in a deterministic order, on a GPU, too.
            total.index_put_((batch.rows,), embedded.double(), accumulate=True)
            windows.index_put_((batch.rows,), torch.ones_like(batch.rows), accumulate=True)
    times = windows.cpu().numpy()
    mean = total.cpu().numpy() / np.where(times, times, np.nan)[:, None]
    return mean.astype(np.float32), times


def _in_turn(
    encoders: Sequence[Encoder],
    populations: Iterable[Population],
    spec: ViewSpec,
    precision: Precision,
    compiled: bool = False,
) -> Iterator[tuple[Population, np.ndarray, np.ndarray]]:
    """Yield populations with their embeddings, one after another, distributed over several GPUs.

    On GPUs, the next population is read while one is embedded. On a CPU it is read afterwards, because
    reading would slow down embedding. With ``compiled``, the encoders are compiled after
    :data:`MANY_WINDOWS` windows, because as many again would then pay for the compilation.
    """
    if len(encoders) == 1 and next(encoders[0].parameters()).device.type == "cpu":
        for population in populations:
            held = in_memory(population)
            yield held, *embed_population(encoders[0], held, spec, precision)
        return
    coming: deque[tuple[Population, Future[tuple[np.ndarray, np.ndarray]]]] = deque()
    embedded_so_far = 0
    with ExitStack() as stack:
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in encoders]
        for index, population in enumerate(populations):
            turn = index % len(encoders)
            held = in_memory(population)
            coming.append((held, pools[turn].submit(embed_population, encoders[turn], held, spec, precision)))
            if len(coming) > len(encoders):
                population, embedded = coming.popleft()
                vectors, windows = embedded.result()
                embedded_so_far += int(windows.sum())
                if compiled and embedded_so_far >= MANY_WINDOWS * len(encoders):
                    compiled = False
                    for encoder in encoders:
                        encoder.compile(dynamic=True)
                yield population, vectors, windows
        for population, embedded in coming:
            yield population, *embedded.result()


def embed_with_model(
    saved: SavedModel,
    populations: Iterable[Population],
    machine: Machine | None = None,
    precision: Precision = "auto",
) -> Embeddings:
    """Embed the units of several populations with a saved model.

    One population is in memory at a time, and with GPUs one more for each of them.

    Parameters
    ----------
    saved
        The model.
    populations
        The populations; each is read when it is its turn.
    machine
        GPUs and kernels to use; the defaults if None.
    precision
        ``auto``: bf16 on GPUs that support it. ``fp32``: single precision.

    Raises
    ------
    DataError
        If there is no population, or all are shorter than the model's window.
    ModelError
        If a population has another modality or bin than the model was trained on.
    TrainingError
        If ``machine.accelerator`` is ``gpu`` and there is none.
    """
    views = Views.model_validate(saved.record["config"]["views"])
    encoders = _on_devices(saved.encoder, machine or Machine(), precision)
    tables, embeddings, windows = [], [], []
    hashes: dict[str, str] = {}
    modality, bin_s = saved.record["modality"], saved.record["bin_s"]
    spec, reads = view_spec(views, bin_s, modality), Kind(modality, bin_s)
    too_short: list[str] = []
    longest = 0

    def checked() -> Iterator[Population]:
        nonlocal longest
        for population in populations:
            if why := why_unreadable(kind_of(population), reads):
                raise ModelError(f"population {population.population} {why}")
            if len(population.units) < spec.min_units:
                logger.warning(
                    "population %s has %d units; embeddings of such small populations are less reliable",
                    population.population,
                    len(population.units),
                )
            longest = max(longest, longest_span(population))
            # A population without a valid span is silent; its units are returned as never active.
            if why := why_too_short(population, spec.window):
                too_short.append(f"population {population.population} {why}")
            yield population

    compiled = (machine or Machine()).compile is not False and encoders[0].fused is None
    for population, vectors, active in _in_turn(encoders, checked(), spec, precision, compiled):
        tables.append(_with_rates(unit_table(population), population))
        embeddings.append(vectors)
        windows.append(active)
        if sha256 := population.source.get("sha256"):
            hashes[population.population] = sha256
    if not tables:
        raise DataError("nothing to embed: the recordings contain no usable unit")
    if too_short and longest < spec.window:
        more = f" (and {len(too_short) - 1} more are too short)" if len(too_short) > 1 else ""
        raise DataError(
            f"nothing to embed: {too_short[0]}{more}; use longer recordings, or a model that was trained "
            "with a lower views.window_s"
        )
    for said in too_short:
        logger.warning("%s: it is not embedded", said)
    return Embeddings(
        concatenate(tables),
        np.concatenate(embeddings),
        np.concatenate(windows),
        model=saved.sha256,
        pretraining=pretraining_of(saved.record),
        hashes=hashes,
    )


def _with_rates(table: pd.DataFrame, population: Population) -> pd.DataFrame:
    """Add ``rate_hz`` over the valid spans to a table of spiking units, if it has no such column."""
    if population.modality != "spikes" or "rate_hz" in table:
        return table
    return table.assign(rate_hz=summary_of(population).mean_activity)


def _on_devices(encoder: Encoder, machine: Machine, precision: Precision) -> list[Encoder]:
    """Return the encoder on the CPU, or a copy of it on each GPU."""
    if not use_gpu(machine.accelerator):
        encoder.fused = None
        return [encoder.to("cpu")]
    encoders = []
    for number in range(min(machine.devices, torch.cuda.device_count())):
        device = torch.device("cuda", number)
        own = (encoder if number == 0 else copy.deepcopy(encoder)).to(device)
        kernels = _in_half(device, precision) and uses_kernels(machine, own.spec, on_gpu=True)
        own.fused = fused.embed if kernels else None
        encoders.append(own)
    return encoders
