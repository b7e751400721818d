"""A bounded cache gives the same windows as everything in memory, in an order that suits it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import population

from nuclr.config import Machine
from nuclr.data.inputs import scaled
from nuclr.data.population import Population
from nuclr.data.store import open_population, write_population
from nuclr.errors import TrainingError
from nuclr.training import cache as cache_module
from nuclr.training.cache import ShardCache, SharedShards, shard_edges, shard_name
from nuclr.training.windows import PairBatches, ViewSpec, epoch_pairs

SPEC = ViewSpec(patch=10, tokens=5, distance=100)


def recordings(shard: int | None) -> list[Population]:
    """Make six recordings; with ``shard``, as Dask arrays with chunks of so many bins."""
    made = [population(units=20 + i, bins=2000, seed=i, recording=str(i)) for i in range(6)]
    if shard is None:
        return made
    return [replace(p, activity=da.from_array(p.activity, chunks=(-1, shard))) for p in made]


@settings(max_examples=40)
@given(st.integers(1, 900), st.integers(0, 200_000), st.lists(st.integers(0, 1999), min_size=1, max_size=9))
def test_windows_are_those_of_the_whole_recording(shard: int, limit: int, starts: list[int]) -> None:
    whole, cache = recordings(None), ShardCache(recordings(shard), limit)
    for i, start in enumerate(starts):
        stop = min(2000, start + 50)
        expected = np.asarray(whole[i % 6].activity)[:, start:stop]
        np.testing.assert_array_equal(cache.read(i % 6, start, stop), expected)


def test_no_more_is_kept_than_the_limit() -> None:
    cache = ShardCache(recordings(500), 30_000)
    for start in range(0, 1950, 50):
        for i in range(6):
            cache.read(i, start, start + 50)
        assert sum(size for _, size in cache._shards.values()) <= 30_000


def test_batches_are_the_same_with_and_without_a_cache_where_all_fits() -> None:
    memory, cached = (PairBatches(recordings(shard), SPEC, 4, 0, cache=10**9) for shard in (None, 300))
    for step in (0, 7, 90):
        for a, b in zip(memory[step], cached[step], strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def test_where_little_fits_shards_are_visited_together_and_every_pair_once() -> None:
    made = recordings(250)
    everything = epoch_pairs(made, SPEC, 0, 0)
    cache = 60_000  # some ten of the 48 shards, so that five are visited together
    ordered = epoch_pairs(made, SPEC, 0, 0, cache)
    np.testing.assert_array_equal(np.sort(ordered, axis=0), np.sort(everything, axis=0))
    np.testing.assert_array_equal(ordered, epoch_pairs(made, SPEC, 0, 0, cache))
    assert not np.array_equal(ordered, everything)

    def shards_touched(pairs: np.ndarray) -> float:
        return float(
            np.mean([len({(p, s // 250) for p, s, _ in block}) for block in np.array_split(pairs, 8)])
        )

    assert shards_touched(ordered) < 0.6 * shards_touched(everything)
    # Still a mixture: a batch of eight holds several recordings.
    batches = np.array_split(ordered[:, 0], len(ordered) // 8)
    assert np.mean([len(set(batch)) for batch in batches]) > 2.5


def test_few_shards_are_decoded_twice() -> None:
    decoded = []

    def count(block: np.ndarray) -> np.ndarray:
        decoded.append(block.shape)
        return block

    made = [
        replace(p, activity=p.activity.map_blocks(count, dtype=np.uint8, meta=np.empty((0, 0), np.uint8)))
        for p in recordings(250)
    ]
    batches = PairBatches(made, SPEC, 4, 0, cache=60_000)
    for step in range(batches.steps_per_epoch):
        batches[step]
    shards = sum(len(shard_edges(p)) - 1 for p in made)
    assert len(decoded) < 2.5 * shards


def shared_in(folder: Path, scratch_gb: float = 1.0) -> SharedShards:
    """Make the folder that processes share."""
    shared = SharedShards.of(Machine(scratch=folder, scratch_gb=scratch_gb))
    assert shared is not None
    return shared


def files(shared: SharedShards) -> list[Path]:
    """All shards in the folder, the least recently used first."""
    return sorted(shared.folder.glob("*.npy"), key=lambda path: path.stat().st_mtime_ns)


@settings(max_examples=25)
@given(st.integers(100, 900), st.lists(st.integers(0, 1999), min_size=1, max_size=9))
def test_shared_windows_are_those_of_the_whole_recording(shard: int, starts: list[int]) -> None:
    whole = recordings(None)
    with TemporaryDirectory() as folder:
        # Room for about one shard, so that files go while others have them mapped.
        caches = [ShardCache(recordings(shard), 0, shared_in(Path(folder), 2e-5)) for _ in range(2)]
        for i, start in enumerate(starts):
            stop = min(2000, start + 50)
            expected = np.asarray(whole[i % 6].activity)[:, start:stop]
            for cache in caches:
                np.testing.assert_array_equal(cache.read(i % 6, start, stop), expected)


def test_batches_and_their_order_do_not_depend_on_sharing(tmp_path: Path) -> None:
    alone = PairBatches(recordings(250), SPEC, 4, 0, cache=60_000)
    sharing = PairBatches(recordings(250), SPEC, 4, 0, cache=60_000, scratch=shared_in(tmp_path))
    for step in (0, 7, 90):
        for a, b in zip(alone[step], sharing[step], strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


DECODES = """
import sys
from pathlib import Path
import numpy as np
from nuclr.config import Machine
from nuclr.data.store import open_population
from nuclr.training import cache

shared = cache.SharedShards.of(Machine(scratch=Path(sys.argv[2])))
get = cache.get_sync
def count(*args, **kwargs):
    print("decoded", flush=True)
    return get(*args, **kwargs)
cache.get_sync = count
windows = cache.ShardCache([open_population(Path(sys.argv[1]))], 0, shared)
for start in range(0, 2000, 50):
    print(windows.read(0, start, start + 50).sum())
"""


def test_processes_decode_a_shard_once_between_them(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    write_population(population(units=20, bins=2000), store, chunk_s=5, shard_s=10)
    command = [sys.executable, "-c", DECODES, str(store), str(tmp_path / "scratch")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].split("\n") for process in running]
    shards = len(shard_edges(open_population(store))) - 1
    assert shards > 1
    assert sum(lines.count("decoded") for lines in said) == shards
    one, other = ([line for line in lines if line != "decoded"] for lines in said)
    assert one == other
    assert len(one) == 41


def test_a_store_that_is_written_again_is_decoded_again(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    shared = shared_in(tmp_path / "scratch")
    for seed in (1, 2):
        made = population(units=20, bins=2000, seed=seed)
        write_population(made, store, chunk_s=5, shard_s=10)
        cache = ShardCache([open_population(store)], 0, shared)
        np.testing.assert_array_equal(cache.read(0, 0, 50), np.asarray(made.activity)[:, :50])


def test_the_name_of_a_shard_is_the_same_whoever_opens_its_store(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    made = population(units=20, bins=300)
    activity = np.random.default_rng(0).random((20, 300), np.float32)
    write_population(replace(made, activity=activity, modality="calcium"), store, chunk_s=5, shard_s=10)
    one, other = (scaled(open_population(store)).activity for _ in range(2))
    assert shard_name(one, 3) == shard_name(other, 3)
    assert shard_name(one, 3) != shard_name(one, 2)
    # What is scaled is another array than what is not.
    assert shard_name(one, 3) != shard_name(open_population(store).activity, 3)


def numbers(seed: int) -> Callable[[], np.ndarray]:
    """Decode a shard of 8,000 bytes."""
    return lambda: np.full((20, 50), seed, np.float64)


def name(seed: int) -> str:
    """Name of a shard."""
    return f"shard-{seed:08x}"


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    shared = shared_in(tmp_path, 3 * 8128e-9 + 1e-7)
    first = shared.shard(name(0), numbers(0))
    for seed in (1, 2):
        shared.shard(name(seed), numbers(seed))
    shared.shard(name(0), numbers(9))  # used again, so the next in line is 1
    shared.shard(name(3), numbers(3))
    assert {path.stem for path in files(shared)} == {name(0), name(2), name(3)}
    for seed in (4, 5, 6):
        shared.shard(name(seed), numbers(seed))
    assert sum(path.stat().st_size for path in files(shared)) <= shared.limit
    # Its file is gone, but whoever has it mapped goes on reading it.
    assert name(0) not in {path.stem for path in files(shared)}
    np.testing.assert_array_equal(first, numbers(0)())


def test_on_a_full_disk_shards_are_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.np, "save", full)
    shared = shared_in(tmp_path)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(shared.shard(name(1), numbers(1)), numbers(1)())
    assert "machine.scratch" in caplog.text
    assert "No space left" in caplog.text
    assert not files(shared)
    # They count, then, among what a process may keep.
    cache = ShardCache(recordings(500), 30_000, shared)
    for start in range(0, 1950, 50):
        cache.read(0, start, start + 50)
        cache.read(1, start, start + 50)
    assert sum(size for _, size in cache._shards.values()) <= 30_000


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    shared = shared_in(tmp_path)
    shared.shard(name(1), numbers(1))
    for content in (b"", b"\x93NUMPY\x01\x00", b"junk" * 100):
        files(shared)[0].write_bytes(content)
        np.testing.assert_array_equal(shared.shard(name(1), numbers(1)), numbers(1)())


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_in(tmp_path)
    own = tmp_path / f"nuclr-shards-{os.getuid()}"
    monkeypatch.setattr(cache_module.os, "getuid", lambda: 12345)
    own.rename(tmp_path / "nuclr-shards-12345")
    with pytest.raises(TrainingError, match=r"machine\.scratch: .* belongs to another user"):
        shared_in(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"machine\.scratch: .* cannot be created \(Not a directory\)"):
        shared_in(tmp_path / "file")
    assert SharedShards.of(Machine()) is None
