"""Numbers computed with the authors' code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nuclr.model.encoder import Encoder, EncoderSpec

GOLDEN = Path(__file__).parent / "golden"


def load_golden(name: str) -> dict[str, np.ndarray]:
    """Read the arrays of a golden file."""
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def golden_encoder(golden: dict[str, np.ndarray], patch: int, tokens: int) -> Encoder:
    """Make the encoder of a golden file, with its weights."""
    config = {k.removeprefix("config/"): v.item() for k, v in golden.items() if k.startswith("config/")}
    spec = EncoderSpec(
        patch=patch,
        tokens=tokens,
        dim=config["dim"],
        heads=config["self_heads"],
        dim_head=config["dim_head"],
        temporal_blocks=config["t_layers"],
        spatiotemporal_blocks=config["st_layers"],
    )
    encoder = Encoder(spec)
    made_by_us = encoder.rotary_emb.omega.clone()
    weights = {
        k.removeprefix("weights/"): torch.from_numpy(v) for k, v in golden.items() if k.startswith("weights/")
    }
    encoder.load_state_dict(weights, strict=True)
    torch.testing.assert_close(made_by_us, encoder.rotary_emb.omega)
    return encoder.eval()
