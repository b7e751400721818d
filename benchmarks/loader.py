"""Compare loaders by windows per second: random 10 s windows of 120 units at 5 Hz.

    python benchmarks/loader.py               # writes its recordings to a temporary folder

The first table reads one window at a time in random order. The second table is the training loader: pairs of
views with unit dropout, matched and collated, with a cache for all decoded shards, with one for a tenth, and
with one for a tenth besides shards that all processes share (``machine.scratch``).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
import zarr
from torch.utils.data import DataLoader

from nuclr.config import Chunk, Machine
from nuclr.data.population import Population
from nuclr.data.store import open_population, write_population
from nuclr.training.cache import SharedShards
from nuclr.training.windows import PairBatches, StepSampler, ViewSpec, epoch_pairs

UNITS, RATE_HZ, BIN_S = 120, 5.0, 0.02
SPEC = ViewSpec(patch=50, tokens=10, distance=1500)
PAIRS = 128
# Number of different recordings; the rest are copies, which take as long to read.
MADE = 4


def main() -> None:
    """Write recordings, read them in every variant, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=48)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=5, help="time given to each way")
    parser.add_argument("--scratch", type=Path, help="of shared shards; else beside the recordings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spikes = 0
        for index in range(min(MADE, options.recordings)):
            spikes += write(folder, index, options.minutes * 60)
        for index in range(MADE, options.recordings):
            shutil.copytree(folder / f"{index % MADE:03d}.zarr", folder / f"{index:03d}.zarr")

        def bytes_of(pattern: str) -> float:
            files = [path for i in range(MADE) for path in folder.glob(f"{i:03d}{pattern}")]
            return sum(path.stat().st_size for path in files if path.is_file()) / spikes

        print("one window at a time, in random order")
        for way, read, pattern in (
            ("HDF5 spike times, binned", read_hdf5, ".h5"),
            ("zarr", read_zarr, ".zarr/**/*"),
            ("memory map", read_memmap, ".raw"),
        ):
            speed = windows_a_second(read(folder, MADE), options.seconds)
            print(f"  {way:38s} {speed:9,.0f} windows/s {bytes_of(pattern):6.2f} bytes a spike")
        populations = [open_population(path) for path in sorted(folder.glob("*.zarr"))]
        total = sum(p.activity.nbytes for p in populations)
        print(f"pairs of views through the cache, {PAIRS} pairs a batch, {total / 1e9:.2f} GB decoded")
        scratch = options.scratch or folder / "scratch"
        tenth = int(total / 10)
        for how, cache, shared in (
            ("all fits the cache", 2 * total, None),
            ("10 times the cache", tenth, None),
            ("10 times the cache, shared shards", tenth, SharedShards.of(Machine(scratch=scratch))),
        ):
            mixed = recordings_a_batch(populations, cache)
            for workers in (0, 2, 4):
                speed = loader_speed(populations, cache, shared, workers, options.seconds)
                print(f"  {how + f', {workers} workers':46s} {speed:9,.0f} windows/s", end=" ")
                print(f"{mixed:6.1f} of {len(populations)} recordings a batch")
            speed = of_two_processes(folder, cache, shared, options.seconds)
            print(f"  {how + ', two processes':46s} {speed:9,.0f} windows/s together")


def write(folder: Path, index: int, duration_s: float) -> int:
    """Write one recording as a store, as HDF5 spike times and as raw counts; return its spikes."""
    rng = np.random.default_rng(index)
    counts = rng.poisson(RATE_HZ * BIN_S, (UNITS, round(duration_s / BIN_S))).astype(np.uint8)
    population = Population(
        activity=counts,
        units=pd.DataFrame({"unit_id": [f"{index}_{unit}" for unit in range(UNITS)]}),
        valid_spans=np.array([[0.0, duration_s]]),
        dataset="benchmark",
        animal=str(index),
        recording=str(index),
        population=str(index),
        modality="spikes",
        bin_s=BIN_S,
    )
    layout = Chunk()
    write_population(population, folder / f"{index:03d}.zarr", chunk_s=layout.chunk_s, shard_s=layout.shard_s)
    counts.T.tofile(folder / f"{index:03d}.raw")
    bins, units = np.nonzero(counts.T)
    repeats = counts.T[bins, units]
    bins, units = np.repeat(bins, repeats), np.repeat(units, repeats)
    times = (bins + rng.random(len(bins))) * BIN_S
    order = np.argsort(times)
    with h5py.File(folder / f"{index:03d}.h5", "w") as file:
        file["times"], file["units"] = times[order], units[order]
        file["seconds"] = np.searchsorted(times[order], np.arange(0, duration_s + 1))
    return len(times)


def _starts(bins: int, recordings: int) -> Iterator[tuple[int, int]]:
    rng = np.random.default_rng(0)
    while True:
        yield int(rng.integers(recordings)), int(rng.integers(bins - SPEC.window))


def read_hdf5(folder: Path, recordings: int) -> Iterator[np.ndarray]:
    """Read spike times from HDF5 with an index of seconds, and bin them, like the authors' code."""
    files = [h5py.File(folder / f"{i:03d}.h5") for i in range(recordings)]
    seconds = [file["seconds"][:] for file in files]
    length = SPEC.window * BIN_S
    for recording, start in _starts(round((len(seconds[0]) - 1) / BIN_S), recordings):
        file, begin = files[recording], start * BIN_S
        first = seconds[recording][int(begin)]
        last = seconds[recording][min(int(begin + length) + 1, len(seconds[recording]) - 1)]
        times, units = file["times"][first:last], file["units"][first:last]
        inside = (times >= begin) & (times < begin + length)
        bins = ((times[inside] - begin) / BIN_S).astype(int).clip(0, SPEC.window - 1)
        counts = np.bincount(units[inside] * SPEC.window + bins, minlength=UNITS * SPEC.window)
        yield counts.reshape(UNITS, SPEC.window).astype(np.float32)


def read_zarr(folder: Path, recordings: int) -> Iterator[np.ndarray]:
    """Read each window from the store."""
    arrays = [zarr.open_array(folder / f"{i:03d}.zarr" / "activity", mode="r") for i in range(recordings)]
    for recording, start in _starts(arrays[0].shape[1], recordings):
        yield np.asarray(arrays[recording][:, start : start + SPEC.window])


def read_memmap(folder: Path, recordings: int) -> Iterator[np.ndarray]:
    """Read each window from a plain memory map, ``(time, unit)``."""
    maps = [
        np.memmap(folder / f"{i:03d}.raw", np.uint8, mode="r").reshape(-1, UNITS) for i in range(recordings)
    ]
    for recording, start in _starts(len(maps[0]), recordings):
        yield np.array(maps[recording][start : start + SPEC.window])


def windows_a_second(windows: Iterator[np.ndarray], seconds: float) -> float:
    """Return the windows per second of a reader, measured for a number of seconds."""
    next(windows)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(windows)
        count += 1
    return count / (time.perf_counter() - start)


def loader_speed(
    populations: list[Population], cache: int, shared: SharedShards | None, workers: int, seconds: float
) -> float:
    """Return the windows per second of the training loader, with a warm cache if it holds everything."""
    batches = PairBatches(populations, SPEC, PAIRS, 0, cache=cache, scratch=shared)
    fits = shared is not None or cache > sum(p.activity.nbytes for p in populations)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=StepSampler(lambda: 0, 10**9),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    drawn = iter(loader)
    # An epoch reads every shard; workers share the batches of an epoch, so each worker needs as many epochs.
    for _ in range(batches.steps_per_epoch * max(1, workers) if fits else 5):
        next(drawn)
    start, windows = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        windows += 2 * len(next(drawn).sizes1)
    return windows / (time.perf_counter() - start)


def _in_a_process(folder: Path, cache: int, shared: SharedShards | None, seconds: float) -> float:
    torch.set_num_threads(1)
    populations = [open_population(path) for path in sorted(folder.glob("*.zarr"))]
    return loader_speed(populations, cache, shared, 0, seconds)


def of_two_processes(folder: Path, cache: int, shared: SharedShards | None, seconds: float) -> float:
    """Return the windows per second of two concurrent processes without workers, as for two GPUs."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(_in_a_process, folder, cache, shared, seconds) for _ in range(2)]
        return sum(one.result() for one in running)


def recordings_a_batch(populations: list[Population], cache: int) -> float:
    """Return the average number of recordings in a batch."""
    pairs = epoch_pairs(populations, SPEC, 0, 0, cache)[:, 0]
    return float(np.mean([len(set(group)) for group in np.array_split(pairs, len(pairs) // PAIRS)]))


if __name__ == "__main__":
    main()
