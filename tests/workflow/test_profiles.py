"""The profiles of clusters other than SLURM: schedulers and object stores are small stand-ins."""

from __future__ import annotations

import http.server
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from snakemake_run import REPOSITORY, SMALL, planned

pytestmark = pytest.mark.workflow
PROFILES = REPOSITORY / "workflow" / "profiles"
# A scheduler that runs a job at once, in the background. What it is asked is written down.
SUBMIT = """#!/bin/sh
echo "$(basename "$0") $*" >> "{folder}/asked"
for script; do :; done
number=$(($(ls "{folder}/jobs" | wc -l) + 1))
mkdir "{folder}/jobs/$number"
(sh "$script" > "{folder}/jobs/$number/log" 2>&1; echo $? > "{folder}/jobs/$number/code") > /dev/null 2>&1 &
echo "{said}"
"""
STATUS = {
    "qstat": """#!/bin/sh
for job; do :; done
code=$(cat "{folder}/jobs/$job/code" 2>/dev/null)
[ -n "$code" ] && echo "    job_state = F" && echo "    Exit_status = $code" || echo "    job_state = R"
""",
    "bjobs": """#!/bin/sh
for job; do :; done
case "$(cat "{folder}/jobs/$job/code" 2>/dev/null)" in 0) echo DONE;; "") echo RUN;; *) echo EXIT;; esac
""",
}
COMMANDS = {"pbs": ("qsub", "$number", "qstat"), "lsf": ("bsub", "Job <$number> is submitted.", "bjobs")}


def run(folder: Path, profile: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow with a profile."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic", reason="pip install nuclr[clusters]")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--config", "simulated={animals: 6}", "scaling={animal_counts: [1]}", "pretrain={steps: 2}"]
    command += ["--directory", str(folder), "--configfile", str(SMALL), "--profile", str(PROFILES / profile)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    everything = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([*command, *arguments], env=everything, capture_output=True, text=True, timeout=300)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout + done.stderr, "")


@pytest.fixture
def bucket() -> Iterator[str]:
    """Give the address of an S3 with one bucket, and nothing in it."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            in_bucket = len(self.path.split("?")[0].strip("/").split("/")) > 1
            self.send_response(404 if in_bucket else 200)
            self.end_headers()

        def do_GET(self) -> None:
            body = b'<?xml version="1.0"?><ListBucketResult><Name>my-bucket</Name></ListBucketResult>'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("profile", ["pbs", "lsf"])
def test_a_scheduler_is_asked_for_what_the_rules_need(tmp_path: Path, profile: str) -> None:
    submit, said, status = COMMANDS[profile]
    bin_folder = tmp_path / "bin"
    (tmp_path / "jobs").mkdir()
    bin_folder.mkdir()
    for name, content in ((submit, SUBMIT), (status, STATUS[status])):
        (bin_folder / name).write_text(content.replace("{folder}", str(tmp_path)).replace("{said}", said))
        (bin_folder / name).chmod(stat.S_IRWXU)
    path = os.pathsep.join([str(Path(sys.executable).parent), str(bin_folder), os.environ["PATH"]])
    model = "results/simulated/runs/n1-s0/model.safetensors"
    done = run(tmp_path, profile, model, "--seconds-between-status-checks", "1", PATH=path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / model).exists()
    asked = (tmp_path / "asked").read_text().splitlines()
    # simulate, split, all six recordings in one, pretrain; the catalog comes first only where it is asked for
    assert len(asked) == 4
    pretrain = asked[-1]
    if profile == "pbs":
        assert "-q gpu -l select=1:ncpus=" in pretrain
        assert ":mem=16000mb:ngpus=1 -l walltime=86400 " in pretrain
    else:
        assert "-q gpu -n " in pretrain
        assert "-R span[hosts=1] rusage[mem=16000MB] -M 16000MB -W 1440 -gpu num=1 " in pretrain


@pytest.mark.parametrize("profile", ["kubernetes", "aws-batch"])
def test_everything_is_planned_for_files_in_a_bucket(tmp_path: Path, bucket: str, profile: str) -> None:
    pytest.importorskip("snakemake_storage_plugin_s3", reason="pip install nuclr[clusters]")
    keys = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "key", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "secret"}
    keys |= {"SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": bucket, "SNAKEMAKE_STORAGE_S3_REGION": "eu-central-1"}
    done = run(tmp_path, profile, "-n", "scaling_analysis", **keys)
    jobs = planned(done)
    assert jobs["chunk"] == 6
    assert jobs["pretrain"] == 3
    # Snakemake names the place in its storage by the address.
    assert "s3/my-bucket/results/simulated/report.html" in done.stdout
