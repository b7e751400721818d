# From recordings to population stores, tables and splits.
from shlex import quote

from snakemake.settings.types import DeploymentMethod

if CONFIG.source_kind == "simulated":

    rule simulate:
        output:
            [recording.path for recording in PLAN.recordings.values()],
        log:
            f"{OUT}/logs/simulate.log",
        resources:
            mem_mb=growing(4),
            runtime=60,
        params:
            config=CONFIG.sections("simulated"),
            folder=lambda wildcards, output: Path(output[0]).parent,
        message:
            f"simulating {len(PLAN.recordings)} recordings"
        shell:
            "nuclr --usage simulate -o {params.folder:q} --config {params.config:q} > {log:q} 2>&1"


# The section of the configuration for this data set, if there is one.
OWN = [CONFIG.source_kind] if hasattr(CONFIG, CONFIG.source_kind) else []
LINKS = (
    [f"{CONFIG.raw}/links.tsv"]
    if CONFIG.source_kind == "allen_visual_coding" and CONFIG.allen_visual_coding.archive == "allensdk"
    else []
)


if CONFIG.source_kind == "bugeon_2022":

    # One archive contains all sessions.
    rule download_all:
        output:
            [kept(recording.path) for recording in PLAN.recordings.values()],
        log:
            f"{OUT}/logs/download.log",
        resources:
            mem_mb=growing(4),
            runtime=1440,
            downloads=1,
            how=CONFIG.sections("download"),
        params:
            config=CONFIG.sections("dataset", "source", "results"),
            names=list(PLAN.recordings),
        message:
            f"downloading {len(PLAN.recordings)} recordings"
        shell:
            "nuclr --usage download {params.names} --config {params.config:q} --config {resources.how:q} > {log:q} 2>&1"

elif CONFIG.downloads:

    rule download:
        input:
            ancient(LINKS),
        output:
            kept(f"{CONFIG.raw}/{{recording}}"),
        log:
            f"{OUT}/logs/download/{{recording}}.log",
        resources:
            mem_mb=growing(4),
            runtime=480,
            # The profile limits how many downloads run at the same time.
            downloads=1,
            how=CONFIG.sections("download", "nwb", *OWN),
        params:
            config=CONFIG.sections("dataset", "source", "results"),
            sorting=CONFIG.ibl_brain_wide_map.collection,  # another spike sorting has other files
        message:
            "downloading {wildcards.recording}"
        shell:
            "nuclr --usage download {wildcards.recording} --config {params.config:q} --config {resources.how:q} "
            "> {log:q} 2>&1"


if LINKS:

    # allensdk needs its own environment, which uv creates, or conda with --sdm conda.
    rule allen_links:
        input:
            script=workflow.source_path("../../envs/allen_links.py"),
            requirements=workflow.source_path("../../envs/allensdk.txt"),
        output:
            LINKS,
        log:
            f"{OUT}/logs/allen_links.log",
        conda:
            "../../envs/allensdk.yaml"
        resources:
            mem_mb=growing(4),
            runtime=60,
        params:
            sessions=list(PLAN.recordings),
            python=lambda wildcards, input: (
                "python"
                if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
                else f"uv run --isolated --no-project --python 3.11 --with-requirements {quote(input.requirements)} python"
            ),
        message:
            "looking up the addresses of the sessions with allensdk"
        shell:
            "{params.python} {input.script:q} {params.sessions} -o {output:q} > {log:q} 2>&1"


rule chunk:
    input:
        lambda wildcards: PLAN.recordings[wildcards.recording].path,
    output:
        directory(f"{OUT}/populations/{{recording}}"),
    log:
        f"{OUT}/logs/chunk/{{recording}}.log",
    resources:
        mem_mb=growing(4),
        runtime=60,
        # A resource instead of a parameter, so that changing it does not rerun the job.
        machine=CONFIG.sections("machine"),
    params:
        config=CONFIG.sections("dataset", "source", "results", "nwb", "sorter", "imaging", "chunk", *OWN),
    message:
        "chunking {wildcards.recording}"
    shell:
        "nuclr --usage chunk {input:q} -o {output:q} --config {params.config:q} --config {resources.machine:q} "
        "> {log:q} 2>&1"


rule catalog:
    input:
        stores=stores(PLAN.recordings),
        splits=f"{OUT}/splits.json",
    output:
        units=f"{OUT}/units.parquet",
        populations=f"{OUT}/populations.parquet",
    log:
        f"{OUT}/logs/catalog.log",
    # Before any run, because it detects duplicate units and tasks without labels.
    priority: 2
    resources:
        mem_mb=growing(8),
        runtime=120,
    params:
        config=CONFIG.sections("probe"),
        folder=folder_of_stores,
        # Of a downloaded data set, only the recordings that runs need are present.
        needed=f"--animals {PLAN.probed_with(0)} --seeds {PLAN.most_seeds}" if CONFIG.downloads else "",
    message:
        "cataloguing all units"
    shell:
        "nuclr --usage catalog {params.folder:q} --splits {input.splits:q} {params.needed} "
        "--units {output.units:q} --populations {output.populations:q} "
        "--config {params.config:q} > {log:q} 2>&1"


rule split:
    output:
        f"{OUT}/splits.json",
    log:
        f"{OUT}/logs/split.log",
    resources:
        mem_mb=growing(2),
        runtime=20,
    params:
        config=CONFIG.sections("dataset", "source", "results", "simulated", "nwb", "split"),
        # Reruns the job if a recording is added or removed.
        recordings=fingerprint(PLAN.splits.recordings),
    message:
        "splitting animals"
    shell:
        "nuclr --usage split -o {output:q} --config {params.config:q} > {log:q} 2>&1"
