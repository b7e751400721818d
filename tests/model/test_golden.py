"""The encoder, the loss and RankMe against numbers computed with the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_files import golden_encoder, load_golden

from nuclr.model.encoder import as_patches, rankme
from nuclr.model.loss import Projector, contrastive_loss


@torch.no_grad()
def test_ephys_embeddings_equal_the_authors() -> None:
    golden = load_golden("encoder_ephys.npz")
    encoder = golden_encoder(golden, patch=50, tokens=10)
    patches = torch.from_numpy(golden["patches"]).unflatten(0, (-1, 10))
    embeddings = encoder(patches, torch.from_numpy(golden["population_sizes"]))
    torch.testing.assert_close(embeddings, torch.from_numpy(golden["embeddings"]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_calcium_embeddings_equal_the_authors() -> None:
    golden = load_golden("encoder_calcium.npz")
    encoder = golden_encoder(golden, patch=4, tokens=32)
    patches = as_patches(torch.from_numpy(golden["traces"]), 4)
    embeddings = encoder(patches, torch.from_numpy(golden["population_sizes"]))
    torch.testing.assert_close(embeddings, torch.from_numpy(golden["embeddings"]), atol=1e-5, rtol=0)


def test_loss_and_gradients_equal_the_authors() -> None:
    golden = load_golden("loss.npz")
    projector = Projector(16)
    projector.load_state_dict(
        {
            k.removeprefix("weights/projector."): torch.from_numpy(v)
            for k, v in golden.items()
            if k.startswith("weights/")
        }
    )
    x1, x2 = (
        torch.from_numpy(np.concatenate([golden[f"x{v}_{i}"] for i in range(3)])).requires_grad_()
        for v in (1, 2)
    )
    sizes1, sizes2 = (torch.tensor([len(golden[f"x{v}_{i}"]) for i in range(3)]) for v in (1, 2))
    starts = torch.stack([sizes1.cumsum(0) - sizes1, sizes2.cumsum(0) - sizes2], dim=1)
    match = torch.cat([torch.from_numpy(golden[f"match_{i}"]) + starts[i][:, None] for i in range(3)], dim=1)
    parts = contrastive_loss(
        projector(x1), projector(x2), sizes1, sizes2, match, float(golden["temperature"])
    )
    parts.total.backward()
    for ours, name in (
        (parts.total, "loss"),
        (parts.attraction, "loss_numer"),
        (parts.repulsion, "loss_denom"),
    ):
        assert ours.item() == pytest.approx(float(golden[name]), rel=1e-5)
    torch.testing.assert_close(x1.grad, torch.from_numpy(golden["grad_x1"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(x2.grad, torch.from_numpy(golden["grad_x2"]), atol=1e-5, rtol=0)


def test_rankme_equals_the_authors() -> None:
    golden = load_golden("rankme.npz")
    assert rankme(torch.from_numpy(golden["x"])) == pytest.approx(golden["rankme"].item(), rel=1e-4)
