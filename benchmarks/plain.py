"""Reference implementation of NuCLR without optimisation: one population at a time, with standard modules.

Parameters have the same names as in the package, so that both can load the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nuclr.model.attention import RotaryTime, rotate
from nuclr.model.encoder import EncoderSpec


class PlainAttention(nn.Module):
    """Self-attention along the middle axis of ``(batch, place, dim)``."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.norm = nn.LayerNorm(spec.dim)
        self.to_qkv = nn.Linear(spec.dim, 3 * spec.heads * spec.dim_head)
        self.to_out = nn.Linear(spec.heads * spec.dim_head, spec.dim)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        """Apply attention; ``turn`` has the cosines and sines of a rotary embedding."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.to_qkv(self.norm(x)).chunk(3, -1)
        )
        if turn is not None:
            q, k, v = (rotate(part, *turn) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        if turn is not None:
            out = rotate(out, turn[0], -turn[1])
        return self.to_out(out.transpose(1, 2).flatten(2))


class PlainFeedForward(nn.Module):
    """LayerNorm and a gated layer."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.dim)
        self.in_proj = nn.Linear(spec.dim, 8 * spec.dim)
        self.dropout = nn.Dropout(spec.dropout)
        self.out_proj = nn.Linear(4 * spec.dim, spec.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., dim)`` to the same."""
        a, b = self.in_proj(self.norm(x)).chunk(2, -1)
        return self.out_proj(self.dropout(a * F.gelu(b)))


class PlainEncoder(nn.Module):
    """The encoder of one population at a time."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()

        def layers(count: int) -> nn.ModuleList:
            kinds = [PlainAttention, PlainFeedForward] * count
            return nn.ModuleList(kind(spec) for kind in kinds)

        self.rotary_emb = RotaryTime(spec.dim_head, spec.tokens)
        self.read_in = nn.Linear(spec.patch, spec.dim)
        self.t_blocks = nn.ModuleList(layers(1) for _ in range(spec.temporal_blocks))
        self.st_blocks = nn.ModuleList(layers(2) for _ in range(spec.spatiotemporal_blocks))
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed one population, ``(unit, token, patch)`` to ``(unit, dim)``."""
        turn = self.rotary_emb.angles(patches.shape[1])
        drop = self.dropout
        x = self.read_in(patches)
        for attend, feed in self.t_blocks:
            x = x + drop(attend(x, turn))
            x = x + drop(feed(x))
        for attend_time, feed_time, attend_units, feed_units in self.st_blocks:
            x = x.transpose(0, 1)
            x = x + drop(attend_units(x, None))
            x = x + drop(feed_units(x))
            x = x.transpose(0, 1)
            x = x + drop(attend_time(x, turn))
            x = x + drop(feed_time(x))
        return x.mean(1)


def plain_loss(views: Sequence[tuple[Tensor, Tensor, Tensor]], temperature: float = 0.2) -> Tensor:
    """Return the contrastive loss; each population has two projected views and matched rows ``(2, pair)``."""
    total, matched = torch.zeros(()), 0
    for first, second, match in views:
        z1, z2 = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
        for one, two, rows in ((z1, z2, match), (z2, z1, match.flip(0))):
            across, within = one[rows[0]] @ two.T / temperature, one[rows[0]] @ one.T
            place = torch.arange(len(rows[0]))
            positive = across[place, rows[1]]
            across = across.index_put((place, rows[1]), torch.tensor(-torch.inf))
            within = within.index_put((place, rows[0]), torch.tensor(-torch.inf))
            others = torch.cat([across, within], 1)
            spread = others.logsumexp(1) - torch.tensor(float(others.shape[1])).log()
            total = total + 0.5 * (1 / temperature - positive + spread).sum()
        matched += match.shape[1]
    return total / matched
