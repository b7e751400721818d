"""Neighbours along a probe share regions: simulated probes whose boundaries are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import PUBLISHED, embedded

from nuclr.errors import DataError
from nuclr.evaluation.answers.along_probe import UNLEARNED, boundaries, learn, smooth, smooth_all
from nuclr.evaluation.answers.probe_training import train_probe

REGIONS = ["CTX", "HPF", "MB", "TH"]


def probes(
    number: int, units: int = 60, noise: float = 0.6, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]:
    """Draw probes through regions of 300 um and more each; units, features, true boundaries (um)."""
    rng = np.random.default_rng(seed)
    tables, features, truth = [], [], {}
    for probe in range(number):
        lengths = 300 + rng.exponential(400, 12)
        ends = np.cumsum(lengths)
        region = [int(rng.integers(4))]
        for _ in lengths[1:]:
            region.append(int((region[-1] + rng.integers(1, 4)) % 4))
        depth = rng.uniform(0, 3000, units)
        own = np.array(region)[np.searchsorted(ends, depth)]
        name = f"p{seed}_{probe}"
        tables.append(
            pd.DataFrame(
                {
                    "unit_id": [f"{name}_{i}" for i in range(units)],
                    "population": name,
                    "recording": name,
                    "animal": name,
                    "depth_um": depth,
                    "kind": np.array(REGIONS, object)[own],
                }
            )
        )
        # What a probe's units share beside their region.
        shared = 0.3 * rng.standard_normal(8)
        features.append(np.eye(4, 8)[own] + shared + noise * rng.standard_normal((units, 8)))
        truth[name] = ends[ends < 3000]
    return pd.concat(tables, ignore_index=True), np.concatenate(features).astype(np.float32), truth


def test_neighbours_tell_regions_that_single_units_do_not() -> None:
    table, features, _ = probes(10)
    probe = train_probe(embedded(table, features), "kind", **PUBLISHED)
    learned = probe.record["along_probe"]
    assert learned["after"]["log_loss"] < learned["before"]["log_loss"] - 0.2
    assert 100 <= learned["length_um"] <= 1600
    new, others, truth = probes(20, seed=1)
    alone = probe.predict(embedded(new, others), 0)["predicted"]
    smoothed, found = probe.along_probe(embedded(new, others))
    right = [(said == new["kind"]).mean() for said in (alone, smoothed["along_probe"])]
    assert right[1] > right[0] + 0.1
    assert right[1] > 0.8
    # As sure as it is right.
    assert smoothed["along_probe_probability"].mean() == pytest.approx(right[1], abs=0.08)
    # Most boundaries are found where they are, and their intervals hold them.
    near, held = [], []
    for row in found.itertuples():
        distance = np.abs(truth[str(row.population)] - row.depth_um)
        nearest = truth[str(row.population)][distance.argmin()]
        near.append(distance.min() < 150)
        held.append(row.low_um <= nearest <= row.high_um)
    assert np.mean(near) > 0.7
    assert np.mean(held) > 0.7
    assert 0.6 * sum(map(len, truth.values())) < len(found) < 1.5 * sum(map(len, truth.values()))


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(2, 3), st.integers(0, 10**6))
def test_it_is_the_sum_over_all_paths(units: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability, depth = rng.dirichlet(np.ones(classes), units), np.sort(rng.uniform(0, 300, units))
    paths = np.array(np.meshgrid(*[range(classes)] * units, indexing="ij")).reshape(units, -1).T
    weights = np.ones(len(paths))
    for i in range(units):
        weights *= probability[i, paths[:, i]] ** 0.5
    for i, j in pairwise(range(units)):
        same = np.exp(-(depth[j] - depth[i]) / 100)
        weights *= same * (paths[:, i] == paths[:, j]) + (1 - same) / classes
    expected = (
        np.array([[weights[paths[:, i] == k].sum() for k in range(classes)] for i in range(units)])
        / weights.sum()
    )
    found = smooth(probability, depth, 100.0, 0.5)
    np.testing.assert_allclose(found.probability, expected, atol=1e-9)
    both = np.zeros((classes, classes))
    np.add.at(both, (paths[:, 0], paths[:, 1]), weights)
    np.testing.assert_allclose(found.change[0], both / weights.sum(), atol=1e-9)


def test_the_order_of_units_does_not_matter_and_silent_ones_follow_their_neighbours() -> None:
    depth = np.array([300.0, 100.0, 200.0, 120.0])
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [np.nan, np.nan], [0.8, 0.2]])
    found = smooth(probability, depth, 400.0, 1.0).probability
    assert (found[:, 0] > 0.8).all()
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(smooth(probability[order], depth[order], 400.0, 1.0).probability, found[order])


def test_a_boundary_lies_where_the_classes_part() -> None:
    depth = np.arange(0.0, 1000.0, 50.0)
    probability = np.where((depth < 480)[:, None], [0.9, 0.05, 0.05], [0.05, 0.05, 0.9])
    (row,) = boundaries(smooth(probability, depth, 400.0, 1.0), depth, list("abc")).itertuples()
    assert (row.above, row.below) == ("a", "c")
    assert row.low_um <= row.depth_um == 475 <= row.high_um
    assert 50 <= row.high_um - row.low_um <= 200


def test_a_boundary_may_lie_anywhere_between_two_units() -> None:
    depth = np.array([0.0, 0.0, 100.0, 100.0, 180.0, 180.0])
    probability = np.where((depth < 150)[:, None], [1.0, 0.0], [0.0, 1.0])
    (row,) = boundaries(smooth(probability, depth, 400.0, 1.0), depth, list("ab")).itertuples()
    assert (row.low_um, row.depth_um, row.high_um) == (100.0, 140.0, 180.0)


def test_units_without_a_depth_stay_as_they_are() -> None:
    table, _, _ = probes(3)
    table.loc[:5, "depth_um"] = np.nan
    probability = np.random.default_rng(0).dirichlet(np.ones(4), len(table))
    found, _ = smooth_all(probability, table, "depth_um", UNLEARNED, REGIONS)
    np.testing.assert_array_equal(found[:6], probability[:6])
    assert not np.allclose(found[6:], probability[6:])
    alone = table[table["population"] == "p0_0"].head(7).reset_index(drop=True)
    same, none = smooth_all(probability[:7], alone, "depth_um", UNLEARNED, REGIONS)
    np.testing.assert_array_equal(same, probability[:7])
    assert none.empty


def test_nothing_is_learned_of_depths_that_are_not_there() -> None:
    table, features, _ = probes(4)
    one = table["population"] == "p0_0"
    table["depth_um"] = table["depth_um"].where(one)
    assert (
        learn(np.full((len(table), 4), 0.25), np.zeros(len(table), int), table, "depth_um", REGIONS) is None
    )
    probe = train_probe(embedded(table.drop(columns="depth_um"), features), "kind", **PUBLISHED)
    assert "along_probe" not in probe.record
    with pytest.raises(
        DataError, match="no depths in a column depth_um; give the name of the column with --depth"
    ):
        probe.along_probe(embedded(table.drop(columns="depth_um"), features))
    with pytest.raises(DataError, match="no depths in a column kind"):
        probe.along_probe(embedded(table, features), depth="kind")
