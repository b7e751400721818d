"""Measure the features of baselines: seconds per hour of recording, one recording and several at a time.

    python benchmarks/features.py            # 6 recordings of an hour, 100 units at 5 Hz

``stopped`` is the second call of a command that was killed at the end of the first, which only reads cached
features. The time of the catalogue is printed for comparison; it reads the summary in each store.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from nuclr.cluster import computing
from nuclr.data.catalog import catalog
from nuclr.data.population import Population
from nuclr.data.store import open_population, write_population
from nuclr.representation.baselines import baseline_table

NAMES = ("rate_regularity", "isi_histogram", "autocorrelogram", "population_correlation", "lolcat")


def main() -> None:
    """Write stores, compute each baseline in every variant, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=6)
    parser.add_argument("--units", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = [write(Path(name) / f"{i}.zarr", options.units, i) for i in range(options.recordings)]
        start = time.perf_counter()
        catalog(paths)
        print(f"{'catalog':24s} {(time.perf_counter() - start) / len(paths):8.3f} s a recording")
        for baseline in ("single_neuron", "population", *NAMES):
            taken = []
            for on, workers, kept in (("threads", 1, None), ("threads", 2, None), ("processes", 2, baseline)):
                opened = [open_population(path) for path in paths]
                folder = Path(name) / kept if kept else None
                start = time.perf_counter()
                with computing(on, workers):
                    baseline_table(baseline, opened, kept=folder)
                taken.append((time.perf_counter() - start) / len(paths))
            start = time.perf_counter()
            baseline_table(baseline, opened, kept=folder)
            taken.append((time.perf_counter() - start) / len(paths))
            print(
                f"{baseline:24s} {taken[0]:6.2f} s in one thread, {taken[1]:6.2f} in two, "
                f"{taken[2]:6.2f} in two processes, {taken[3]:7.3f} stopped"
            )


def write(path: Path, units: int, seed: int) -> Path:
    """Write a recording of an hour."""
    activity = np.random.default_rng(seed).poisson(0.1, (units, 180_000)).astype(np.uint8)
    table = pd.DataFrame({"unit_id": [f"{seed}_{i}" for i in range(units)]})
    population = Population(
        activity=activity,
        units=table,
        valid_spans=np.array([[0.0, 3600.0]]),
        dataset="made",
        animal=f"{seed}",
        recording=f"{seed}",
        population=f"{seed}/probe",
        modality="spikes",
        bin_s=0.02,
    )
    write_population(population, path, chunk_s=10, shard_s=600)
    return path


if __name__ == "__main__":
    main()
