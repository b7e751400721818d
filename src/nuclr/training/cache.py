"""Activity that need not fit in memory: shards are decoded once and kept while there is room."""

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
# Files that a process has mapped at a time: systems allow some 65,000 maps.
MOST_MAPS = 4096
# Shards are decoded by one process each; so many locks tell processes which.
LOCKS = 64


def shard_edges(population: Population) -> np.ndarray:
    """Where the shards of a population begin, and its end (bins); one shard where it is in memory."""
    chunks = getattr(population.activity, "chunks", None)
    lengths = chunks[1] if chunks is not None else population.activity.shape[1:]
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@dataclass(frozen=True)
class SharedShards:
    """Decoded shards in a folder, as files that all processes of a machine map into memory.

    The system keeps one copy of what is mapped, however many processes read it. A shard is decoded by the
    first process that asks for it; the others wait for that. Those that were used least recently make room.

    Attributes
    ----------
    folder
        Of this user alone, on a fast local disk or in memory (``/dev/shm``).
    limit
        Bytes of decoded shards to keep there.
    """

    folder: Path
    limit: int

    @classmethod
    def of(cls, machine: Machine) -> SharedShards | None:
        """Make the folder below ``machine.scratch``, where there is one.

        Raises
        ------
        TrainingError
            If the folder cannot be made, or is another user's, who could change what is read.
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
        """Map a shard by its name, which tells its content, decoding it where no process has.

        Where it cannot be written, as on a full disk, it is given in memory, with a warning.
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
        """Map a file, which thereby was used most recently; None if there is none."""
        try:
            os.utime(path)
            return np.lib.format.open_memmap(path, mode="r")
        except OSError:
            return None
        except (ValueError, EOFError):  # damaged, say by a computer that lost its power
            path.unlink(missing_ok=True)
            return None

    def _make_room(self, size: int) -> None:
        """Delete the files that were used least recently until another fits.

        Who has one of them mapped goes on reading it.
        """
        with FileLock(self.folder / "room.lock"):
            files = []
            for entry in os.scandir(self.folder):
                with suppress(FileNotFoundError):  # another process renamed what it was writing
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

    Reading a window from a store decodes a whole chunk for it. Here a shard is decoded once and then
    cut many times; the one that was used least recently makes room for the next. What is already in
    memory is cut where it lies.

    Parameters
    ----------
    populations
        Their activity may be Dask arrays, one chunk a shard.
    limit
        Bytes of decoded shards to keep in this process; one shard is always kept.
    shared
        Where decoded shards are shared with other processes. What is mapped there takes none of the limit.
    """

    def __init__(
        self, populations: Sequence[Population], limit: int, shared: SharedShards | None = None
    ) -> None:
        self.populations = populations
        self.limit = limit
        self.shared = shared
        self.edges = [shard_edges(population) for population in populations]
        # Each with the bytes of memory that this process alone takes for it.
        self._shards: OrderedDict[tuple[int, int], tuple[np.ndarray, int]] = OrderedDict()
        self._held = 0

    def read(self, population: int, start: int, stop: int) -> np.ndarray:
        """Activity of a population between two bins, ``(unit, time)``."""
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
            # Without Dask's pool of threads, which a forked worker inherits dead and would wait for. By its
            # name, Dask would load all of `distributed` first.
            with dask.config.set(scheduler=get_sync):
                return np.asarray(activity[:, start:stop])

        made = decode() if self.shared is None else self.shared.shard(shard_name(activity, shard), decode)
        size = 0 if isinstance(made, np.memmap) else made.nbytes
        # As a plain array, which is cut in half the time.
        made = np.asarray(made)
        self._held += size
        self._shards[key] = made, size
        while (self._held > self.limit or len(self._shards) > MOST_MAPS) and len(self._shards) > 1:
            self._held -= self._shards.popitem(last=False)[1][1]
        return made


def shard_name(activity: Any, shard: int) -> str:
    """Name a shard by the array that it is of: Dask names those of a store by path and time of writing."""
    return f"{activity.name}-{shard:08x}"
