"""The best epoch by the label animals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_run import metrics, run, same, small

from nuclr.errors import ConfigError
from nuclr.model.encoder import Encoder
from nuclr.model.saved import read_model


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_model_of_the_best_probe_is_kept_if_asked_for(folder: Path, tmp_path: Path, keep: str) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def score(encoder: Encoder) -> float:
        assert not encoder.training
        seen.append({name: value.clone() for name, value in encoder.state_dict().items()})
        return [0.1, 0.5, 0.9, 0.3, 0.4][len(seen) - 1]

    config = small(steps=100, probe_every=1, keep=keep)
    output = run(folder, tmp_path, "one", config=config, score=score)
    scores = metrics(output)[["step", "label_score"]].dropna()
    # 58 pairs an epoch, 2 in a step: every 29 steps, before the first and after the last.
    assert scores["step"].tolist() == [0, 29, 58, 87, 100]
    assert scores["label_score"].tolist() == [0.1, 0.5, 0.9, 0.3, 0.4]
    kept = read_model(output).encoder.state_dict()
    expected = seen[2 if keep == "best" else 4]
    assert all(torch.equal(kept[name], expected[name]) for name in kept)


def test_probing_does_not_change_what_is_learned(folder: Path, tmp_path: Path) -> None:
    plain = run(folder, tmp_path, "plain", config=small(steps=30))
    probed = run(folder, tmp_path, "probed", config=small(steps=30, probe_every=1), score=lambda _: 0.5)
    assert same(plain, probed)


def test_keeping_the_best_needs_a_probe() -> None:
    with pytest.raises(ConfigError, match="keep: best needs probe_every"):
        small(keep="best")
