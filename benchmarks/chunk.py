"""Measure chunking of a large recording: million spikes per second, and peak memory.

    python benchmarks/chunk.py               # 10,000 s, 3,000 units, 150 million spikes

Spikes are sorted by unit, as in NWB, or by time, as in ALF. Each variant runs in its own process; memory is
the peak of the process and its children (proportional set size, which counts shared memory once and includes
the pages of mapped files).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import psutil
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject

WAYS = [("threads", 1), ("threads", 2), ("threads", 16), ("threads", 64), ("processes", 2)]


def main() -> None:
    """Write a recording, chunk it in every variant, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=10_000)
    parser.add_argument("--spikes", type=float, default=150e6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "large.nwb"
        write(path, options.units, options.seconds, int(options.spikes))
        by_time(path, Path(name) / "alf")
        print(f"{path.stat().st_size / 1e9:.2f} GB of NWB")
        for source, (on, workers) in product((path, Path(name) / "alf"), WAYS):
            output = Path(name) / f"{source.stem}-{on}{workers}"
            process = multiprocessing.get_context("spawn").Process(
                target=chunk, args=(source, output, on, workers)
            )
            start = time.perf_counter()
            process.start()
            peak = most_memory(process.pid or 0)
            process.join()
            seconds = time.perf_counter() - start
            if process.exitcode:
                sys.exit(f"{on} {workers} failed")
            size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
            rate = options.spikes / seconds / 1e6
            print(
                f"{source.name:10s} {on:10s} {workers:3d}: {seconds:6.1f} s, {rate:5.2f} million spikes/s, "
                f"{peak / 1e9:.2f} GB at most, {size / options.spikes:.2f} bytes a spike",
                flush=True,
            )


def chunk(path: Path, output: Path, on: str, workers: int) -> None:
    """Chunk the recording like the subcommand."""
    from nuclr.cluster import computing
    from nuclr.config import load_config
    from nuclr.data.access.columns import Column
    from nuclr.data.chunk import chunk_recording
    from nuclr.data.formats.nwb import read_populations
    from nuclr.data.recording import SpikeTrains
    from nuclr.data.spikes import SpikesByTime

    options = load_config({"machine": {"dask": on, "dask_workers": workers}})
    with computing(options.machine.dask, options.machine.dask_workers):
        found = read_populations(path if path.is_file() else path.with_name("large.nwb"))
        if path.is_dir():
            (one,) = found
            assert isinstance(one, SpikeTrains)
            spikes = SpikesByTime(
                Column(path / "times.npy"), Column(path / "clusters.npy"), np.arange(len(one.units))
            )
            found = [replace(one, path=path, spikes=spikes)]
        chunk_recording(
            found,
            output,
            dataset="benchmark",
            animal="a",
            recording="large",
            options=options.chunk,
        )


def most_memory(pid: int) -> int:
    """Return the peak memory of a process and its children until it ends (bytes)."""
    most = 0
    process = psutil.Process(pid)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        now = 0
        try:
            for one in [process, *process.children(recursive=True)]:
                now += one.memory_full_info().pss
        except psutil.Error:
            pass
        most = max(most, now)
        threading.Event().wait(0.1)
    return most


def write(path: Path, units: int, seconds: float, spikes: int) -> None:
    """Write an NWB file with a few spike times through pynwb, then replace them by many."""
    nwb = NWBFile(
        session_description="made for a benchmark",
        identifier="large",
        session_id="large",
        session_start_time=datetime(2025, 1, 1, tzinfo=UTC),
        subject=Subject(subject_id="a", species="Mus musculus", sex="U", age="P90D"),
    )
    for _ in range(units):
        nwb.add_unit(spike_times=[1.0], obs_intervals=[[0.0, float(seconds)]])
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0, 1, units)
    stops = np.cumsum(shares / shares.sum() * spikes).astype(np.int64)
    with h5py.File(path, "a") as file:
        for name, shape in (("spike_times", (spikes,)), ("spike_times_index", (units,))):
            attributes = dict(file["units"][name].attrs)
            del file["units"][name]
            dtype = np.float64 if name == "spike_times" else np.int64
            file["units"].create_dataset(name, shape, dtype).attrs.update(
                {key: value for key, value in attributes.items() if key != "target"}
            )
        file["units/spike_times_index"].attrs["target"] = file["units/spike_times"].ref
        file["units/spike_times_index"][:] = stops
        for start, stop in zip([0, *stops[:-1]], stops, strict=True):
            file["units/spike_times"][start:stop] = np.sort(rng.uniform(0, seconds, stop - start))


def by_time(path: Path, folder: Path) -> None:
    """Write the same spikes sorted by time, as ALF."""
    folder.mkdir()
    with h5py.File(path) as file:
        times, stops = file["units/spike_times"][:], file["units/spike_times_index"][:]
    clusters = np.repeat(np.arange(len(stops), dtype=np.int32), np.diff(stops, prepend=0))
    order = np.argsort(times)
    np.save(folder / "times.npy", times[order])
    np.save(folder / "clusters.npy", clusters[order])


if __name__ == "__main__":
    main()
