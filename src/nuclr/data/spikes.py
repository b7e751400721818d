"""Spike times in files, which are ordered either by unit (NWB) or by time (ALF).

Both are read once for a survey, and then counted shard by shard; they are never in memory as a whole. NaN is
refused, times that are not in order are sorted, and times outside the session are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nuclr.data.access.columns import ArrayColumn, Column
from nuclr.errors import DataError

PART = 2**19  # number of spikes processed at a time, at some 80 bytes each


@dataclass(frozen=True)
class Grid:
    """The bins of a session, in shards: shard i contains bins ``edges[i]`` to before ``edges[i + 1]``.

    Attributes
    ----------
    start_s, stop_s
        Start and end of the session (s). The last bin may extend beyond ``stop_s``.
    bin_s
        Length of a bin (s).
    edges
        First bin of each shard, and the number of bins, ``(shard + 1,)``.
    """

    start_s: float
    stop_s: float
    bin_s: float
    edges: np.ndarray

    @property
    def edge_s(self) -> np.ndarray:
        """Times of the edges of shards (s), ``(shard + 1,)``; the last one is the end of the session."""
        times = self.start_s + self.edges * self.bin_s
        times[-1] = self.stop_s
        return times

    @property
    def seconds(self) -> int:
        """Number of whole seconds in the session."""
        return int(self.stop_s - self.start_s + 1e-6)

    def length(self, shard: int) -> int:
        """Return the number of bins in a shard."""
        return int(self.edges[shard + 1] - self.edges[shard])

    def bins_of(self, times: np.ndarray) -> np.ndarray:
        """Return the bin of every time. Floor division is not used, because ``1.0 // 0.02`` is 49."""
        return np.floor((times - self.start_s) / self.bin_s).astype(np.int64)

    def bins_in_shard(self, times: np.ndarray, shard: int) -> np.ndarray:
        """Return the bins inside a shard of the times that are in it.

        A time on an edge that rounds to a bin of the neighbouring shard stays in this shard.
        """
        bins = self.bins_of(times) - self.edges[shard]
        return np.clip(bins, 0, self.length(shard) - 1)

    def by_second(self, times: np.ndarray) -> np.ndarray:
        """Return the number of times in each whole second, ``(second,)``."""
        seconds = np.floor(times - self.start_s).astype(np.int64)
        return np.bincount(seconds[(seconds >= 0) & (seconds < self.seconds)], minlength=self.seconds)


@dataclass(frozen=True)
class Survey:
    """Result of one pass over the spikes.

    Attributes
    ----------
    total, outside
        Number of spikes of the units, and of those outside the session.
    unsorted
        Number of units (or files) whose times are not in order.
    densest
        Largest count in a bin; in files ordered by unit, it is exact only above 255.
    by_second
        Number of spikes of the population in each whole second of the session, ``(second,)``.
    inside
        Number of spikes of each unit inside the valid spans, ``(unit,)``.
    places
        Position of each shard's first spike in the file, ``(unit, shard + 1)`` or ``(shard + 1,)``.
    in_order
        Whether each unit (or the file) is in order and can be read by these positions.
    """

    total: int
    outside: int
    unsorted: int
    densest: int
    by_second: np.ndarray
    inside: np.ndarray
    places: np.ndarray
    in_order: np.ndarray

    def shard(self, index: int) -> Shard:
        """Return the information that is needed to read one shard."""
        return Shard(index, self.places[..., index : index + 2], self.in_order)


@dataclass(frozen=True)
class Shard:
    """One shard of a survey: its number, and the positions at which its spikes begin and end."""

    index: int
    places: np.ndarray
    in_order: np.ndarray


class Spikes(Protocol):
    """Spike times of a population's units, in files."""

    def only(self, chosen: np.ndarray) -> Spikes:
        """Return the spike times of some units; ``chosen`` is a mask, ``(unit,)``."""

    def survey(self, grid: Grid, spans: np.ndarray, names: list[str]) -> Survey:
        """Read all spikes once and return their :class:`Survey`.

        Raises
        ------
        DataError
            If a spike time is NaN or infinite; the message contains the unit's name from ``names``.
        """

    def inside(self, spans: np.ndarray) -> np.ndarray:
        """Count the spikes of each unit inside some spans, ``(unit,)``."""

    def count(
        self, grid: Grid, shard: Shard, kept: np.ndarray, dtype: type[np.unsignedinteger]
    ) -> np.ndarray:
        """Count the spikes of some units in one shard, ``(unit, time)``, reading only these."""


def spikes_in_memory(named: str, trains: Sequence[np.ndarray]) -> SpikesByUnit:
    """Return spike times (s) in memory, one array for each unit; ``named`` is their name in messages."""
    stops = np.cumsum([len(train) for train in trains])
    column = ArrayColumn(named, np.concatenate(trains))
    return SpikesByUnit(column, np.concatenate([[0], stops[:-1]]), stops)


@dataclass(frozen=True)
class SpikesByUnit:
    """Spike times ordered by unit, as in an NWB Units table.

    Attributes
    ----------
    times
        Spike times of all units (s).
    starts, stops
        Position of each unit's first spike, and one past its last, ``(unit,)``.
    """

    times: Column
    starts: np.ndarray
    stops: np.ndarray

    def only(self, chosen: np.ndarray) -> SpikesByUnit:
        """Return those of some units; see :class:`Spikes`."""
        return replace(self, starts=self.starts[chosen], stops=self.stops[chosen])

    def trains(self) -> Iterator[np.ndarray]:
        """Yield the spike times (s) of one unit after another."""
        with self.times.opened() as times:
            for start, stop in zip(self.starts, self.stops, strict=True):
                yield np.asarray(times[start:stop], np.float64)

    def survey(self, grid: Grid, spans: np.ndarray, names: list[str]) -> Survey:
        """Look through all spikes once; see :class:`Spikes`."""
        places = np.zeros((len(self.starts), len(grid.edges)), np.int64)
        in_order = np.ones(len(self.starts), bool)
        inside = np.zeros(len(self.starts), np.int64)
        by_second = np.zeros(grid.seconds, np.int64)
        densest, outside, total = 0, 0, 0
        for unit, times in enumerate(self.trains()):
            if not np.isfinite(times).all():
                raise DataError(
                    f"{self.times.path}: unit {names[unit]}: spike times contain NaN or infinity; "
                    "correct or remove the unit"
                )
            if (times[1:] < times[:-1]).any():
                in_order[unit] = False
                times = np.sort(times)
            places[unit] = np.searchsorted(times, grid.edge_s)
            inside[unit] = _inside(times, spans)
            session = times[places[unit, 0] : places[unit, -1]]
            total += len(times)
            outside += len(times) - len(session)
            by_second += grid.by_second(session)
            # A bin can contain more than 255 spikes only if 256 spikes are within the length of a bin.
            if (session[255:] - session[:-255] <= grid.bin_s * (1 + 1e-9)).any():
                densest = max(densest, int(np.bincount(grid.bins_of(session)).max()))
        return Survey(total, outside, int((~in_order).sum()), densest, by_second, inside, places, in_order)

    def inside(self, spans: np.ndarray) -> np.ndarray:
        """Count the spikes of each unit inside some spans, ``(unit,)``."""
        return np.array([_inside(np.sort(times), spans) for times in self.trains()], np.int64)

    def count(
        self, grid: Grid, shard: Shard, kept: np.ndarray, dtype: type[np.unsignedinteger]
    ) -> np.ndarray:
        """Count one shard; see :class:`Spikes`."""
        bins = grid.length(shard.index)
        counts = np.zeros((len(kept), bins), dtype)
        with self.times.opened() as times:
            for place, unit in enumerate(kept):
                begin = int(self.starts[unit])
                low, high = shard.places[unit]
                if low == high:
                    continue
                if shard.in_order[unit]:
                    own = np.asarray(times[begin + low : begin + high], np.float64)
                else:  # rare: the unit is read completely and sorted again for every shard
                    own = np.sort(np.asarray(times[begin : self.stops[unit]], np.float64))[low:high]
                counts[place] = np.bincount(grid.bins_in_shard(own, shard.index), minlength=bins)
        return counts


@dataclass(frozen=True)
class SpikesByTime:
    """Spikes of a sorting ordered by time, each with the number of its cluster (ALF, phy, ...).

    Attributes
    ----------
    times
        Time of each spike, in samples.
    clusters
        Cluster of each spike.
    ids
        Cluster of each unit; spikes of other clusters are ignored.
    rate_hz
        Sampling rate (Hz); 1 if times are in seconds.
    """

    times: Column
    clusters: Column
    ids: np.ndarray
    rate_hz: float = 1.0

    def only(self, chosen: np.ndarray) -> SpikesByTime:
        """Return those of some units; see :class:`Spikes`."""
        return replace(self, ids=self.ids[chosen])

    def span(self, drop_last_s: float = 0.0) -> np.ndarray:
        """Return the span from the first spike to ``drop_last_s`` before the last (s), with 0 or 1 rows."""
        first, last = np.inf, -np.inf
        for part in self.times.parts(PART):
            times = self._in_seconds(part)
            known = times[np.isfinite(times)]  # others raise an error when spikes are counted
            first, last = min(first, known.min(initial=np.inf)), max(last, known.max(initial=-np.inf))
        start, stop = max(0.0, float(first)), float(last) - drop_last_s
        # Spans are open at their end, so the end is just after the last spike.
        return np.array([[start, np.nextafter(stop, np.inf)]]) if stop > start else np.zeros((0, 2))

    def _in_seconds(self, samples: np.ndarray) -> np.ndarray:
        return samples.astype(np.float64) / self.rate_hz

    def _unit_of(self) -> np.ndarray:
        unit_of = np.full(int(self.ids.max(initial=0)) + 1, -1, np.int64)
        unit_of[self.ids] = np.arange(len(self.ids))
        return unit_of

    def _spikes(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the units and times of the spikes between two positions in the file."""
        unit_of = self._unit_of()
        clusters = self.clusters.read(low, high).astype(np.int64)
        known = (clusters >= 0) & (clusters < len(unit_of))
        units = np.where(known, unit_of[np.where(known, clusters, 0)], -1)
        return units[units >= 0], self._in_seconds(self.times.read(low, high)[units >= 0])

    def _parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the units and times of all spikes in parts."""
        for first in range(0, len(self.times), PART):
            yield self._spikes(first, first + PART)

    def _of(self, grid: Grid, shard: Shard) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the units and times of the spikes in a shard in parts."""
        if shard.in_order[0]:
            first, last = map(int, shard.places)
            for place in range(first, last, PART):
                yield self._spikes(place, min(place + PART, last))
            return
        low, high = grid.edge_s[shard.index : shard.index + 2]
        for units, times in self._parts():  # rare: a file that is not in order is read completely
            here = (times >= low) & (times < high)
            yield units[here], times[here]

    def survey(self, grid: Grid, spans: np.ndarray, names: list[str]) -> Survey:
        """Look through all spikes once; see :class:`Spikes`."""
        length, other = len(self.times), len(self.clusters)
        if length != other:
            raise DataError(
                f"{self.times.path}: {length} spike times, but {other} entries in {self.clusters.path.name}; "
                "copy or download both files again"
            )
        in_order, last = True, -np.inf
        for part in self.times.parts(PART):
            if not np.isfinite(part).all():
                raise DataError(
                    f"{self.times.path}: spike times contain NaN or infinity; correct or download the file "
                    "again"
                )
            in_order = in_order and part[0] >= last and not (part[1:] < part[:-1]).any()
            last = part[-1]
        total, inside = self._count_inside(spans)
        places = np.zeros(len(grid.edges), np.int64)
        if in_order:
            places = self.times.places(grid.edge_s * self.rate_hz)
        by_second = np.zeros(grid.seconds, np.int64)
        densest, session = 0, 0
        for index in range(len(grid.edges) - 1):
            shard = Shard(index, places[index : index + 2], np.array([in_order]))
            counts = np.zeros((len(self.ids), grid.length(index)), np.uint16)
            for units, own in self._of(grid, shard):
                session += len(own)
                by_second += grid.by_second(own)
                _add(counts, units, grid.bins_in_shard(own, index))
            densest = max(densest, int(counts.max(initial=0)))
        outside, unsorted = total - session, int(not in_order)
        return Survey(total, outside, unsorted, densest, by_second, inside, places, np.array([in_order]))

    def inside(self, spans: np.ndarray) -> np.ndarray:
        """Count the spikes of each unit inside some spans, ``(unit,)``."""
        return self._count_inside(spans)[1]

    def _count_inside(self, spans: np.ndarray) -> tuple[int, np.ndarray]:
        """Return the number of spikes of all units, and of each unit inside some spans, ``(unit,)``."""
        total, counts = 0, np.zeros(len(self.ids), np.int64)
        for units, times in self._parts():
            span = np.searchsorted(spans[:, 0], times, side="right") - 1
            within = (span >= 0) & (times < spans[np.maximum(span, 0), 1])
            counts += np.bincount(units[within], minlength=len(counts))
            total += len(units)
        return total, counts

    def count(
        self, grid: Grid, shard: Shard, kept: np.ndarray, dtype: type[np.unsignedinteger]
    ) -> np.ndarray:
        """Count one shard; see :class:`Spikes`."""
        counts = np.zeros((len(self.ids), grid.length(shard.index)), dtype)
        for units, times in self._of(grid, shard):
            _add(counts, units, grid.bins_in_shard(times, shard.index))
        return counts[kept]


def _add(counts: np.ndarray, units: np.ndarray, bins: np.ndarray) -> None:
    """Count spikes in place, ``(unit, time)``."""
    # NumPy adds to a flat array several times as fast.
    np.add.at(counts.reshape(-1), units * counts.shape[1] + bins, counts.dtype.type(1))


def _inside(times: np.ndarray, spans: np.ndarray) -> int:
    """Count ascending times inside some spans."""
    places = np.searchsorted(times, spans)
    return int((places[:, 1] - places[:, 0]).sum())
