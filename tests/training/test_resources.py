"""What a run makes use of where the configuration leaves it open; the machines here are pretended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nuclr.config import Machine, load_config
from nuclr.errors import ConfigError
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.training import resources
from nuclr.training.resources import compiles, loader_workers, tensor_cores, uses_kernels

SPEC = EncoderSpec(patch=5, tokens=4, dim=24, heads=2, dim_head=8)


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "cpu_count", lambda: 16)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("machine", "slurm", "workers"),
    [
        ({}, {}, 4),
        ({"devices": 4}, {}, 3),
        ({"devices": 8}, {}, 1),
        ({"devices": 16}, {}, 0),
        ({"workers": 11}, {}, 11),
        ({"workers": 0}, {}, 0),
        ({}, {"SLURM_CPUS_PER_TASK": "2"}, 1),
        ({}, {"SLURM_CPUS_PER_TASK": "64"}, 4),
        ({"devices": 2}, {"SLURM_CPUS_PER_TASK": "6"}, 2),
        # On several nodes srun starts each process, with cores of its own.
        ({"devices": 2, "num_nodes": 2}, {"SLURM_CPUS_PER_TASK": "6", "SLURM_NTASKS": "4"}, 4),
        ({}, {"SLURM_CPUS_PER_TASK": "what"}, 4),
    ],
)
def test_workers_follow_the_cores_that_a_device_has(
    machine: dict[str, Any], slurm: dict[str, str], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert loader_workers(Machine(**machine), on_gpu=True) == workers


def test_a_cpu_has_no_cores_to_spare_for_workers() -> None:
    assert loader_workers(Machine(), on_gpu=False) == 0
    assert loader_workers(Machine(workers=2), on_gpu=False) == 2


def test_own_kernels_where_a_gpu_has_them_else_compiled_if_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not uses_kernels(Machine(), SPEC, on_gpu=False)
    monkeypatch.setattr(resources, "can_fuse", lambda spec, device: True)
    assert uses_kernels(Machine(), SPEC, on_gpu=True)
    assert not uses_kernels(Machine(kernels="torch"), SPEC, on_gpu=True)
    assert not uses_kernels(Machine(compile=True), SPEC, on_gpu=True)
    assert not compiles(Machine(), 50_000, on_gpu=True, kernels=True)
    assert compiles(Machine(), 50_000, on_gpu=True, kernels=False)
    assert not compiles(Machine(), 100, on_gpu=True, kernels=False)
    assert not compiles(Machine(), 50_000, on_gpu=False, kernels=False)
    assert compiles(Machine(compile=True), 100, on_gpu=False, kernels=False)
    assert not compiles(Machine(compile=False), 50_000, on_gpu=True, kernels=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workers": -1}, "machine.workers: must be auto, or a number of processes (0 or more) (got -1)"),
        ({"workers": "many"}, "machine.workers: must be auto"),
        ({"workers": True}, "machine.workers: must be auto"),
        ({"compile": "yes"}, "machine.compile: must be auto, true or false (got 'yes')"),
        ({"kernels": "triton"}, "machine.kernels: Input should be 'auto' or 'torch'"),
    ],
)
def test_a_wrong_choice_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"machine": values})
    assert said in str(caught.value)


def test_products_are_rounded_while_training_alone() -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    with tensor_cores():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_compiled_encoder_is_compiled_once_for_batches_of_all_shapes() -> None:
    """On the meta device, where an encoder does as on a GPU."""
    graphs = 0

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        nonlocal graphs
        graphs += 1
        return graph

    torch._dynamo.reset()
    encoder = Encoder(SPEC).to("meta")
    encoder.compile(dynamic=True, backend=count)
    for sizes in ([3, 5, 2], [7, 4, 11], [30, 20, 10], [13, 12, 18], [5, 4, 3]):
        patches = torch.empty(sum(sizes), 4, 5, device="meta")
        encoder(patches, torch.empty(len(sizes), dtype=torch.int64, device="meta"), max(sizes))
    assert graphs == 1
