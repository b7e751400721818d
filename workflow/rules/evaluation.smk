# Representations of units, and what a probe reads in them.


rule embed:
    input:
        stores=lambda wildcards: stores(PLAN.to_embed(int(wildcards.animals), int(wildcards.seed))),
        model=rules.pretrain.output.model,
        record=rules.pretrain.output.record,
    output:
        f"{OUT}/runs/n{{animals}}-s{{seed}}/embeddings.parquet",
    log:
        f"{OUT}/logs/embed/n{{animals}}-s{{seed}}.log",
    message:
        "embedding with {wildcards.animals} animals, seed {wildcards.seed}"
    shell:
        "nuclr embed {input.stores:q} --model {input.model:q} -o {output:q} > {log:q} 2>&1"


rule baseline:
    input:
        stores=stores(PLAN.to_embed(0, 0)),
        units=ancient(f"{OUT}/units.parquet"),
    output:
        f"{OUT}/runs/{{baseline}}/embeddings.parquet",
    log:
        f"{OUT}/logs/baseline/{{baseline}}.log",
    message:
        "computing features: {wildcards.baseline}"
    shell:
        "nuclr baseline {input.stores:q} --name {wildcards.baseline} -o {output:q} > {log:q} 2>&1"


rule probe:
    input:
        embeddings=rules.embed.output,
        splits=f"{OUT}/splits.json",
    output:
        directory(f"{OUT}/runs/n{{animals}}-s{{seed}}/probes"),
    log:
        f"{OUT}/logs/probe/n{{animals}}-s{{seed}}.log",
    params:
        config=CONFIG.sections("probe"),
        animals=lambda wildcards: PLAN.probed_with(int(wildcards.animals)),
        seed=lambda wildcards: wildcards.seed,
    message:
        "probing {wildcards.animals} animals, seed {wildcards.seed}"
    shell:
        "nuclr probe {input.embeddings:q} --splits {input.splits:q} --animals {params.animals} "
        "--seed {params.seed} -o {output:q} --config {params.config:q} > {log:q} 2>&1"


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
    message:
        "probing {wildcards.baseline}"
