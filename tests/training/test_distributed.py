"""Two CPU processes (gloo) stand in for two GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import finish, metrics, run, same, small, start
from strategies import population
from torch import distributed, multiprocessing

from nuclr.config import Config, load_config
from nuclr.model.loss import vicreg_loss
from nuclr.model.saved import read_model
from nuclr.training.module import Pretraining, sum_over_processes
from nuclr.training.windows import PairBatches, ViewSpec, epoch_pairs

SAVE_GRADIENTS = """
import torch
from nuclr.training.module import Pretraining

def save(self, optimizer):
    gradients = {name: p.grad for name, p in self.named_parameters()}
    torch.save(gradients, Path(sys.argv[2]).parent.with_suffix(f".gradients{self.trainer.global_rank}"))

Pretraining.on_before_optimizer_step = save
"""


def config_of(devices: int, **pretrain: Any) -> Config:
    """Make a small configuration without dropout, in which each process has masks of its own."""
    return load_config(
        small(**pretrain).model_dump(), {"model": {"dropout": 0}, "machine": {"devices": devices}}
    )


@pytest.mark.parametrize("loss", ["contrastive", "vicreg"])
def test_the_gradient_of_a_step_is_that_of_one_process(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    settings: dict[str, Any] = {"steps": 1, "pairs_per_step": 6, "loss": loss}
    one: dict[str, torch.Tensor] = {}

    def save(self: Pretraining, optimizer: torch.optim.Optimizer) -> None:
        one.update({name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None})

    monkeypatch.setattr(Pretraining, "on_before_optimizer_step", save)
    run(folder, tmp_path, "run1", config=config_of(1, **settings))
    code, said = finish(start(folder, tmp_path, "run2", config_of(2, **settings), SAVE_GRADIENTS)[0])
    assert code == 0, said
    two, other = (torch.load(tmp_path / f"run2.gradients{rank}", weights_only=True) for rank in (0, 1))
    assert set(one) == set(two)
    for name in one:
        assert torch.equal(two[name], other[name])
        # VICReg's factors of 25 make its gradients larger, and their rounding with them.
        rtol = 0 if loss == "contrastive" else 1e-5
        torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=rtol)


def _losses_of_shares(rank: int, rendezvous: str, expected: list[torch.Tensor]) -> None:
    """Check, in one of two processes, that VICReg's loss of all and its gradient are those of one process."""
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    value, *gradients = expected
    for shares in ((4, 5), (9, 0), (8, 1)):
        first = sum(shares[:rank])
        own = [z[first : first + shares[rank]].clone().requires_grad_() for z in _views()]
        match = torch.arange(shares[rank]).repeat(2, 1)
        loss = vicreg_loss(own[0], own[1], match, sum_over=sum_over_processes).total
        loss.backward()
        torch.testing.assert_close(loss.detach(), value)
        for z, whole in zip(own, gradients, strict=True):
            assert z.grad is not None
            # DDP takes the mean over processes.
            torch.testing.assert_close(z.grad / 2, whole[first : first + shares[rank]])
    distributed.destroy_process_group()


def _views() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(9, 4, generator=generator) for _ in range(2)]


def test_vicreg_of_all_processes_is_that_of_one(tmp_path: Path) -> None:
    """Also where one of them holds a unit or none."""
    z1, z2 = (z.requires_grad_() for z in _views())
    whole = vicreg_loss(z1, z2, torch.arange(9).repeat(2, 1)).total
    whole.backward()
    expected = [whole.detach(), z1.grad, z2.grad]
    multiprocessing.spawn(_losses_of_shares, args=(f"file://{tmp_path / 'rendezvous'}", expected), nprocs=2)


IDLE = """
from nuclr.training.module import Pretraining
step = Pretraining.training_step

def idle(self, batch, index):
    nothing = self.trainer.global_rank == 1 and index == 0
    return step(self, batch._replace(match=batch.match[:, :0]) if nothing else batch, index)

Pretraining.training_step = idle
"""


def test_a_process_without_a_pair_makes_nobody_wait(folder: Path, tmp_path: Path) -> None:
    """VICReg's, which sums over all processes in the middle of its loss."""
    config = small(steps=2, pairs_per_step=2, loss="vicreg", machine={"devices": 2})
    code, said = finish(start(folder, tmp_path, "idle", config, IDLE)[0])
    assert code == 0, said


PROBED = """
from functools import partial
from nuclr.config import Task, Views
from nuclr.data.splits import Splits
from nuclr.evaluation import label_score

embed = label_score.embed_population

def embed_and_say(encoder, population, spec):
    sys.stderr.write(f"embeds {population.animal}\\n")  # at once, since the other process writes there too
    return embed(encoder, population, spec)

label_score.embed_population = embed_and_say
splits = Splits(test=["z"], label=["b", "c"], orders=[["a"]])
score = label_score.label_score(
    stores(Path(sys.argv[1])), splits, Views(window_s=2, patch=25, distance_s=5), [Task(name="cell_type")]
)
pretrain_run = partial(pretrain_run, score=score)
"""


def test_processes_share_the_probing_of_label_animals(folder: Path, tmp_path: Path) -> None:
    scores = []
    for devices in (1, 2):
        config = config_of(devices, steps=29, probe_every=1, keep="best")
        process, output = start(folder, tmp_path, f"run{devices}", config, PROBED)
        code, said = finish(process)
        assert code == 0, said
        # Before the first step and after the last, each animal by one process.
        assert said.count("embeds b") == said.count("embeds c") == 2
        assert said.count("macro-F1 of the label animals") == 2
        scores.append(metrics(output)["label_score"].dropna().tolist())
    assert scores[0] == pytest.approx(scores[1])


def test_two_processes_train_as_one(folder: Path, tmp_path: Path) -> None:
    settings = {"steps": 4, "pairs_per_step": 4}
    alone = run(folder, tmp_path, "run1", config=config_of(1, **settings))
    process, shared = start(folder, tmp_path, "run2", config_of(2, **settings))
    code, said = finish(process)
    assert code == 0, said
    # Embeddings, not weights: the keys' bias moves nothing, and Adam blows up the rounding of its gradient.
    x = torch.poisson(torch.ones(12, 4, 25), torch.Generator().manual_seed(0))
    one, two = (read_model(output).encoder(x, torch.tensor([12])) for output in (alone, shared))
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)


STOP = """
import os, signal
from nuclr.training import checkpoints
save = checkpoints.save_checkpoint

def save_and_stop(trainer, path):
    save(trainer, path)
    if trainer.global_step == {step}:
        trainer.strategy.barrier()
        if trainer.global_rank in {ranks}:
            os.kill(os.getpid(), signal.{name})

checkpoints.save_checkpoint = save_and_stop
"""


def test_two_processes_that_were_stopped_go_on_as_if_they_had_not(folder: Path, tmp_path: Path) -> None:
    """With dropout: each process has its own random numbers, and they are saved too."""
    config = small(steps=70, machine={"devices": 2, "checkpoint_every": 20})
    process, expected = start(folder, tmp_path, "undisturbed", config)
    assert finish(process)[0] == 0
    # One run is killed at its first checkpoint and, having gone on from there, asked to end at its second.
    begins = ""
    for name, ranks, step, saved in (("SIGKILL", [0, 1], 20, 20), ("SIGTERM", [0], 40, 50)):
        process, output = start(
            folder, tmp_path, "stopped", config, STOP.format(name=name, ranks=ranks, step=step)
        )
        code, said = finish(process)
        assert code != 0
        assert begins in said
        assert (f"stopped by SIGTERM after step {saved}, which is saved" in said) == (name == "SIGTERM")
        begins = f"resuming from step-{saved:08d}.ckpt"
    code, said = finish(start(folder, tmp_path, "stopped", config)[0])
    assert code == 0, said
    assert begins in said
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
