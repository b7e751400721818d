"""A run may end at any moment and goes on to the same result."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_run import finish, learned, run, same, small, start

from nuclr.training import checkpoints
from nuclr.training.checkpoints import last_checkpoint

STEPS = 300


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(folder, tmp_path_factory.mktemp("undisturbed"), "model", config=small(steps=STEPS))


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_ended_anywhere_a_run_goes_on_to_the_same_result(
    folder: Path, tmp_path: Path, undisturbed: Path, kind: signal.Signals
) -> None:
    config = small(steps=STEPS, machine={"checkpoint_every": 20})
    process, output = start(folder, tmp_path, "ended", config)
    waiting = time.monotonic()
    while not list((tmp_path / "ckpt").rglob("step-*.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - waiting < 120
        time.sleep(0.01)
    time.sleep(random.random() / 4)
    process.send_signal(kind)
    code, said = finish(process)
    assert code != 0
    assert not output.exists()
    if kind == signal.SIGTERM:
        step = re.search(r"stopped by SIGTERM after step (\d+), which is saved", said)
        assert step is not None, said
        assert list((tmp_path / "ckpt").rglob(f"step-{int(step[1]):08d}.ckpt"))
    code, said = finish(start(folder, tmp_path, "ended", config)[0])
    assert code == 0, said
    assert "resuming from step-" in said
    assert same(output, undisturbed)
    pd.testing.assert_frame_equal(learned(output), learned(undisturbed))
    assert not list((tmp_path / "ckpt").iterdir())


def test_checkpoints_come_by_steps_and_by_minutes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    monkeypatch.setattr(checkpoints, "save_checkpoint", lambda _, path: saved.append(path.stem))
    run(folder, tmp_path, "steps", config=small(steps=9, machine={"checkpoint_every": 4}))
    assert saved == ["step-00000004", "step-00000008"]
    saved.clear()
    often = {"checkpoint_every": 1000, "checkpoint_minutes": 1e-9}
    run(folder, tmp_path, "minutes", config=small(steps=4, machine=often))
    assert saved == ["step-00000001", "step-00000002", "step-00000003"]


def test_the_last_two_are_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[str]] = []
    save = checkpoints.save_checkpoint

    def spy(trainer: object, path: Path) -> None:
        save(trainer, path)  # type: ignore[arg-type]
        kept.append(sorted(p.name for p in path.parent.iterdir()))

    monkeypatch.setattr(checkpoints, "save_checkpoint", spy)
    run(folder, tmp_path, "one", config=small(steps=4, machine={"checkpoint_every": 1}))
    assert kept[-1] == ["step-00000002.ckpt", "step-00000003.ckpt"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"step": 1}, tmp_path / "step-00000001.ckpt")
    whole = (tmp_path / "step-00000001.ckpt").read_bytes()
    (tmp_path / "step-00000002.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "step-00000003.partial").write_bytes(b"half")
    assert last_checkpoint(tmp_path) == tmp_path / "step-00000001.ckpt"
    assert "step-00000002.ckpt cannot be read" in caplog.text


def test_a_checkpoint_that_would_run_code_is_passed_over(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"step": Evil()}, tmp_path / "step-00000001.ckpt")
    assert last_checkpoint(tmp_path) is None
