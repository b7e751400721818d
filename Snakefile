# The entry point for users: `snakemake --cores all` runs the whole analysis, and `-n` lists the jobs. The workflow itself
# is in workflow/Snakefile, where other workflows can import it as a module (config/README.md).
include: "workflow/Snakefile"


# An included file cannot set the default target.
workflow.default_target = "scaling_analysis"
