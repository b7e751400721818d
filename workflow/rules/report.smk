# Tables, fitted laws, figures and report pages.

PARTS = [
    "",
    ".labels",
    ".confusion",
    ".animals",
    *([".ablations"] if CONFIG.scaling.ablations else []),
]
SHOWN = [f"{OUT}/scaling/{{task}}.{{protocol}}{part}" for part in PARTS]


rule scaling:
    input:
        lambda wildcards: probes_of(PLAN.representations(wildcards.protocol)),
    output:
        report(
            [f"{stem}.png" for stem in SHOWN],
            caption="../report/scaling.rst",
            category="{task}",
            subcategory="{protocol}",
        ),
        [f"{stem}{suffix}" for stem in SHOWN for suffix in (".svg", ".csv")],
        multiext(f"{OUT}/scaling/{{task}}.{{protocol}}", ".runs.csv", ".classes.csv", ".json"),
    log:
        f"{OUT}/logs/scaling/{{task}}.{{protocol}}.log",
    resources:
        mem_mb=growing(8),
        runtime=120,
    params:
        config=CONFIG.sections("probe"),
        stem=f"{OUT}/scaling/{{task}}.{{protocol}}",
    message:
        "drawing the scaling curve: {wildcards.task}, {wildcards.protocol}"
    shell:
        "nuclr --usage scaling {input:q} --task {wildcards.task} --protocol {wildcards.protocol} "
        "-o {params.stem:q} --config {params.config:q} > {log:q} 2>&1"


rule overview:
    input:
        embeddings=f"{OUT}/runs/{PLAN.mapped}/embeddings.parquet",
        metrics=[f"{OUT}/runs/{run}/metrics.csv" for run in PLAN.pretrained],
        units=f"{OUT}/units.parquet",
        populations=f"{OUT}/populations.parquet",
    output:
        report(
            multiext(f"{OUT}/figures/", "data.png", "training.png", "embedding.png"),
            caption="../report/overview.rst",
            category="data and training",
        ),
        multiext(f"{OUT}/figures/", "data.svg", "training.svg", "embedding.svg"),
        multiext(f"{OUT}/figures/", "data.csv", "training.csv", "embedding.csv"),
    log:
        f"{OUT}/logs/overview.log",
    resources:
        mem_mb=growing(8),
        runtime=120,
    params:
        config=CONFIG.sections("probe"),
        folder=lambda wildcards, input: Path(input.units).parent,
        runs=[f"--run {run}" for run in [*PLAN.pretrained, PLAN.mapped]],
    message:
        "drawing recordings, training and embeddings"
    shell:
        "nuclr --usage overview {params.folder:q} {params.runs} -o {params.folder:q}/figures "
        "--config {params.config:q} > {log:q} 2>&1"


rule explore:
    input:
        embeddings=f"{OUT}/runs/{PLAN.mapped}/embeddings.parquet",
        # Without labels, the untrained model is not needed elsewhere, so it is not embedded for this page alone.
        untrained=f"{OUT}/runs/n0-s0/embeddings.parquet" if CONFIG.probe.tasks else [],
        stores=stores(PLAN.to_embed(max(PLAN.animal_counts), 0)),
    output:
        report(f"{OUT}/explore.html", caption="../report/explore.rst", category="report"),
    log:
        f"{OUT}/logs/explore.log",
    resources:
        mem_mb=growing(16),
        runtime=240,
    params:
        folder=folder_of_stores,
        title=CONFIG.dataset,
        name=f"trained on {counted(max(PLAN.animal_counts), 'animal')}",
        beside=lambda wildcards, input: (
            ["--beside", input.untrained, "--name", "untrained"] if input.untrained else []
        ),
    message:
        f"writing the map of all units of {PLAN.mapped}"
    shell:
        "nuclr --usage explore {input.embeddings:q} --name {params.name:q} {params.beside:q} "
        "--recordings {params.folder:q} --title {params.title:q} -o {output:q} > {log:q} 2>&1"


rule bundle:
    input:
        model=f"{OUT}/runs/{PLAN.mapped}/model.safetensors",
        record=f"{OUT}/runs/{PLAN.mapped}/config.json",
        card=f"{OUT}/runs/{PLAN.mapped}/README.md",
        embeddings=f"{OUT}/runs/{PLAN.mapped}/embeddings.parquet",
        splits=f"{OUT}/splits.json",
    output:
        directory(f"{OUT}/model"),
    log:
        f"{OUT}/logs/bundle.log",
    resources:
        mem_mb=growing(8),
        runtime=480,
    params:
        config=CONFIG.sections("probe"),
        run=lambda wildcards, input: Path(input.model).parent,
    message:
        f"making a model folder of {PLAN.mapped}, with probes"
    shell:
        "nuclr --usage bundle {params.run:q} --splits {input.splits:q} -o {output:q} --config {params.config:q} "
        "> {log:q} 2>&1"


rule page:
    input:
        figures=[
            f"{OUT}/scaling/{task.name}.{protocol}.png"
            for task in CONFIG.probe.tasks
            for protocol in CONFIG.probe.protocols
        ],
        overview=rules.overview.output,
        probes=rules.collect.output if CONFIG.probe.tasks else [],
        explore=rules.explore.output,
        splits=f"{OUT}/splits.json",
    output:
        report(f"{OUT}/report.html", caption="../report/page.rst", category="report"),
    log:
        f"{OUT}/logs/page.log",
    resources:
        mem_mb=growing(4),
        runtime=60,
    params:
        config=CONFIG.model_dump_json(),
        folder=lambda wildcards, input: Path(input.splits).parent,
        notes=[f"--note={line}" for line in PLAN.said],
    message:
        "writing the report"
    shell:
        "nuclr --usage report {params.folder:q} --splits {input.splits:q} {params.notes:q} -o {output:q} --config {params.config:q} "
        "> {log:q} 2>&1"
