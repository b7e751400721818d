"""Pretraining learns, goes on where it was killed, and gives the same numbers again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from strategies import population

from nuclr.config import Config, load_config
from nuclr.data.store import write_population
from nuclr.errors import DataError, TrainingError
from nuclr.model.encoder import EncoderSpec
from nuclr.model.saved import load_model
from nuclr.training.checkpoints import last_checkpoint
from nuclr.training.pretrain import Pretraining
from nuclr.training.run import pretrain_run

SMALL = {
    "model": {"dim": 16, "heads": 2, "dim_head": 8, "temporal_blocks": 1, "spatiotemporal_blocks": 1},
    "views": {"window_s": 2, "patch": 25, "distance_s": 5},
    "pretrain": {"steps": 12, "pairs_per_step": 2},
    "machine": {"checkpoint_every": 4},
}


def small(machine: dict[str, object] | None = None, **pretrain: object) -> Config:
    return load_config(SMALL, {"model": {"dropout": 0.1}, "pretrain": pretrain, "machine": machine or {}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    for i, animal in enumerate(["a", "b", "c"]):
        made = population(units=16, bins=3000, seed=i, animal=animal, recording=animal)
        write_population(made, folder / animal / "probe.zarr", chunk_s=20, shard_s=60)
    return folder


def run(folder: Path, tmp_path: Path, name: str, *, seed: int = 0, config: Config | None = None) -> Path:
    output = tmp_path / name / "model.safetensors"
    pretrain_run([folder], ["a", "b"], config or small(), seed, output=output, checkpoints=tmp_path / "ckpt")
    return output


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).encoder.state_dict()


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return all(torch.equal(a[name], b[name]) for name in a)


def learned(path: Path) -> pd.DataFrame:
    """Metrics without how fast they came."""
    return pd.read_csv(path.with_name("metrics.csv")).drop(columns=["units_per_s", "data_wait"])


def test_the_same_seed_gives_the_same_model_and_another_seed_another(folder: Path, tmp_path: Path) -> None:
    one, again = run(folder, tmp_path, "one"), run(folder, tmp_path, "again")
    other = run(folder, tmp_path, "other", seed=1)
    assert same(one, again)
    assert not same(one, other)


def test_a_model_says_what_it_was_made_from(folder: Path, tmp_path: Path) -> None:
    path = run(folder, tmp_path, "one", seed=5)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["animals"] == ["a", "b"]
    assert record["seed"] == 5
    assert sorted(record["inputs"]) == ["a/probe", "b/probe"]
    assert record["config"]["pretrain"]["steps"] == 12
    assert "torch" in record["versions"]
    metrics = pd.read_csv(path.with_name("metrics.csv"))
    assert metrics["step"].tolist() == [10, 12]
    assert not list((tmp_path / "ckpt").iterdir())


def test_a_run_of_no_animals_is_the_untrained_encoder(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "n0" / "model.safetensors"
    pretrain_run([folder], [], small(), 3, output=output, checkpoints=tmp_path / "ckpt")
    torch.manual_seed(3)
    spec = EncoderSpec(patch=25, tokens=4, dropout=0.1, **SMALL["model"])
    expected = Pretraining(spec, small().pretrain, 1).encoder.state_dict()
    for name, value in weights(output).items():
        torch.testing.assert_close(value, expected[name])


SCRIPT = """
import sys
from pathlib import Path
from nuclr.config import load_config
from nuclr.training.run import pretrain_run
folder, output, checkpoints, config = sys.argv[1:]
output, checkpoints = Path(output), Path(checkpoints)
pretrain_run([Path(folder)], ["a", "b"], load_config(config), 0, output=output, checkpoints=checkpoints)
"""


def test_killed_anywhere_a_run_goes_on_to_the_same_result(folder: Path, tmp_path: Path) -> None:
    config = small(steps=400, machine={"checkpoint_every": 20})
    expected = run(folder, tmp_path, "expected", config=config)
    output, checkpoints = tmp_path / "killed" / "model.safetensors", tmp_path / "checkpoints"
    command = [sys.executable, "-c", SCRIPT, str(folder), str(output), str(checkpoints)]
    command.append(config.sections(*SMALL))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waiting = time.monotonic()
    while not list(checkpoints.rglob("step-*.ckpt")):
        assert process.poll() is None, "it ended before its first checkpoint"
        assert time.monotonic() - waiting < 120
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert same(output, expected)
    pd.testing.assert_frame_equal(learned(output), learned(expected))


def test_batches_made_by_other_processes_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    """From stores, and after this process has used Dask's threads, which a forked worker cannot."""
    models = []
    for workers in (0, 2):
        output = tmp_path / str(workers) / "model.safetensors"
        settings = small(machine={"workers": workers}, cache_gb=1e-4).sections(*SMALL)
        arguments = [str(folder), str(output), str(tmp_path / "ckpt"), settings]
        threads = "import numpy, dask.array; numpy.asarray(dask.array.ones(9, chunks=3))\n"
        command = [sys.executable, "-c", threads + SCRIPT, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        models.append(output)
    assert same(*models)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"step": 1}, tmp_path / "step-00000001.ckpt")
    (tmp_path / "step-00000002.ckpt").write_bytes(b"half")
    (tmp_path / "step-00000003.partial").write_bytes(b"half")
    assert last_checkpoint(tmp_path) == tmp_path / "step-00000001.ckpt"
    assert "step-00000002.ckpt cannot be read" in caplog.text


def test_other_settings_do_not_go_on_from_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    changed = small(learning_rate=1e-5)
    assert not same(run(folder, tmp_path, "one"), run(folder, tmp_path, "one2", config=changed))


def test_a_small_population_is_skipped_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for units, animal in ((16, "a"), (10, "b")):
        made = population(units=units, bins=3000, animal=animal, recording=animal)
        write_population(made, tmp_path / animal / "probe.zarr", chunk_s=20, shard_s=60)
    run(tmp_path, tmp_path / "out", "one")
    assert "population b/probe has 10 units, fewer than views.min_units = 11: skipped" in caplog.text


def test_only_small_populations_are_refused(tmp_path: Path) -> None:
    for animal in ("a", "b"):
        made = population(units=9, bins=3000, animal=animal, recording=animal)
        write_population(made, tmp_path / animal / "probe.zarr", chunk_s=20, shard_s=60)
    with pytest.raises(TrainingError, match="hold 0 windows"):
        run(tmp_path, tmp_path / "out", "one")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_missing_recordings_are_named(folder: Path, tmp_path: Path) -> None:
    arguments = {"output": tmp_path / "m.safetensors", "checkpoints": tmp_path / "c"}
    with pytest.raises(TrainingError, match="no population store of animal z"):
        pretrain_run([folder], ["a", "z"], small(), 0, **arguments)
    with pytest.raises(DataError, match="no population stores in it"):
        pretrain_run([tmp_path], ["a"], small(), 0, **arguments)


def test_two_processes_train_as_one(folder: Path, tmp_path: Path) -> None:
    """Two CPU processes (gloo) stand in for two GPUs: the same pairs, the same gradients, the same model."""
    for devices in (1, 2):
        settings = {**SMALL, "pretrain": {"steps": 4, "pairs_per_step": 4}, "machine": {"devices": devices}}
        arguments = [str(folder), str(tmp_path / f"{devices}" / "model.safetensors"), str(tmp_path / "ckpt")]
        script = tmp_path / "train.py"
        script.write_text(SCRIPT)
        command = [sys.executable, str(script), *arguments, json.dumps(settings)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    # Embeddings, not weights: the keys' bias moves nothing, and Adam blows up the rounding of its gradient.
    x = torch.poisson(torch.ones(12, 4, 25), torch.Generator().manual_seed(0))
    one, two = (
        load_model(tmp_path / name / "model.safetensors").encoder(x, torch.tensor([12]))
        for name in ("1", "2")
    )
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)


def test_the_learning_rate_warms_up_then_falls_to_zero() -> None:
    spec = EncoderSpec(patch=5, tokens=4, dim=8, heads=1, dim_head=4)
    module = Pretraining(spec, small(steps=100).pretrain, warmup=10)
    rates = [module.share_of_peak(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_only_matrices_decay() -> None:
    spec = EncoderSpec(patch=5, tokens=4, dim=8, heads=1, dim_head=4)
    module = Pretraining(spec, small(weight_decay=0.3).pretrain, warmup=1)
    decayed, rest = module.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] == 0.3
    assert rest["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in rest["params"]} == {1}


def test_the_loss_falls(tmp_path: Path) -> None:
    """Units that differ only in rate can be told apart, so the loss must fall well below its start."""
    made = population(units=24, bins=3000)
    rates = np.linspace(0.02, 1.0, 24)[:, None]
    activity = np.random.default_rng(0).poisson(rates, (24, 3000)).astype(np.uint8)
    write_population(replace(made, activity=activity), tmp_path / "s.zarr", chunk_s=20, shard_s=60)
    output = tmp_path / "run" / "model.safetensors"
    pretrain_run([tmp_path], ["mouse"], small(steps=150), 0, output=output, checkpoints=tmp_path / "c")
    loss = pd.read_csv(output.with_name("metrics.csv"))["loss"]
    assert loss.iloc[-3:].mean() < loss.iloc[0] - 0.3
