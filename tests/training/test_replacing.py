"""A training does not take away the model that probes read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_run import run, same, small

from nuclr.errors import TrainingError
from nuclr.model.tensor_files import read_record


def put_probe(model: Path, name: str, of: str) -> None:
    probes = model.parent / "probes"
    probes.mkdir(exist_ok=True)
    (probes / f"{name}.safetensors").write_bytes(b"")
    (probes / f"{name}.json").write_text(json.dumps({"model": of}))


def test_a_model_that_probes_read_is_not_replaced_by_another_training(folder: Path, tmp_path: Path) -> None:
    model = run(folder, tmp_path, "model", config=small(steps=2))
    own = read_record(model, "model", "")["sha256"]
    put_probe(model, "cell_type", own)
    put_probe(model, "of_another", "ab" * 32)
    with pytest.raises(
        TrainingError, match=r"read only that model: cell_type; choose another -o, or remove these probes"
    ) as refused:
        run(folder, tmp_path, "model", config=small(steps=2), seed=1)
    # The folder of the model may contain the recordings, too.
    assert str(refused.value).endswith(str(model.parent / "probes"))
    assert read_record(model, "model", "")["sha256"] == own
    # The same training gives the same model, which the probe can read.
    assert same(run(folder, tmp_path, "model", config=small(steps=2)), model)


def test_replacing_a_model_without_probes_is_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = run(folder, tmp_path, "model", config=small(steps=2))
    run(folder, tmp_path, "model", config=small(steps=2))
    assert "will be replaced" not in caplog.text
    run(folder, tmp_path, "model", config=small(steps=2), seed=1)
    assert f"{model}: the model of another training (2 animals, seed 0) will be replaced" in caplog.text
