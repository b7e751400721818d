"""GPUs are given out one to a process; the devices here are pretended, by what CUDA_VISIBLE_DEVICES says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import lightning as L
import pytest
from small_run import small

from nuclr.errors import TrainingError
from nuclr.training import devices
from nuclr.training.pretrain import SIGTERM_METHOD, _ask_no_process_about_sigterm, _environment

# Takes GPUs, writes when it began and ended and on what, and holds them for a while.
TAKER = """
import os, signal, sys, time
from pathlib import Path
# What a shell starts in the background ignores it, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
from nuclr.training import devices
devices.LOCKS, devices.ASKED_EVERY_S = Path(sys.argv[1]), 0.02
with devices.gpus(int(sys.argv[3])) as taken:
    note = Path(sys.argv[2])
    note.with_suffix(".partial").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    note.with_suffix(".partial").rename(note)
    time.sleep(float(sys.argv[4]))
"""


@pytest.fixture(autouse=True)
def four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(devices, "ASKED_EVERY_S", 0.02)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,GPU-5f6d")
    for name in (*devices.SCHEDULERS, devices.OF_A_RUN):
        monkeypatch.delenv(name, raising=False)


def take(tmp_path: Path, name: str, count: int = 1, seconds: float = 60.0) -> subprocess.Popen[bytes]:
    """Begin a process that takes GPUs."""
    arguments = [str(tmp_path / "locks"), str(tmp_path / f"{name}.taken"), str(count), str(seconds)]
    return subprocess.Popen([sys.executable, "-c", TAKER, *arguments])


def taken(tmp_path: Path, name: str) -> list[str]:
    """Wait until a process has taken its GPUs; which."""
    note, waiting = tmp_path / f"{name}.taken", time.monotonic()
    while not note.exists():
        assert time.monotonic() - waiting < 60
        time.sleep(0.02)
    return note.read_text().split(",")


def test_processes_never_share_and_a_killed_one_loses_nothing(tmp_path: Path) -> None:
    """Four GPUs; three processes hold all, two wait; the holders are killed, each in another way."""
    holders = {"a": take(tmp_path, "a", 2), "b": take(tmp_path, "b"), "c": take(tmp_path, "c")}
    try:
        used = Counter(gpu for name in holders for gpu in taken(tmp_path, name))
        assert used == Counter(["0", "1", "2", "GPU-5f6d"])
        waiting = {"d": take(tmp_path, "d"), "e": take(tmp_path, "e", 4)}
        holders |= waiting
        time.sleep(1.0)
        assert not (tmp_path / "d.taken").exists()
        holders["b"].send_signal(signal.SIGKILL)
        assert taken(tmp_path, "d") == taken(tmp_path, "b")
        # Whoever waits for four holds none of them meanwhile.
        for name, by in (("a", signal.SIGKILL), ("c", signal.SIGTERM), ("d", signal.SIGINT)):
            assert not (tmp_path / "e.taken").exists()
            holders[name].send_signal(by)
        assert sorted(taken(tmp_path, "e")) == ["0", "1", "2", "GPU-5f6d"]
    finally:
        for process in holders.values():
            process.kill()
            process.wait()


def test_many_short_jobs_are_all_served(tmp_path: Path) -> None:
    jobs = [take(tmp_path, f"j{i}", 1 + i % 2, 0.05) for i in range(6)]
    assert [job.wait(120) for job in jobs] == [0] * 6
    with devices.gpus(4) as own:
        assert len(own) == 4


def test_gpus_are_taken_for_a_block_only() -> None:
    with suppress(ZeroDivisionError), devices.gpus(1) as first:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == first[0] == "0"
        raise ZeroDivisionError
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,GPU-5f6d"
    with devices.gpus(4) as again:
        assert len(again) == 4


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "LOCAL_RANK"])
def test_what_a_scheduler_or_a_run_has_given_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with devices.gpus(1) as own:
        assert own == []
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,GPU-5f6d"


def test_nothing_is_taken_where_nothing_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ((0, "auto", False), (1, "cpu", False), (1, "auto", True)):
        with devices.gpus(*arguments) as own:
            assert own == []
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        with devices.gpus(1) as own:
            assert own == []
        with pytest.raises(TrainingError, match="sees no GPU"), devices.gpus(1, "gpu"):
            pass


def test_more_than_there_are_is_an_error() -> None:
    with (
        pytest.raises(
            TrainingError, match=r"machine\.devices: 5 GPUs are requested, .* sees 4 \(0, 1, 2, GPU-5f6d\)"
        ),
        devices.gpus(5),
    ):
        pass


def test_a_gpu_that_is_demanded_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert not devices.use_gpu("auto")
    assert not devices.use_gpu("cpu")
    with pytest.raises(TrainingError, match=r"machine\.accelerator is gpu, but this process sees no GPU"):
        devices.use_gpu("gpu")


def test_a_run_on_two_machines_is_not_started_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    machine = small({"devices": 2, "num_nodes": 2}, pairs_per_step=4).machine
    with pytest.raises(TrainingError, match="srun --nodes=2 --ntasks-per-node=2 nuclr pretrain"):
        _environment(machine)


def test_lightning_asks_no_process_about_sigterm_before_every_step() -> None:
    """It has no public way to say so; a version that does it by another name is to be noticed here."""
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    loop = trainer.fit_loop.epoch_loop
    assert hasattr(loop, SIGTERM_METHOD)
    _ask_no_process_about_sigterm(trainer)
    assert getattr(loop, SIGTERM_METHOD)() is None


def test_inside_a_job_of_one_task_a_run_starts_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning alone would wait for a second task that nobody starts."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "nuclr")
    assert not _environment(small({"devices": 2}).machine).creates_processes_externally
