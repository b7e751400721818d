# Recordings to stores, tables and splits.
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


# The data set's own part of the configuration, where it has one.
OWN = [CONFIG.source_kind] if hasattr(CONFIG, CONFIG.source_kind) else []
LINKS = (
    [f"{CONFIG.raw}/links.tsv"]
    if CONFIG.source_kind == "allen_visual_coding" and CONFIG.allen_visual_coding.archive == "allensdk"
    else []
)


if CONFIG.source_kind == "bugeon_2022":

    # One archive holds all sessions.
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
            # A limit of the profile: how many ask a server at the same time.
            downloads=1,
            how=CONFIG.sections("download", "nwb", *OWN),
        params:
            config=CONFIG.sections("dataset", "source", "results"),
            sorting=CONFIG.ibl_brain_wide_map.collection,  # of another one there are other files
        message:
            "downloading {wildcards.recording}"
        shell:
            "nuclr --usage download {wildcards.recording} --config {params.config:q} --config {resources.how:q} "
            "> {log:q} 2>&1"


if LINKS:

    # allensdk cannot share an environment with the rest; uv makes one for it, or conda with --sdm conda.
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
            "asking allensdk where the sessions are"
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
        # Not a parameter: stores need not be made again because they are made in another way.
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
    # Before any run: it finds units that would be two, and tasks without labels.
    priority: 2
    resources:
        mem_mb=growing(8),
        runtime=120,
    params:
        config=CONFIG.sections("probe"),
        folder=folder_of_stores,
        # Of a data set that is downloaded there is what runs need.
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
        # So that a recording that comes or goes is noticed.
        recordings=fingerprint(PLAN.splits.recordings),
    message:
        "splitting animals"
    shell:
        "nuclr --usage split -o {output:q} --config {params.config:q} > {log:q} 2>&1"
