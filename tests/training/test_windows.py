"""What must hold of windows, for any valid spans and any grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities import move_data_to_device
from strategies import population, span_lists
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nuclr.config import Views
from nuclr.errors import ConfigError, TrainingError
from nuclr.training.windows import (
    PairBatch,
    PairBatches,
    StepSampler,
    ViewSpec,
    begin,
    epoch_pairs,
    first_views,
    generator,
    is_active,
    keep_units,
    matching,
    second_views,
    turned,
    view_spec,
)

SPECS = st.builds(
    ViewSpec,
    patch=st.integers(1, 8),
    tokens=st.integers(1, 5),
    distance=st.integers(0, 200),
    grid=st.integers(1, 12),
)


def inside(start: int, spec: ViewSpec, spans: np.ndarray) -> bool:
    return any(first <= start and start + spec.window <= last for first, last in spans)


@given(span_lists(), SPECS, st.integers(0, 99))
def test_both_views_lie_in_valid_spans_on_the_grid_and_near_each_other(
    spans: np.ndarray, spec: ViewSpec, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    starts = first_views(spans, spec, rng)
    for start, second in zip(starts, second_views(starts, spans, spec, rng), strict=True):
        assert inside(int(start), spec, spans)
        assert inside(second, spec, spans)
        assert start % spec.grid == second % spec.grid == 0
        assert abs(second - start) <= spec.distance


@given(span_lists(), SPECS, st.integers(0, 99))
def test_first_views_do_not_overlap_and_miss_at_most_one_window_a_span(
    spans: np.ndarray, spec: ViewSpec, seed: int
) -> None:
    starts = first_views(spans, spec, np.random.default_rng(seed))
    assert (np.diff(starts) >= spec.window).all()
    step = spec.stride * spec.grid
    for first, last in spans:
        low, high = -(-first // spec.grid) * spec.grid, (last - spec.window) // spec.grid * spec.grid
        mine = ((starts >= first) & (starts + spec.window <= last)).sum()
        if low <= high:
            assert mine >= max(1, (high - low) // step)


def test_second_views_reach_every_place_within_the_distance() -> None:
    spec = ViewSpec(patch=5, tokens=2, distance=30)
    spans = np.array([[0, 40], [60, 100]])
    rng = np.random.default_rng(0)
    seen = set(second_views(np.full(3000, 20), spans, spec, rng))
    assert seen == {*range(31)}
    seen = set(second_views(np.full(3000, 30), spans, spec, rng))
    assert seen == {*range(31), 60}


@given(st.integers(1, 60), st.integers(0, 99), st.floats(0.1, 1.0))
def test_a_view_keeps_active_units_and_at_least_its_share(units: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, (units, 5))
    spec = ViewSpec(patch=1, tokens=5, distance=0, unit_dropout=share)
    kept = keep_units(counts, spec, rng)
    assert counts[kept].any(axis=1).all()
    assert (np.diff(kept) > 0).all()
    everything = keep_units(np.ones((units, 5)), spec, rng)
    assert int(np.ceil(share * units)) <= len(everything) <= units


SMALL = ViewSpec(patch=10, tokens=5, distance=300)


def batches(seed: int = 0, pairs: int = 4, **place: int) -> PairBatches:
    made = [population(units=20 + i, bins=2000, seed=i, recording=str(i)) for i in range(3)]
    return PairBatches(made, SMALL, pairs, seed, **place)


@settings(max_examples=20)
@given(st.integers(0, 60), st.integers(0, 5))
def test_a_batch_is_a_pure_function_of_its_step(step: int, seed: int) -> None:
    fresh, used = batches(seed), batches(seed)
    for other in (50, 3, 17):
        used[other]
    for a, b in zip(fresh[step], used[step], strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def test_another_seed_gives_other_batches() -> None:
    one, other = batches(0)[0], batches(1)[0]
    assert one.patches.shape != other.patches.shape or not torch.equal(one.patches, other.patches)


def test_processes_share_the_batch_of_one() -> None:
    whole = batches()[5]
    parts = [batches(rank=rank, world=2)[5] for rank in (0, 1)]
    sizes = sorted(int(s) for part in parts for s in part.sizes1)
    assert sizes == sorted(whole.sizes1.tolist())


def test_matched_rows_are_the_same_unit() -> None:
    """With constant units of different counts, matched rows have equal patches."""
    made = population(units=30, bins=1000)
    level = np.repeat(np.arange(1, 31, dtype=np.uint8)[:, None], 1000, axis=1)
    batch = PairBatches([replace(made, activity=level)], SMALL, 2, 0)[0]
    assert batch.match.shape[1] > 0
    first = batch.patches[: int(batch.sizes1.sum())]
    second = batch.patches[int(batch.sizes1.sum()) :]
    assert len(second) == batch.second_units == int(batch.sizes2.sum())
    assert torch.equal(first[batch.match[0]], second[batch.match[1]])
    assert batch.largest == (int(batch.sizes1.max()), int(batch.sizes2.max()))


def test_a_cap_samples_the_same_units_for_both_views() -> None:
    """Drawn apart, 20 of 200 units would have two in common."""
    made = replace(population(units=200, bins=1000), activity=np.ones((200, 1000), np.uint8))
    batches = PairBatches([made], replace(SMALL, max_units=20), 4, 0)
    for step in range(5):
        batch = batches[step]
        assert len(batch.sizes1) >= 1
        assert max(batch.largest) <= 20
        pairs = len(batch.sizes1)
        # Each view keeps 10 to 20 of the same 20: 11 kept in both leave two in common at the least.
        assert batch.match.shape[1] >= 2 * pairs
        assert batch.match.shape[1] > 0.4 * int(batch.sizes1.sum())


def test_a_pair_with_too_few_active_units_is_skipped() -> None:
    made = population(units=11, bins=1000)
    assert PairBatches([made], SMALL, 1, 0).pairs_per_epoch >= 1
    silent = replace(made, activity=np.zeros_like(np.asarray(made.activity)))
    empty = PairBatches([silent], SMALL, 1, 0)[0]
    assert empty.patches.shape == (0, SMALL.tokens, SMALL.patch)
    assert empty.match.shape == (2, 0)


def test_an_epoch_shows_every_window_of_every_population() -> None:
    made = [population(units=12, bins=bins, recording=str(bins)) for bins in (500, 1000)]
    pairs = epoch_pairs(made, SMALL, 0, 0)
    assert np.bincount(pairs[:, 0]).tolist() in ([10, 20], [9, 19], [9, 20], [10, 19])
    assert not np.array_equal(pairs, epoch_pairs(made, SMALL, 0, 1))


def test_too_few_windows_for_a_batch_is_said() -> None:
    with pytest.raises(
        TrainingError, match=r"fewer than one batch of 121 pairs; lower pretrain\.pairs_per_step"
    ):
        batches(pairs=121)


def test_the_sampler_goes_on_from_a_step() -> None:
    assert list(StepSampler(lambda: 3, 7)) == [3, 4, 5, 6]
    assert len(StepSampler(lambda: 3, 7)) == 7


@pytest.mark.parametrize(
    ("views", "bin_s", "tokens"),
    [
        (Views(), 0.02, 10),
        (Views(window_s=30, patch=4, distance_s=240), 0.23344, 32),
        (Views(window_s=4, patch=20, grid_s=0.4), 0.02, 10),
    ],
)
def test_windows_are_cut_to_whole_tokens(views: Views, bin_s: float, tokens: int) -> None:
    assert view_spec(views, bin_s).tokens == tokens


def test_a_window_shorter_than_a_patch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fewer than one patch of 50 bins; raise views\.window_s"):
        view_spec(Views(window_s=0.5), 0.02)


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 99))
def test_a_turned_unit_keeps_its_order_but_for_one_seam(units: int, bins: int, seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(1.0, (units, bins)).astype(np.uint8)
    made = turned(counts, np.random.default_rng(seed))
    for before, after in zip(counts, made, strict=True):
        assert any((np.roll(before, lag) == after).all() for lag in range(bins))


def test_units_that_fire_together_do_not_when_they_are_turned() -> None:
    """The ablation: all units have the same train; after turning, their common beat is gone."""
    made = population(units=30, bins=2000)
    beat = np.zeros((30, 2000), np.uint8)
    beat[:, ::100] = 1
    made = replace(made, activity=beat)
    views = Views(window_s=4, patch=10, distance_s=4)
    for shuffled in (False, True):
        spec = view_spec(views.model_copy(update={"shuffle_units": shuffled}), made.bin_s)
        batch = PairBatches([made], spec, 1, seed=0)[0]
        # Per bin of the first view, the share of units that fire.
        share = batch.patches[: int(batch.sizes1.sum())].flatten(1).float().mean(dim=0)
        assert share.max() < 0.5 if shuffled else set(share.tolist()) == {0.0, 1.0}


class Copies(TorchDispatchMode):
    """Write down for each copy to another device whether it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default:
            self.waited.append(not kwargs.get("non_blocking", False))
        return func(*args, **(kwargs or {}))


def test_a_batch_goes_to_a_gpu_without_a_wait() -> None:
    """Lightning moves all tensors of a named tuple, here to the meta device in place of a GPU."""
    batch = PairBatches([population(units=20, bins=2000)], ViewSpec(patch=10, tokens=5, distance=100), 4, 0)[
        0
    ]
    with Copies() as copies:
        moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, PairBatch)
    assert all(part.device.type == "meta" for part in moved if isinstance(part, Tensor))
    assert copies.waited == [False] * sum(isinstance(part, Tensor) for part in batch)


@given(st.integers(1, 60), st.data())
def test_the_same_units_of_two_views_are_matched(units: int, data: st.DataObject) -> None:
    first, second = (
        np.array(sorted(data.draw(st.sets(st.integers(0, units - 1)))), np.int64) for _ in range(2)
    )
    match = matching(first, second, units)
    np.testing.assert_array_equal(first[match[0]], second[match[1]])
    np.testing.assert_array_equal(first[match[0]], np.intersect1d(first, second))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_unit_is_active_that_is_not_zero_everywhere(kind: type) -> None:
    counts = np.zeros((4, 7), kind)
    counts[1, 3], counts[2, 6] = 200, kind(-1) if kind is np.float32 else 1
    assert is_active(counts).tolist() == [False, True, True, False]


def test_numbers_that_begin_anew_are_those_of_a_new_generator() -> None:
    used = generator(3, 4, 5)
    used.random(3)
    used.integers(0, 9, dtype=np.uint32)
    begin(used, 1, 2, 2**32 + 7)
    bits = np.random.Philox(key=np.array([1, 2], np.uint64), counter=[0, 0, 0, 2**32 + 7])
    np.testing.assert_array_equal(used.integers(0, 1000, 50), np.random.Generator(bits).integers(0, 1000, 50))
