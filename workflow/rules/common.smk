# What the rules share: the checked configuration, and who needs which files.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from nuclr.config import load_config
from nuclr.data.plan import make_plan
from nuclr.errors import NuclrError
from nuclr.files import check_writable

try:
    CONFIG = load_config(config)
    PLAN = make_plan(CONFIG)
    OUT = f"{CONFIG.results}/{CONFIG.dataset}"
    check_writable(Path(OUT))
except NuclrError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    recording=r"[A-Za-z0-9_.-]+",
    # Snakemake takes no constraint that is empty, so the whole model's nothing is a group.
    ablation="|".join(["()", *(f"{name}-" for name in CONFIG.scaling.ablations)]),
    animals=r"\d+",
    seed=r"\d+",
    baseline="|".join(CONFIG.probe.baselines) or "none",
    task="|".join(task.name for task in CONFIG.probe.tasks),
    protocol="|".join(CONFIG.probe.protocols),


def stores(recordings):
    return [f"{OUT}/populations/{name}" for name in recordings]


def kept(path):
    """Raw files are kept, or deleted once they are chunked."""
    return directory(path) if CONFIG.download.keep_raw else temp(directory(path))


def warnings_said():
    """Each warning of all steps once; the steps write them to their logs."""
    logs = [path.read_text(errors="replace").splitlines() for path in Path(OUT, "logs").rglob("*.log")]
    return sorted({line for lines in logs for line in lines if line.startswith("nuclr: warning: ")})


def probes_of(representations):
    return [f"{OUT}/runs/{name}/probes" for name in representations]
