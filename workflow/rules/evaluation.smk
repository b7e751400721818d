# Representations of units, and their probes.

ALL_PROBES = list(
    dict.fromkeys(
        probes
        for protocol in (CONFIG.probe.protocols if CONFIG.probe.tasks else ())
        for probes in probes_of(PLAN.representations(protocol))
    )
)


rule embed:
    input:
        stores=to_embed,
        model=rules.pretrain.output.model,
        record=rules.pretrain.output.record,
        splits=f"{OUT}/splits.json",
    output:
        f"{OUT}/runs/{{ablation}}n{{animals}}-s{{seed}}/embeddings.parquet",
    log:
        f"{OUT}/logs/embed/{{ablation}}n{{animals}}-s{{seed}}.log",
    resources:
        mem_mb=growing(16),
        runtime=480,
        gpu=gpus(DEVICES),
        # A resource instead of a parameter, so that changing it does not rerun the job.
        machine=CONFIG.sections("machine"),
    params:
        folder=folder_of_stores,
        config=CONFIG.sections("embed"),
        animals=lambda wildcards: PLAN.probed_with(int(wildcards.animals)),
        seed=lambda wildcards: wildcards.seed,
    message:
        "embedding with {wildcards.ablation}n{wildcards.animals}-s{wildcards.seed}"
    shell:
        "nuclr --usage embed {params.folder:q} --splits {input.splits:q} --animals {params.animals} "
        "--seed {params.seed} --model {input.model:q} -o {output:q} --config {params.config:q} "
        "--config {resources.machine:q} > {log:q} 2>&1"


rule baseline:
    input:
        stores=stores(PLAN.to_compare),
        splits=f"{OUT}/splits.json",
        # Shared features are computed once. Not `ancient`, because Snakemake would then miss other changes.
        parts=lambda wildcards: [
            f"{OUT}/runs/{other}/embeddings.parquet" for other in PLAN.computed_before(wildcards.baseline)
        ],
    output:
        f"{OUT}/runs/{{baseline}}/embeddings.parquet",
    log:
        f"{OUT}/logs/baseline/{{baseline}}.log",
    resources:
        mem_mb=growing(16),
        runtime=480,
        # A resource instead of a parameter, so that changing it does not rerun the job.
        machine=CONFIG.sections("machine"),
    params:
        folder=folder_of_stores,
        # Not an output, because Snakemake deletes outputs of killed jobs, which resume from this cache; baselines share it.
        features=f"{OUT}/features",
        animals=PLAN.probed_with(0),
        panel=PLAN.panel,
        seeds=PLAN.most_seeds,
    message:
        "computing features: {wildcards.baseline}"
    shell:
        "nuclr --usage baseline {params.folder:q} --name {wildcards.baseline} --splits {input.splits:q} "
        "--animals {params.animals} --panel {params.panel} --seeds {params.seeds} "
        "--features {params.features:q} -o {output:q} --config {resources.machine:q} > {log:q} 2>&1"


rule probe:
    input:
        embeddings=rules.embed.output,
        splits=f"{OUT}/splits.json",
    output:
        directory(f"{OUT}/runs/{{ablation}}n{{animals}}-s{{seed}}/probes"),
    log:
        f"{OUT}/logs/probe/{{ablation}}n{{animals}}-s{{seed}}.log",
    resources:
        mem_mb=growing(8),
        runtime=480,
    params:
        config=CONFIG.sections("probe"),
        animals=lambda wildcards: PLAN.probed_with(int(wildcards.animals)),
        seed=lambda wildcards: wildcards.seed,
        panel=PLAN.panel,
        seeds=1,
    message:
        "probing {wildcards.ablation}n{wildcards.animals}-s{wildcards.seed}"
    shell:
        "nuclr --usage probe {input.embeddings:q} --splits {input.splits:q} --animals {params.animals} "
        "--seed {params.seed} --panel {params.panel} --seeds {params.seeds} -o {output:q} --config {params.config:q} > {log:q} 2>&1"


use rule probe as probe_baseline with:
    input:
        embeddings=rules.baseline.output,
        splits=f"{OUT}/splits.json",
    output:
        directory(f"{OUT}/runs/{{baseline}}/probes"),
    log:
        f"{OUT}/logs/probe/{{baseline}}.log",
    params:
        config=CONFIG.sections("probe"),
        animals=PLAN.probed_with(0),
        seed=0,
        panel=PLAN.panel,
        seeds=PLAN.most_seeds,
    message:
        "probing {wildcards.baseline}"


rule collect:
    input:
        ALL_PROBES,
    output:
        table=f"{OUT}/probes.parquet",
        csv=multiext(f"{OUT}/probes", ".csv", ".classes.csv"),
    log:
        f"{OUT}/logs/collect.log",
    resources:
        mem_mb=growing(4),
        runtime=60,
    message:
        f"collecting the scores of {len(ALL_PROBES)} representations"
    shell:
        "nuclr --usage collect {input:q} -o {output.table:q} > {log:q} 2>&1"


rule card:
    input:
        model=rules.pretrain.output.model,
        record=rules.pretrain.output.record,
        probes=rules.probe.output if CONFIG.probe.tasks else [],
    output:
        f"{OUT}/runs/{{ablation}}n{{animals}}-s{{seed}}/README.md",
    log:
        f"{OUT}/logs/card/{{ablation}}n{{animals}}-s{{seed}}.log",
    resources:
        mem_mb=growing(4),
        runtime=20,
    params:
        probes=lambda wildcards, input: ["--probes", *input.probes] if input.probes else [],
    message:
        "writing the model card of {wildcards.ablation}n{wildcards.animals}-s{wildcards.seed}"
    shell:
        "nuclr --usage card {input.model:q} {params.probes:q} -o {output:q} > {log:q} 2>&1"
