"""Activity that need not fit in memory: shards are decoded once and kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import dask
import numpy as np
from dask.local import get_sync

from nuclr.data.population import Population


def shard_edges(population: Population) -> np.ndarray:
    """Where the shards of a population begin, and its end (bins); one shard where it is in memory."""
    chunks = getattr(population.activity, "chunks", None)
    lengths = chunks[1] if chunks is not None else population.activity.shape[1:]
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


class ShardCache:
    """Windows of many populations, read through a bounded cache of decoded shards.

    Reading a window from a store decodes a whole chunk for it. Here a shard is decoded once and then
    cut many times; the one that was used least recently makes room for the next. What is already in
    memory is cut where it lies.

    Parameters
    ----------
    populations
        Their activity may be Dask arrays, one chunk a shard.
    limit
        Bytes of decoded shards to keep; one shard is always kept.
    """

    def __init__(self, populations: Sequence[Population], limit: int) -> None:
        self.populations = populations
        self.limit = limit
        self.edges = [shard_edges(population) for population in populations]
        self._shards: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._held = 0

    def read(self, population: int, start: int, stop: int) -> np.ndarray:
        """Activity of a population between two bins, ``(unit, time)``."""
        activity = self.populations[population].activity
        if isinstance(activity, np.ndarray):
            return activity[:, start:stop]
        edges = self.edges[population]
        first, last = np.searchsorted(edges, [start, stop - 1], side="right") - 1
        parts = [
            self._shard(population, shard)[:, max(0, start - edges[shard]) : stop - edges[shard]]
            for shard in range(first, last + 1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _shard(self, population: int, shard: int) -> np.ndarray:
        key = population, shard
        if key in self._shards:
            self._shards.move_to_end(key)
            return self._shards[key]
        start, stop = self.edges[population][shard : shard + 2]
        # Without Dask's pool of threads, which a forked worker inherits dead and would wait for. By its name,
        # Dask would load all of `distributed` first.
        with dask.config.set(scheduler=get_sync):
            made = np.asarray(self.populations[population].activity[:, start:stop])
        self._held += made.nbytes
        self._shards[key] = made
        while self._held > self.limit and len(self._shards) > 1:
            self._held -= self._shards.popitem(last=False)[1].nbytes
        return made
