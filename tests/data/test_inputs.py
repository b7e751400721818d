"""Recordings as the encoder takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategies import population

from nuclr.data.inputs import common_bin_s, in_memory
from nuclr.data.population import Population
from nuclr.errors import DataError


def test_calcium_is_divided_by_its_99th_percentile() -> None:
    made = population(modality="calcium", bin_s=0.3)
    assert np.percentile(np.asarray(in_memory(made).activity), 99) == pytest.approx(1.0, rel=1e-5)
    assert in_memory(made).summary is None  # what is scaled has another scale
    flat = replace(made, activity=np.zeros_like(np.asarray(made.activity)))
    with pytest.raises(DataError, match="99th percentile of dF/F is 0"):
        in_memory(flat)


def test_populations_of_unlike_bins_are_not_mixed() -> None:
    def of(bin_s: float, **more: str) -> Population:
        return population(bin_s=bin_s, recording=str(bin_s), **more)  # type: ignore[arg-type]

    assert common_bin_s([of(0.6, modality="calcium"), of(0.601, modality="calcium")]) == 0.6
    with pytest.raises(DataError, match=r"differ in frame interval: 0\.6 s .*, 0\.74 s .1 recording: 0\.74"):
        common_bin_s([of(0.6, modality="calcium"), of(0.74, modality="calcium")])
