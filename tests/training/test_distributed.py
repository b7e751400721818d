"""Two CPU processes (gloo) stand in for two GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import finish, same, small, start
from strategies import population

from nuclr.config import load_config
from nuclr.model.saved import read_model
from nuclr.training.windows import PairBatches, ViewSpec, epoch_pairs

SAVE_GRADIENTS = """
import torch
from nuclr.training.pretrain import Pretraining

def save(self, optimizer):
    gradients = {name: p.grad for name, p in self.named_parameters()}
    torch.save(gradients, Path(sys.argv[2]).parent.with_suffix(f".gradients{self.trainer.global_rank}"))

Pretraining.on_before_optimizer_step = save
"""


@pytest.mark.parametrize("loss", ["contrastive", "vicreg"])
def test_the_gradient_of_a_step_is_that_of_one_process(folder: Path, tmp_path: Path, loss: str) -> None:
    """VICReg is a mean over all units, so it is compared where each process has the same batch."""
    gradients = []
    for devices in (1, 2):
        config = load_config(
            small(steps=1, pairs_per_step=6, loss=loss).model_dump(),
            {"model": {"dropout": 0}, "machine": {"devices": devices}},
        )
        code, said = finish(start(folder, tmp_path, f"run{devices}", config, SAVE_GRADIENTS)[0])
        assert code == 0, said
        gradients.append(torch.load(tmp_path / f"run{devices}.gradients0", weights_only=True))
    one, two = gradients
    other = torch.load(tmp_path / "run2.gradients1", weights_only=True)
    for name in one:
        assert torch.equal(two[name], other[name])
        if loss == "contrastive":
            torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=0)


def test_two_processes_train_as_one(folder: Path, tmp_path: Path) -> None:
    outputs = []
    for devices in (1, 2):
        config = load_config(
            small(steps=4, pairs_per_step=4).model_dump(),
            {"model": {"dropout": 0}, "machine": {"devices": devices}},
        )
        process, output = start(folder, tmp_path, f"run{devices}", config)
        code, said = finish(process)
        assert code == 0, said
        outputs.append(output)
    # Embeddings, not weights: the keys' bias moves nothing, and Adam blows up the rounding of its gradient.
    x = torch.poisson(torch.ones(12, 4, 25), torch.Generator().manual_seed(0))
    one, two = (read_model(output).encoder(x, torch.tensor([12])) for output in outputs)
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)


STOP = """
import os, signal
from nuclr.training import checkpoints
save = checkpoints.save_checkpoint

def save_and_stop(trainer, path):
    save(trainer, path)
    if trainer.global_step == 20:
        trainer.strategy.barrier()
        if trainer.global_rank in {ranks}:
            os.kill(os.getpid(), signal.{name})

checkpoints.save_checkpoint = save_and_stop
"""


def test_two_processes_that_were_stopped_go_on_as_if_they_had_not(folder: Path, tmp_path: Path) -> None:
    """With dropout: each process has its own random numbers, and they are saved too."""
    config = small(steps=50, machine={"devices": 2, "checkpoint_every": 20})
    process, expected = start(folder, tmp_path, "undisturbed", config)
    assert finish(process)[0] == 0
    for name, ranks, step in (("SIGKILL", [0, 1], 20), ("SIGTERM", [0], 30)):
        process, output = start(folder, tmp_path, name, config, STOP.format(name=name, ranks=ranks))
        code, said = finish(process)
        assert code != 0
        assert (f"stopped by SIGTERM; step {step} is saved" in said) == (name == "SIGTERM")
        code, said = finish(start(folder, tmp_path, name, config)[0])
        assert code == 0, said
        assert f"going on from step-{step:08d}.ckpt" in said
        assert same(expected, output)


@pytest.mark.parametrize("cache", [None, 30_000])
def test_each_process_has_other_pairs_and_an_epoch_shows_each_pair_once(cache: int | None) -> None:
    """Every window is told by the number that its bins hold."""
    spec = ViewSpec(patch=5, tokens=2, distance=0, unit_dropout=1.0)
    populations = []
    for index in range(3):
        numbers = np.broadcast_to(1000 * index + np.arange(500, dtype=np.uint16) + 1, (12, 500))
        made = population(units=12, bins=500, recording=str(index))
        populations.append(replace(made, activity=np.ascontiguousarray(numbers)))
    shown: list[list[int]] = []
    for rank in (0, 1):
        batches = PairBatches(populations, spec, 4, 0, rank=rank, world=2, cache=cache)
        shown.append([])
        for step in range(batches.steps_per_epoch):
            first = batches[step].patches[: int(batches[step].sizes1.sum())]
            shown[rank] += first[::12, 0, 0].int().tolist()
    assert not set(shown[0]) & set(shown[1])
    pairs = epoch_pairs(populations, spec, 0, 0, cache)[: 4 * batches.steps_per_epoch]
    assert sorted(shown[0] + shown[1]) == sorted(1000 * pairs[:, 0] + pairs[:, 1] + 1)
