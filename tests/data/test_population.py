"""A population is checked when it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from strategies import population, populations

from nuclr.data.population import Population
from nuclr.errors import DataError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activity": np.zeros(5, np.uint8)}, "must be \\(unit, time\\)"),
        ({"activity": np.zeros((3, 5), np.uint8)}, "3 units of activity but 14 rows"),
        ({"activity": np.zeros((14, 5), np.float32)}, "does not fit the modality spikes"),
        ({"valid_spans": np.array([[2.0, 1.0]])}, "ascend"),
        ({"valid_spans": np.array([[0.0, 2.0], [1.0, 3.0]])}, "not overlap"),
        ({"valid_spans": np.array([[0.0, np.nan]])}, "without NaN"),
        ({"bin_s": 0.0}, "bin_s must be above 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        replace(population(), **change)


def test_a_unit_id_that_stands_twice_is_refused() -> None:
    good = population()
    twice = good.units.assign(unit_id="same")
    with pytest.raises(DataError, match="unit_id same occurs twice"):
        replace(good, units=twice)


@given(populations())
def test_valid_bins_lie_inside_the_valid_spans(made: Population) -> None:
    for first, last in made.valid_bins():
        assert 0 <= first < last <= made.activity.shape[1]
        inside = [
            start - 1e-6 <= made.start_s + first * made.bin_s
            and made.start_s + last * made.bin_s <= stop + 1e-3
            for start, stop in made.valid_spans
        ]
        assert any(inside)


def test_a_bin_that_a_span_covers_in_part_is_left_out() -> None:
    made = population(bins=100, bin_s=0.1, spans=[(0.05, 1.0), (2.0, 3.05)])
    np.testing.assert_array_equal(made.valid_bins(), [[1, 10], [20, 30]])
