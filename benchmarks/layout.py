"""Compare layouts of a store (chunk, shard, codec) by bytes per spike, files, and windows per second.

    python benchmarks/layout.py               # 120 units of 5 Hz, one hour each; one core

Direct: random 10 s windows are read one at a time, as by tools other than the loader. Loader: the training
loader reads ten times as much as its cache holds, so that every shard is decoded repeatedly.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
import zarr
from loader import (
    BIN_S,
    loader_speed,
    read_hdf5,
    read_memmap,
    read_zarr,
    windows_a_second,
    write,
)
from zarr.codecs import BloscCodec

from nuclr.data.store import open_population

CHOSEN = (60, 600, "zstd 5 bitshuffle")
LAYOUTS: list[tuple[int, int | None, str]] = [
    CHOSEN,
    (5, 600, CHOSEN[2]),
    (10, 600, CHOSEN[2]),
    (20, 600, CHOSEN[2]),
    (120, 600, CHOSEN[2]),
    (60, 120, CHOSEN[2]),
    (60, 3600, CHOSEN[2]),
    (20, None, CHOSEN[2]),
    (60, None, CHOSEN[2]),
    (600, None, CHOSEN[2]),
    (60, 600, "zstd 1 bitshuffle"),
    (60, 600, "zstd 5 noshuffle"),
    (60, 600, "lz4 5 bitshuffle"),
    (60, 600, "lz4 5 noshuffle"),
]


def main() -> None:
    """Write the recordings in every layout, read them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4, help="time given to each figure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spikes = sum(write(folder, index, 3600) for index in range(options.recordings))
        print("chunk (s)  shard (s)  codec               bytes/spike  files/hour  direct/s  loader/s")
        for chunk_s, shard_s, codec in LAYOUTS:
            for path in sorted(folder.glob("*.zarr")):
                rewrite(path, chunk_s, shard_s, codec)
            files = [path for path in folder.glob("*.zarr/activity/**/*") if path.is_file()]
            size = sum(path.stat().st_size for path in files) / spikes
            direct = windows_a_second(read_zarr(folder, options.recordings), options.seconds)
            populations = [open_population(path) for path in sorted(folder.glob("*.zarr"))]
            cache = sum(one.activity.nbytes for one in populations) // 10
            through = loader_speed(populations, cache, 0, options.seconds)
            print(
                f"{chunk_s:9d}  {shard_s or 'none':>9}  {codec:18s}  {size:11.2f}  "
                f"{len(files) / options.recordings:10.0f}  {direct:8,.0f}  {through:8,.0f}",
                flush=True,
            )
        for what, read, pattern in (
            ("memory map", read_memmap, "*.raw"),
            ("HDF5 spike times", read_hdf5, "*.h5"),
        ):
            size = sum(path.stat().st_size for path in folder.glob(pattern)) / spikes
            direct = windows_a_second(read(folder, options.recordings), options.seconds)
            print(f"{what:42s}  {size:9.2f}  {1:10d}  {direct:8,.0f}")


def rewrite(store: Path, chunk_s: int, shard_s: int | None, codec: str) -> None:
    """Write the activity of a store in another layout."""
    old = zarr.open_array(store / "activity", mode="r")
    attributes, names, counts = dict(old.attrs), old.metadata.dimension_names, np.asarray(old[:])
    shutil.rmtree(store / "activity")
    name, level, shuffle = codec.split()
    units = len(counts)
    new = zarr.create_array(
        store / "activity",
        shape=counts.shape,
        dtype=counts.dtype,
        chunks=(units, round(chunk_s / BIN_S)),
        shards=None if shard_s is None else (units, round(shard_s / BIN_S)),
        compressors=BloscCodec(cname=name, clevel=int(level), shuffle=shuffle),
        dimension_names=names,
        attributes=attributes,
    )
    new[:] = counts


if __name__ == "__main__":
    main()
