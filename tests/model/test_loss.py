"""The loss against a plain one that follows the formula, population by population."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nuclr.model.loss import WideProjector, contrastive_loss, vicreg_loss


def plain(z1: torch.Tensor, z2: torch.Tensor, match: torch.Tensor, t: float, same: float) -> torch.Tensor:
    """Sum over matched units of one population, both directions averaged; written as the formula."""
    z1, z2 = F.normalize(z1, dim=-1), F.normalize(z2, dim=-1)
    total = z1.new_zeros(())
    for one, two, pairs in ((z1, z2, match), (z2, z1, match.flip(0))):
        for i, j in pairs.T.tolist():
            others = [torch.exp(one[i] @ two[k] / t) for k in range(len(two)) if k != j]
            others += [torch.exp(one[i] @ one[k] / same) for k in range(len(one)) if k != i]
            mean = torch.stack(others).sum() / (len(one) + len(two))
            total = total + ((1 - one[i] @ two[j]) / t + mean.log()) / 2
    return total


@st.composite
def views(draw: st.DrawFn) -> tuple[list[int], list[int], list[torch.Tensor], int]:
    pairs = draw(st.integers(1, 4))
    sizes1 = [draw(st.integers(2, 7)) for _ in range(pairs)]
    sizes2 = [draw(st.integers(2, 7)) for _ in range(pairs)]
    matches = []
    for one, two in zip(sizes1, sizes2, strict=True):
        count = draw(st.integers(1, min(one, two)))
        first = draw(st.permutations(range(one)))[:count]
        second = draw(st.permutations(range(two)))[:count]
        matches.append(torch.tensor([first, second]))
    return sizes1, sizes2, matches, draw(st.integers(0, 99))


@settings(max_examples=40)
@given(views(), st.sampled_from([0.1, 0.2, 1.0]), st.sampled_from([0.2, 1.0]))
def test_the_loss_is_the_formula(
    made: tuple[list[int], list[int], list[torch.Tensor], int], t: float, same: float
) -> None:
    sizes1, sizes2, matches, seed = made
    torch.manual_seed(seed)
    z1, z2 = torch.randn(sum(sizes1), 6).double(), torch.randn(sum(sizes2), 6).double()
    start1, start2, offset = 0, 0, []
    for one, two, match in zip(sizes1, sizes2, matches, strict=True):
        offset.append(match + torch.tensor([[start1], [start2]]))
        start1, start2 = start1 + one, start2 + two
    flat = torch.cat(offset, dim=1)
    parts = contrastive_loss(
        z1, z2, torch.tensor(sizes1), torch.tensor(sizes2), flat, temperature=t, same_view_temperature=same
    )
    expected = sum(
        plain(a, b, match, t, same)
        for a, b, match in zip(z1.split(sizes1), z2.split(sizes2), matches, strict=True)
    )
    torch.testing.assert_close(parts.total.double(), expected / flat.shape[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts.total, parts.attraction + parts.repulsion)


def test_views_may_change_places() -> None:
    torch.manual_seed(0)
    z1, z2 = torch.randn(7, 6), torch.randn(5, 6)
    sizes1, sizes2 = torch.tensor([4, 3]), torch.tensor([3, 2])
    match = torch.tensor([[0, 2, 5], [1, 2, 4]])
    there = contrastive_loss(z1, z2, sizes1, sizes2, match).total
    back = contrastive_loss(z2, z1, sizes2, sizes1, match.flip(0)).total
    torch.testing.assert_close(there, back)


def test_vicreg_is_its_three_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    z1, z2 = (0.7 * torch.randn(n, 5, generator=generator) for n in (9, 12))
    match = torch.tensor([[0, 3, 8], [11, 2, 5]])
    parts = vicreg_loss(z1, z2, match)
    x1, x2 = z1.double().numpy(), z2.double().numpy()
    invariance = np.mean((x1[[0, 3, 8]] - x2[[11, 2, 5]]) ** 2)
    variance = sum(np.maximum(0, 1 - np.sqrt(x.var(0, ddof=1) + 1e-4)).mean() for x in (x1, x2))
    covariances = [np.cov(x.T) for x in (x1, x2)]
    covariance = sum((c**2)[~np.eye(5, dtype=bool)].sum() / 5 for c in covariances)
    np.testing.assert_allclose(
        [float(part) for part in parts],
        [25 * invariance + 25 * variance + covariance, invariance, variance, covariance],
        rtol=1e-5,
    )


def test_vicreg_pushes_apart_what_has_collapsed() -> None:
    z = torch.zeros(6, 4, requires_grad=True)
    loss = vicreg_loss(
        z + 1e-3 * torch.randn(6, 4), z + 1e-3 * torch.randn(6, 4), torch.arange(6).repeat(2, 1)
    )
    loss.total.backward()
    assert torch.isfinite(z.grad).all()
    assert float(loss.variance.detach()) > 1.9
    assert float(loss.invariance.detach()) < 1e-4


def test_vicregs_projector_is_three_layers_of_four_times_the_width() -> None:
    shapes = [tuple(p.shape) for p in WideProjector(8).parameters() if p.ndim == 2]
    assert shapes == [(32, 8), (32, 32), (32, 32)]
