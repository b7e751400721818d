# From recordings to the scaling figure. `snakemake --cores all` does everything; `-n` shows what it would do.
import re
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


# A data set may bring what differs from it; what a user gives goes before both.
if (
    re.fullmatch(r"[A-Za-z0-9_-]+", preset := str(config["dataset"]))
    and Path(workflow.basedir, "config", f"{preset}.yaml").exists()
):

    configfile: Path(workflow.basedir, "config", f"{preset}.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


rule scaling_analysis:
    input:
        [
            f"{OUT}/scaling/{task.name}.{protocol}.png"
            for task in CONFIG.probe.tasks
            for protocol in CONFIG.probe.protocols
        ],
        # Without labels, embeddings are what there is.
        [f"{OUT}/runs/{run}/embeddings.parquet" for run in PLAN.pretrained],
        f"{OUT}/report.html",
        f"{OUT}/explore.html",
        f"{OUT}/populations.parquet",
        [f"{OUT}/runs/{run}/README.md" for run in PLAN.pretrained],
        f"{OUT}/model",
        # Asked for here, or Snakemake would not miss a store that was deleted.
        stores(PLAN.recordings),


rule probe_all:
    input:
        (
            f"{OUT}/probes.parquet"
            if CONFIG.probe.tasks
            else [f"{OUT}/runs/{run}/embeddings.parquet" for run in PLAN.pretrained]
        ),


onstart:
    if workflow.local_exec and CONFIG.machine.warm:
        warm.start()


onsuccess:
    for line in PLAN.said:
        if line.startswith("left out"):
            print(f"nuclr: {line}")
    for warning in warnings_said():
        print(warning)
    for figure in sorted(Path(OUT, "scaling").glob("*.png")):
        if figure.name.count(".") == 2:
            print(f"figure: {figure} (svg, table and fit beside it)")
    if Path(OUT, "model").exists():
        print(
            f"model with its probes: {OUT}/model (nuclr identify my_session.nwb --model {OUT}/model -o my_session)"
        )
    if Path(OUT, "explore.html").exists():
        print(f"every unit, to look at: {OUT}/explore.html")
    if Path(OUT, "report.html").exists():
        print(f"all of it: {OUT}/report.html")


onerror:
    print(f"A step failed: its error stands above and in {OUT}/logs. The same command goes on from there.")
