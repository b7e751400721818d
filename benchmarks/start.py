"""Compare two commits by the run time of commands, small workflows, the default analysis, and the tests.

python benchmarks/start.py --before bab3f76                       # start-up and small workflow
python benchmarks/start.py --before bab3f76 --default --tests     # all; some hours

Both commits run alternately on this machine, from separate folders, with the libraries that are installed
here. Measured are processor seconds of a command with its child processes, and wall-clock seconds. Linux
only.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

REPOSITORY = Path(__file__).parents[1]
SMALL = """
dataset: simulated
simulated: {animals: 4}
split: {test_animals: 1, label_animals: 1}
scaling: {animal_counts: [1, 2], seeds: 1}
pretrain: {steps: 20}
probe: {bootstrap: 100, protocols: [inductive_zero_shot, transductive]}
"""
FEW = """
simulated: {animals: 12}
split: {test_animals: 4, label_animals: 4}
pretrain: {steps: 1}
probe: {tasks: [brain_region], protocols: [inductive_zero_shot], bootstrap: 100}
"""


Result = TypeVar("Result")


class Took(NamedTuple):
    """Wall-clock seconds and processor seconds."""

    wall: float
    cpu: float


class Tree(NamedTuple):
    """An unpacked commit, whose commands take precedence over installed ones."""

    path: Path

    def run(self, *command: str, folder: Path | None = None, **environment: str) -> Took:
        """Run a command with the package of this commit."""
        bin_folder = self.path / "benchmark-bin"
        bin_folder.mkdir(exist_ok=True)
        script = bin_folder / "nuclr"
        script.write_text(f"#!{sys.executable}\nimport sys\nfrom nuclr.cli import main\nsys.exit(main())\n")
        script.chmod(0o755)
        paths = [str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]]
        own = {"PATH": os.pathsep.join(paths), "PYTHONPATH": str(self.path / "src"), **environment}
        # Output goes to a file, because a pipe would wait for orphaned child processes.
        with open(self.path / "said.txt", "w+") as said:
            environment = {**os.environ, **own}
            where = folder or self.path
            process = partial(subprocess.run, command, cwd=where, env=environment, stdout=said, stderr=said)
            done, spent = took(process)
            if done.returncode:
                said.seek(0)
                sys.exit(f"{self.path.name}: {' '.join(command)} failed:\n{said.read()[-2000:]}")
        return spent


def took(action: Callable[[], Result]) -> tuple[Result, Took]:
    """Return the time of a function, including orphaned child processes, which this process adopts."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = action()
    wall = time.perf_counter() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result, Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def unpacked(commit: str, folder: Path) -> Tree:
    """Unpack a commit; an empty string is the current checkout."""
    folder.mkdir()
    if commit:
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    else:
        listed = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True).stdout
        copy = ["tar", "-c", "--null", "--ignore-failed-read", "-T", "-"]
        archive = subprocess.run(copy, cwd=REPOSITORY, input=names, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return Tree(folder)


def start_up(trees: dict[str, Tree], folder: Path, rounds: int) -> None:
    """Measure single commands on one core, on a recording of 25 units; the minimum of several rounds."""
    one = {"OMP_NUM_THREADS": "1"}
    for which, tree in trees.items():
        own = folder / f"start-{which}"
        own.mkdir()
        (own / "few.yaml").write_text(FEW)
        tree.run("nuclr", "simulate", "-o", "raw", "--config", "few.yaml", folder=own, **one)
        tree.run("nuclr", "split", "-o", "splits.json", "--config", "few.yaml", folder=own, **one)
        for path in sorted((own / "raw").glob("*.nwb")):
            tree.run("nuclr", "chunk", str(path), "-o", f"stores/{path.stem}", folder=own, **one)
    who = "--splits splits.json --animals 4 --config few.yaml"
    commands = {
        "nuclr --version": "nuclr --version",
        "nuclr inspect": "nuclr inspect raw/sim000.nwb",
        "nuclr chunk": "nuclr chunk raw/sim000.nwb -o again",
        "nuclr pretrain, one step": f"nuclr pretrain stores {who} -o model/model.safetensors",
        "nuclr embed": f"nuclr embed stores {who} --model model/model.safetensors -o e.parquet",
        "nuclr probe": f"nuclr probe e.parquet {who} -o probes",
        "nuclr card": "nuclr card model/model.safetensors -o card.md",
    }
    print("\n| one core, seconds of processors | before | after |\n| --- | --- | --- |")
    for name, command in commands.items():
        least = {which: Took(float("inf"), float("inf")) for which in trees}
        for _ in range(rounds):
            for which, tree in trees.items():
                own = folder / f"start-{which}"
                if "chunk" in command:  # otherwise the results would already exist
                    shutil.rmtree(own / "again", ignore_errors=True)
                least[which] = min(
                    least[which], tree.run(*command.split(), folder=own, **one), key=lambda t: t.cpu
                )
        print(f"| `{name}` | {least['before'].cpu:.2f} | {least['after'].cpu:.2f} |", flush=True)


def workflows(trees: dict[str, Tree], folder: Path, rounds: int) -> None:
    """Measure the workflow with four recordings, which has about thirty small jobs."""
    (folder / "small.yaml").write_text(SMALL)
    table = {which: [] for which in trees}
    for number in range(rounds):
        for which, tree in trees.items():
            own = folder / f"{which}-{number}"
            own.mkdir()
            table[which].append(
                tree.run(
                    *(sys.executable, "-m", "snakemake", "--snakefile", str(tree.path / "Snakefile")),
                    *("--configfile", str(folder / "small.yaml"), "--cores", "2", "scaling_analysis"),
                    folder=own,
                )
            )
    _show(
        "four recordings, counts 1 and 2, one seed",
        {k: min(v, key=lambda t: t.cpu) for k, v in table.items()},
    )


def default_analysis(trees: dict[str, Tree]) -> None:
    """Measure the default analysis of the README on all cores."""
    command = (sys.executable, "-m", "snakemake", "--cores", "all", "scaling_analysis")
    _show("default analysis", {which: tree.run(*command) for which, tree in trees.items()})


def suite(trees: dict[str, Tree]) -> None:
    """Measure the tests with the command of the README."""
    command = (sys.executable, "-m", "pytest", "-q")
    _show("python -m pytest", {which: tree.run(*command) for which, tree in trees.items()})


def _show(name: str, table: dict[str, Took]) -> None:
    before, after = table["before"], table["after"]
    print(f"\n| {name} | before | after | of before |\n| --- | --- | --- | --- |")
    print(f"| core minutes | {before.cpu / 60:.2f} | {after.cpu / 60:.2f} | {after.cpu / before.cpu:.2f} |")
    print(
        f"| minutes on the clock | {before.wall / 60:.2f} | {after.wall / 60:.2f} "
        f"| {after.wall / before.wall:.2f} |",
        flush=True,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main() -> None:
    """Run the requested measurements, and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default="bab3f76", help="commit to compare with the checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--default", action="store_true", help="also the default analysis")
    parser.add_argument("--tests", action="store_true", help="also the tests")
    parser.add_argument("--only", action="store_true", help="only what is named")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphaned child processes are counted, too
    print(f"{_processor()}, {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trees = {
            "before": unpacked(options.before, folder / "before"),
            "after": unpacked("", folder / "after"),
        }
        (folder / "work").mkdir()
        if not options.only:
            start_up(trees, folder / "work", options.rounds)
            workflows(trees, folder / "work", options.rounds)
        if options.default:
            default_analysis(trees)
        if options.tests:
            suite(trees)


if __name__ == "__main__":
    main()
