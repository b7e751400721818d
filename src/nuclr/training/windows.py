"""Sample pairs of views of a population, as a pure function of (seed, epoch, index).

Source: NuCLR (arXiv 2512.01199), section 3.1 and appendix. Every random choice comes from a
counter-based generator with a key for this choice, so a batch depends neither on the worker that
makes it, nor on what was sampled before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from nuclr.config import Modality, Views
from nuclr.data.population import Population
from nuclr.errors import ConfigError, TrainingError
from nuclr.training.cache import ShardCache, SharedShards, shard_edges


@dataclass(frozen=True)
class ViewSpec:
    """How windows are cut, in samples (bins or frames).

    Attributes
    ----------
    patch, tokens
        Samples in a token, tokens in a window.
    distance
        Largest distance between the starts of the first and the second window.
    grid
        Windows start at multiples of this from the start of the recording; 1 allows any start.
    unit_dropout
        The smallest share of units that a view keeps (1 keeps all).
    max_units
        Largest number of units in a view, sampled jointly for both views of a pair; None for no limit.
    min_units
        A pair with fewer units in a view is skipped.
    shuffle_units
        Whether each unit of a view is shifted circularly in time by its own lag; see :func:`turned`.
    """

    patch: int
    tokens: int
    distance: int
    grid: int = 1
    unit_dropout: float = 0.5
    max_units: int | None = None
    min_units: int = 11
    shuffle_units: bool = False

    @property
    def window(self) -> int:
        """Number of samples in a window."""
        return self.patch * self.tokens

    @property
    def stride(self) -> int:
        """Number of grid points from one first view to the next."""
        return -(-self.window // self.grid)


class PairBatch(NamedTuple):
    """Ragged batch with two views of each of several populations, one population after another.

    Attributes
    ----------
    patches
        All first views, then all second views, ``(unit, token, patch)``.
    sizes1, sizes2
        Number of units of each population in its first and second view, ``(pair,)``.
    match
        Rows of the same unit among the first and among the second views, ``(2, matched)``.
    largest
        The largest of ``sizes1`` and of ``sizes2``.
    second_units
        Sum of ``sizes2``.
    populations
        Number of the population of each pair, ``(pair,)``.
    """

    patches: Tensor
    sizes1: Tensor
    sizes2: Tensor
    match: Tensor
    largest: tuple[int, int]
    second_units: int
    populations: Tensor


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return a random generator that depends only on these three numbers."""
    made = np.random.Generator(np.random.Philox(key=np.zeros(2, np.uint64)))
    begin(made, seed, epoch, index)
    return made


def begin(made: np.random.Generator, seed: int, epoch: int, index: int) -> None:
    """Reset a generator of :func:`generator` to other numbers, which is cheaper than to create another."""
    made.bit_generator.state = {
        "bit_generator": "Philox",
        "state": {
            "counter": np.array([0, 0, 0, index], np.uint64),
            "key": np.array([seed, epoch], np.uint64),
        },
        # Discard buffered random numbers.
        "buffer": np.zeros(4, np.uint64),
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }


def grid_starts(spans: np.ndarray, window: int, grid: int) -> np.ndarray:
    """Return the first and last possible start of a window in each span, in grid points, ``(span, 2)``.

    Both are inclusive. Spans that are too short for a window are left out.
    """
    starts = np.stack([-(-spans[:, 0] // grid), (spans[:, 1] - window) // grid], axis=1)
    return starts[starts[:, 0] <= starts[:, 1]]


def first_views(spans: np.ndarray, spec: ViewSpec, rng: np.random.Generator) -> np.ndarray:
    """Return the starts of consecutive windows in each valid span, from a random offset (section 3.1)."""
    starts = []
    for first, last in grid_starts(spans, spec.window, spec.grid):
        # The offset leaves room for at least one window in a short span.
        offset = rng.integers(0, min(spec.stride, last - first + 1))
        starts.append(np.arange(first + offset, last + 1, spec.stride) * spec.grid)
    return np.concatenate(starts) if starts else np.empty(0, np.int64)


def second_views(
    starts: np.ndarray, spans: np.ndarray, spec: ViewSpec, rng: np.random.Generator
) -> np.ndarray:
    """Draw the starts of the second windows, each uniform within ``distance`` of the first, in any span."""
    first, last = grid_starts(spans, spec.window, spec.grid).T
    places_until = (last - first + 1).cumsum()
    before = places_until - (last - first + 1)

    def places_below(point: np.ndarray) -> np.ndarray:
        span = np.maximum(np.searchsorted(first, point) - 1, 0)
        return before[span] + np.clip(point - first[span], 0, places_until[span] - before[span])

    near, far = -(-(starts - spec.distance) // spec.grid), (starts + spec.distance) // spec.grid
    place = rng.integers(places_below(near), places_below(far + 1))
    span = np.searchsorted(places_until, place, side="right")
    return (first[span] + place - before[span]) * spec.grid


def pairs_per_epoch(populations: Sequence[Population], spec: ViewSpec) -> int:
    """Return the smallest number of pairs in an epoch; an offset can cost each span its last window."""
    return sum(
        max(1, int(last - first + 1) // spec.stride)
        for population in populations
        for first, last in grid_starts(population.valid_bins(), spec.window, spec.grid)
    )


def epoch_pairs(
    populations: Sequence[Population], spec: ViewSpec, seed: int, epoch: int, cache: int | None = None
) -> np.ndarray:
    """Return all pairs of an epoch in order: population, first start, second start, ``(pair, 3)``.

    Parameters
    ----------
    populations
        The training populations.
    spec
        How windows are cut.
    seed, epoch
        Seed of the run and number of the epoch, which determine the order.
    cache
        Bytes of decoded activity that can be kept. If all activity fits, or with None, pairs are shuffled
        freely. Otherwise shards are visited in random order, in groups that fill half of the cache (the rest
        is for neighbouring and following shards), and pairs are shuffled within each group.
    """
    pairs, shards = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    sizes: list[int] = []  # bytes of every shard of every population
    for index, population in enumerate(populations):
        rng = generator(seed, epoch, index)
        spans = population.valid_bins()
        first = first_views(spans, spec, rng)
        if not len(first):
            continue
        second = second_views(first, spans, spec, rng)
        edges = shard_edges(population)
        shards.append(len(sizes) + np.searchsorted(edges, first, side="right") - 1)
        sizes += list(np.diff(edges) * population.activity.shape[0] * population.activity.dtype.itemsize)
        pairs.append(np.stack([np.full(len(first), index), first, second], axis=1))
    together = np.concatenate(pairs)
    rng = generator(seed, epoch, len(populations))
    order = rng.permutation(len(together))
    if cache is not None and sum(sizes) > cache:
        visited = rng.permutation(len(sizes))
        stretch = np.empty(len(sizes), np.int64)
        stretch[visited] = np.cumsum(np.array(sizes)[visited]) // max(1, cache // 2)
        order = order[np.argsort(stretch[np.concatenate(shards)[order]], kind="stable")]
    return together[order]


def keep_units(counts: np.ndarray, spec: ViewSpec, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of the units that a view keeps, ascending: active units, after unit dropout.

    ``counts`` is the activity of the view, ``(unit, time)``.
    """
    units = len(counts)
    least = min(units, int(np.ceil(spec.unit_dropout * units)))
    kept = rng.permutation(units)[: rng.integers(least, units + 1)]
    kept.sort()
    return kept[is_active(counts)[kept]]


def is_active(counts: np.ndarray) -> np.ndarray:
    """Return which units of a window ``(unit, time)`` are active, that is, not 0 everywhere."""
    if counts.dtype.kind == "u":
        return np.bitwise_or.reduce(counts, axis=1).astype(bool)  # one pass without comparisons
    return np.asarray(counts.any(axis=1))


def turned(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift each unit of a window ``(unit, time)`` circularly in time by its own random lag.

    This ablation keeps the activity of single units (except at one seam) and removes their correlations.
    """
    length = counts.shape[1]
    lags = rng.integers(0, length, (len(counts), 1))
    return np.take_along_axis(counts, (np.arange(length) - lags) % length, axis=1)


class PairBatches(Dataset[PairBatch]):
    """Training batches by step: ``batches[step]`` always is the same batch.

    Parameters
    ----------
    populations
        The training populations; activity in Dask arrays is read when it is needed.
    spec
        How windows are cut.
    pairs_per_step
        Number of pairs in a batch, over all processes.
    seed
        Seed of the random numbers.
    rank, world
        This process takes every ``world``-th pair of a batch, starting with ``rank``.
    cache
        Bytes of decoded activity to keep; None for all. The order of pairs depends on it.
    scratch
        Folder in which processes share decoded activity; the order of pairs does not depend on it.

    Raises
    ------
    TrainingError
        If an epoch has fewer pairs than a step.
    """

    def __init__(
        self,
        populations: Sequence[Population],
        spec: ViewSpec,
        pairs_per_step: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        cache: int | None = None,
        scratch: SharedShards | None = None,
    ) -> None:
        self.populations = populations
        self.cache = cache
        self.activity = ShardCache(populations, sys.maxsize if cache is None else cache, scratch)
        self.spec = spec
        self.seed = seed
        self.pairs_per_step = pairs_per_step
        self.rank, self.world = rank, world
        self.pairs_per_epoch = pairs_per_epoch(populations, spec)
        if self.pairs_per_epoch < pairs_per_step:
            raise TrainingError(
                f"pretrain: the {len(populations)} populations give {self.pairs_per_epoch} pairs of windows, "
                f"fewer than one batch of {pairs_per_step} pairs; lower pretrain.pairs_per_step or add "
                "recordings"
            )
        self._epoch: tuple[int, np.ndarray] | None = None
        self._random = generator(seed, 0, 0)

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in an epoch."""
        return self.pairs_per_epoch // self.pairs_per_step

    def __getitem__(self, step: int) -> PairBatch:
        """Return the batch of a step; it is empty if all of its pairs were skipped."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, epoch_pairs(self.populations, self.spec, self.seed, epoch, self.cache)
        first = batch * self.pairs_per_step
        chosen = range(first + self.rank, first + self.pairs_per_step, self.world)
        views = [self._pair(epoch, index, *self._epoch[1][index]) for index in chosen]
        return collate([view for view in views if view is not None], self.spec)

    def _pair(self, epoch: int, index: int, population: int, *starts: int) -> Pair | None:
        # The offset avoids the small indices of the same (seed, epoch), which epoch_pairs uses.
        begin(self._random, self.seed, epoch, 2**32 + index)
        rng = self._random
        # Copied at once, because the rows of a window are far apart in memory; later reads are then faster.
        cuts = [self.activity.read(population, start, start + self.spec.window).copy() for start in starts]
        if self.spec.max_units is None:
            kept = [keep_units(cut, self.spec, rng) for cut in cuts]
        else:
            # The same units for both views: independent draws from a large population would hardly overlap.
            sampled = np.sort(rng.permutation(len(cuts[0]))[: self.spec.max_units])
            kept = [sampled[keep_units(cut[sampled], self.spec, rng)] for cut in cuts]
        if min(len(rows) for rows in kept) < self.spec.min_units:
            return None
        if self.spec.shuffle_units:
            cuts = [turned(cut, rng) for cut in cuts]
        match = matching(kept[0], kept[1], len(cuts[0]))
        if not match.size:
            return None
        return Pair(population, cuts[0][kept[0]], cuts[1][kept[1]], match)

    def population_of(self, step: int, row: int) -> str:
        """Return the name of the population to which a row of a step's patches belongs."""
        batch = self[step]
        ends = torch.cat([batch.sizes1, batch.sizes2]).cumsum(0)
        pair = int(torch.searchsorted(ends, row, right=True)) % len(batch.sizes1)
        return self.populations[int(batch.populations[pair])].population


def matching(first: np.ndarray, second: np.ndarray, units: int) -> np.ndarray:
    """Return the positions of common units in two ascending lists of unit numbers, ``(2, matched)``."""
    inside = np.zeros((2, units), bool)
    inside[0][first] = True
    inside[1][second] = True
    in_first = inside[1][first].nonzero()[0]
    match = np.empty((2, len(in_first)), np.int64)
    match[0] = in_first
    match[1] = inside[0][second].nonzero()[0]
    return match


class Pair(NamedTuple):
    """Two views of a population, ``(unit, time)`` each, and the rows of common units, ``(2, matched)``."""

    population: int
    first: np.ndarray
    second: np.ndarray
    match: np.ndarray


def collate(pairs: Sequence[Pair], spec: ViewSpec) -> PairBatch:
    """Concatenate the views of several populations to a batch; without pairs, return an empty batch."""
    if not pairs:
        # An empty batch instead of None, which Lightning would skip without counting a step.
        none = torch.zeros(0, dtype=torch.int64)
        patches = torch.zeros(0, spec.tokens, spec.patch)
        return PairBatch(patches, none, none, none.expand(2, 0), (0, 0), 0, none)
    sizes = np.array([[len(pair.first), len(pair.second)] for pair in pairs]).T
    starts = sizes.cumsum(axis=1) - sizes
    match = np.concatenate([pair.match for pair in pairs], axis=1)
    match += np.repeat(starts, [pair.match.shape[1] for pair in pairs], axis=1)
    views = np.concatenate([pair.first for pair in pairs] + [pair.second for pair in pairs])
    return PairBatch(
        patches=torch.from_numpy(views).unflatten(1, (spec.tokens, spec.patch)),
        sizes1=torch.from_numpy(sizes[0]),
        sizes2=torch.from_numpy(sizes[1]),
        match=torch.from_numpy(match),
        largest=(int(sizes[0].max()), int(sizes[1].max())),
        second_units=int(sizes[1].sum()),
        populations=torch.tensor([pair.population for pair in pairs]),
    )


class StepSampler(Sampler[int]):
    """Sampler of the remaining steps of a run, in order, which is all that resuming needs.

    Its length is that of the whole run, because Lightning also counts the batches before the interruption.
    """

    def __init__(self, done: Callable[[], int], steps: int) -> None:
        self.done, self.steps = done, steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.done(), self.steps))

    def __len__(self) -> int:
        return self.steps


def view_spec(views: Views, bin_s: float, modality: Modality = "spikes") -> ViewSpec:
    """Convert lengths in seconds to bins or frames; missing ones are those of the paper for the modality.

    A window has ``floor(floor(window_s / bin_s) / patch)`` whole tokens.

    Raises
    ------
    ConfigError
        If a window is shorter than a token.
    """
    views = views.of(modality)
    assert views.window_s is not None
    assert views.patch is not None
    assert views.distance_s is not None
    samples = int(views.window_s / bin_s + 1e-6)
    tokens = samples // views.patch
    if tokens < 1:
        raise ConfigError(
            f"views: a window of {views.window_s} s has {samples} bins of {bin_s} s, fewer than one patch of "
            f"{views.patch} bins; raise views.window_s or lower views.patch"
        )
    return ViewSpec(
        patch=views.patch,
        tokens=tokens,
        distance=int(views.distance_s / bin_s + 1e-6),
        grid=max(1, round(views.grid_s / bin_s)) if views.grid_s is not None else 1,
        unit_dropout=views.unit_dropout,
        max_units=views.max_units,
        min_units=views.min_units,
        shuffle_units=views.shuffle_units,
    )
