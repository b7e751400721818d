"""Where Dask computes: in this process, in processes of this machine, or in jobs of a cluster."""

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

# A shard in the making takes about four times its size: spikes, counts, and both ends of the codec.
# Eight of the largest shards at a time stay below 1 GB, however many cores there are.
MOST_THREADS = 8
# A scheduler of Dask serves pages whether asked or not: without a dashboard, to this machine alone, and on a
# port that nobody else has.
PAGES = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
# What the jobs of a cluster say, in the folder that they were submitted from.
JOB_LOGS = "logs/dask"


@contextmanager
def computing(on: DaskOn, workers: int | None) -> Iterator[None]:
    """Compute all Dask arrays inside the block in one way.

    Parameters
    ----------
    on
        ``threads``: of this process; ``processes``: a ``dask.distributed`` cluster of this machine;
        ``slurm``: one job a worker, submitted as Dask's own configuration says
        (``~/.config/dask/jobqueue.yaml``: queue, account, walltime, memory); what the jobs say lies
        in ``logs/dask``.
    workers
        How many; None takes the cores that this process may use, or 4 jobs.

    Raises
    ------
    ConfigError
        If the cluster cannot be reached.
    """
    if on == "threads":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        # By its name, Dask would load all of `distributed` first, to see whether there is a cluster.
        with dask.config.set(scheduler=threaded.get, num_workers=min(workers or cores, MOST_THREADS)):
            yield
        return
    from distributed import Client, LocalCluster

    environment = dict(os.environ)
    # Its coming and going in detail is for Dask's developers.
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
        # Its workers' numbers of threads (OMP_NUM_THREADS=1, ...) would stay behind in this process.
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
        # Whoever reaches a scheduler of Dask may run code in it. Keys of this run alone, in files that its
        # user alone may read and that all nodes see, keep others on the network out.
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
    """Ask SLURM whether it takes a job: Dask would wait for ever for the workers of one that is refused."""
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
