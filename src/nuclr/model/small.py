"""The encoder's layers for small batches on a CPU, each as a single autograd function.

For a small batch, function calls cost as much as arithmetic. Therefore each layer is implemented here with
its LayerNorm and its residual connection, forward and backward, in as few calls as possible. Attention uses
plain matrix products, which are faster than torch's kernel where few tokens attend to each other. The results
are those of :mod:`nuclr.model.encoder` without dropout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nuclr.model.attention import Attention, PopulationLayout
from nuclr.model.dropout import is_fast_here

# Token values, for example 2,048 tokens of width 32. Up to this size, these functions take 0.77 to 0.96 of
# the time of the separate layers, at widths from 32 to 256; above it, with populations of 80 and more units,
# up to 1.27 of it.
SMALL_VALUES = 2**16
EPS = 1e-5  # of nn.LayerNorm


def is_small(x: Tensor) -> bool:
    """Return whether tokens ``(unit, token, dim)`` need gradients and are few enough for this module."""
    return is_fast_here(x) and torch.is_grad_enabled() and 0 < x.numel() <= SMALL_VALUES


@dataclass(frozen=True)
class Places:
    """Sets of tokens that attend to each other: those of a unit, or those of a population at one time.

    Attributes
    ----------
    heads, tokens
        Number of heads, and of tokens in a window.
    turn
        For attention along time, the rotation of each token, complex, ``(token, dim_head / 2)``.
    layout
        For attention across units, the layout of the populations.
    """

    heads: int
    tokens: int
    turn: Tensor | None = None
    layout: PopulationLayout | None = None

    def side_by_side(self, rows: Tensor, parts: int) -> Tensor:
        """Reshape ``(unit * token, parts * heads * dim_head)`` to ``(parts, ..., head, place, dim_head)``."""
        if self.turn is not None:
            split = rows.view(-1, self.tokens, parts, self.heads, rows.shape[1] // parts // self.heads)
            split = split.permute(2, 0, 3, 1, 4)
            turned = rows.new_empty(split.shape)
            torch.mul(_complex(split), self.turn, out=_complex(turned))
            return turned
        assert self.layout is not None
        padded = self.layout.pad(rows.view(-1, self.tokens * rows.shape[1]))
        split = padded.unflatten(-1, (self.tokens, parts, self.heads, -1))
        return split.permute(3, 0, 2, 4, 1, 5).contiguous()

    def as_rows(self, x: Tensor) -> Tensor:
        """Undo :meth:`side_by_side`, the rotation included."""
        parts, *_, width = x.shape
        if self.turn is not None:
            rows = x.new_empty(x.shape[1], self.tokens, parts, self.heads, width)
            torch.mul(_complex(x), self.turn.conj(), out=_complex(rows.permute(2, 0, 3, 1, 4)))
        else:
            assert self.layout is not None
            rows = self.layout.flatten(x.permute(1, 4, 2, 0, 3, 5).flatten(2))
        return rows.view(-1, parts * self.heads * width)

    def mask_keys(self, scores: Tensor) -> None:
        """Mask the scores of empty slots, ``(..., key, head, query)``, in place."""
        if self.layout is not None and self.layout.filled is not None:
            populations, slots = self.layout.filled.shape
            empty = ~self.layout.filled[:, None, :, None]
            scores.view(populations, self.tokens, slots, -1).masked_fill_(empty, -math.inf)

    def mask_slots(self, grad: Tensor) -> None:
        """Set the gradients of empty slots to 0, ``(..., head, slot, dim_head)``, in place."""
        if self.layout is not None and self.layout.filled is not None:
            grad.masked_fill_(~self.layout.filled[:, None, None, :, None], 0)


def _complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def attend(attention: Attention, x: Tensor, places: Places) -> Tensor:
    """Return ``x + attention(x)``, along time or across units."""
    norm, qkv, out = attention.norm, attention.to_qkv, attention.to_out
    return _Attend.apply(x, norm.weight, norm.bias, qkv.weight, qkv.bias, out.weight, out.bias, places)


def feed_forward(norm: nn.LayerNorm, inner: nn.Linear, outer: nn.Linear, x: Tensor) -> Tensor:
    """Return ``x + outer(a * gelu(b))``, where a and b are the halves of ``inner(norm(x))``."""
    return _FeedForward.apply(x, norm.weight, norm.bias, inner.weight, inner.bias, outer.weight, outer.bias)


def _norm_backward(grad: Tensor, *saved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows, mean, rstd, scale, shift = saved
    backward = torch.ops.aten.native_layer_norm_backward
    return backward(grad, rows, rows.shape[1:], mean, rstd, scale, shift, [True, True, True])


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        inner: Tensor,
        inner_bias: Tensor,
        outer: Tensor,
        outer_bias: Tensor,
        places: Places,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        normed, mean, rstd = torch.native_layer_norm(rows, rows.shape[1:], scale, shift, EPS)
        qkv = places.side_by_side(torch.addmm(inner_bias, normed, inner.T), 3)
        ctx.shape, ctx.places = qkv.shape, places
        *_, heads, count, width = qkv.shape
        q, k, v = qkv.view(3, -1, count, width)
        scores = torch.bmm(k, q.mT).mul_(width**-0.5)
        # Keys are moved before heads and queries, because a softmax along few contiguous numbers is slow.
        scores = scores.view(-1, heads, count, count).transpose(1, 2).contiguous()
        places.mask_keys(scores)
        weights = scores.softmax(1).transpose(1, 2).reshape(-1, count, count)
        seen = places.as_rows(torch.bmm(weights.mT, v).view(1, *qkv.shape[1:]))
        ctx.save_for_backward(normed, q, k, v, weights, seen, inner, outer, rows, mean, rstd, scale, shift)
        return torch.addmm(outer_bias, seen, outer.T).add_(rows).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        normed, q, k, v, weights, seen, inner, outer, *norm = ctx.saved_tensors
        own = grad.reshape(len(seen), -1)
        to_seen = ctx.places.side_by_side(own @ outer, 1)
        ctx.places.mask_slots(to_seen)
        to_seen = to_seen.view(q.shape)
        to_scores = torch.ops.aten._softmax_backward_data(
            torch.bmm(v, to_seen.mT), weights, 1, weights.dtype
        ).mul_(q.shape[-1] ** -0.5)
        to_qkv = q.new_empty(3, *q.shape)
        for part, one, other in zip(to_qkv, (to_scores.mT, to_scores, weights), (k, q, to_seen), strict=True):
            torch.bmm(one, other, out=part)
        to_rows = ctx.places.as_rows(to_qkv.view(ctx.shape))
        to_x, to_scale, to_shift = _norm_backward(to_rows @ inner, *norm)
        to_inner, to_outer = to_rows.T @ normed, own.T @ seen
        to_x = to_x.add_(own).view(grad.shape)
        return to_x, to_scale, to_shift, to_inner, to_rows.sum(0), to_outer, own.sum(0), None


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        inner: Tensor,
        inner_bias: Tensor,
        outer: Tensor,
        outer_bias: Tensor,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        normed, mean, rstd = torch.native_layer_norm(rows, rows.shape[1:], scale, shift, EPS)
        hidden = torch.addmm(inner_bias, normed, inner.T)
        value, gate = hidden.chunk(2, -1)
        gated = F.gelu(gate).mul_(value)
        ctx.save_for_backward(normed, hidden, inner, outer, rows, mean, rstd, scale, shift)
        return torch.addmm(outer_bias, gated, outer.T).add_(rows).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        normed, hidden, inner, outer, *norm = ctx.saved_tensors
        own = grad.reshape(len(hidden), -1)
        value, gate = hidden.chunk(2, -1)
        active, through = F.gelu(gate), own @ outer
        gated = active * value
        # Gradients overwrite the activations, because allocating new memory is slow.
        torch.ops.aten.gelu_backward.grad_input(value.mul_(through), gate, grad_input=gate)
        torch.mul(through, active, out=value)
        to_x, to_scale, to_shift = _norm_backward(hidden @ inner, *norm)
        to_inner, to_outer = hidden.T @ normed, own.T @ gated
        return (
            to_x.add_(own).view(grad.shape),
            to_scale,
            to_shift,
            to_inner,
            hidden.sum(0),
            to_outer,
            own.sum(0),
        )
