"""Which of the processes of a run this one is."""

from __future__ import annotations

import os

# What torchrun, Lightning, SLURM and LSF say to each of the processes that they start together: its number.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def rank_told() -> int:
    """Return the number that this process was told when it was started; 0 where nobody said."""
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)
