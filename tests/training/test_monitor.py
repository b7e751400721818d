"""What is written down, and what a run warns of, by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import metrics, run, small
from strategies import population
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nuclr.data.store import write_population
from nuclr.errors import TrainingError
from nuclr.training import pretrain


def test_metrics_hold_all_that_is_watched(folder: Path, tmp_path: Path) -> None:
    found = metrics(run(folder, tmp_path, "one", config=small(steps=60)))
    assert found["step"].tolist() == [10, 20, 30, 40, 50, 60]
    torch.testing.assert_close(
        torch.tensor(found["loss"]), torch.tensor(found["attraction"] + found["repulsion"])
    )
    for name in ("gradient_norm", "learning_rate", "units_per_s"):
        assert (found[name] > 0).all()
    assert found["data_wait"].between(0, 1).all()
    # 58 pairs an epoch, 2 in a step: epochs end at steps 29 and 58.
    assert found["rankme"].between(1, 16).tolist() == [False, False, True, False, False, True]


def test_tensorboard_shows_the_same(folder: Path, tmp_path: Path) -> None:
    output = run(folder, tmp_path, "one", config=small(steps=20, machine={"logger": "tensorboard"}))
    events = EventAccumulator(str(output.parent / "tensorboard"))
    events.Reload()
    found = metrics(output)
    assert {"loss", "attraction", "repulsion", "learning_rate", "gradient_norm"} <= set(
        events.Tags()["scalars"]
    )
    scalars = events.Scalars("loss")
    assert [event.step for event in scalars] == found["step"].tolist()
    assert [event.value for event in scalars] == pytest.approx(found["loss"].tolist(), rel=1e-6)


def test_a_logger_that_is_not_installed_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "find_spec", lambda _: None)
    with pytest.raises(TrainingError, match=r"machine\.logger: wandb is not installed; run `python -m pip"):
        run(folder, tmp_path, "one", config=small(machine={"logger": "wandb"}))


def test_wandb_is_given_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    output = run(folder, tmp_path, "one", config=small(steps=10, machine={"logger": "wandb"}))
    assert list(output.parent.rglob("*.wandb"))


def calcium(folder: Path, animal: str, largest: float) -> None:
    made = population(units=16, bins=3000, animal=animal, recording=animal, modality="calcium", bin_s=0.02)
    activity = np.array(made.activity)
    activity[5, ::20] = np.maximum(activity[5, ::20], largest)
    write_population(replace(made, activity=activity), folder / f"{animal}.zarr", chunk_s=20, shard_s=60)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_population(tmp_path: Path) -> None:
    """And no checkpoint has the broken weights."""
    calcium(tmp_path / "stores", "a", 0.0)
    calcium(tmp_path / "stores", "b", 3e38)
    config = small(steps=60, machine={"checkpoint_every": 1})
    with pytest.raises(TrainingError, match=r"loss is not finite at step \d+, first in population b/probe"):
        run(tmp_path / "stores", tmp_path, "one", config=config)
    assert not (tmp_path / "one").exists()
    for path in (tmp_path / "ckpt").rglob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


def test_weights_that_diverge_name_no_population(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is not finite at step \d+; lower pretrain\.learning_rate"):
        run(folder, tmp_path, "one", config=small(steps=100, learning_rate=1e30, warmup_steps=0))


def test_collapsed_embeddings_are_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Units that are all the same have all the same embedding."""
    for animal in ("a", "b"):
        made = population(units=16, bins=3000, animal=animal, recording=animal)
        made = replace(made, activity=np.ones((16, 3000), np.uint8))
        write_population(made, tmp_path / "stores" / f"{animal}.zarr", chunk_s=20, shard_s=60)
    output = run(tmp_path / "stores", tmp_path, "one", config=small(steps=60))
    assert caplog.text.count("the embeddings have collapsed by step") == 1
    assert metrics(output)["rankme"].min() == pytest.approx(1.0)


def test_a_learning_rate_of_zero_is_warned_of(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(folder, tmp_path, "one", config=small(learning_rate=5e-324, warmup_steps=100))
    assert caplog.text.count("the learning rate is 0 at step 10 of 12, so nothing is learned") == 1


def test_a_run_that_ends_in_its_warm_up_is_warned_of(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(folder, tmp_path, "one", config=small(warmup_steps=100))
    assert "all 12 steps are warm-up (100 steps)" in caplog.text
