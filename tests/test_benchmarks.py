"""A benchmark that waits for a GPU runs when there is one: its code is run here at a size for any machine."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def test_the_benchmark_of_gpus_fills_its_tables(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="triton is not installed: pip install triton==3.9.0 (Linux)")
    output = tmp_path / "gpu.csv"
    # What it takes from the environment: TRITON_INTERPRET, as all tests (conftest.py).
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "-o", str(output)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with output.open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["table"], row["name"]) for row in rows}
    assert ("step", "own kernels (the default)") in found
    assert [row["table"] for row in rows].count("kernels") == 7
    assert {table for table, _ in found} == {"step", "kernels", "trainer", "embedding"}
    assert all(float(row["ms"]) > 0 for row in rows if row["ms"])
    assert all(float(row["compiled_ms"]) > 0 for row in rows if row["table"] == "kernels" and row["ms"])
