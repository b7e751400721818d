"""What must hold of the encoder for any population."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclr.errors import ModelError
from nuclr.model.attention import PopulationLayout
from nuclr.model.encoder import Encoder, EncoderSpec, as_patches, rankme

SPEC = EncoderSpec(patch=5, tokens=4, dim=16, heads=2, dim_head=8)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def encoder(seed: int = 0, **other: bool) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(replace(SPEC, **other)).eval().double()


def counts(units: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full((units, SPEC.tokens, SPEC.patch), 1.5), generator).double()


@settings(max_examples=30)
@given(SIZES, st.integers(0, 99))
def test_permuting_units_permutes_embeddings(sizes: list[int], seed: int) -> None:
    net, x, tensor = encoder(), counts(sum(sizes), seed), torch.tensor(sizes)
    order = torch.cat(
        [
            torch.randperm(size, generator=torch.Generator().manual_seed(seed)) + start
            for size, start in zip(sizes, tensor.cumsum(0) - tensor, strict=True)
        ]
    )
    torch.testing.assert_close(net(x[order], tensor), net(x, tensor)[order])


@settings(max_examples=30)
@given(SIZES, st.integers(0, 99))
def test_a_batch_is_each_of_its_populations_alone(sizes: list[int], seed: int) -> None:
    net, x = encoder(), counts(sum(sizes), seed)
    alone = [net(part, torch.tensor([len(part)])) for part in x.split(sizes)]
    torch.testing.assert_close(net(x, torch.tensor(sizes)), torch.cat(alone))


def test_units_of_a_population_see_each_other_but_no_other_population() -> None:
    net, x, sizes = encoder(), counts(6), torch.tensor([3, 3])
    changed = x.clone()
    changed[0] += 3
    before, after = net(x, sizes), net(changed, sizes)
    assert (before[1:3] - after[1:3]).abs().max() > 1e-6
    torch.testing.assert_close(before[3:], after[3:])


def test_without_attention_across_units_each_stands_alone() -> None:
    net, x = encoder(across_units=False), counts(5)
    together = net(x, torch.tensor([5]))
    alone = torch.cat([net(one[None], torch.tensor([1])) for one in x])
    torch.testing.assert_close(together, alone)


@given(SIZES)
def test_padding_and_back_is_nothing(sizes: list[int]) -> None:
    x = torch.arange(sum(sizes) * 2.0).reshape(-1, 2)
    layout = PopulationLayout.from_sizes(torch.tensor(sizes), max(sizes), len(x))
    torch.testing.assert_close(layout.flatten(layout.pad(x)), x)


def test_a_patch_of_another_length_is_refused() -> None:
    with pytest.raises(ModelError, match="reads patches of 5 samples"):
        encoder()(torch.zeros(3, 4, 6).double(), torch.tensor([3]))


@pytest.mark.parametrize(
    ("change", "said"), [({"dim_head": 6}, "multiple of 4"), ({"heads": 0}, "at least 1")]
)
def test_an_impossible_shape_is_refused(change: dict[str, int], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        EncoderSpec(**{"patch": 5, "tokens": 4, **change})


def test_patches_leave_a_remainder_out() -> None:
    cut = as_patches(torch.arange(11.0)[None], 3)
    torch.testing.assert_close(cut, torch.arange(9.0).reshape(1, 3, 3))


def test_rankme_is_the_dimension_of_what_is_spread_evenly() -> None:
    torch.manual_seed(0)
    assert rankme(torch.randn(20_000, 8)) == pytest.approx(8, rel=0.01)
    flat = torch.cat([torch.randn(5_000, 2), torch.zeros(5_000, 6)], dim=1)
    assert rankme(flat) == pytest.approx(2, rel=0.01)
