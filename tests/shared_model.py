"""A small model with probes in its folder, and recordings that it can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from strategies import population

from nuclr.data.population import Population
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.model.card import CARD, write_card
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.saved import save_model
from nuclr.model.tensor_files import MODEL, read_record
from nuclr.sharing.folder import add_probe
from nuclr.sharing.loaded import load_model

SPEC = EncoderSpec(
    patch=25, tokens=4, dim=8, heads=2, dim_head=4, temporal_blocks=1, spatiotemporal_blocks=1, dropout=0.0
)
RECORD = {
    "modality": "spikes",
    "bin_s": 0.02,
    "config": {"views": {"window_s": 2.0, "patch": 25}},
    "datasets": ["mice"],
    "animals": ["m1"],
    "units": 10,
    "hours": 0.1,
}


def recorded(animal: str, units: int = 24, seed: int = 0, depth: bool = True) -> Population:
    """Make a population of which every other unit fires four times as fast; they lie in halves of a probe."""
    made = population(units=units, bins=1000, animal=animal, recording=animal, seed=seed)
    fast = np.arange(units) % 2 == 1
    rng = np.random.default_rng([seed, 1])
    activity = rng.poisson(np.where(fast, 0.4, 0.1)[:, None], (units, 1000)).astype(np.uint8)
    table = made.units.assign(
        brain_region=np.where(fast, "VISp", "CA1"), kind=np.where(fast, "quick", "slow")
    )
    if depth:
        table = table.assign(depth_um=np.where(fast, 500.0, 0.0) + 10.0 * np.arange(units))
    source = {"file": f"{animal}.nwb", "sha256": f"{animal}{seed}"}
    return Population(**{**vars(made), "activity": activity, "units": table, "source": source})


def write_shared(folder: Path, tasks: tuple[str, ...] = ("brain_region", "kind")) -> Path:
    """Write a model with probes of some columns to a folder."""
    torch.manual_seed(0)
    save_model(folder / MODEL, Encoder(SPEC), RECORD)
    write_card(folder / CARD, read_record(folder, "model", ""))
    model = load_model(folder)
    embeddings = model.embed([recorded(f"m{i}", seed=i) for i in range(6)])
    for task in tasks:
        add_probe(folder, train_probe(embeddings, task, kinds=("linear",)), embeddings)
    return folder
