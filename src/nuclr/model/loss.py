"""Training losses: the contrastive loss of NuCLR, and VICReg.

Source: NuCLR (arXiv 2512.01199), section 3.3; decoupled as in DCL (arXiv 2110.06848). VICReg:
arXiv 2105.04906, with NuCLR's projector and factors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nuclr.model.attention import PopulationLayout


class LossParts(NamedTuple):
    """The contrastive loss and its parts, averaged over matched units and both directions.

    ``total = attraction + repulsion``; ``attraction`` is the cosine distance of a unit's two
    views over the temperature, ``repulsion`` the log-mean-exp of its similarities to others.
    """

    total: Tensor
    attraction: Tensor
    repulsion: Tensor


class VicregParts(NamedTuple):
    """The VICReg loss and its parts.

    ``total = 25 * invariance + 25 * variance + covariance``
    """

    total: Tensor
    invariance: Tensor
    variance: Tensor
    covariance: Tensor


class Projector(nn.Sequential):
    """Projector of the contrastive loss: LayerNorm, linear, ReLU, linear."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))


class WideProjector(nn.Sequential):
    """Projector of VICReg: three linear layers of width ``4 * dim`` with ReLU between them."""

    def __init__(self, dim: int) -> None:
        wide = 4 * dim
        super().__init__(
            nn.Linear(dim, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide)
        )


def contrastive_loss(
    z1: Tensor,
    z2: Tensor,
    sizes1: Tensor,
    sizes2: Tensor,
    match: Tensor,
    temperature: float = 0.2,
    same_view_temperature: float = 1.0,
    largest: tuple[int, int] | None = None,
) -> LossParts:
    """Return the contrastive loss: it attracts the views of a unit and repels its population (section 3.3).

    For unit i with views z1[i], z2[j] (both L2-normalised here) in a population:

    ``l(i) = (1 - z1[i].z2[j]) / t + log (1/N) (sum_k exp(z1[i].z2[k] / t) + sum_l exp(z1[i].z1[l] / t'))``

    over all k != j of the other view and l != i of the same view. N is the number of units in both
    views (like the authors' code, it includes i and j). The loss is averaged over matched units and both
    directions, so the weight of a population is its number of matched units.

    Parameters
    ----------
    z1, z2
        Projected embeddings of the two views, ``(unit, dim)``, one population after another.
    sizes1, sizes2
        Number of units of each population in each view, ``(population,)``.
    match
        Rows of the same unit in z1 and z2, ``(2, matched)``.
    temperature
        t above.
    same_view_temperature
        t' above; 1 as in the authors' code, or equal to ``temperature`` for the symmetric form.
    largest
        The largest of ``sizes1`` and of ``sizes2``, if the caller knows them.

    Returns
    -------
    LossParts
        Scalars.

    Examples
    --------
    >>> import torch
    >>> z = torch.eye(4)
    >>> sizes = torch.tensor([4])
    >>> match = torch.arange(4).repeat(2, 1)
    >>> round(float(contrastive_loss(z, z, sizes, sizes, match).total), 3)  # log(6 / 8)
    -0.288
    """
    if largest is None:
        largest = (int(sizes1.max()), int(sizes2.max()))
    # Both directions at once: each view of a population is treated as a population, first views first.
    z = F.normalize(torch.cat([z1, z2]), dim=-1)
    layout = PopulationLayout.from_sizes(torch.cat([sizes1, sizes2]), max(largest), len(z))
    padded = layout.pad(z).unflatten(0, (2, -1))
    slots = padded.shape[2]
    own = torch.cat([match[0], match[1] + len(z1)])
    population, slot = _place(layout, own)
    _, slot_other = _place(layout, own.roll(match.shape[1]))

    # Similarities to each unit of the other view, then to each unit of the same view.
    keys = torch.cat([padded.flip(0) / temperature, padded / same_view_temperature], dim=2)
    logits = (padded @ keys.transpose(2, 3)).flatten(0, 2).index_select(0, layout.row.index_select(0, own))
    positive = logits.gather(1, slot_other[:, None])
    others = _filled(layout).unflatten(0, (2, -1))
    others = torch.cat([others.flip(0), others], dim=2).flatten(0, 1).index_select(0, population)
    others = others.scatter(1, torch.stack([slot_other, slots + slot], dim=1), False)
    attraction = 1 / temperature - positive.mean()
    units = others.sum(-1) + 2
    repulsion = (logits.float().masked_fill(~others, float("-inf")).logsumexp(-1) - units.log()).mean()
    return LossParts(attraction + repulsion, attraction, repulsion)


def _place(layout: PopulationLayout, units: Tensor) -> tuple[Tensor, Tensor]:
    """Return the population and the slot of each of some units."""
    row, slots = layout.row.index_select(0, units), layout.index.shape[1]
    return row // slots, row % slots


def _filled(layout: PopulationLayout) -> Tensor:
    """Return which slots contain a unit, ``(population, slot)``."""
    return layout.filled if layout.filled is not None else torch.ones_like(layout.index, dtype=torch.bool)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def vicreg_loss(
    z1: Tensor,
    z2: Tensor,
    match: Tensor,
    factors: tuple[float, float, float] = (25.0, 25.0, 1.0),
    cutoff: float = 1.0,
    sum_over: Callable[[Tensor], Tensor] = _as_it_is,
) -> VicregParts:
    """Return the VICReg loss, which attracts the views of a unit and keeps dimensions wide and uncorrelated.

    There are no negatives, so populations do not matter: variance and covariance are over all units of a
    view in the batch. A batch may be distributed over processes: each calls this function with its own
    units, possibly none, and all get the loss of the whole batch.

    Parameters
    ----------
    z1, z2
        Projected embeddings of the two views, ``(unit, dim)``; at least two units over all processes.
    match
        Rows of the same unit in z1 and z2, ``(2, matched)``.
    factors
        Weights of invariance (mean squared distance of matched units), variance (how far the standard
        deviation of each dimension is below ``cutoff``, both views) and covariance (sum of squares of the
        off-diagonal covariance over dim, both views).
    cutoff
        Standard deviation below which a dimension is penalised.
    sum_over
        Differentiable function that sums a tensor over all processes with a part of the batch.

    Returns
    -------
    VicregParts
        Scalars.
    """
    z1, z2 = z1.float(), z2.float()
    distances = (z1.index_select(0, match[0]) - z2.index_select(0, match[1])).square()
    squares, matched = sum_over(torch.stack([distances.sum(), z1.new_full((), distances.numel())]))
    invariance = squares / matched.clamp_min(1)
    (variance1, covariance1), (variance2, covariance2) = (_spread(z, cutoff, sum_over) for z in (z1, z2))
    variance, covariance = variance1 + variance2, covariance1 + covariance2
    total = factors[0] * invariance + factors[1] * variance + factors[2] * covariance
    return VicregParts(total, invariance, variance, covariance)


def _spread(z: Tensor, cutoff: float, sum_over: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the variance and covariance terms of one view, over the units of all processes."""
    sums = sum_over(torch.cat([z.sum(dim=0), z.new_full((1,), len(z))]))
    units = sums[-1]
    centred = z - sums[:-1] / units.clamp_min(1)
    # torch.cov would read a number and so make the CPU wait for a GPU.
    covariance = sum_over(centred.T @ centred) / (units - 1).clamp_min(1)
    variances = covariance.diagonal()
    # 1e-4 keeps the gradient of the root finite where a dimension does not vary.
    narrow = (cutoff - (variances + 1e-4).sqrt()).clamp_min(0).mean()
    return narrow, (covariance.square().sum() - variances.square().sum()) / z.shape[1]
