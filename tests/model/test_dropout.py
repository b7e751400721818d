"""The cheap ways of a CPU give what torch's own give."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nuclr.model.attention import RotaryTime, rotate
from nuclr.model.dropout import LEVELS, DropAdd, draw, gated_layer, keep, kept_share


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5])
def test_the_share_that_is_kept(p: float) -> None:
    bits = torch.arange(-LEVELS // 2, LEVELS // 2).to(torch.int16)
    assert float(keep(bits, p).mean()) == pytest.approx(kept_share(p)) == pytest.approx(1 - p, abs=1 / LEVELS)


def test_bits_are_spread_evenly_and_independent_of_their_neighbours() -> None:
    torch.manual_seed(0)
    bits = draw(torch.Size((1000, 1003))).float()
    counts = torch.histc(bits, 16, -LEVELS / 2, LEVELS / 2)
    assert counts.min() > 0.98 * bits.numel() / 16
    kept = keep(bits, 0.2) - 0.8
    for shift in (1, 2, 3, 4, 1003):
        both = (kept.flatten()[:-shift] * kept.flatten()[shift:]).mean()
        assert abs(float(both)) < 4 * 0.16 / 1000


def test_torchs_seed_names_what_is_dropped() -> None:
    torch.manual_seed(1)
    one, next_one = draw(torch.Size((3, 5))), draw(torch.Size((3, 5)))
    torch.manual_seed(1)
    assert torch.equal(draw(torch.Size((3, 5))), one)
    assert not torch.equal(one, next_one)


def test_a_residual_drops_scales_and_passes_gradients_where_it_kept() -> None:
    torch.manual_seed(2)
    x, change = torch.randn(40, 10, 8, requires_grad=True), torch.randn(40, 10, 8, requires_grad=True)
    add = DropAdd(0.25)
    out = add(x, change)
    kept = (out != x).float() / 0.75
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(out, x + change * kept)
    weight = torch.randn_like(out)
    out.backward(weight)
    torch.testing.assert_close(x.grad, weight)
    torch.testing.assert_close(change.grad, weight * kept)
    torch.testing.assert_close(add.eval()(x, change), x + change)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("rows", [7, 1100])
def test_the_gated_layer_and_its_gradients(p: float, rows: int) -> None:
    """1,100 rows are three blocks, of which the last is not full."""
    torch.manual_seed(3)
    inner, outer = nn.Linear(6, 32), nn.Linear(16, 6)
    x = torch.randn(rows, 1, 6, requires_grad=True)
    inputs = [x, *inner.parameters(), *outer.parameters()]
    weight = torch.randn(rows, 1, 6)

    torch.manual_seed(4)
    ours = gated_layer(x, inner, outer, p)
    torch.manual_seed(4)
    kept = keep(draw(torch.Size((rows, 16))), p)[:, None] / kept_share(p) if p else torch.ones(rows, 1, 16)
    value, gate = inner(x).chunk(2, -1)
    plain = outer(value * F.gelu(gate) * kept)

    torch.testing.assert_close(ours, plain)
    expected = torch.autograd.grad(plain, inputs, weight)
    for got, wanted in zip(torch.autograd.grad(ours, inputs, weight), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(gated_layer(x, inner, outer, 0.0), outer(value * F.gelu(gate)))


def test_other_precisions_take_torchs_way() -> None:
    inner, outer = nn.Linear(6, 32).double(), nn.Linear(16, 6).double()
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gated_layer(x, inner, outer, 0.0), (x,))
    assert float(DropAdd(0.5)(torch.zeros(1000).double(), torch.ones(1000).double()).mean()) == pytest.approx(
        1.0, abs=0.2
    )


def test_rotation_by_complex_numbers_is_the_rotation() -> None:
    cos, sin = RotaryTime(8, 6).angles(6)
    x = torch.randn(3, 5, 2, 6, 8)
    expected = rotate(x.double(), cos.double(), sin.double()).float()
    torch.testing.assert_close(rotate(x, cos, sin), expected)
