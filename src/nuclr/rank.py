"""Rank of this process among the processes of a distributed run."""

from __future__ import annotations

import os

# Environment variables in which torchrun, Lightning, SLURM and LSF give each process its rank.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def rank_told() -> int:
    """Return the rank of this process from its environment; 0 if it has none."""
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)
