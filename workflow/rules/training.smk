# Pretraining runs: one encoder for each number of animals and seed; 0 animals is the untrained encoder.

TASKS_IN_TRAINING = ["probe"] if CONFIG.pretrain.probe_every else []


rule pretrain:
    input:
        stores=lambda wildcards: stores(PLAN.to_pretrain(int(wildcards.animals), int(wildcards.seed))),
        splits=f"{OUT}/splits.json",
    output:
        model=f"{OUT}/runs/{{ablation}}n{{animals}}-s{{seed}}/model.safetensors",
        record=f"{OUT}/runs/{{ablation}}n{{animals}}-s{{seed}}/config.json",
        metrics=f"{OUT}/runs/{{ablation}}n{{animals}}-s{{seed}}/metrics.csv",
    log:
        f"{OUT}/logs/pretrain/{{ablation}}n{{animals}}-s{{seed}}.log",
    # High priority, because these are the longest jobs, and none should run alone at the end.
    priority: 1
    threads: threads_of_pretraining()
    resources:
        **ON_SEVERAL,
        # Resources instead of parameters, so that changing them does not rerun the job.
        mem_mb=growing(PRETRAINING_GB),
        runtime=1440,
        gpu=lambda wildcards: gpus(NODES * DEVICES if int(wildcards.animals) else 0),
        launch=LAUNCH,
        machine=CONFIG.sections("machine"),
    params:
        folder=folder_of_stores,
        config=CONFIG.sections("model", "views", "pretrain", *TASKS_IN_TRAINING),
        ablation=lambda wildcards: f"--ablation {wildcards.ablation[:-1]}" if wildcards.ablation else "",
        # Snakemake deletes the outputs of a killed job, so checkpoints are not outputs.
        checkpoints=f"{OUT}/checkpoints",
    message:
        "pretraining {wildcards.ablation}n{wildcards.animals}-s{wildcards.seed}"
    shell:
        "{resources.launch} nuclr --usage pretrain {params.folder:q} --splits {input.splits:q} "
        "--animals {wildcards.animals} --seed {wildcards.seed} {params.ablation} --no-card "
        "-o {output.model:q} --checkpoints {params.checkpoints:q} "
        "--config {params.config:q} --config {resources.machine:q} > {log:q} 2>&1"
