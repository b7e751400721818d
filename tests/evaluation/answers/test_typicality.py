"""A recording unlike all that a probe learned from gets a warning, not answers."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labelled import PUBLISHED, embedded, simulated

from nuclr.errors import ModelError
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.answers.saved_probe import SavedProbe, load_probe, save_probe
from nuclr.evaluation.answers.typicality import reference, typicality


def recordings(
    number: int, units: int = 50, seed: int = 0, prefix: str = "a"
) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw recordings of one animal each."""
    table, features = simulated(number, units, noise=0.3, offset=0.2, seed=seed, prefix=prefix)
    return table.assign(population=table["animal"], recording=table["animal"]), features


def trained(number: int = 10) -> SavedProbe:
    """Train a probe on so many recordings."""
    return train_probe(embedded(*recordings(number)), "kind", **PUBLISHED)


@pytest.mark.parametrize("what", ["moved", "collapsed", "spread"])
def test_a_strange_recording_gets_one_warning_and_no_answer(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    table, features = recordings(3, seed=7, prefix="new")
    strange = (table["population"] == "new1").to_numpy()
    middle = features[strange].mean(axis=0)
    change = {
        "moved": features[strange] + 3,
        "collapsed": middle + 0.1 * (features[strange] - middle),
        "spread": middle + 10 * (features[strange] - middle),
    }
    features[strange] = change[what]
    with caplog.at_level(logging.WARNING):
        said = trained().predict(embedded(table, features), sure=0.5)
    assert [record for record in caplog.records if "unlike the 10 recordings" in record.message]
    assert caplog.text.count("new1 is unlike") == 1
    assert "new0" not in caplog.text
    answered = said["predicted"] != ""
    assert not answered[strange].any()
    assert answered[~strange].mean() > 0.5
    if what != "collapsed":
        assert said["typical"][strange].median() < 0.05
    assert said["typical"][~strange].median() == pytest.approx(0.5, abs=0.25)


def test_recordings_like_the_others_are_seldom_called_strange() -> None:
    alarms, judged = 0, 0
    for seed in range(30):
        table, features = recordings(8, seed=seed)
        made = reference(features, table["population"].to_numpy(str))
        assert made is not None
        # Of other sizes, too: a mean of few units lies apart by chance.
        for units in (15, 50, 200):
            new, others = recordings(4, units, seed=1000 + seed, prefix="new")
            alarms += len(typicality(others, new["population"].to_numpy(str), *made)[1])
            judged += 4
    assert alarms / judged < 0.03


def test_few_recordings_say_nothing_of_others() -> None:
    probe = trained(4)
    assert "typical" not in probe.record
    table, features = recordings(2, seed=7)
    assert probe.predict(embedded(table, features + 50))["typical"].isna().all()


def test_silent_units_and_small_recordings_are_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    table, features = recordings(2, 9, seed=7, prefix="new")
    features[3] = np.nan
    with caplog.at_level(logging.WARNING):
        said = trained().predict(embedded(table, features + 50))
    assert "unlike" not in caplog.text
    assert np.isnan(said["typical"][3])
    assert (said["typical"].drop(3) == 0).all()


def test_it_is_read_as_written_and_refused_when_damaged(tmp_path: Path) -> None:
    path, probe = tmp_path / "probe.safetensors", trained()
    save_probe(path, probe)
    new = embedded(*recordings(2, seed=7))
    pd.testing.assert_frame_equal(load_probe(path).predict(new), probe.predict(new))
    record = json.loads(path.with_suffix(".json").read_text())
    wrong: Any
    for wrong in (3, {}, record["typical"] | {"shift": [1]}, record["typical"] | {"distances": ["x"]}):
        path.with_suffix(".json").write_text(json.dumps(record | {"typical": wrong}))
        with pytest.raises(ModelError, match="the probe is incomplete or damaged"):
            load_probe(path)
    tensors = {name: tensor for name, tensor in probe.tensors.items() if name != "typical_whitening"}
    save_probe(path, SavedProbe(probe.classes, tensors, probe.record))
    with pytest.raises(ModelError, match="the probe is incomplete or damaged"):
        load_probe(path)
