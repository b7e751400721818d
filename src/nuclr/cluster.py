"""Choice of where Dask computes: threads of this process, processes of this machine, or SLURM jobs."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from dask import threaded

from nuclr.config import DaskOn
from nuclr.errors import ConfigError

# Writing a shard takes about four times its size: spikes, counts, and input and output of the codec.
# Eight of the largest shards at a time stay below 1 GB, independent of the number of cores.
MOST_THREADS = 8
# A Dask scheduler always serves web pages: without a dashboard, only to this machine, on a free port.
PAGES = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
# Folder for the logs of SLURM jobs, below the folder that they are submitted from.
JOB_LOGS = "logs/dask"


@contextmanager
def computing(on: DaskOn, workers: int | None) -> Iterator[None]:
    """Context in which all Dask arrays are computed in threads, processes or SLURM jobs.

    Parameters
    ----------
    on
        ``threads``: threads of this process; ``processes``: a ``dask.distributed`` cluster on this machine;
        ``slurm``: one SLURM job for each worker, submitted with the settings of Dask's configuration
        (``~/.config/dask/jobqueue.yaml``: queue, account, walltime, memory). The logs of the jobs are
        in ``logs/dask``.
    workers
        Number of workers; None: as many as the cores that this process may use, or 4 jobs.

    Raises
    ------
    ConfigError
        If the cluster cannot be reached.
    """
    if on == "threads":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        # Given by name, Dask would import all of `distributed` first, to look for a cluster.
        with dask.config.set(scheduler=threaded.get, num_workers=min(workers or cores, MOST_THREADS)):
            yield
        return
    from distributed import Client, LocalCluster

    environment = dict(os.environ)
    # Its messages about workers are only of interest to Dask's developers.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    try:
        if on == "processes":
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=PAGES["dashboard_address"],
                scheduler_kwargs=PAGES,
            )
        else:
            cluster = _slurm(workers or 4)
        with cluster, Client(cluster) as client:
            client.forward_logging("nuclr")
            yield
    finally:
        # Otherwise the workers' settings (OMP_NUM_THREADS=1, ...) would remain in this process.
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


def _slurm(jobs: int) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ConfigError(
            'machine.dask: slurm needs dask-jobqueue; install it: pip install "nuclr[slurm]"'
        ) from None
    given = dask.config.get("jobqueue.slurm", {})
    cluster = SLURMCluster(
        cores=given.get("cores") or 1,
        memory=given.get("memory") or "4GB",
        processes=1,
        log_directory=given.get("log-directory") or JOB_LOGS,
        # Anybody who can connect to a Dask scheduler can run code in it. Keys that are made for this run, in
        # files that only its user can read and all nodes see, keep others on the network out.
        security=True,
        shared_temp_directory=given.get("shared-temp-directory") or os.getcwd(),
        scheduler_options={**PAGES, **(given.get("scheduler-options") or {})},
    )
    try:
        _would_be_taken(cluster.job_script())
    except ConfigError:
        cluster.close()
        raise
    cluster.scale(jobs=jobs)
    return cluster


def _would_be_taken(script: str) -> None:
    """Check that SLURM accepts a job, because Dask would wait forever for the workers of a refused one."""
    command = ["sbatch", "--test-only"]
    try:
        asked = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise ConfigError(
            "machine.dask: slurm: there is no sbatch on this machine; run on a node of the cluster, or set "
            "machine.dask: threads"
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"machine.dask: slurm: SLURM did not answer within 60 s ({' '.join(command)}); try again later"
        ) from None
    if asked.returncode:
        reason = " ".join(asked.stderr.split())
        raise ConfigError(
            f"machine.dask: slurm: SLURM refuses the jobs ({reason}); correct their queue, account, walltime "
            "and memory in Dask's configuration, ~/.config/dask/jobqueue.yaml"
        )
