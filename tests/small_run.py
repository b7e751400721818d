"""A run of pretraining that takes a second, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nuclr.config import Config, load_config
from nuclr.data.store import stores
from nuclr.model.saved import read_model
from nuclr.training.run import Cohort, pretrain_run

SMALL = {
    "model": {"dim": 16, "heads": 2, "dim_head": 8, "temporal_blocks": 1, "spatiotemporal_blocks": 1},
    "views": {"window_s": 2, "patch": 25, "distance_s": 5},
    "pretrain": {"steps": 12, "pairs_per_step": 2},
    "machine": {"checkpoint_every": 4},
}
# Lightning starts the other processes of a run as this one was started, so from a file.
SCRIPT = """
import logging, sys
from pathlib import Path
from nuclr.config import load_config
from nuclr.data.store import stores
from nuclr.training.run import Cohort, pretrain_run
logging.basicConfig(level=logging.INFO)
{first}
folder, output, checkpoints, config = sys.argv[1:]
output, checkpoints = Path(output), Path(checkpoints)
cohort = Cohort(stores(Path(folder)), ["a", "b"])
pretrain_run(cohort, load_config(config), 0, output=output, checkpoints=checkpoints)
"""


def small(machine: dict[str, Any] | None = None, **pretrain: Any) -> Config:
    """Make a small configuration with dropout."""
    return load_config(SMALL, {"model": {"dropout": 0.1}, "pretrain": pretrain, "machine": machine or {}})


def run(
    folder: Path, tmp_path: Path, name: str, *, seed: int = 0, config: Config | None = None, **more: Any
) -> Path:
    """Pretrain on animals a and b in this process; the model's path."""
    output = tmp_path / name / "model.safetensors"
    pretrain_run(
        Cohort(stores(folder), ["a", "b"]),
        config or small(),
        seed,
        output=output,
        checkpoints=tmp_path / "ckpt",
        **more,
    )
    return output


def start(
    folder: Path, tmp_path: Path, name: str, config: Config, first: str = ""
) -> tuple[subprocess.Popen[str], Path]:
    """Begin the same in a process of its own, which does ``first`` before; the process, the model's path."""
    output = tmp_path / name / "model.safetensors"
    script = tmp_path / f"{name}.py"
    script.write_text(SCRIPT.format(first=first))
    arguments = [str(folder), str(output), str(tmp_path / "ckpt"), config.sections(*SMALL)]
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, output


def finish(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
    """Wait for a process; its exit code and what it said."""
    try:
        said = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said


def same(one: Path, other: Path) -> bool:
    """Whether two models have equal weights, bit for bit."""
    a, b = (read_model(path).encoder.state_dict() for path in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


def metrics(path: Path) -> pd.DataFrame:
    """Metrics of a run."""
    return pd.read_csv(path.with_name("metrics.csv"))


def learned(path: Path) -> pd.DataFrame:
    """Metrics without how fast they came."""
    return metrics(path).drop(columns=["units_per_s", "data_wait"])
