# What the rules share: the checked configuration, and who needs which files.
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

# Commands also find files beside those that rules declare, and a module's prefix would move only the latter.
if workflow.modifier.path_modifier.replace_prefix(f"{OUT}/") != f"{OUT}/":
    raise WorkflowError(
        "nuclr takes no prefix and no replace_prefix as a module; set `results` in its config, the folder of all results"
    )


wildcard_constraints:
    recording=r"[A-Za-z0-9_.-]+",
    # Snakemake takes no constraint that is empty, so the whole model's nothing is a group.
    ablation="|".join(["()", *(f"{name}-" for name in CONFIG.scaling.ablations)]),
    animals=r"\d+",
    seed=r"\d+",
    baseline="|".join(CONFIG.probe.baselines) or "none",
    task="|".join(task.name for task in CONFIG.probe.tasks) or "none",
    protocol="|".join(CONFIG.probe.protocols) or "none",


if workflow.is_main_process:
    for line in PLAN.said:
        print(f"nuclr: {line}", file=sys.stderr)


# Jobs that a cluster's profile groups share the loading of libraries as those of this machine do (see `onstart`).
jobs_here = sys.argv[sys.argv.index("--target-jobs") + 1 :] if "--target-jobs" in sys.argv else []
jobs_here = list(takewhile(lambda argument: not argument.startswith("--"), jobs_here))
if not workflow.is_main_process and len(jobs_here) > 2 and CONFIG.machine.warm:
    warm.start()


# Commands get this folder, not the names of the stores in it: of thousands, no shell takes the line.
POPULATIONS = f"{OUT}/populations"


# Jobs of a cluster in the cloud see nothing but the inputs that they name.
SHARED = SharedFSUsage.INPUT_OUTPUT in workflow.storage_settings.shared_fs_usage


def stores(recordings):
    return [f"{POPULATIONS}/{name}" for name in recordings]


def to_embed(wildcards):
    """Stores that a run is embedded on. Its model stands for those that it was trained on."""
    run = int(wildcards.animals), int(wildcards.seed)
    return stores(PLAN.unseen(*run) if SHARED else PLAN.to_embed(*run))


def folder_of_stores(wildcards, input):
    return POPULATIONS if SHARED else Path(input.stores[0]).parent


def growing(gigabytes):
    """Memory (MB) that a job asks a scheduler for: more each time that it is tried again."""
    return lambda wildcards, attempt: 1000 * gigabytes * attempt


def gpus(number):
    """As many GPUs, or none where the configuration says cpu. `--resources gpu=4` limits how many at a time."""
    return 0 if CONFIG.machine.accelerator == "cpu" else number


def threads_of_pretraining():
    """Processors of a run: one for each device and for each process that makes batches for it.

    On a machine with GPUs, Snakemake's processors are shared out so that no more runs start than there are GPUs:
    the others would only wait. A scheduler of a cluster shares GPUs out by itself.
    """
    own = (1 + CONFIG.machine.most_workers(MAY_USE_GPU)) * (1 if NODES > 1 else DEVICES)
    gpus_here = gpus_of_this_machine() if CONFIG.machine.accelerator != "cpu" else 0
    if not workflow.local_exec or not gpus_here or CONFIG.machine.share_gpus or not workflow.cores:
        return own
    return min(workflow.cores, max(own, workflow.cores * DEVICES // gpus_here))


# What is run elsewhere is planned for a GPU: this machine cannot say what others have.
MAY_USE_GPU = CONFIG.machine.accelerator != "cpu" and (not workflow.local_exec or gpus_of_this_machine() > 0)
# On several machines SLURM starts one process for each GPU; `mpi` tells Snakemake that the command does that.
NODES, DEVICES = CONFIG.machine.num_nodes, CONFIG.machine.devices
LAUNCH = f"srun --nodes={NODES} --ntasks-per-node={DEVICES}" if NODES > 1 else ""
ON_SEVERAL = (
    {"mpi": "srun", "nodes": NODES, "tasks": NODES * DEVICES, "tasks_per_gpu": 0} if NODES > 1 else {}
)


PRETRAINING_GB = pretraining_memory_gb(CONFIG, MAY_USE_GPU)
# A cluster's nodes are not this machine: there the scheduler is asked for so much.
HERE_GB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if hasattr(os, "sysconf") else None
if workflow.local_exec and workflow.is_main_process and HERE_GB and PRETRAINING_GB > HERE_GB:
    print(
        f"nuclr: warning: a pretraining may take {PRETRAINING_GB:.0f} GB (machine.devices x machine.workers x "
        f"pretrain.cache_gb, and 12 GB), and this machine has {HERE_GB:.0f} GB: lower one of them",
        file=sys.stderr,
    )


def kept(path):
    """Raw files are kept, or deleted once they are chunked."""
    return directory(path) if CONFIG.download.keep_raw else temp(directory(path))


def warnings_said():
    """Each warning of all steps once; the steps write them to their logs."""
    logs = [path.read_text(errors="replace").splitlines() for path in Path(OUT, "logs").rglob("*.log")]
    return sorted({line for lines in logs for line in lines if line.startswith("nuclr: warning: ")})


def probes_of(representations):
    return [f"{OUT}/runs/{name}/probes" for name in representations]
