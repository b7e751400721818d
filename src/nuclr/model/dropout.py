"""Fast dropout and gated layer for CPUs; on other devices torch's implementation is used.

On a CPU, two things are expensive. Random numbers: a step at the paper's size makes 74 million dropout
decisions, and torch takes 10 ns for each; here 16 bits of a fast generator decide, exact to 1/65536. Memory:
the gated layer is eight times as wide as a token, so its gate, dropout and gradient are computed for a few
rows at a time, which stay in the processor's cache between two matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEVELS = 2**16
ROWS = 512


def draw(shape: torch.Size) -> Tensor:
    """Return 16 random bits for each value, int16; the seed comes from torch's generator."""
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw(-(-shape.numel() // 4))
    return torch.from_numpy(words).view(torch.int16)[: shape.numel()].view(shape)


def keep(bits: Tensor, p: float) -> Tensor:
    """Return a mask from random bits: 1 with the probability :func:`kept_share` of p, else 0; float32."""
    # Numbers instead of booleans, which a CPU would convert in every product.
    return bits.float().ge_(round(p * LEVELS) - LEVELS // 2)


def kept_share(p: float) -> float:
    """Return the probability with which :func:`keep` keeps a value."""
    return 1 - round(p * LEVELS) / LEVELS


def is_fast_here(x: Tensor) -> bool:
    """Return whether this module's functions are faster than torch: on a CPU, in float32, not compiled."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


class DropAdd(nn.Dropout):
    """Residual connection with dropout: ``x + dropout(change)``."""

    def forward(self, x: Tensor, change: Tensor) -> Tensor:  # type: ignore[override]
        """Add two tensors of the same shape."""
        if self.training and self.p > 0 and is_fast_here(change):
            return _DropAdd.apply(x, change, draw(change.shape), self.p)
        return x + super().forward(change)


class _DropAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Tensor, bits: Tensor, p: float) -> Tensor:
        ctx.save_for_backward(bits)
        ctx.p = p
        return torch.addcmul(x, change, keep(bits, p), value=1 / kept_share(p))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (bits,) = ctx.saved_tensors
        return grad, keep(bits, ctx.p).mul_(grad).mul_(1 / kept_share(ctx.p)), None, None


def gated_layer(x: Tensor, inner: nn.Linear, outer: nn.Linear, p: float) -> Tensor:
    """Return ``outer(dropout(a * gelu(b)))``, where a and b are the halves of ``inner(x)``.

    Parameters
    ----------
    x
        ``(..., dim)``.
    inner, outer
        Linear layers from dim to twice the width, and from the width to dim.
    p
        Probability of dropping a value; 0 outside training.
    """
    if is_fast_here(x) and torch.is_grad_enabled():
        bits = draw(torch.Size((x.numel() // x.shape[-1], outer.in_features))) if p > 0 else None
        return _GatedLayer.apply(x, inner.weight, inner.bias, outer.weight, outer.bias, bits, p)
    if x.device.type == "cpu":
        value, gate = inner(x).chunk(2, dim=-1)
    else:
        # Two products, because the gradients of two halves would have to be concatenated in memory.
        value, gate = (
            F.linear(x, weight, bias)
            for weight, bias in zip(inner.weight.chunk(2), inner.bias.chunk(2), strict=True)
        )
    gated = value * F.gelu(gate)
    # torch.compile cannot trace `training=p > 0`.
    return outer(F.dropout(gated, p) if p > 0 else gated)


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, rows, ROWS))


class _GatedLayer(torch.autograd.Function):
    """The gated layer, computed in blocks of rows; only ``inner(x)`` is stored for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        inner: Tensor,
        inner_bias: Tensor,
        outer: Tensor,
        outer_bias: Tensor,
        bits: Tensor | None,
        p: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        hidden, out = rows.new_empty(len(rows), len(inner)), torch.empty_like(rows)
        scale = 1 / kept_share(p)
        for block in _blocks(len(rows)):
            value, gate = torch.mm(rows[block], inner.T, out=hidden[block]).add_(inner_bias).chunk(2, -1)
            gated = F.gelu(gate).mul_(value)
            if bits is not None:
                gated.mul_(keep(bits[block], p))
            torch.addmm(outer_bias, gated, outer.T, alpha=scale, out=out[block])
        ctx.save_for_backward(rows, hidden, inner, outer, bits)
        ctx.p, ctx.shape = p, x.shape
        return out.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, inner, outer, bits = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        scale = 1 / kept_share(ctx.p)
        to_rows, to_inner, to_outer = torch.empty_like(rows), torch.zeros_like(inner), torch.zeros_like(outer)
        to_bias = inner.new_zeros(len(inner))
        for block in _blocks(len(rows)):
            own = grad[block]
            value, gate = hidden[block].chunk(2, -1)
            to_hidden = torch.empty_like(hidden[block])
            to_value, to_gate = to_hidden.chunk(2, -1)
            active = F.gelu(gate)
            through = torch.addmm(own[:1, :1], own, outer, beta=0, alpha=scale)
            if bits is not None:
                kept = keep(bits[block], ctx.p)
                through.mul_(kept)
            torch.mul(through, active, out=to_value)
            torch.ops.aten.gelu_backward.grad_input(through.mul_(value), gate, grad_input=to_gate)
            gated = active.mul_(value)
            if bits is not None:
                gated.mul_(kept)
            to_outer.addmm_(own.T, gated, alpha=scale)
            to_inner.addmm_(to_hidden.T, rows[block])
            to_bias += to_hidden.sum(0)
            torch.mm(to_hidden, inner, out=to_rows[block])
        return to_rows.view(ctx.shape), to_inner, to_bias, to_outer, grad.sum(0), None, None
