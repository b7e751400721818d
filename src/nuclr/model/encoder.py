"""The NuCLR encoder: it maps windows of population activity to one vector per unit.

Source: NuCLR (arXiv 2512.01199), section 3.2 and appendix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nuclr.errors import ModelError
from nuclr.model import small
from nuclr.model.attention import Attention, Populations, RotaryTime
from nuclr.model.dropout import DropAdd, gated_layer

# Token values that a CPU processes together. More do not fit in its cache, and memory that the system
# takes back and clears between steps costs more than all matrix products.
GROUP_VALUES = 2**19
Way = Literal["along_time", "across_units", "feed_forward"]


@dataclass(frozen=True)
class EncoderSpec:
    """Hyperparameters that determine the shape of an encoder.

    Attributes
    ----------
    patch
        Samples (bins or frames) in one token.
    tokens
        Tokens in one window.
    dim, heads, dim_head
        Width of a token; attention heads and their width.
    temporal_blocks, spatiotemporal_blocks
        Number of blocks of each kind; the temporal ones come first.
    dropout
        Probability of dropping a value, in training only.
    across_units
        Whether there is attention across units; without it each unit is embedded alone (an ablation).
    """

    patch: int
    tokens: int
    dim: int = 256
    heads: int = 4
    dim_head: int = 64
    temporal_blocks: int = 2
    spatiotemporal_blocks: int = 2
    dropout: float = 0.2
    across_units: bool = True

    def __post_init__(self) -> None:
        for name in ("patch", "tokens", "dim", "heads", "dim_head"):
            if getattr(self, name) < 1:
                raise ModelError(f"model: {name} must be at least 1, not {getattr(self, name)}")
        if self.dim_head % 4:
            raise ModelError(
                f"model: dim_head must be a multiple of 4 (half of it rotates, in pairs), not {self.dim_head}"
            )


class FeedForward(nn.Module):
    """Feed-forward layer: LayerNorm, linear to ``8 * dim``, gate by GELU of one half, linear to ``dim``."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.in_proj = nn.Linear(dim, 8 * dim)
        self.out_proj = nn.Linear(4 * dim, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., dim)`` to the same."""
        dropout = self.dropout if self.training else 0.0
        return gated_layer(self.norm(x), self.in_proj, self.out_proj, dropout)


class Encoder(nn.Module):
    """Spatiotemporal transformer over the units of a population (section 3.2).

    Temporal blocks (two by default) have attention along the time of each unit only. Spatiotemporal
    blocks (two by default) have attention across the units of a population, token by token, and then along
    time. The mean over tokens is the unit's embedding of the window. Parameter names are those of the
    authors.

    Examples
    --------
    >>> import torch
    >>> encoder = Encoder(EncoderSpec(patch=50, tokens=10, dim=32, heads=4, dim_head=8)).eval()
    >>> counts = torch.poisson(torch.ones(7, 10, 50))
    >>> encoder(counts, torch.tensor([3, 4])).shape
    torch.Size([7, 32])
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec

        def attention() -> Attention:
            return Attention(spec.dim, spec.heads, spec.dim_head)

        def feed_forward() -> FeedForward:
            return FeedForward(spec.dim, spec.dropout)

        self.rotary_emb = RotaryTime(spec.dim_head, spec.tokens)
        self.read_in = nn.Linear(spec.patch, spec.dim)
        self.t_blocks = nn.ModuleList(
            nn.ModuleList([attention(), feed_forward()]) for _ in range(spec.temporal_blocks)
        )
        # Attention along time and its FFN come first in the list (as in published weights), but those
        # across units run first.
        self.st_blocks = nn.ModuleList(
            nn.ModuleList(
                [layer() for _ in range(1 + spec.across_units) for layer in (attention, feed_forward)]
            )
            for _ in range(spec.spatiotemporal_blocks)
        )
        self.add = DropAdd(spec.dropout)
        # A function that replaces `forward`, such as `nuclr.model.fused.embed`; set by code that knows the
        # device.
        self.fused: Callable[[Encoder, Tensor, Tensor, int], Tensor] | None = None

    def forward(
        self,
        patches: Tensor,
        sizes: Tensor,
        largest: int | None = None,
    ) -> Tensor:
        """Embed every unit of a ragged batch of windows.

        Parameters
        ----------
        patches
            Spike counts or scaled dF/F, ``(unit, token, patch)``: the units of one population
            after another, only those that were active in their window.
        sizes
            Number of units in each population, ``(population,)``, int64.
        largest
            The largest of ``sizes``, if the caller knows it (reading it would make the CPU wait for a GPU).

        Returns
        -------
        Tensor
            One embedding per unit, ``(unit, dim)``.

        Raises
        ------
        ModelError
            If the length of the patches is not that of the encoder.
        """
        if patches.ndim != 3 or patches.shape[-1] != self.spec.patch:
            raise ModelError(
                f"model: it reads patches of {self.spec.patch} samples, but the input has the shape "
                f"{tuple(patches.shape)}; use the bin and patch length that the model was trained with"
            )
        if patches.device.type != "cpu" or self.fused is not None:
            largest = largest if largest is not None else int(sizes.max()) if len(sizes) else 0
            if self.fused is not None and len(patches):
                return self.fused(self, patches, sizes, largest)
            return self._embed(patches.to(self.read_in.weight.dtype), sizes, largest)
        x = patches.to(self.read_in.weight.dtype)
        groups = _groups(sizes.tolist(), most=GROUP_VALUES // (self.spec.dim * max(1, x.shape[1])))
        units = [sum(group) for group in groups]
        return torch.cat(
            [
                self._embed(part, torch.tensor(group, dtype=torch.int64), max([0, *group]))
                for part, group in zip(x.split(units), groups, strict=True)
            ]
        )

    def layers(self) -> list[tuple[Way, Any]]:
        """Return all attention and feed-forward layers in the order in which they run, each with its kind."""
        ordered: list[tuple[Way, Any]] = []
        for attend, feed in _layers(self.t_blocks):
            ordered += [("along_time", attend), ("feed_forward", feed)]
        for attend, feed, *others in _layers(self.st_blocks):
            if others:
                ordered += [("across_units", others[0]), ("feed_forward", others[1])]
            ordered += [("along_time", attend), ("feed_forward", feed)]
        return ordered

    def _embed(self, x: Tensor, sizes: Tensor, largest: int) -> Tensor:
        x = self.read_in(x)
        ways = self._ways(x, Populations(sizes, largest, len(x)))
        for way, layer in self.layers():
            x = ways[way](layer, x)
        return x.mean(dim=1)

    def _ways(self, x: Tensor, populations: Populations) -> dict[Way, Callable[[Any, Tensor], Tensor]]:
        """Return functions for each kind of layer with its residual connection, by the size of the batch."""
        heads, tokens = self.spec.heads, x.shape[1]
        cos, sin = self.rotary_emb.angles(tokens)
        if not self.spec.dropout and small.is_small(x):
            time = small.Places(heads, tokens, turn=torch.complex(cos, sin))
            units = small.Places(heads, tokens, layout=populations.layout)
            return {
                "along_time": lambda attention, x: small.attend(attention, x, time),
                "across_units": lambda attention, x: small.attend(attention, x, units),
                "feed_forward": lambda feed, x: small.feed_forward(feed.norm, feed.in_proj, feed.out_proj, x),
            }
        add = self.add
        return {
            "along_time": lambda attention, x: add(x, attention.along_time(x, cos, sin)),
            "across_units": lambda attention, x: add(x, attention.across_units(x, populations)),
            "feed_forward": lambda feed, x: add(x, feed(x)),
        }


def _groups(sizes: list[int], most: int) -> list[list[int]]:
    """Group neighbouring populations while they have at most ``most`` units together; return their sizes."""
    groups: list[list[int]] = [[]]
    for size in sizes:
        if groups[-1] and sum(groups[-1]) + size > most:
            groups.append([])
        groups[-1].append(size)
    return groups


def _layers(blocks: nn.ModuleList) -> list[list[Any]]:
    return [list(cast(nn.ModuleList, block)) for block in blocks]


def as_patches(activity: Tensor, patch: int) -> Tensor:
    """Reshape ``(unit, time)`` to ``(unit, token, patch)``; a remainder at the end is dropped."""
    tokens = activity.shape[-1] // patch
    return activity[..., : tokens * patch].unflatten(-1, (tokens, patch))


def rankme(embeddings: Tensor) -> float:
    """Return the effective rank of embeddings ``(unit, dim)``; 1 means that they have collapsed.

    It is the exponential of the entropy of the normalised eigenvalues of the covariance of the
    L2-normalised rows (after RankMe, arXiv 2210.02885).
    """
    x = F.normalize(embeddings.double(), dim=-1)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T))
    # Rows that differ only by rounding must not add a direction.
    eigenvalues = torch.where(eigenvalues < 1e-12, 0.0, eigenvalues)
    p = eigenvalues / eigenvalues.sum().clamp_min(1e-12)
    return float(torch.special.entr(p).sum().exp())
