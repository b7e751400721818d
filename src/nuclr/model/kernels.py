"""Triton kernels for three parts of the encoder that PyTorch does not compute at memory bandwidth.

Each computes the same as a plain PyTorch function, which its docstring names, forward and backward, in one
pass over memory; ``machine.kernels: torch`` disables them. All sums are taken in a fixed order, so runs are
reproducible bit for bit.

Memory traffic at the paper's size with 128 pairs (259,360 tokens, bf16): attention along time 0.53 GB
forward and 0.93 GB backward in each of four layers; the gate 1.6 and 3.2 GB in each of six; residual
connection and LayerNorm 0.53 and 0.66 GB in each of eleven. At 4 TB/s that is 12 ms.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from nuclr.model.dropout import LEVELS, kept_share

# Rows of a tile in attention: the fewest that fill the matrix products of any GPU.
ROWS = 64
# A call of the random generator gives 8 x 16 bits, one number for each of eight rows.
DRAWS = 8
# Values that a program processes between two draws.
TILE = 1024

# The numbers of units and rows differ from step to step. Triton would compile another kernel for multiples of
# 16, hence `do_not_specialize`.


@triton.jit
def _turn(x, cos, sin, rows: tl.constexpr, half: tl.constexpr):
    """Rotate pairs of neighbouring columns of ``(rows, 2 * half)`` by the angles ``(rows, half)``."""
    even, odd = tl.split(tl.reshape(x, (rows, half, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, odd * cos + even * sin), (rows, 2 * half))


@triton.jit
def _places(units, tokens: tl.constexpr, rows: tl.constexpr):
    """Return a program's rows, the unit and token of each row, and a mask of the rows that exist."""
    together: tl.constexpr = rows // tokens
    first = tl.program_id(0).to(tl.int64) * (together * tokens)
    local = tl.arange(0, rows)
    there = (local < together * tokens) & (first + local < units.to(tl.int64) * tokens)
    return first + local, local // tokens, local % tokens, there


@triton.jit
def _angles(cos_ptr, sin_ptr, token, there, width: tl.constexpr, columns: tl.constexpr):
    """Load the cosines and sines of each row's token, ``(rows, columns / 2)``."""
    half = tl.arange(0, columns // 2)
    at = token[:, None] * (width // 2) + half[None, :]
    known = there[:, None] & (half < width // 2)[None, :]
    return tl.load(cos_ptr + at, mask=known, other=1.0), tl.load(sin_ptr + at, mask=known, other=0.0)


@triton.jit
def _load_turned(pointers, some, cos, sin, rows: tl.constexpr, columns: tl.constexpr):
    """Load ``(rows, columns)`` of one head, rotated by the tokens' angles, in the type of the tensor."""
    x = tl.load(pointers, mask=some, other=0.0)
    return _turn(x.to(tl.float32), cos, sin, rows, columns // 2).to(x.dtype)


@triton.jit
def _weights(q, k, unit, there, scale, rows: tl.constexpr, precision: tl.constexpr):
    """Return the softmax of query-key similarities, ``(query, key)``, among the tokens of each unit."""
    scores = tl.dot(q, tl.trans(k), input_precision=precision) * scale
    # A row outside the batch attends to itself, to avoid division by 0.
    alone = tl.arange(0, rows)
    seen = (unit[:, None] == unit[None, :]) & there[:, None] & there[None, :]
    scores = tl.where(seen | (alone[:, None] == alone[None, :]), scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    return weights / tl.sum(weights, axis=1)[:, None]


@triton.jit(do_not_specialize=["units"])
def _time_forward(
    qkv_ptr,
    cos_ptr,
    sin_ptr,
    out_ptr,
    units,
    scale,
    tokens: tl.constexpr,
    heads: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    precision: tl.constexpr,
):
    row, unit, token, there = _places(units, tokens, rows)
    cos, sin = _angles(cos_ptr, sin_ptr, token, there, width, columns)
    column = tl.program_id(1) * width + tl.arange(0, columns)
    some = there[:, None] & (tl.arange(0, columns) < width)[None, :]
    at = row[:, None] * (3 * heads * width) + column[None, :]
    own = row[:, None] * (heads * width) + column[None, :]
    kind = qkv_ptr.dtype.element_ty
    q = _load_turned(qkv_ptr + at, some, cos, sin, rows, columns)
    k = _load_turned(qkv_ptr + at + heads * width, some, cos, sin, rows, columns)
    v = _load_turned(qkv_ptr + at + 2 * heads * width, some, cos, sin, rows, columns)
    weights = _weights(q, k, unit, there, scale, rows, precision)
    out = _turn(tl.dot(weights.to(kind), v, input_precision=precision), cos, -sin, rows, columns // 2)
    tl.store(out_ptr + own, out.to(kind), mask=some)


@triton.jit(do_not_specialize=["units"])
def _time_backward(
    qkv_ptr,
    cos_ptr,
    sin_ptr,
    grad_ptr,
    to_qkv_ptr,
    units,
    scale,
    tokens: tl.constexpr,
    heads: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    precision: tl.constexpr,
):
    row, unit, token, there = _places(units, tokens, rows)
    cos, sin = _angles(cos_ptr, sin_ptr, token, there, width, columns)
    column = tl.program_id(1) * width + tl.arange(0, columns)
    some = there[:, None] & (tl.arange(0, columns) < width)[None, :]
    at = row[:, None] * (3 * heads * width) + column[None, :]
    own = row[:, None] * (heads * width) + column[None, :]
    kind = qkv_ptr.dtype.element_ty
    q = _load_turned(qkv_ptr + at, some, cos, sin, rows, columns)
    k = _load_turned(qkv_ptr + at + heads * width, some, cos, sin, rows, columns)
    # The weights are recomputed from q, k and v, which is faster than reading them from memory.
    weights = _weights(q, k, unit, there, scale, rows, precision)
    grad = _load_turned(grad_ptr + own, some, cos, sin, rows, columns)
    to_v = tl.dot(tl.trans(weights.to(kind)), grad, input_precision=precision)
    to_v = _turn(to_v, cos, -sin, rows, columns // 2)
    tl.store(to_qkv_ptr + at + 2 * heads * width, to_v.to(kind), mask=some)
    v = _load_turned(qkv_ptr + at + 2 * heads * width, some, cos, sin, rows, columns)
    to_weights = tl.dot(grad, tl.trans(v), input_precision=precision)
    to_scores = weights * (to_weights - tl.sum(weights * to_weights, axis=1)[:, None]) * scale
    to_scores = to_scores.to(kind)
    to_q = _turn(tl.dot(to_scores, k, input_precision=precision), cos, -sin, rows, columns // 2)
    tl.store(to_qkv_ptr + at, to_q.to(kind), mask=some)
    to_k = tl.dot(tl.trans(to_scores), q, input_precision=precision)
    to_k = _turn(to_k, cos, -sin, rows, columns // 2)
    tl.store(to_qkv_ptr + at + heads * width, to_k.to(kind), mask=some)


def attend_in_time(qkv: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Attend among the tokens of each unit: :func:`nuclr.model.attention.attend_in_time` in one pass.

    As many units as fit into 64 rows share one matrix product, in which tokens of other units are masked.

    Parameters
    ----------
    qkv
        ``(unit, token, 3 * heads * dim_head)``, at most 64 tokens, dim_head at most 128.
    heads
        Number of heads.
    cos, sin
        Cosines and sines of each token's angles, ``(token, dim_head / 2)``, float32.

    Returns
    -------
    Tensor
        ``(unit, token, heads * dim_head)``.
    """
    out = _AttendInTime.apply(qkv.contiguous(), heads, cos.contiguous(), sin.contiguous())
    assert isinstance(out, Tensor)
    return out


class _AttendInTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
        out = qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)
        _launch_in_time(_time_forward, qkv, heads, cos, sin, out)
        ctx.save_for_backward(qkv, cos, sin)
        ctx.heads = heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        qkv, cos, sin = ctx.saved_tensors
        to_qkv = torch.empty_like(qkv)
        _launch_in_time(_time_backward, qkv, ctx.heads, cos, sin, grad.contiguous(), to_qkv)
        return to_qkv, None, None, None


def _launch_in_time(kernel: Any, qkv: Tensor, heads: int, cos: Tensor, sin: Tensor, *others: Tensor) -> None:
    units, tokens, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3 // heads
    kernel[(triton.cdiv(units, ROWS // tokens), heads)](
        qkv,
        cos,
        sin,
        *others,
        units,
        width**-0.5,
        tokens=tokens,
        heads=heads,
        width=width,
        rows=ROWS,
        # Triton's products have at least 16 columns.
        columns=max(16, triton.next_power_of_2(width)),
        # Full float32 products instead of TF32.
        precision="ieee",
        num_warps=4,
    )


@triton.jit
def _draw(seed_ptr, row, column):
    """Return 128 random bits for each row and column, from a counter-based generator with this seed."""
    row, column = tl.broadcast(row, column)
    return tl.philox(tl.load(seed_ptr), column, row, row * 0, row * 0, 7)


@triton.jit
def _kept(a, b, c, d, draw: tl.constexpr, least):
    """Return the dropout mask from the 16 bits of one of eight draws: 1 to keep, 0 to drop."""
    if draw < 2:
        word = a
    elif draw < 4:
        word = b
    elif draw < 6:
        word = c
    else:
        word = d
    bits = (word >> (16 * (draw % 2))) & 0xFFFF
    return (bits.to(tl.int32) >= least).to(tl.float32)


@triton.jit
def _gelu(x):
    """Return GELU of x, and the cumulative normal distribution at x."""
    below = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    return x * below, below


@triton.jit(do_not_specialize=["count", "least"])
def _gate_forward(
    hidden_ptr,
    seed_ptr,
    out_ptr,
    count,
    width,
    least,
    scale,
    drops: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    draws: tl.constexpr,
):
    local = tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    group = tl.program_id(0) * rows + local
    if drops:
        a, b, c, d = _draw(seed_ptr, group[:, None], column[None, :])
    for draw in tl.static_range(draws):
        row = tl.program_id(0).to(tl.int64) * (rows * draws) + draw * rows + local
        some = (row < count)[:, None] & (column < width)[None, :]
        at = hidden_ptr + row[:, None] * (2 * width) + column[None, :]
        value = tl.load(at, mask=some, other=0.0).to(tl.float32)
        gate = tl.load(at + width, mask=some, other=0.0).to(tl.float32)
        active, _ = _gelu(gate)
        out = value * active
        if drops:
            out = out * _kept(a, b, c, d, draw, least) * scale
        out = out.to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row[:, None] * width + column[None, :], out, mask=some)


@triton.jit(do_not_specialize=["count", "least"])
def _gate_backward(
    hidden_ptr,
    seed_ptr,
    grad_ptr,
    to_hidden_ptr,
    out_ptr,
    to_bias_ptr,
    count,
    width,
    least,
    scale,
    drops: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    draws: tl.constexpr,
):
    local = tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    group = tl.program_id(0) * rows + local
    kind = hidden_ptr.dtype.element_ty
    if drops:
        a, b, c, d = _draw(seed_ptr, group[:, None], column[None, :])
    sum_value = tl.zeros((rows, columns), tl.float32)
    sum_gate = tl.zeros((rows, columns), tl.float32)
    for draw in tl.static_range(draws):
        row = tl.program_id(0).to(tl.int64) * (rows * draws) + draw * rows + local
        some = (row < count)[:, None] & (column < width)[None, :]
        at = row[:, None] * (2 * width) + column[None, :]
        own = row[:, None] * width + column[None, :]
        value = tl.load(hidden_ptr + at, mask=some, other=0.0).to(tl.float32)
        gate = tl.load(hidden_ptr + at + width, mask=some, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + own, mask=some, other=0.0).to(tl.float32)
        active, below = _gelu(gate)
        if drops:
            kept = _kept(a, b, c, d, draw, least) * scale
            grad = grad * kept
            tl.store(out_ptr + own, (value * active * kept).to(kind), mask=some)
        else:
            tl.store(out_ptr + own, (value * active).to(kind), mask=some)
        to_value = grad * active
        # The density of the normal distribution, with 1 / sqrt(2 pi) = 0.3989...
        to_gate = grad * value * (below + gate * 0.3989422804014327 * tl.exp(-0.5 * gate * gate))
        tl.store(to_hidden_ptr + at, to_value.to(kind), mask=some)
        tl.store(to_hidden_ptr + at + width, to_gate.to(kind), mask=some)
        sum_value += to_value
        sum_gate += to_gate
    to_bias = to_bias_ptr + tl.program_id(0).to(tl.int64) * (2 * width) + column
    tl.store(to_bias, tl.sum(sum_value, axis=0), mask=column < width)
    tl.store(to_bias + width, tl.sum(sum_gate, axis=0), mask=column < width)


def gated_layer(
    x: Tensor,
    inner: Tensor,
    inner_bias: Tensor,
    outer: Tensor,
    outer_bias: Tensor,
    p: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Compute :func:`nuclr.model.dropout.gated_layer` with gate, GELU and dropout in one pass.

    Only ``inner(x)`` is stored for the gradient.

    Parameters
    ----------
    x
        ``(unit, token, dim)``.
    inner, inner_bias, outer, outer_bias
        Weights ``(2 * width, dim)`` and ``(dim, width)`` and biases of both linear layers, of x's type.
    p, seed
        Probability of dropping a value, and the seed of dropout, one int64.
    """
    out = _GatedLayer.apply(x, inner, inner_bias, outer, outer_bias, p, seed)
    assert isinstance(out, Tensor)
    return out


class _GatedLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        inner: Tensor,
        inner_bias: Tensor,
        outer: Tensor,
        outer_bias: Tensor,
        p: float,
        seed: Tensor | None,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        hidden = torch.addmm(inner_bias, rows, inner.T)
        gated = hidden.new_empty(len(rows), hidden.shape[1] // 2)
        _launch_gate(_gate_forward, hidden, p, seed, gated)
        ctx.save_for_backward(rows, hidden, inner, outer, seed)
        ctx.p = p
        return torch.addmm(outer_bias, gated, outer.T).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, inner, outer, seed = ctx.saved_tensors
        own = grad.reshape(len(rows), -1)
        through, gated = own @ outer, hidden.new_empty(len(rows), hidden.shape[1] // 2)
        to_hidden = torch.empty_like(hidden)
        programs = triton.cdiv(len(rows), _tile(gated.shape[1])[0] * DRAWS)
        to_bias = torch.empty(programs, hidden.shape[1], dtype=torch.float32, device=hidden.device)
        _launch_gate(_gate_backward, hidden, ctx.p, seed, through, to_hidden, gated, to_bias)
        to_x = (to_hidden @ inner).view(*grad.shape[:-1], -1)
        biases = to_bias.sum(0).to(hidden.dtype), own.sum(0)
        return to_x, to_hidden.T @ rows, biases[0], own.T @ gated, biases[1], None, None


def _tile(width: int) -> tuple[int, int]:
    """Return the rows and columns that a program processes between two draws."""
    columns = min(256, triton.next_power_of_2(width))
    return TILE // columns, columns


def _launch_gate(kernel: Any, hidden: Tensor, p: float, seed: Tensor | None, *others: Tensor) -> None:
    count, width = hidden.shape[0], hidden.shape[1] // 2
    rows, columns = _tile(width)
    first = (hidden, seed if seed is not None else hidden)
    least, scale = _dropping(p)
    kernel[(triton.cdiv(count, rows * DRAWS), triton.cdiv(width, columns))](
        *first,
        *others,
        count,
        width,
        least,
        scale,
        drops=p > 0,
        rows=rows,
        columns=columns,
        draws=DRAWS,
        num_warps=4,
    )


def _dropping(p: float) -> tuple[int, float]:
    """Return the lowest 16-bit number that is kept, and the factor that rescales kept values."""
    return round(p * LEVELS), 1 / kept_share(p)


@triton.jit(do_not_specialize=["count", "least"])
def _add_forward(
    x_ptr,
    change_ptr,
    scale_ptr,
    shift_ptr,
    seed_ptr,
    sum_ptr,
    normed_ptr,
    mean_ptr,
    rstd_ptr,
    count,
    eps,
    least,
    factor,
    drops: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    draws: tl.constexpr,
):
    local, column = tl.arange(0, rows), tl.arange(0, columns)
    group = tl.program_id(0) * rows + local
    kind = x_ptr.dtype.element_ty
    inside = column < width
    scale = tl.load(scale_ptr + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(shift_ptr + column, mask=inside, other=0.0).to(tl.float32)
    if drops:
        a, b, c, d = _draw(seed_ptr, group[:, None], column[None, :])
    for draw in tl.static_range(draws):
        row = tl.program_id(0).to(tl.int64) * (rows * draws) + draw * rows + local
        some = (row < count)[:, None] & inside[None, :]
        at = row[:, None] * width + column[None, :]
        x = tl.load(x_ptr + at, mask=some, other=0.0).to(tl.float32)
        change = tl.load(change_ptr + at, mask=some, other=0.0).to(tl.float32)
        if drops:
            change = change * _kept(a, b, c, d, draw, least) * factor
        # Rounded first, so that the LayerNorm sees the values that are stored for the gradient.
        rounded = (x + change).to(kind)
        tl.store(sum_ptr + at, rounded, mask=some)
        x = rounded.to(tl.float32)
        mean = tl.sum(x, axis=1) / width
        centred = tl.where(inside[None, :], x - mean[:, None], 0.0)
        rstd = tl.rsqrt(tl.sum(centred * centred, axis=1) / width + eps)
        normed = centred * rstd[:, None] * scale[None, :] + shift[None, :]
        tl.store(normed_ptr + at, normed.to(kind), mask=some)
        tl.store(mean_ptr + row, mean, mask=row < count)
        tl.store(rstd_ptr + row, rstd, mask=row < count)


@triton.jit(do_not_specialize=["count", "least"])
def _add_backward(
    sum_ptr,
    mean_ptr,
    rstd_ptr,
    scale_ptr,
    seed_ptr,
    to_sum_ptr,
    to_normed_ptr,
    to_x_ptr,
    to_change_ptr,
    to_norm_ptr,
    count,
    least,
    factor,
    drops: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    draws: tl.constexpr,
):
    local, column = tl.arange(0, rows), tl.arange(0, columns)
    group = tl.program_id(0) * rows + local
    kind = sum_ptr.dtype.element_ty
    inside = column < width
    scale = tl.load(scale_ptr + column, mask=inside, other=0.0).to(tl.float32)
    if drops:
        a, b, c, d = _draw(seed_ptr, group[:, None], column[None, :])
    to_scale = tl.zeros((rows, columns), tl.float32)
    to_shift = tl.zeros((rows, columns), tl.float32)
    for draw in tl.static_range(draws):
        row = tl.program_id(0).to(tl.int64) * (rows * draws) + draw * rows + local
        some = (row < count)[:, None] & inside[None, :]
        at = row[:, None] * width + column[None, :]
        x = tl.load(sum_ptr + at, mask=some, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + row, mask=row < count, other=0.0)
        rstd = tl.load(rstd_ptr + row, mask=row < count, other=0.0)
        to_normed = tl.load(to_normed_ptr + at, mask=some, other=0.0).to(tl.float32)
        standard = tl.where(some, (x - mean[:, None]) * rstd[:, None], 0.0)
        to_scale += to_normed * standard
        to_shift += to_normed
        through = to_normed * scale[None, :]
        along = tl.sum(through * standard, axis=1) / width
        level = tl.sum(through, axis=1) / width
        grad = tl.load(to_sum_ptr + at, mask=some, other=0.0).to(tl.float32)
        grad += (through - level[:, None] - standard * along[:, None]) * rstd[:, None]
        tl.store(to_x_ptr + at, grad.to(kind), mask=some)
        if drops:
            grad = grad * _kept(a, b, c, d, draw, least) * factor
            tl.store(to_change_ptr + at, grad.to(kind), mask=some)
    to_norm = to_norm_ptr + tl.program_id(0).to(tl.int64) * (2 * width) + column
    tl.store(to_norm, tl.sum(to_scale, axis=0), mask=inside)
    tl.store(to_norm + width, tl.sum(to_shift, axis=0), mask=inside)


def add_norm(
    x: Tensor,
    change: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    p: float = 0.0,
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute ``x + dropout(change)`` and the LayerNorm of the next layer in one pass.

    Parameters
    ----------
    x, change
        Tokens, and the output of a layer to add, ``(unit, token, dim)``, dim at most 2,048.
    scale, shift, eps
        Parameters of the LayerNorm.
    p, seed
        Probability of dropping a value, and the seed of dropout, one int64.

    Returns
    -------
    sum, normed
        The sum and its LayerNorm, with the shape and type of x.
    """
    summed, normed = _AddNorm.apply(x.contiguous(), change.contiguous(), scale, shift, eps, p, seed)
    return summed, normed


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        change: Tensor,
        scale: Tensor,
        shift: Tensor,
        eps: float,
        p: float,
        seed: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        summed, normed = torch.empty_like(x), torch.empty_like(x)
        count = x.numel() // x.shape[-1]
        mean, rstd = torch.empty(2, count, dtype=torch.float32, device=x.device)
        outputs = (summed, normed, mean, rstd)
        least, factor = _dropping(p)
        _launch_add(
            _add_forward, x, (x, change, scale, shift, seed, *outputs), (count, eps, least, factor), p
        )
        ctx.save_for_backward(summed, mean, rstd, scale, seed)
        ctx.p = p
        return summed, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_sum: Tensor, to_normed: Tensor) -> tuple[Tensor | None, ...]:
        summed, mean, rstd, scale, seed = ctx.saved_tensors
        to_x = torch.empty_like(summed)
        # Without dropout both inputs have the same gradient.
        to_change = torch.empty_like(summed) if ctx.p > 0 else to_x
        width, count = summed.shape[-1], len(mean)
        programs = triton.cdiv(count, _whole_rows(width)[0] * DRAWS)
        to_norm = torch.empty(programs, 2, width, dtype=torch.float32, device=summed.device)
        gradients = (to_sum.contiguous(), to_normed.contiguous(), to_x, to_change, to_norm)
        tensors = (summed, mean, rstd, scale, seed, *gradients)
        _launch_add(_add_backward, summed, tensors, (count, *_dropping(ctx.p)), ctx.p)
        to_scale, to_shift = to_norm.sum(0).to(scale.dtype)
        return to_x, to_change, to_scale, to_shift, None, None, None


def _whole_rows(width: int) -> tuple[int, int]:
    """Return the rows that a program processes between two draws, and the columns that hold a whole row."""
    columns = triton.next_power_of_2(width)
    return max(1, TILE // columns), columns


def _launch_add(
    kernel: Any, x: Tensor, tensors: tuple[Tensor | None, ...], numbers: tuple[float, ...], p: float
) -> None:
    count, width = x.numel() // x.shape[-1], x.shape[-1]
    rows, columns = _whole_rows(width)
    kernel[(triton.cdiv(count, rows * DRAWS),)](
        *(x if tensor is None else tensor for tensor in tensors),
        *numbers,
        drops=p > 0,
        width=width,
        rows=rows,
        columns=columns,
        draws=DRAWS,
        num_warps=4,
    )


def fits(tokens: int, dim: int, dim_head: int) -> bool:
    """Return whether the kernels of this module support an encoder of this shape."""
    return tokens <= ROWS and dim <= 2048 and dim_head <= 128
