"""A bounded cache gives the same windows as everything in memory, in an order that suits it."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import population

from nuclr.data.population import Population
from nuclr.training.cache import ShardCache, shard_edges
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
        assert sum(shard.nbytes for shard in cache._shards.values()) <= 30_000


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
