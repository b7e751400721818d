"""Small batches on a CPU are computed in a way of their own, with the same results."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nuclr.model import small
from nuclr.model.encoder import Encoder, EncoderSpec


def learned(encoder: Encoder, sizes: list[int], limit: int) -> list[Tensor]:
    """Embeddings of some populations and gradients of a sum of them; what is small is so up to a limit."""
    torch.manual_seed(sum(sizes))
    x = torch.poisson(torch.full((sum(sizes), encoder.spec.tokens, encoder.spec.patch), 0.5))
    weight = torch.randn(sum(sizes), encoder.spec.dim)
    with patch.object(small, "SMALL_VALUES", limit):
        embeddings = encoder(x, torch.tensor(sizes))
    encoder.zero_grad()
    (embeddings * weight).sum().backward()
    return [embeddings.detach(), *(p.grad.clone() for p in encoder.parameters())]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 12),
    st.sampled_from([(16, 2, 8), (8, 1, 4), (12, 3, 8)]),
    st.booleans(),
)
@example([7, 7], 10, (32, 4, 8), True)  # no slot is empty
@example([1], 1, (8, 1, 4), True)
def test_both_ways_give_the_same_embeddings_and_gradients(
    sizes: list[int], tokens: int, shape: tuple[int, int, int], across_units: bool
) -> None:
    torch.manual_seed(0)
    dim, heads, dim_head = shape
    spec = EncoderSpec(
        patch=5, tokens=tokens, dim=dim, heads=heads, dim_head=dim_head, dropout=0, across_units=across_units
    )
    encoder = Encoder(spec)
    # Any norm, not only one that neither scales nor shifts.
    for name, p in encoder.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(p, mean=1)
    for got, wanted in zip(learned(encoder, sizes, 2**40), learned(encoder, sizes, 0), strict=True):
        scale = float(wanted.abs().max()) + 1e-3
        torch.testing.assert_close(got / scale, wanted / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("dropout", "training", "double", "units", "taken"),
    [
        (0.0, True, False, 6, True),
        (0.1, True, False, 6, False),
        (0.0, False, False, 6, False),
        (0.0, True, True, 6, False),
        (0.0, True, False, 7, False),
    ],
    ids=["small", "dropout", "no gradient", "double precision", "large"],
)
def test_when_the_way_is_taken(dropout: float, training: bool, double: bool, units: int, taken: bool) -> None:
    encoder = Encoder(EncoderSpec(patch=5, tokens=4, dim=16, heads=2, dim_head=8, dropout=dropout))
    encoder = encoder.double() if double else encoder
    with (
        patch.object(small, "SMALL_VALUES", 6 * 4 * 16),
        patch.object(small, "attend", wraps=small.attend) as attend,
        torch.set_grad_enabled(training),
    ):
        encoder(torch.ones(units, 4, 5), torch.tensor([units]))
    assert bool(attend.call_count) == taken


def test_a_second_gradient_of_the_same_step_is_refused() -> None:
    """What it needs was overwritten by the first."""
    encoder = Encoder(EncoderSpec(patch=5, tokens=4, dim=16, heads=2, dim_head=8, dropout=0))
    total = encoder(torch.ones(3, 4, 5), torch.tensor([3])).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
