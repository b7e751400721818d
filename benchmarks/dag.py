"""Measure the time and memory in which Snakemake plans thousands of recordings, before and after all jobs.

    python benchmarks/dag.py                       # 10,000 recordings, no job done
    python benchmarks/dag.py --done                # also runs all jobs, with a stand-in for nuclr

The recordings are in a dandiset that does not exist; planning reads only its listing. With --done, Snakemake
schedules, runs and records every job, but each job is a script that writes empty files.
"""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

REPOSITORY = Path(__file__).parents[1]
SESSIONS = 3  # recordings per animal
STAND_IN = """#!/bin/sh
command=$1 first=$2 output=
while [ $# -gt 0 ]; do
    case $1 in
        -o) output=$2 ;;
        --units) touch "$2" ;;
        --populations) touch "$2" ;;
    esac
    shift
done
case $command in
    download) mkdir -p "results/many/raw/$first" ;;
    chunk | probe) mkdir -p "$output" ;;
    pretrain) touch "$output" "${output%.safetensors}.json" "${output%/*}/metrics.csv" ;;
    collect) touch "$output" "${output%.parquet}.csv" "${output%.parquet}.classes.csv" ;;
    overview)
        for name in data training embedding; do
            touch "$output/$name.png" "$output/$name.svg" "$output/$name.csv"
        done ;;
    scaling)
        for part in "" .labels .confusion .animals; do
            touch "$output$part.png" "$output$part.svg" "$output$part.csv"
        done
        touch "$output.runs.csv" "$output.classes.csv" "$output.json" ;;
    catalog) ;;
    *) touch "$output" ;;
esac
"""


def main() -> None:
    """Plan, optionally run all jobs and plan again; print time and memory of each step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--done", action="store_true", help="also carry all jobs out, and plan again")
    parser.add_argument("--folder", type=Path, help="where, and leave it there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).absolute()
        prepare(folder, options.recordings)
        say("nothing done", snakemake(folder, "-n", "-q", "rules"))
        if options.done:
            say("all of it carried out", snakemake(folder, "-q", "all", "--resources", "downloads=32"))
            said = snakemake(folder, "-n")
            assert "Nothing to be done" in said[2], said[2][-2000:]
            say("all done", said)


def prepare(folder: Path, recordings: int) -> None:
    """Write the listing, a configuration, and the stand-in for nuclr."""
    raw = folder / "results" / "many" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    rows = [f"000000\tsub-{i // SESSIONS:05}/sub-{i // SESSIONS:05}_ses-{i}.nwb" for i in range(recordings)]
    (raw / "dandi.tsv").write_text("\n".join(["dandiset\tpath", *rows, ""]))
    config = {"dataset": "many", "nwb": {"dandi": ["000000"]}, "split": {"test_animals": 100}}
    (folder / "many.yaml").write_text(yaml.safe_dump(config))
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "nuclr").write_text(STAND_IN)
    (folder / "bin" / "nuclr").chmod(stat.S_IRWXU)


def snakemake(folder: Path, *arguments: str) -> tuple[float, int, str]:
    """Run the workflow; return seconds, peak memory in bytes, and the output."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "many.yaml"), "--cores", "4"]
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    began, largest = time.monotonic(), 0
    with (folder / "said.txt").open("w") as said:
        process = psutil.Popen([*command, *arguments], env=environment, stdout=said, stderr=said)
        while process.poll() is None:
            try:
                largest = max(largest, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
    text = (folder / "said.txt").read_text()
    if process.wait():
        sys.exit(text[-3000:])
    return time.monotonic() - began, largest, text


def say(what: str, measured: tuple[float, int, str]) -> None:
    """Print one measurement."""
    seconds, largest, text = measured
    jobs = re.search(r"^total +(\d+)", text, re.M)
    print(f"{what}: {seconds:.1f} s, {largest / 1e9:.2f} GB{f', {jobs[1]} jobs' if jobs else ''}", flush=True)


if __name__ == "__main__":
    main()
