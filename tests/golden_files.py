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


def part_of(golden: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Arrays whose names begin with ``name/``, without it."""
    return {key.removeprefix(f"{name}/"): x for key, x in golden.items() if key.startswith(f"{name}/")}


def golden_encoder(golden: dict[str, np.ndarray], patch: int, tokens: int) -> Encoder:
    """Make the encoder of a golden file, with its weights."""
    config = {key: x.item() for key, x in part_of(golden, "config").items()}
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
    weights = {key: torch.from_numpy(x) for key, x in part_of(golden, "weights").items()}
    encoder.load_state_dict(weights, strict=True)
    torch.testing.assert_close(made_by_us, encoder.rotary_emb.omega)
    return encoder.eval()
