"""Scores and their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from predicted import predictions

from nuclr.evaluation.scaling import (
    Scored,
    ablation_table,
    animal_deviations,
    by_animal,
    doublings,
    label_grid,
    scaling_table,
)


def test_the_interval_is_over_animals_not_units() -> None:
    """Animals that are right or wrong as a whole make the interval wide, however many units they have."""
    rows = []
    for i in range(8):
        label = np.tile(["x", "y"], 500)
        swapped = np.where(label == "x", "y", "x")
        own = {"animal": f"a{i}", "population": f"a{i}/p"}
        rows.append(pd.DataFrame({**own, "label": label, "predicted": swapped if i % 2 else label}))
    _, curve = scaling_table([Scored("nuclr", 1, 0, pd.concat(rows))], 500)
    assert curve["high"].iloc[0] - curve["low"].iloc[0] > 0.4
    assert curve["macro_f1"].iloc[0] == pytest.approx(0.5)


def test_the_same_resampling_gives_the_same_interval() -> None:
    scored = [Scored("nuclr", n, s, predictions(0.5, n + s)) for n in (1, 2) for s in (0, 1)]
    pd.testing.assert_frame_equal(scaling_table(scored, 100)[1], scaling_table(scored[::-1], 100)[1])


def test_a_run_is_a_row_and_a_count_is_a_point() -> None:
    scored = [Scored("nuclr", n, s, predictions(0.2 * n, s)) for n in (1, 2, 4) for s in (0, 1)]
    scored.append(Scored("single_neuron", 0, 0, predictions(0.3)))
    runs, curve = scaling_table(scored, 50)
    assert len(runs) == 7
    assert curve["test_animals"].tolist() == [6] * 4
    mine = curve[curve["representation"] == "nuclr"]
    assert mine["animals"].tolist() == [1, 2, 4]
    assert mine["seeds"].tolist() == [2, 2, 2]
    assert (mine["low"] <= mine["macro_f1"]).all()
    assert (mine["macro_f1"] <= mine["high"]).all()
    assert mine["macro_f1"].is_monotonic_increasing


def recordings_of_few_classes() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Twelve recordings mostly of one class; predicted by that class, and by something better."""
    rng = np.random.default_rng(0)
    population = np.repeat(np.arange(12), 80)
    label = np.where(rng.random(960) < 0.8, population % 3, rng.integers(0, 3, 960))
    table = pd.DataFrame(
        {
            "animal": [f"a{p // 3}" for p in population],
            "population": [f"a{p // 3}/{p}" for p in population],
            "label": np.array(["x", "y", "z"])[label],
        }
    )
    better = np.where(rng.random(960) < 0.9, label, rng.integers(0, 3, 960))
    names = np.array(["x", "y", "z"])
    return table.assign(predicted=names[population % 3]), table.assign(predicted=names[better])


def test_knowing_the_recording_alone_scores_over_all_units_and_not_inside_recordings() -> None:
    recording, better = recordings_of_few_classes()
    runs, curve = scaling_table(
        [Scored("which_recording", 0, 0, recording), Scored("nuclr", 4, 0, better)], 300
    )
    control, mine = (runs[runs["representation"] == name].iloc[0] for name in ("which_recording", "nuclr"))
    assert control["macro_f1"] > 0.75
    # One of three classes is predicted in each, and it has most of the units: F1 of it alone, over three.
    assert control["within_recordings"] < 1 / 3
    assert mine["within_recordings"] > 0.8
    rows = curve.set_index("representation")
    assert rows.loc["nuclr", "gain"] == pytest.approx(mine["macro_f1"] - control["macro_f1"])
    assert 0 < rows.loc["nuclr", "gain_low"] < rows.loc["nuclr", "gain"] < rows.loc["nuclr", "gain_high"]
    assert rows.loc["which_recording", ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]


def test_a_gain_is_over_the_same_animals() -> None:
    recording, better = recordings_of_few_classes()
    first = better[better["animal"] == "a0"]
    _, curve = scaling_table([Scored("which_recording", 0, 0, recording), Scored("nuclr", 1, 0, first)], 50)
    alone = scaling_table([Scored("nuclr", 1, 0, first)], 50)[0]["macro_f1"][0]
    there = scaling_table([Scored("c", 0, 0, recording[recording["animal"] == "a0"])], 50)[0]["macro_f1"][0]
    assert curve.set_index("representation").loc["nuclr", "gain"] == pytest.approx(alone - there)


def test_what_others_are_behind_is_certain_before_their_intervals_part() -> None:
    # Both err on the same animals, so their scores vary together and their difference hardly does.
    rng = np.random.default_rng(0)
    animal = np.repeat(np.arange(20), 50)
    label = rng.integers(0, 3, 1000)
    hard = rng.random(1000) < (animal / 40 + 0.1)
    worse = hard | (rng.random(1000) < 0.06)
    names = np.array(["x", "y", "z"])
    table = pd.DataFrame({"animal": [f"a{i:02}" for i in animal], "label": names[label]}).assign(
        population=lambda own: own["animal"]
    )
    better, other = (table.assign(predicted=names[(label + wrong) % 3]) for wrong in (hard, worse))
    scored = [Scored("nuclr", 1, 0, other), Scored("nuclr", 4, 0, better), Scored("population", 0, 0, other)]
    _, curve = scaling_table(scored, 300)
    rows = curve.set_index(["representation", "animals"])
    best = rows.loc[("nuclr", 4)]
    assert np.isnan(best["behind"])
    for key in (("nuclr", 1), ("population", 0)):
        row = rows.loc[key]
        assert row["behind"] == pytest.approx(best["macro_f1"] - row["macro_f1"])
        assert 0 < row["behind_low"] < row["behind"] < row["behind_high"]
        assert row["high"] > best["low"]


def test_deviations_are_those_of_other_animals_alike_for_all_runs() -> None:
    same = predictions(0.5, 0)
    deviations = animal_deviations([Scored("nuclr", 1, 0, same), Scored("nuclr", 2, 0, same)], 300)
    np.testing.assert_array_equal(deviations[:, 0], deviations[:, 1])
    spread = np.ptp(np.percentile(deviations[:, 0], [2.5, 97.5]))
    _, curve = scaling_table([Scored("nuclr", 1, 0, same)], 300)
    assert spread == pytest.approx(curve["high"].iloc[0] - curve["low"].iloc[0], rel=0.15)


def test_of_two_test_animals_tables_hold_scores_and_no_intervals() -> None:
    made = {share: [Scored("nuclr", 1, 0, predictions(0.5, animals=2))] for share in (0.5, 1.0)}
    control = Scored("which_recording", 0, 0, predictions(0.2, animals=2))
    part = Scored("same_window", 1, 0, predictions(0.4, animals=2))
    _, curve = scaling_table([*made[1.0], control], 50)
    for table in (curve, label_grid(made, 50), ablation_table([*made[1.0], part], 50)):
        assert table["test_animals"].tolist() == [2, 2]
        assert table["macro_f1"].notna().all()
        ends = [name for name in table if name.endswith(("low", "high"))]
        assert len(ends) >= 2
        assert table[ends].isna().all(axis=None)


def test_animals_of_other_runs_are_not_counted_as_tested() -> None:
    """An interval is over the animals that this representation was tested on, whoever else was."""
    few = Scored("nuclr", 1, 0, predictions(0.5, animals=4))
    many = Scored("single_neuron", 0, 0, predictions(0.5, animals=20))
    columns = ["low", "high", "test_animals"]
    beside, alone = (
        scaling_table(scored, 100)[1].set_index("representation").loc["nuclr", columns]
        for scored in ([few, many], [few])
    )
    pd.testing.assert_series_equal(beside, alone)
    assert alone["test_animals"] == 4


def test_what_other_animals_would_have_changed_is_more_where_few_were_tested() -> None:
    """The same share of animals is right, and the law is told as much of a doubt as the score is."""
    rows = []
    for i in range(4):
        label = np.tile(["x", "y"], 100)
        wrong = np.where(label == "x", "y", "x")
        own = {"animal": f"a{i}", "population": f"a{i}/p"}
        rows.append(
            pd.DataFrame(
                {**own, "label": label, "predicted": np.where(np.arange(200) % 10 < 4 + i, label, wrong)}
            )
        )
    run = Scored("nuclr", 1, 0, pd.concat(rows))
    spread = 1.96 * animal_deviations([run], 2000)[:, 0].std()
    row = scaling_table([run], 2000)[1].iloc[0]
    assert spread == pytest.approx((row["high"] - row["low"]) / 2, rel=0.05)


def test_a_grid_says_what_twice_as_much_gains() -> None:
    runs = [Scored("nuclr", n, s, predictions(0.1 * n, s)) for n in (1, 2, 6) for s in (0, 1)]
    fewer = [Scored("nuclr", n, s, predictions(0.05 * n, s)) for n in (1, 2, 6) for s in (0, 1)]
    grid = label_grid({1.0: runs, 0.5: fewer}, 20)
    assert len(grid) == 6
    score = grid.set_index(["animals", "label_share"])["macro_f1"]
    gains = doublings(grid)
    assert gains["labels"] == pytest.approx(score[6, 1.0] - score[6, 0.5])
    # From 2 to 6 animals is more than one doubling.
    assert gains["animals"] == pytest.approx((score[6, 1.0] - score[2, 1.0]) / np.log2(3))
    assert doublings(label_grid({1.0: runs[:2]}, 20)) == {}


def test_what_a_part_is_worth_is_told_on_the_same_animals_and_seeds() -> None:
    whole = [Scored("nuclr", n, s, predictions(0.8, s, animals=12)) for n in (2, 4) for s in (0, 1, 2)]
    worse = [Scored("no_population_context", 4, s, predictions(0.4, s, animals=12)) for s in (0, 1, 2)]
    table = ablation_table([*whole, *worse, Scored("single_neuron", 0, 0, predictions(0.5))], 200)
    assert table["representation"].tolist() == ["nuclr", "no_population_context"]
    assert table.iloc[0][["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]
    row = table.iloc[1]
    assert row["difference_low"] < row["difference"] < row["difference_high"] < -0.2
    assert table["test_animals"].tolist() == [12, 12]
    assert ablation_table(whole, 20).empty


def test_animals_are_scored_one_by_one_and_averaged_over_seeds() -> None:
    good = predictions(1.0, animals=2)
    bad = good.assign(predicted=np.where(good["animal"] == "a0", "x", good["label"]))
    table = by_animal([Scored("nuclr", 4, 0, good), Scored("nuclr", 4, 1, bad), Scored("nuclr", 1, 0, bad)])
    score = table.set_index("animal")["macro_f1"]
    assert score["a1"] == 1
    assert 0.5 < score["a0"] < 0.7
