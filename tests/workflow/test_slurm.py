"""The workflow on a SLURM cluster: three pretended nodes with a pretended GPU each, on this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import one_node_slurm as slurm
import page_commands
import psutil
import pytest
import yaml
from snakemake_run import REPOSITORY
from strategies import poisson_trains, write_units

from nuclr.data.store import open_population, stores
from nuclr.model.saved import read_model

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(bool(slurm.lacking()), reason=slurm.lacking() or "SLURM is there"),
]
TUTORIAL = REPOSITORY / "docs" / "tutorials" / "cluster.md"
# Every pretraining is one job on two nodes.
CONFIG = {
    "dataset": "simulated",
    "simulated": {"animals": 4, "units": 16, "duration_s": 40},
    "split": {"test_animals": 1, "label_animals": 1},
    "model": {"dim": 16, "heads": 2},
    "views": {"window_s": 4, "distance_s": 10},
    "pretrain": {"steps": 150},
    "machine": {"num_nodes": 2, "checkpoint_every": 10},
    "scaling": {"animal_counts": [2], "seeds": 1},
    "probe": {
        "tasks": ["cell_type"],
        "protocols": ["inductive_zero_shot"],
        "baselines": [],
        "bootstrap": 20,
        "label_halvings": 1,
        "min_units": 2,
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install nuclr[slurm]")
    with slurm.cluster(tmp_path_factory.mktemp("slurm"), nodes=3) as running:
        yield running


def login(cluster: slurm.Cluster) -> dict[str, str]:
    """Give the environment of somebody who has logged in and activated this Python's."""
    return {**page_commands.environment(cluster.environment), "OMP_NUM_THREADS": "1"}


def start(cluster: slurm.Cluster, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the workflow as on a login node; what it says goes to ``folder/said.txt``."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    environment = {**login(cluster), "MASTER_ADDR": "127.0.0.1"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    command += ["--profile", str(REPOSITORY / "workflow" / "profiles" / "slurm")]
    command += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10", *arguments]
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said, text=True)


def jobs(cluster: slurm.Cluster, rule: str, state: str = "all") -> list[str]:
    """Numbers of the jobs of a rule."""
    listed = cluster.ask("squeue", f"--states={state}", "--noheader", "--format=%i %k")
    return [line.split()[0] for line in listed.splitlines() if f"rule_{rule}" in line]


def test_what_fails_is_named_and_what_is_cancelled_is_done_again(
    cluster: slurm.Cluster, tmp_path: Path
) -> None:
    # A job that needs more memory than it asked for, and is not tried again. Others would go on beside it.
    too_little = start(
        cluster, tmp_path, "--retries", "0", "--until", "catalog", "--set-resources", "catalog:mem_mb=60"
    )
    assert too_little.wait(240) != 0
    said = (tmp_path / "said.txt").read_text()
    (job,) = jobs(cluster, "catalog")
    assert "Error in rule catalog:" in said
    assert f"SLURM-job '{job}' failed" in said
    assert "Run the same command to resume from there." in said
    own = (tmp_path / f".snakemake/slurm_logs/rule_catalog/{job}.log").read_text()
    assert "memory limit" in own
    results = tmp_path / "results" / "simulated"
    assert not (results / "units.parquet").exists()

    # The same command, with the memory of the rule; a pretraining is cancelled, and its first node drained.
    again = start(cluster, tmp_path)
    model = results / "runs" / "n2-s0" / "model.safetensors"
    waiting = time.monotonic()
    while not list(results.glob("checkpoints/n2-s0-*/step-*.ckpt")):
        assert time.monotonic() - waiting < 240, (tmp_path / "said.txt").read_text()[-3000:]
        assert again.poll() is None, (tmp_path / "said.txt").read_text()[-3000:]
        time.sleep(0.1)
    running = [
        job
        for job in jobs(cluster, "pretrain", "running")
        if "_2_0" in cluster.ask("scontrol", "show", "job", job)
    ]
    described = cluster.ask("scontrol", "show", "job", running[0])
    nodes = cluster.ask("scontrol", "show", "hostnames", re.search(r"^ +NodeList=(\S+)", described, re.M)[1])
    first, second = nodes.split()
    cluster.ask("scontrol", "update", f"nodename={first}", "state=drain", "reason=test")
    cluster.ask("scancel", running[0])
    assert again.wait(400) == 0, (tmp_path / "said.txt").read_text()[-5000:]
    said = (tmp_path / "said.txt").read_text()
    assert f"SLURM-job '{running[0]}' failed, SLURM status is: 'CANCELLED'" in said
    assert "figure: results/simulated/scaling/cell_type.inductive_zero_shot.png" in said
    assert read_model(model).record["machine"]["devices"] == 2
    log = (results / "logs" / "pretrain" / "n2-s0.log").read_text()
    assert "resuming from step-" in log
    # Nothing ran on a node that was drained.
    tried_again = cluster.ask("scontrol", "show", "job", jobs(cluster, "pretrain")[-1])
    assert first not in re.search(r"^ +NodeList=(\S+)", tried_again, re.M)[1]
    assert second


def test_a_recording_is_chunked_in_jobs_of_its_own(cluster: slurm.Cluster, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue", reason="pip install nuclr[slurm]")
    path = write_units(tmp_path / "a.nwb", poisson_trains(5, 60.0), obs_intervals=[[0.0, 60.0]])
    chunk = [str(Path(sys.executable).with_name("nuclr")), "chunk", str(path), "-o"]
    plain = {"dataset": "nwb", "nwb": {"folder": "."}, "chunk": {"chunk_s": 5, "shard_s": 10}}
    for name, machine in (("here", {}), ("there", {"dask": "slurm", "dask_workers": 2})):
        done = subprocess.run(
            [*chunk, name, "--config", json.dumps(plain | {"machine": machine})],
            env={**cluster.environment, "DASK_JOBQUEUE__SLURM__INTERFACE": "lo"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
    here, there = (open_population(*stores(tmp_path / name)) for name in ("here", "there"))
    np.testing.assert_array_equal(here.activity, there.activity)
    assert len(list(tmp_path.glob("logs/dask/dask-worker-*.err"))) == 2
    # Nothing of it runs on.
    assert "dask-worker" not in cluster.ask("squeue", "--states=running,pending", "--noheader", "--format=%j")


def test_the_tutorial_runs_as_it_stands(cluster: slurm.Cluster, tmp_path: Path) -> None:
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for name in ("workflow", "config"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    # A cluster that nobody else waits for is asked more often.
    profile = tmp_path / "workflow" / "profiles" / "slurm" / "config.yaml"
    often = profile.read_text().replace("status-checks: 40", "status-checks: 1")
    profile.write_text(often + "seconds-between-status-checks: 2\n")
    said, results = tmp_path / "snakemake.log", tmp_path / "results" / "tutorial" / "simulated"

    def wait_for(something: Callable[[], object]) -> None:
        waiting = time.monotonic()
        while not something():
            assert time.monotonic() - waiting < 400, said.read_text()[-3000:]
            time.sleep(0.2)

    try:
        for command, shown in page_commands.commands(TUTORIAL):
            if command.startswith("squeue"):
                wait_for(lambda: list(results.glob("checkpoints/n3-s0-*/step-*.ckpt")))
            elif command.startswith("scancel"):
                # The page names the job by the number that squeue gave it.
                (job,) = (
                    job
                    for job in jobs(cluster, "pretrain", "running")
                    if "_3_0" in cluster.ask("scontrol", "show", "job", job)
                )
                command = f"scancel {job}"
            elif "snakemake.log" in command and "snakemake " not in command:
                wait_for(lambda: re.search("^(all results|A step failed)", said.read_text(), re.M))
            page_commands.run(command, shown, tmp_path, login(cluster))
    finally:
        # The page leaves Snakemake in the background; where a command fails, it and its jobs still run.
        for process in psutil.process_iter(["cwd"]):
            if process.info["cwd"] == str(tmp_path):
                process.kill()
