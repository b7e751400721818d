"""Attention along time, and across the units of a population.

Source: NuCLR (arXiv 2512.01199), section 3.2 and appendix; the rotary embedding of
values and outputs follows POYO (arXiv 2310.16046).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None  # type: ignore[assignment]


@dataclass(frozen=True)
class PopulationLayout:
    """Index between the flat and the padded form of a ragged batch of populations.

    In the *flat* form ``(unit, ...)`` the units of all populations follow one another on the first axis.
    Attention across units needs the *padded* form ``(population, slot, ...)``.

    Attributes
    ----------
    index
        For each slot the row of its unit in the flat tensor, shape ``(population, slot)``;
        an empty slot points to row 0.
    filled
        Which slots contain a unit, shape ``(population, slot)``; None if all do.
    row
        For each unit its position among all slots, counted row by row, shape ``(unit,)``.
    """

    index: Tensor
    filled: Tensor | None
    row: Tensor

    @classmethod
    def from_sizes(cls, sizes: Tensor, largest: int, total: int) -> PopulationLayout:
        """Return the layout of populations with the given numbers of units.

        ``largest`` and ``total`` are the maximum and the sum of ``sizes``. They are arguments,
        because reading them from a tensor on a GPU would make the CPU wait for it.
        """
        device = sizes.device
        slots = torch.arange(largest, device=device)
        starts = sizes.cumsum(0) - sizes
        filled = slots < sizes[:, None]
        index = torch.where(filled, starts[:, None] + slots, 0)
        population = torch.repeat_interleave(
            torch.arange(len(sizes), device=device), sizes, output_size=total
        )
        row = torch.arange(total, device=device) + (
            torch.arange(len(sizes), device=device) * largest - starts
        ).index_select(0, population)
        full = largest * len(sizes) == total
        return cls(index=index, filled=None if full else filled, row=row)

    def pad(self, flat: Tensor) -> Tensor:
        """Turn ``(unit, ...)`` into ``(population, slot, ...)``; empty slots repeat the first unit."""
        if self.filled is None:
            return flat.unflatten(0, self.index.shape)
        return flat.index_select(0, self.index.flatten()).unflatten(0, self.index.shape)

    def flatten(self, padded: Tensor) -> Tensor:
        """Turn ``(population, slot, ...)`` into ``(unit, ...)``."""
        flat = padded.flatten(0, 1)
        return flat if self.filled is None else flat.index_select(0, self.row)


class Populations:
    """The populations of a ragged batch; attention is among the units of each.

    Parameters
    ----------
    sizes
        Number of units in each population, ``(population,)``.
    largest, total
        The maximum and the sum of ``sizes``.
    """

    def __init__(self, sizes: Tensor, largest: int, total: int) -> None:
        self.sizes, self.largest, self.total = sizes, largest, total
        self._layout: PopulationLayout | None = None
        self._ends: Tensor | None = None

    @property
    def layout(self) -> PopulationLayout:
        """Layout of the populations when padded to the largest."""
        if self._layout is None:
            self._layout = PopulationLayout.from_sizes(self.sizes, self.largest, self.total)
        return self._layout

    @property
    def ends(self) -> Tensor:
        """Cumulative sizes, starting with 0, int32."""
        if self._ends is None:
            self._ends = F.pad(self.sizes.cumsum(0), (1, 0)).to(torch.int32)
        return self._ends

    def attend(self, normed: Tensor, to_qkv: nn.Linear, heads: int) -> Tensor:
        """Attend among the units of each population, ``(unit, token, dim)`` to the width of all heads.

        On a GPU in half precision, populations are not padded; elsewhere they are.
        """
        width = to_qkv.out_features // 3
        weight, bias = to_qkv.weight.to(normed.dtype), to_qkv.bias.to(normed.dtype)
        if not has_ragged(normed, width // heads):
            return attend_across_units(F.linear(normed, weight, bias), heads, self.layout)
        # Three products, so that q, k and v are contiguous, with the heads of all tokens side by side. The
        # kernel treats each pair of token and head as a head, and nothing is copied.
        q, k, v = (
            F.linear(normed, own, own_bias).view(self.total, normed.shape[1] * heads, width // heads)
            for own, own_bias in zip(weight.chunk(3), bias.chunk(3), strict=True)
        )
        return attend_ragged(q, k, v, self.ends, self.largest).reshape(*normed.shape[:2], width)


def has_ragged(x: Tensor, dim_head: int) -> bool:
    """Return whether torch supports attention in sequences of unequal length: on CUDA, in half precision."""
    if not x.is_cuda or varlen_attn is None or dim_head % 8 or not len(x):
        return False
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    return kind in (torch.bfloat16, torch.float16)


def attend_ragged(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, largest: int) -> Tensor:
    """Attend inside each sequence of ``(unit, head, dim_head)``; ``ends`` are cumulative lengths from 0."""
    assert varlen_attn is not None
    out = varlen_attn(q, k, v, ends, ends, largest, largest)
    assert isinstance(out, Tensor)
    return out


class RotaryTime(nn.Module):
    """Rotary embedding of a token's position in the window.

    The first half of each head is rotated, in pairs of neighbouring dimensions, with periods spaced
    geometrically from 1 to ``8 * tokens`` tokens; the second half is not rotated.

    Parameters
    ----------
    dim_head
        Width of one attention head; a multiple of 4.
    tokens
        Number of tokens in a window.
    """

    omega: Tensor

    def __init__(self, dim_head: int, tokens: int) -> None:
        super().__init__()
        turning = dim_head // 4
        periods = torch.logspace(0.0, math.log10(8 * tokens), turning, dtype=torch.float64)
        omega = torch.zeros(dim_head // 2)
        omega[:turning] = (2 * math.pi / periods).float()
        self.register_buffer("omega", omega)

    def angles(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of all tokens' angles, each ``(token, dim_head / 2)``."""
        place = torch.arange(tokens, device=self.omega.device, dtype=self.omega.dtype)
        angle = place[:, None] * self.omega
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of neighbouring dimensions of ``x`` ``(..., token, dim_head)`` by the given angles."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling():
        # One pass over memory instead of six.
        turn = torch.complex(cos, sin)
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    return turned.flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with pre-LayerNorm, along time or across units.

    Parameters
    ----------
    dim, heads, dim_head
        Width of a token, number of heads, width of a head; ``heads * dim_head`` need not be ``dim``.
    """

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head)
        self.to_out = nn.Linear(heads * dim_head, dim)

    def along_time(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend among the tokens of each unit, ``(unit, token, dim)`` to the same."""
        return self.to_out(attend_in_time(self.to_qkv(self.norm(x)), self.heads, cos, sin))

    def across_units(self, x: Tensor, populations: Populations) -> Tensor:
        """Attend among the units of each population, token by token, ``(unit, token, dim)`` to the same.

        It does not depend on the order of units: permuting units permutes the output.
        """
        return self.to_out(populations.attend(self.norm(x), self.to_qkv, self.heads))


def attend_in_time(qkv: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Attend among the tokens of each unit, ``(unit, token, 3 * heads * dim_head)`` to a third of the width.

    Queries, keys and values are rotated by the position of their token, and the output is rotated
    back by the position of the query, so that only distances in time matter, also for the values.
    """
    q, k, v = rotate(qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4), cos, sin)
    out = rotate(F.scaled_dot_product_attention(q, k, v), cos, -sin)
    return out.transpose(1, 2).flatten(-2)


def attend_across_units(qkv: Tensor, heads: int, layout: PopulationLayout) -> Tensor:
    """Attend among the units of each population, ``(unit, token, 3 * heads * dim_head)`` to a third of it."""
    tokens = qkv.shape[1]
    qkv = layout.pad(qkv)
    # (population, slot, token, 3 * heads * dim_head) -> (population * token, head, slot, dim_head)
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)
    mask = None
    if layout.filled is not None:
        mask = layout.filled.repeat_interleave(tokens, dim=0)[:, None, None, :]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return layout.flatten(out.unflatten(0, (-1, tokens)).permute(0, 3, 1, 2, 4).flatten(-2))
