"""Cache of decoded activity: shards are decoded once and kept within a memory limit."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
from dask.local import get_sync
from filelock import FileLock

from nuclr.config import Machine
from nuclr.data.population import Population
from nuclr.errors import NuclrError, TrainingError
from nuclr.files import PARTIAL, whole

logger = logging.getLogger(__name__)
# Largest number of files that a process maps at a time; systems allow some 65,000 maps.
MOST_MAPS = 4096
# Number of file locks that keep several processes from decoding the same shard.
LOCKS = 64


def shard_edges(population: Population) -> np.ndarray:
    """Return the start of each shard of a population and its end (bins); one shard if it is in memory."""
    chunks = getattr(population.activity, "chunks", None)
    lengths = chunks[1] if chunks is not None else population.activity.shape[1:]
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@dataclass(frozen=True)
class SharedShards:
    """Decoded shards in a folder, as files that all processes of a machine map into memory.

    The system keeps one copy of a mapped file for all processes. A shard is decoded by the first process that
    needs it; other processes wait. The least recently used shards are deleted to make room.

    Attributes
    ----------
    folder
        A folder of this user only, on a fast local disk or in memory (``/dev/shm``).
    limit
        Bytes of decoded shards to keep in the folder.
    """

    folder: Path
    limit: int

    @classmethod
    def of(cls, machine: Machine) -> SharedShards | None:
        """Create the folder below ``machine.scratch``; None if ``machine.scratch`` is not set.

        Raises
        ------
        TrainingError
            If the folder cannot be created, or belongs to another user, who could change its files.
        """
        if machine.scratch is None:
            return None
        owner = os.getuid() if hasattr(os, "getuid") else None
        folder = machine.scratch / ("nuclr-shards" if owner is None else f"nuclr-shards-{owner}")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"machine.scratch: the folder {folder} cannot be created ({error.strerror}); choose a folder "
                "that you can write to"
            ) from None
        if owner is not None and folder.stat().st_uid != owner:
            raise TrainingError(
                f"machine.scratch: the folder {folder} belongs to another user; choose a folder of your own"
            )
        return cls(folder, int(machine.scratch_gb * 1e9))

    def shard(self, name: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Return a shard as a memory map, and decode it first if no process has.

        ``name`` must identify the content. If the file cannot be written, for example on a full disk, the
        shard is returned in memory, with a warning.
        """
        path = self.folder / f"{name}.npy"
        if (mapped := self._mapped(path)) is not None:
            return mapped
        with FileLock(self.folder / f"{int(name[-8:], 16) % LOCKS}.lock"):
            if (mapped := self._mapped(path)) is not None:
                return mapped
            made = decode()
            self._make_room(made.nbytes)
            try:
                with whole(path) as partial:
                    np.save(partial, made, allow_pickle=False)
            except NuclrError as error:
                logger.warning("machine.scratch: %s; the decoded activity is kept in memory instead", error)
                return made
        mapped = self._mapped(path)
        return made if mapped is None else mapped

    def _mapped(self, path: Path) -> np.ndarray | None:
        """Return a file as a memory map and mark it as most recently used; None if there is none."""
        try:
            os.utime(path)
            return np.lib.format.open_memmap(path, mode="r")
        except OSError:
            return None
        except (ValueError, EOFError):  # damaged, for example by a power failure
            path.unlink(missing_ok=True)
            return None

    def _make_room(self, size: int) -> None:
        """Delete the least recently used files until another one fits.

        Processes that have a deleted file mapped can still read it.
        """
        with FileLock(self.folder / "room.lock"):
            files = []
            for entry in os.scandir(self.folder):
                with suppress(FileNotFoundError):  # another process has just renamed its partial file
                    if entry.name.endswith(".npy") and not entry.name.startswith(PARTIAL):
                        files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
            held = sum(length for _, length, _ in files) + size
            for _, length, path in sorted(files):
                if held <= self.limit:
                    return
                Path(path).unlink(missing_ok=True)
                held -= length


class ShardCache:
    """Windows of many populations, read through a bounded cache of decoded shards.

    Reading a window from a store decodes a whole chunk. With this cache a shard is decoded once and read
    many times; the least recently used shard is dropped for the next. Activity that is already in memory is
    not copied.

    Parameters
    ----------
    populations
        Populations whose activity may be Dask arrays, with one chunk per shard.
    limit
        Bytes of decoded shards to keep in this process; one shard is always kept.
    shared
        Decoded shards that are shared with other processes. They do not count towards the limit.
    """

    def __init__(
        self, populations: Sequence[Population], limit: int, shared: SharedShards | None = None
    ) -> None:
        self.populations = populations
        self.limit = limit
        self.shared = shared
        self.edges = [shard_edges(population) for population in populations]
        # Each shard with the bytes of memory that only this process uses for it.
        self._shards: OrderedDict[tuple[int, int], tuple[np.ndarray, int]] = OrderedDict()
        self._held = 0

    def read(self, population: int, start: int, stop: int) -> np.ndarray:
        """Return the activity of a population between two bins, ``(unit, time)``."""
        activity = self.populations[population].activity
        if isinstance(activity, np.ndarray):
            return activity[:, start:stop]
        edges = self.edges[population]
        first = int(edges.searchsorted(start, side="right")) - 1
        if stop <= edges[first + 1]:
            return self._shard(population, first)[:, start - edges[first] : stop - edges[first]]
        last = int(edges.searchsorted(stop - 1, side="right")) - 1
        parts = [
            self._shard(population, shard)[:, max(0, start - edges[shard]) : stop - edges[shard]]
            for shard in range(first, last + 1)
        ]
        return np.concatenate(parts, axis=1)

    def _shard(self, population: int, shard: int) -> np.ndarray:
        key = population, shard
        if key in self._shards:
            self._shards.move_to_end(key)
            return self._shards[key][0]
        activity: Any = self.populations[population].activity
        start, stop = self.edges[population][shard : shard + 2]

        def decode() -> np.ndarray:
            # Without Dask's thread pool, whose threads do not exist in a forked worker, which would wait for
            # them forever. Given the scheduler's name, Dask would import all of `distributed` first.
            with dask.config.set(scheduler=get_sync):
                return np.asarray(activity[:, start:stop])

        made = decode() if self.shared is None else self.shared.shard(shard_name(activity, shard), decode)
        size = 0 if isinstance(made, np.memmap) else made.nbytes
        # A plain array is sliced in half the time of a memmap.
        made = np.asarray(made)
        self._held += size
        self._shards[key] = made, size
        while (self._held > self.limit or len(self._shards) > MOST_MAPS) and len(self._shards) > 1:
            self._held -= self._shards.popitem(last=False)[1][1]
        return made


def shard_name(activity: Any, shard: int) -> str:
    """Return a name that identifies a shard: Dask names arrays of a store by path and time of writing."""
    return f"{activity.name}-{shard:08x}"
