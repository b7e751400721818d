# Shared by all rules: the validated configuration, and functions for their inputs and resources.
import os
import sys
from itertools import takewhile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import SharedFSUsage

from nuclr.cli import warm
from nuclr.config import load_config
from nuclr.data.plan import make_plan, pretraining_memory_gb
from nuclr.errors import NuclrError
from nuclr.files import check_writable
from nuclr.provenance import fingerprint
from nuclr.training.devices import gpus_of_this_machine
from nuclr.words import counted

try:
    PLAN = make_plan(load_config(PRESET, config))
    CONFIG = PLAN.config
    OUT = f"{CONFIG.results}/{CONFIG.dataset}"
    check_writable(Path(OUT))
except NuclrError as error:
    raise WorkflowError(str(error)) from None

# Commands also use files that rules do not declare, and a module's prefix would move only the declared ones.
if workflow.modifier.path_modifier.replace_prefix(f"{OUT}/") != f"{OUT}/":
    raise WorkflowError(
        "as a module, nuclr does not support prefix or replace_prefix; set `results` in its config, the folder of all results"
    )


wildcard_constraints:
    recording=r"[A-Za-z0-9_.-]+",
    # Snakemake does not accept an empty constraint, so the empty name of the full model is a group.
    ablation="|".join(["()", *(f"{name}-" for name in CONFIG.scaling.ablations)]),
    animals=r"\d+",
    seed=r"\d+",
    baseline="|".join(CONFIG.probe.baselines) or "none",
    task="|".join(task.name for task in CONFIG.probe.tasks) or "none",
    protocol="|".join(CONFIG.probe.protocols) or "none",


if workflow.is_main_process:
    for line in PLAN.said:
        print(f"nuclr: {line}", file=sys.stderr)


# Jobs that a cluster's profile groups share the import of libraries, like local jobs (see `onstart`).
jobs_here = sys.argv[sys.argv.index("--target-jobs") + 1 :] if "--target-jobs" in sys.argv else []
jobs_here = list(takewhile(lambda argument: not argument.startswith("--"), jobs_here))
if not workflow.is_main_process and len(jobs_here) > 2 and CONFIG.machine.warm:
    warm.start()


# Commands get this folder instead of the paths of its stores, which may be too many for a command line.
POPULATIONS = f"{OUT}/populations"


# Jobs in the cloud only see the inputs that they declare.
SHARED = SharedFSUsage.INPUT_OUTPUT in workflow.storage_settings.shared_fs_usage


def stores(recordings):
    return [f"{POPULATIONS}/{name}" for name in recordings]


def to_embed(wildcards):
    """Return the stores that a run embeds; with a shared file system only those that it was not trained on."""
    run = int(wildcards.animals), int(wildcards.seed)
    return stores(PLAN.unseen(*run) if SHARED else PLAN.to_embed(*run))


def folder_of_stores(wildcards, input):
    return POPULATIONS if SHARED else Path(input.stores[0]).parent


def growing(gigabytes):
    """Return a function for the memory (MB) that a job requests, which grows with each retry."""
    return lambda wildcards, attempt: 1000 * gigabytes * attempt


def gpus(number):
    """Return the number of GPUs, or 0 if machine.accelerator is cpu. `--resources gpu=4` limits the GPUs in use."""
    return 0 if CONFIG.machine.accelerator == "cpu" else number


def threads_of_pretraining():
    """Return the number of processors of a run: one for each device and for each of its loader processes.

    On a machine with GPUs, a run claims so many of Snakemake's processors that no more runs start than there are
    GPUs; the others would only wait. On a cluster, the scheduler assigns GPUs.
    """
    own = (1 + CONFIG.machine.most_workers(MAY_USE_GPU)) * (1 if NODES > 1 else DEVICES)
    gpus_here = gpus_of_this_machine() if CONFIG.machine.accelerator != "cpu" else 0
    if not workflow.local_exec or not gpus_here or CONFIG.machine.share_gpus or not workflow.cores:
        return own
    return min(workflow.cores, max(own, workflow.cores * DEVICES // gpus_here))


# Jobs on other machines are planned for a GPU, because the GPUs of other machines are not known here.
MAY_USE_GPU = CONFIG.machine.accelerator != "cpu" and (not workflow.local_exec or gpus_of_this_machine() > 0)
# On several machines, SLURM starts one process per GPU; `mpi` tells Snakemake that the command starts them itself.
NODES, DEVICES = CONFIG.machine.num_nodes, CONFIG.machine.devices
LAUNCH = f"srun --nodes={NODES} --ntasks-per-node={DEVICES}" if NODES > 1 else ""
ON_SEVERAL = (
    {"mpi": "srun", "nodes": NODES, "tasks": NODES * DEVICES, "tasks_per_gpu": 0} if NODES > 1 else {}
)


PRETRAINING_GB = pretraining_memory_gb(CONFIG, MAY_USE_GPU)
# Memory of this machine (GB); on a cluster, the memory is requested from the scheduler instead.
HERE_GB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if hasattr(os, "sysconf") else None
if workflow.local_exec and workflow.is_main_process and HERE_GB and PRETRAINING_GB > HERE_GB:
    print(
        f"nuclr: warning: a pretraining may need {PRETRAINING_GB:.0f} GB of memory (machine.devices x machine.workers x "
        f"pretrain.cache_gb, and 12 GB), but this machine has {HERE_GB:.0f} GB; lower one of these settings",
        file=sys.stderr,
    )


def kept(path):
    """Mark a raw folder as kept, or as temporary, so that it is deleted after chunking."""
    return directory(path) if CONFIG.download.keep_raw else temp(directory(path))


def warnings_said():
    """Return the warnings in the logs of all steps, each of them once."""
    logs = [path.read_text(errors="replace").splitlines() for path in Path(OUT, "logs").rglob("*.log")]
    return sorted({line for lines in logs for line in lines if line.startswith("nuclr: warning: ")})


def probes_of(representations):
    return [f"{OUT}/runs/{name}/probes" for name in representations]
