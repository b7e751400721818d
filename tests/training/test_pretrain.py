"""Pretraining learns, and gives the same numbers again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partialmethod
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_run import SMALL, finish, metrics, run, same, small, start
from strategies import population
from torch.nn import functional as F

from nuclr.config import load_config
from nuclr.data.archives.left_out import leave_out, members_left_out
from nuclr.data.store import open_population, stores, write_population
from nuclr.errors import DataError, TrainingError
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.saved import read_model
from nuclr.training.module import Pretraining
from nuclr.training.run import Cohort, pretrain_run
from nuclr.training.windows import PairBatches, view_spec


def test_the_same_seed_gives_the_same_model_and_another_seed_another(folder: Path, tmp_path: Path) -> None:
    one, again = run(folder, tmp_path, "one"), run(folder, tmp_path, "again")
    other = run(folder, tmp_path, "other", seed=1)
    assert same(one, again)
    assert not same(one, other)


def test_a_model_says_what_it_was_made_from(folder: Path, tmp_path: Path) -> None:
    path = run(folder, tmp_path, "one", seed=5)
    record = json.loads(path.with_name("config.json").read_text())
    assert record["animals"] == ["a", "b"]
    assert record["seed"] == 5
    assert sorted(record["inputs"]) == ["a/probe", "b/probe"]
    assert record["config"]["pretrain"]["steps"] == 12
    assert "torch" in record["versions"]
    assert metrics(path)["step"].tolist() == [10, 12]
    assert not list((tmp_path / "ckpt").iterdir())


def test_a_run_of_no_animals_is_the_untrained_encoder(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "n0" / "model.safetensors"
    pretrain_run(Cohort(stores(folder), []), small(), 3, output=output, checkpoints=tmp_path / "ckpt")
    torch.manual_seed(3)
    spec = EncoderSpec(patch=25, tokens=4, dropout=0.1, **SMALL["model"])
    expected = Pretraining(spec, small().pretrain, 1).encoder.state_dict()
    for name, value in read_model(output).encoder.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_going_on_with_another_number_of_processes_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Each has dropout masks of its own; nothing else depends on how many there are."""
    for saved, dropout, said in ((2, 0.2, False), (3, 0.2, True), (3, 0.0, False)):
        spec = EncoderSpec(patch=5, tokens=2, dim=8, heads=1, dim_head=8, dropout=dropout)
        module = Pretraining(spec, small().pretrain, 1)
        module._trainer = SimpleNamespace(global_rank=0, world_size=2)  # type: ignore[assignment]
        caplog.clear()
        module.on_load_checkpoint({"generators": torch.stack([torch.get_rng_state()] * saved)})
        module.on_train_start()
        assert ("started with 3 processes and resumes with 2: dropout" in caplog.text) == said


def test_batches_made_by_other_processes_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    """From stores larger than the cache; and after Dask's threads, which a forked worker cannot use."""
    threads = "import numpy, dask.array; numpy.asarray(dask.array.ones(9, chunks=3))"
    alone = run(folder, tmp_path, "workers0", config=small(machine={"workers": 0}, cache_gb=1e-4))
    process, output = start(
        folder, tmp_path, "workers2", small(machine={"workers": 2}, cache_gb=1e-4), threads
    )
    code, said = finish(process)
    assert code == 0, said
    assert same(alone, output)


def test_a_compiled_encoder_learns_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as torch.compile does it; its C++ takes a minute to build and is torch's own matter."""
    plain = run(folder, tmp_path, "plain", config=load_config(SMALL, {"pretrain": {"steps": 2}}))
    traced = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(Encoder, "compile", traced)
    compiled = load_config(SMALL, {"pretrain": {"steps": 2}, "machine": {"compile": True}})
    other = run(folder, tmp_path, "compiled", config=compiled)
    assert metrics(other)["loss"].tolist() == pytest.approx(metrics(plain)["loss"].tolist(), rel=1e-4)


@pytest.mark.parametrize("loss", ["contrastive", "vicreg"])
def test_a_step_in_bf16_is_near_one_in_single_precision(folder: Path, loss: str) -> None:
    """As on a GPU, on a CPU that does the same roundings."""
    torch.manual_seed(0)
    config = load_config(SMALL, {"pretrain": {"loss": loss}})
    views = view_spec(config.views, 0.02)
    module = Pretraining(EncoderSpec(patch=25, tokens=4, **SMALL["model"]), config.pretrain, 1).eval()
    batch = PairBatches([open_population(path) for path in stores(folder)], views, 4, 0)[0]
    losses, gradients = [], []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            z = module.projector(module.encoder(batch.patches, torch.cat([batch.sizes1, batch.sizes2])))
            total = module.loss(z, batch).total
        assert total.dtype == torch.float32
        losses.append(float(total.detach()))
        found = torch.autograd.grad(total, list(module.parameters()))
        gradients.append(torch.cat([g.flatten() for g in found]))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert float(F.cosine_similarity(*gradients, dim=0)) > 0.99


def test_a_batch_of_small_populations_counts_as_a_step(tmp_path: Path) -> None:
    """Units that fire in the first half only: most pairs of the second have none, whole batches too."""
    for animal in ("a", "b"):
        made = population(units=16, bins=3000, animal=animal, recording=animal)
        activity = np.array(made.activity)
        activity[:, 1200:] = 0
        write_population(
            replace(made, activity=activity), tmp_path / f"{animal}.zarr", chunk_s=20, shard_s=60
        )
    found = metrics(run(tmp_path, tmp_path / "out", "one", config=small(steps=100, pairs_per_step=1)))
    assert found["step"].tolist() == list(range(10, 101, 10))
    assert found["loss"].notna().any()


def test_vicreg_trains_too(folder: Path, tmp_path: Path) -> None:
    found = metrics(run(folder, tmp_path, "one", config=small(steps=60, loss="vicreg")))
    expected = 25 * found["invariance"] + 25 * found["variance"] + found["covariance"]
    assert found["loss"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert found["loss"].iloc[-1] < found["loss"].iloc[0]


def test_other_settings_do_not_go_on_from_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    changed = small(learning_rate=1e-5)
    assert not same(run(folder, tmp_path, "one"), run(folder, tmp_path, "one2", config=changed))


def test_a_small_population_is_skipped_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for units, animal in ((16, "a"), (10, "b")):
        made = population(units=units, bins=3000, animal=animal, recording=animal)
        write_population(made, tmp_path / animal / "probe.zarr", chunk_s=20, shard_s=60)
    run(tmp_path, tmp_path / "out", "one")
    assert "population b/probe has 10 units, fewer than views.min_units = 11: it is skipped" in caplog.text


def test_only_small_populations_are_refused(tmp_path: Path) -> None:
    for animal in ("a", "b"):
        made = population(units=9, bins=3000, animal=animal, recording=animal)
        write_population(made, tmp_path / animal / "probe.zarr", chunk_s=20, shard_s=60)
    with pytest.raises(TrainingError, match=r"no population has the 11 units .*the largest has 9"):
        run(tmp_path, tmp_path / "out", "one")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_recordings_shorter_than_a_window_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def write(animal: str, bins: int, spans: list[tuple[float, float]] | None = None) -> None:
        made = population(units=16, bins=bins, animal=animal, recording=animal, spans=spans)
        write_population(made, tmp_path / animal / "probe.zarr", chunk_s=20, shard_s=60)

    write("a", 80)
    write("b", 70)
    with pytest.raises(
        TrainingError,
        match=r"population a/probe lasts 1\.6 s, shorter than a window of 2 s; .* -c views\.window",
    ):
        run(tmp_path, tmp_path / "out", "one")
    write("b", 3000, spans=[(0.0, 0.001)])
    with pytest.raises(TrainingError, match=r"no recording is long enough: population a/probe lasts"):
        run(tmp_path, tmp_path / "out", "one")
    write("b", 70)
    write("a", 3000)
    run(tmp_path, tmp_path / "out", "one")
    assert "population b/probe lasts 1.4 s, shorter than a window of 2 s: it is skipped" in caplog.text


def test_missing_recordings_are_named(folder: Path, tmp_path: Path) -> None:
    arguments = {"output": tmp_path / "m.safetensors", "checkpoints": tmp_path / "c"}
    with pytest.raises(TrainingError, match="no population store of animal z"):
        pretrain_run(Cohort(stores(folder), ["a", "z"]), small(), 0, **arguments)
    with pytest.raises(DataError, match="no population stores found"):
        pretrain_run(Cohort(stores(tmp_path), ["a"]), small(), 0, **arguments)


def test_a_population_that_is_given_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(stores(folder)[0], tmp_path / "copy.zarr")
    arguments = {"output": tmp_path / "m.safetensors", "checkpoints": tmp_path / "c"}
    with pytest.raises(DataError, match="a/probe is given twice; give each recording once"):
        pretrain_run(Cohort([*stores(folder), tmp_path / "copy.zarr"], ["a", "b"]), small(), 0, **arguments)


def test_a_run_of_recordings_names_them_and_their_animals(folder: Path, tmp_path: Path) -> None:
    more = population(units=16, bins=3000, seed=9, animal="a", recording="a2")
    write_population(more, tmp_path / "a2" / "probe.zarr", chunk_s=15, shard_s=30)
    output = tmp_path / "out" / "model.safetensors"
    arguments = {"output": output, "checkpoints": tmp_path / "c"}
    cohort = Cohort([*stores(folder), *stores(tmp_path / "a2")], ["a2", "b"], "recording")
    pretrain_run(cohort, small(), 0, **arguments)
    record = json.loads(output.with_name("config.json").read_text())
    assert (record["animals"], record["recordings"]) == (["a", "b"], ["a2", "b"])
    assert sorted(record["inputs"]) == ["a2/probe", "b/probe"]


def test_a_recording_that_is_left_out_is_done_without(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave_out(tmp_path / "z", "z_1", "z", "the server answered 404")
    output = tmp_path / "out" / "model.safetensors"
    arguments: dict[str, Any] = {"output": output, "checkpoints": tmp_path / "c"}
    left_out = members_left_out([folder, tmp_path / "z"], "animal")
    pretrain_run(Cohort(stores(folder), ["a", "z"], left_out=left_out), small(), 0, **arguments)
    record = json.loads(output.with_name("config.json").read_text())
    assert (record["animals"], record["left_out"]) == (["a"], ["z"])
    assert "no recording of z could be used: 1 of 2 animals are missing" in caplog.text
    with pytest.raises(DataError, match="recordings of z are left out, so there is nothing to train on"):
        pretrain_run(Cohort(stores(folder), ["z"], left_out=left_out), small(), 0, **arguments)


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
    cohort = Cohort(stores(tmp_path), ["mouse"])
    pretrain_run(cohort, small(steps=150), 0, output=output, checkpoints=tmp_path / "c")
    loss = metrics(output)["loss"]
    assert loss.iloc[-3:].mean() < loss.iloc[0] - 0.3


def test_epochs_take_the_place_of_steps(folder: Path, tmp_path: Path) -> None:
    """Twice the passes are twice the steps: runs of different size can be matched by epochs."""
    steps = [
        metrics(run(folder, tmp_path, f"e{epochs}", config=small(epochs=epochs)))["step"].max()
        for epochs in (1, 2)
    ]
    assert steps[1] == 2 * steps[0]
