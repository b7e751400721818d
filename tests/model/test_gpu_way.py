"""How a step would run on a GPU, shown without one: on torch's meta device.

A meta tensor holds no numbers, so anything that would make a CPU wait for a GPU's number is an error.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.loss import Projector, WideProjector, contrastive_loss, vicreg_loss


class Calls(TorchDispatchMode):
    """Count the operations that a device is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def step(populations: int, units: int, loss: str) -> tuple[int, list[Tensor | None]]:
    """Forward and backward of so many populations; the operations asked for, and the gradients."""
    meta = torch.device("meta")
    spec = EncoderSpec(patch=50, tokens=10, dim=16, heads=2, dim_head=8)
    encoder = Encoder(spec).to(meta)
    projector = (Projector if loss == "contrastive" else WideProjector)(16).to(meta)
    total = populations * units
    sizes = torch.empty(populations, dtype=torch.int64, device=meta)
    match = torch.empty(2, total // 2, dtype=torch.int64, device=meta)
    with Calls() as calls:
        # Two more than all have, so that the batch is padded.
        z = projector(
            encoder(torch.empty(2 * total, 10, 50, device=meta), torch.cat([sizes, sizes]), units + 2)
        )
        if loss == "contrastive":
            largest = units + 2, units + 2
            parts = contrastive_loss(z[:total], z[total:], sizes, sizes, match, largest=largest)
        else:
            parts = vicreg_loss(z[:total], z[total:], match)
        parts.total.backward()
    return calls.count, [p.grad for p in [*encoder.parameters(), *projector.parameters()]]


@pytest.mark.parametrize("loss", ["contrastive", "vicreg"])
def test_a_step_never_waits_and_asks_as_often_for_128_populations_as_for_two(loss: str) -> None:
    few, gradients = step(2, 30, loss)
    many, _ = step(128, 30, loss)
    assert many == few
    assert all(gradient is not None for gradient in gradients)


def test_the_largest_population_must_be_known_for_that() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        Encoder(EncoderSpec(patch=5, tokens=2, dim=8, heads=1, dim_head=8)).to("meta")(
            torch.empty(4, 2, 5, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
        )
