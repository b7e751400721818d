"""Every run needs its own recordings and no others."""

from __future__ import annotations

from typing import Any

import pytest

from nuclr.config import load_config
from nuclr.data.plan import Plan, make_plan, pretraining_memory_gb
from nuclr.errors import ConfigError, SplitError


def plan(**changes: object) -> Plan:
    return make_plan(
        load_config(
            {
                "simulated": {"animals": 10},
                "split": {"test_animals": 2, "label_animals": 3},
                "scaling": {"animal_counts": [4, 1, 2], "seeds": 2},
                **changes,
            }
        )
    )


def test_a_run_is_pretrained_on_its_own_animals() -> None:
    made = plan()
    assert made.to_pretrain(2, 1) == made.of_members(made.splits.pretraining(2, 1))
    # What `nuclr pretrain --animals 0` reads, however few animals the runs have.
    assert made.to_pretrain(0, 0) == made.of_members(made.splits.first(0))
    few = plan(scaling={"animal_counts": [2]})
    assert len(few.to_pretrain(0, 0)) == len(few.splits.first(0)) == 3
    assert not set(made.to_pretrain(4, 0)) & {*made.splits.test, *made.splits.label}


def test_test_and_label_animals_are_embedded_beside_a_runs_own() -> None:
    made = plan()
    assert set(made.to_embed(1, 1)) == {*made.splits.pretraining(1, 1), *made.splits.test, *made.splits.label}


def test_what_was_not_pretrained_stands_beside_the_largest_runs() -> None:
    made = plan()
    assert made.to_embed(0, 1) == made.to_embed(4, 1)


def test_runs_are_counts_by_seeds_and_the_untrained_encoder() -> None:
    made = plan()
    assert made.encoders("transductive") == [f"n{n}-s{s}" for n in (0, 1, 2, 4) for s in (0, 1)]
    assert "n1-s0" not in made.encoders("transductive_zero_shot")
    assert "which_recording" in made.representations("transductive")
    assert "which_recording" not in made.representations("inductive_zero_shot")


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (16, [1, 2, 4, 8, 16])]
)
def test_without_counts_they_double_up_to_all(most: int, counts: list[int]) -> None:
    made = plan(simulated={"animals": most + 5}, scaling={"seeds": 1})
    assert made.animal_counts == counts


def test_too_many_animals_are_refused_before_any_work() -> None:
    with pytest.raises(SplitError, match=r"8 animals requested, but only 5"):
        plan(scaling={"animal_counts": [8]})
    with pytest.raises(SplitError, match="no order for seed 32"):
        plan(scaling={"animal_counts": [1], "seeds": 33})


def test_of_a_public_data_set_only_what_a_run_needs_is_fetched() -> None:
    config = load_config(
        {"dataset": "steinmetz_2019", "split": {"test_animals": 2, "label_animals": 1}},
        {"scaling": {"animal_counts": [1, 2], "seeds": 1}},
    )
    made = make_plan(config)
    animals = {recording.animal for recording in made.recordings.values()}
    assert animals == {*made.splits.test, *made.splits.label, *made.splits.pretraining(2, 0)}
    assert (
        len(
            make_plan(
                load_config({"dataset": "steinmetz_2019"}, {"split": {"test_animals": 2, "label_animals": 1}})
            ).recordings
        )
        == 39
    )


def test_the_largest_runs_may_be_fewer_and_each_ablation_is_done_as_often() -> None:
    scaling = {"animal_counts": [1, 4], "seeds": 2, "largest_seeds": 1, "ablations": ["same_window"]}
    made = plan(scaling=scaling)
    assert made.encoders("transductive") == ["n0-s0", "n0-s1", "n1-s0", "n1-s1", "n4-s0", "same_window-n4-s0"]
    assert made.pretrained == ["n1-s0", "n1-s1", "n4-s0"]
    assert made.mapped == "n4-s0"


def test_recordings_can_be_left_out_by_name() -> None:
    made = plan(split={"test_animals": 2, "label_animals": 3, "leave_out": ["sim004"]})
    assert "sim004" not in made.recordings
    everyone = {*made.splits.test, *made.splits.label, *made.splits.orders[0]}
    assert len(everyone) == 9
    assert "sim004" not in everyone
    with pytest.raises(
        ConfigError, match=r"split\.leave_out: data set simulated has no recording sim04; did you mean sim"
    ):
        plan(split={"leave_out": ["sim04"]})


@pytest.mark.parametrize(
    ("machine", "on_gpu", "expected"),
    [
        ({}, False, 12 + 4),
        # Four processes make batches for a GPU, and each keeps cache_gb of activity.
        ({}, True, 12 + 4 * 4),
        ({"devices": 2}, True, 12 + 2 * 4 * 4),
        ({"devices": 2, "workers": 3}, True, 12 + 2 * 3 * 4),
        ({"workers": 0}, True, 12 + 4),
        # What they share on a disk is no memory of theirs; in /dev/shm it is.
        ({"devices": 8, "scratch": "/local"}, True, 12),
        ({"devices": 8, "scratch": "/dev/shm/mine", "scratch_gb": 30}, True, 12 + 30),
    ],
)
def test_memory_of_a_pretraining(machine: dict[str, Any], on_gpu: bool, expected: float) -> None:
    config = load_config({"machine": machine, "pretrain": {"pairs_per_step": 8}})
    assert pretraining_memory_gb(config, on_gpu) == expected
