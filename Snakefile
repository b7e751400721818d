# What users run: `snakemake --cores all` does everything; `-n` shows what it would do. The workflow itself is in
# workflow/Snakefile, where other workflows find it as a module (config/README.md).
include: "workflow/Snakefile"


# A file that is included sets no target of its own.
workflow.default_target = "scaling_analysis"
