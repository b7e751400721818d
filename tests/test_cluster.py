"""Stores are the same wherever Dask computes them; a kill leaves nothing that is taken for a store."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client
from strategies import poisson_trains, write_traces, write_units

from nuclr.cluster import computing
from nuclr.config import Chunk, DaskOn
from nuclr.data.chunk import chunk_recording
from nuclr.data.formats.nwb import read_populations
from nuclr.data.store import open_population, stores
from nuclr.errors import ConfigError

# What chunking in jobs needs of SLURM: sbatch refuses a script, or takes it and says a number; scancel ends
# the job. The real one is asked in tests/workflow/test_slurm.py.
SBATCH = """#!/bin/sh
if [ "$1" = --test-only ]; then
    grep -q "^#SBATCH -p nowhere" || exit 0
    printf 'sbatch: error: invalid partition specified: nowhere\\nallocation failure\\n' >&2
    exit 1
fi
for script; do :; done
cp "$script" "{folder}/job.sh"
setsid sh "{folder}/job.sh" > "{folder}/job.log" 2>&1 &
echo $! > "{folder}/pid"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do kill -- "-$job"; done
"""


@pytest.fixture
def pretended_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put commands of a pretended SLURM, which runs its jobs on this machine, before all others."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, content in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(content.format(folder=folder))
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_two_clusters_of_one_machine_do_not_meet(recwarn: pytest.WarningsRecorder) -> None:
    """Both would listen on one port, to all of the network."""
    with computing("processes", 1), computing("processes", 1):
        for client in Client._instances:
            server = client.cluster.scheduler.http_server
            assert server.address == "127.0.0.1"
    assert not [str(one.message) for one in recwarn if "Port" in str(one.message)]


def chunked(path: Path, folder: Path, on: DaskOn, workers: int) -> np.ndarray:
    with computing(on, workers):
        chunk_recording(
            read_populations(path),
            folder,
            dataset="d",
            animal="a",
            recording="r",
            options=Chunk(chunk_s=5, shard_s=10),
        )
    (store,) = stores(folder)
    return np.asarray(open_population(store).activity)


def test_processes_and_threads_make_the_same_store(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(5, 60.0), obs_intervals=[[0.0, 60.0]])
    alone = chunked(path, tmp_path / "one", "threads", 1)
    np.testing.assert_array_equal(alone, chunked(path, tmp_path / "many", "threads", 7))
    environment = dict(os.environ)
    np.testing.assert_array_equal(alone, chunked(path, tmp_path / "processes", "processes", 2))
    assert dict(os.environ) == environment
    assert alone.sum() == sum(map(len, poisson_trains(5, 60.0)))


def test_what_a_process_warns_of_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    traces = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    traces[7, 1] = np.nan
    chunked(write_traces(tmp_path / "a.nwb", traces), tmp_path / "out", "processes", 1)
    assert "population dff: 1 samples are NaN; set to 0" in caplog.text


def test_jobs_of_a_cluster_make_the_same_store(
    tmp_path: Path, pretended_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install nuclr[slurm]")
    monkeypatch.chdir(tmp_path)
    path = write_units(tmp_path / "a.nwb", poisson_trains(5, 60.0), obs_intervals=[[0.0, 60.0]])
    alone = chunked(path, tmp_path / "one", "threads", 1)
    with dask.config.set({"jobqueue.slurm.interface": "lo"}):
        np.testing.assert_array_equal(alone, chunked(path, tmp_path / "jobs", "slurm", 1))
    job = int((pretended_slurm / "pid").read_text())
    waiting = time.monotonic()
    while Path(f"/proc/{job}").exists() and "Z" not in Path(f"/proc/{job}/stat").read_text().split()[2]:
        assert time.monotonic() - waiting < 30, "the job was not cancelled"
        time.sleep(0.1)
    # Nobody without this run's keys could have run code in it, and the keys are gone with it.
    script = (pretended_slurm / "job.sh").read_text()
    assert " tls://" in script
    gc.collect()
    assert not Path(script.split("--tls-key ")[1].split()[0]).exists()


def test_a_cluster_that_takes_no_jobs_is_not_waited_for(
    tmp_path: Path, pretended_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install nuclr[slurm]")
    monkeypatch.chdir(tmp_path)
    refused = r"refuses the jobs \(sbatch: error: invalid partition specified: nowhere allocation failure\)"
    with (
        dask.config.set({"jobqueue.slurm.interface": "lo", "jobqueue.slurm.queue": "nowhere"}),
        pytest.raises(ConfigError, match=refused),
        computing("slurm", 1),
    ):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sbatch"), computing("slurm", 1):
        pass
    gc.collect()
    assert not list(tmp_path.glob(".dask*")), "keys are left"


def test_a_kill_half_way_leaves_nothing_that_is_taken_for_a_store(tmp_path: Path) -> None:
    path = write_units(tmp_path / "a.nwb", poisson_trains(40, 60.0), obs_intervals=[[0.0, 60.0]])
    folder = tmp_path / "populations" / "a"
    # Each shard takes a while, so that the kill comes between two of them.
    code = (
        "import time; from nuclr.data.spikes import SpikesByUnit as S; count = S.count\n"
        "S.count = lambda *a: (time.sleep(0.5), count(*a))[1]\n"
        "from nuclr.cli import main; main()"
    )
    config = '{"dataset": "nwb", "nwb": {"folder": "."}, "chunk": {"chunk_s": 1, "shard_s": 1}}'
    command = [sys.executable, "-c", code, "chunk", str(path), "-o", str(folder), "--config", config]
    process = subprocess.Popen(command)
    waiting = time.monotonic()
    while not [file for file in tmp_path.rglob("c/0/*") if file.is_file()]:
        assert time.monotonic() - waiting < 60
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.rglob("zarr.json")), "the kill came before anything was written"
    assert not folder.exists()
    assert stores(tmp_path) == []
    whole = chunked(path, folder, "threads", 2)
    assert whole.sum() == sum(map(len, poisson_trains(40, 60.0)))
    assert [path.name for path in folder.parent.iterdir()] == ["a"]
