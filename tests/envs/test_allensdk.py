"""allensdk's own environment builds, finds where sessions are, and its files are read here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from servers import serving, warehouse

from nuclr.config import AllenVisualCoding
from nuclr.data.archives import allen_visual_coding
from nuclr.data.recording import Recording

REPOSITORY = Path(__file__).parents[2]
UV = shutil.which("uv")
pytestmark = pytest.mark.skipif(UV is None, reason="uv is not installed: pip install nuclr[allen]")


def in_allensdk(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in allensdk's environment, as the workflow does."""
    command = [str(UV), "run", "--isolated", "--no-project", "--python", "3.11"]
    command += ["--with-requirements", str(REPOSITORY / "envs" / "allensdk.txt"), "python", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_the_environment_builds_and_imports() -> None:
    code = (
        "import allensdk, numpy, sys; print(allensdk.__version__, numpy.__version__, 'nuclr' in sys.modules)"
    )
    done = in_allensdk("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2.16.2", "1.23.5", "False"]


def test_the_lock_is_of_its_requirements() -> None:
    for line in (REPOSITORY / "envs" / "allensdk.in").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            assert f"\n{line} " in (REPOSITORY / "envs" / "allensdk.txt").read_text()
    conda = (REPOSITORY / "envs" / "allensdk.yaml").read_text()
    wanted = (REPOSITORY / "envs" / "allensdk.in").read_text().splitlines()
    for line in wanted:
        assert line.startswith("#") or f"- {line}" in conda


def test_allensdk_says_where_sessions_are(tmp_path: Path) -> None:
    with serving() as server:
        warehouse(server, {1: "/api/v2/well_known_file_download/10", 2: "api/v2/well_known_file_download/20"})
        server.faults["/api/v2/data/query.json"] = [503]
        where = ["--scheme", "http", "--host", server.address.removeprefix("http://")]
        done = in_allensdk("envs/allen_links.py", "1", "2", "-o", str(tmp_path / "links.tsv"), *where)
        assert done.returncode == 0, done.stderr
        table = pd.read_csv(tmp_path / "links.tsv", sep="\t")
        assert table["session"].tolist() == [1, 2]
        assert table["url"][1] == server.url("/api/v2/well_known_file_download/20")


def test_a_file_of_allensdk_is_read_as_allensdk_reads_it(tmp_path: Path) -> None:
    session = "715093703"
    (tmp_path / session).mkdir()
    done = in_allensdk("tests/envs/write_with_allensdk.py", str(tmp_path / session / f"{session}.nwb"))
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    recording = Recording(tmp_path / session, session, "699733573")
    first, second = allen_visual_coding.read(recording, AllenVisualCoding(regions=""))
    ours = pd.concat([first.units, second.units])
    ours.index = ours["unit_id"].str.rpartition("_")[2]
    assert ours["brain_region"].to_dict() == theirs["units"]
    counts = [len(train) for part in (first, second) for train in part.spikes.trains()]
    assert dict(zip(ours.index, counts, strict=True)) == theirs["spikes"]
    assert theirs["light"] == 400.0
    (invalid,) = theirs["invalid"]
    np.testing.assert_allclose(first.valid_spans, [[0, invalid[0]], [invalid[1], theirs["light"] - 300]])
    assert ours["cell_type"].value_counts().to_dict() == {"": 7, "Sst": 1}
    visual = allen_visual_coding.read(recording, AllenVisualCoding())
    assert sum(len(part.units) for part in visual) == 4
