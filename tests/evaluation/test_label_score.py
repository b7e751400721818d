"""What may choose among epochs: a probe of the label animals alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from strategies import population

from nuclr.config import Task, Views
from nuclr.data.splits import Splits
from nuclr.data.store import write_population
from nuclr.errors import SplitError, TrainingError
from nuclr.evaluation.label_score import label_score
from nuclr.model.encoder import Encoder, EncoderSpec

VIEWS = Views(window_s=2, patch=25, distance_s=5)
TASKS = [Task(name="cell_type", column="cell_type")]
SPEC = EncoderSpec(patch=25, tokens=4, dim=16, heads=2, dim_head=8)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Type a fires much more than type b."""
    folder = tmp_path_factory.mktemp("stores")
    for i, animal in enumerate("xyz"):
        made = population(units=30, bins=1000, seed=i, animal=animal, recording=animal)
        rates = np.where(made.units["cell_type"] == "a", 1.0, 0.1)[:, None]
        activity = np.random.default_rng(i).poisson(rates, (30, 1000)).astype(np.uint8)
        write_population(replace(made, activity=activity), folder / f"{animal}.zarr", chunk_s=20, shard_s=20)
    return sorted(folder.glob("*.zarr"))


def splits(*label: str) -> Splits:
    return Splits(test=["z"], label=list(label), orders=[["a"]])


def test_an_encoder_is_scored_by_the_label_animals_alone(stores: list[Path]) -> None:
    torch.manual_seed(0)
    encoder = Encoder(SPEC).eval()
    assert label_score(stores, splits("x", "y"), VIEWS, TASKS)(encoder) > 0.9
    torch.nn.init.zeros_(encoder.read_in.weight)
    assert label_score(stores, splits("x", "y"), VIEWS, TASKS)(encoder) < 0.6


def test_one_label_animal_is_too_few(stores: list[Path]) -> None:
    with pytest.raises(SplitError, match=r"there are 1; raise split\.label_animals"):
        label_score(stores, splits("x"), VIEWS, TASKS)


def test_a_label_animal_without_a_store_is_named(stores: list[Path]) -> None:
    with pytest.raises(TrainingError, match="no store of label animal q"):
        label_score(stores, splits("q", "x"), VIEWS, TASKS)
