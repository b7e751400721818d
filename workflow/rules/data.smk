# Recordings to stores, tables and splits.


if CONFIG.source_kind == "simulated":

    rule simulate:
        output:
            [recording.path for recording in PLAN.recordings.values()],
        log:
            f"{OUT}/logs/simulate.log",
        params:
            config=CONFIG.sections("simulated"),
            folder=lambda wildcards, output: Path(output[0]).parent,
        message:
            f"simulating {len(PLAN.recordings)} recordings"
        shell:
            "nuclr simulate -o {params.folder:q} --config {params.config:q} > {log:q} 2>&1"


rule chunk:
    input:
        lambda wildcards: PLAN.recordings[wildcards.recording].path,
    output:
        directory(f"{OUT}/populations/{{recording}}"),
    log:
        f"{OUT}/logs/chunk/{{recording}}.log",
    params:
        config=CONFIG.sections("dataset", "source", "nwb", "chunk"),
    message:
        "chunking {wildcards.recording}"
    shell:
        "nuclr chunk {input:q} -o {output:q} --config {params.config:q} > {log:q} 2>&1"


rule catalog:
    input:
        stores(PLAN.recordings),
    output:
        units=f"{OUT}/units.parquet",
        populations=f"{OUT}/populations.parquet",
    log:
        f"{OUT}/logs/catalog.log",
    params:
        config=CONFIG.sections("probe"),
    message:
        "cataloguing all units"
    shell:
        "nuclr catalog {input:q} --units {output.units:q} --populations {output.populations:q} "
        "--config {params.config:q} > {log:q} 2>&1"


rule split:
    output:
        f"{OUT}/splits.json",
    log:
        f"{OUT}/logs/split.log",
    params:
        config=CONFIG.sections("dataset", "source", "results", "simulated", "nwb", "split"),
    message:
        "splitting animals"
    shell:
        "nuclr split -o {output:q} --config {params.config:q} > {log:q} 2>&1"
