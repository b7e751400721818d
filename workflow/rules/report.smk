# The scaling analysis: table, fit and figure of every task and protocol.


rule scaling:
    input:
        lambda wildcards: probes_of(PLAN.representations(wildcards.protocol)),
    output:
        multiext(f"{OUT}/scaling/{{task}}.{{protocol}}", ".png", ".svg", ".csv", ".runs.csv", ".json"),
    log:
        f"{OUT}/logs/scaling/{{task}}.{{protocol}}.log",
    params:
        config=CONFIG.sections("probe"),
        stem=f"{OUT}/scaling/{{task}}.{{protocol}}",
    message:
        "drawing the scaling curve: {wildcards.task}, {wildcards.protocol}"
    shell:
        "nuclr scaling {input:q} --task {wildcards.task} --protocol {wildcards.protocol} "
        "-o {params.stem:q} --config {params.config:q} > {log:q} 2>&1"
