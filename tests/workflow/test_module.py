"""Another workflow uses this one as a module, and builds on its results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake_run import REPOSITORY, SMALL, planned, snakemake

pytestmark = pytest.mark.workflow
SHORT = {
    **yaml.safe_load(SMALL.read_text()),
    "pretrain": {"steps": 3},
    "scaling": {"animal_counts": [3], "seeds": 1},
    "probe": {"bootstrap": 10, "label_halvings": 0, "protocols": ["inductive_zero_shot"], "baselines": []},
}
MODULE = """
configfile: "config/config.yaml"

module nuclr:
    snakefile: "{snakefile}"
    {statements}

use rule * from nuclr{names}
"""
BUILDS_ON_IT = """
rule best:
    default_target: True
    input: rules.nuclr_collect.output.csv[0]
    output: "best.csv"
    shell: "sort {input} > {output}"

onstart:
    nuclr.onstart()

onsuccess:
    nuclr.onsuccess()
"""


def test_the_catalog_of_workflows_finds_what_it_wants() -> None:
    """Source: the README of snakemake/snakemake-workflow-catalog, "Standardized usage workflows"."""
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert usage["software-stack-deployment"] == {"conda": True, "report": True}
    for path in ("workflow/Snakefile", "workflow/rules/common.smk", "config/README.md", "config/config.yaml"):
        assert (REPOSITORY / path).is_file()
    words = (REPOSITORY / "README.md").read_text().lower()
    assert "snakemake" in words
    assert "workflow" in words


def write_outer(
    folder: Path,
    config: dict[str, Any],
    *statements: str,
    names: str = " as nuclr_*",
    more: str = "",
    snakefile: str = str(REPOSITORY / "workflow" / "Snakefile"),
) -> Path:
    """Write a workflow as `snakedeploy` lays one out; the path of its Snakefile."""
    for part in ("config", "workflow"):
        (folder / part).mkdir()
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    path = folder / "workflow" / "Snakefile"
    path.write_text(
        MODULE.format(snakefile=snakefile, statements="\n    ".join(statements), names=names) + more
    )
    return path


def run(outer: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return snakemake(outer.parents[1], *arguments, configfile=None, snakefile=outer)


def test_another_workflow_builds_on_its_scores(tmp_path: Path) -> None:
    """The keys of the other workflow are its own; a part of them is the module's configuration."""
    outer = write_outer(
        tmp_path, {"lab": "ours", "nuclr": SHORT}, 'config: config["nuclr"]', more=BUILDS_ON_IT
    )
    jobs = planned(run(outer, "-n"))
    runs = dict.fromkeys(("nuclr_pretrain", "nuclr_embed", "nuclr_probe"), 2)
    assert jobs == {
        "best": 1,
        "nuclr_collect": 1,
        **runs,
        "nuclr_chunk": 8,
        "nuclr_split": 1,
        "nuclr_simulate": 1,
    }
    done = run(outer)
    assert done.returncode == 0, done.stdout
    assert "inductive_zero_shot" in (tmp_path / "best.csv").read_text()
    # The module's handlers, where they are called.
    assert "nuclr: warning: pretrain: all 3 steps are warm-up" in done.stdout
    assert planned(run(outer, "-n")) == {}
    whole = planned(run(outer, "-n", "nuclr_scaling_analysis"))
    pages = ("nuclr_catalog", "nuclr_overview", "nuclr_bundle", "nuclr_explore", "nuclr_page", "nuclr_card")
    assert whole == {
        **dict.fromkeys(pages, 1),
        "nuclr_chunk": 1,
        "nuclr_scaling": 2,
        "nuclr_scaling_analysis": 1,
    }


def test_what_the_other_workflow_says_goes_before_the_data_set_and_that_before_the_defaults(
    tmp_path: Path,
) -> None:
    """As `snakedeploy` writes it, with a copy of config/config.yaml. Seeds: config/simulated.yaml has 4."""
    given = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
    outer = write_outer(tmp_path, given, "config: config", names="")
    own = planned(run(outer, "-n"))
    assert own == planned(snakemake(REPOSITORY, "-n", configfile=None))
    assert own["pretrain"] == 4 * 6
    assert own["chunk"] == 56
    fewer = planned(run(outer, "-n", "--config", "scaling={seeds: 1}"))
    assert fewer["pretrain"] == 6


def test_a_module_without_a_key_is_the_default_analysis(tmp_path: Path) -> None:
    outer = write_outer(tmp_path, {}, "config: {}", names="")
    assert planned(run(outer, "-n"))["pretrain"] == 24


def test_a_commit_of_a_repository_can_be_the_module(tmp_path: Path) -> None:
    """Presets and other files are then not beside the rules on a disk, as with `github(...)`."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    source = tmp_path / "source"
    for part in ("config", "envs", "workflow"):
        shutil.copytree(REPOSITORY / part, source / part)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "all")):
        subprocess.run([*git, *command], cwd=source, check=True)
    shutil.rmtree(source / "config")
    address = f"git+file://{source}/workflow/Snakefile@main"
    outer = write_outer(tmp_path, {"dataset": "allen_visual_coding"}, "config: config", snakefile=address)
    jobs = planned(run(outer, "-n", "nuclr_scaling_analysis"))
    # 18 + 10 of 58 animals are kept apart by config/allen_visual_coding.yaml, which has 3 seeds: of 0 to 30.
    assert (jobs["nuclr_allen_links"], jobs["nuclr_download"], jobs["nuclr_pretrain"]) == (1, 58, 21)


@pytest.mark.parametrize("statement", ['prefix: "there"', 'replace_prefix: {"results/": "there/"}'])
def test_a_prefix_is_refused_and_the_key_that_does_it_is_named(tmp_path: Path, statement: str) -> None:
    outer = write_outer(tmp_path, SHORT, "config: config", statement)
    done = run(outer, "-n")
    assert done.returncode != 0
    assert "set `results` in its config, the folder of all results" in done.stdout


def test_results_go_where_the_key_says(tmp_path: Path) -> None:
    outer = write_outer(tmp_path, {**SHORT, "results": "there"}, "config: config")
    done = run(outer, "nuclr_split")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "there" / "simulated" / "splits.json").exists()
