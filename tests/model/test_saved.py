"""Models are read as written, and refused when they are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nuclr.errors import ModelError
from nuclr.files import sha256_of
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.saved import read_model, save_model

SPEC = EncoderSpec(patch=5, tokens=4, dim=16, heads=2, dim_head=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", Encoder(SPEC), {"seed": 3})
    return tmp_path / "model.safetensors"


def test_a_model_is_read_as_written(tmp_path: Path) -> None:
    encoder = Encoder(SPEC).eval()
    save_model(tmp_path / "m.safetensors", encoder, {"seed": 3})
    saved = read_model(tmp_path / "m.safetensors")
    assert saved.record["seed"] == 3
    assert saved.encoder.spec == SPEC
    x = torch.ones(3, 4, 5)
    torch.testing.assert_close(saved.encoder(x, torch.tensor([3])), encoder(x, torch.tensor([3])))


def test_either_file_or_their_folder_names_a_model(path: Path) -> None:
    for given in (path, path.with_name("config.json"), path.parent):
        assert read_model(given).record["seed"] == 3


def test_a_model_of_before_is_read(path: Path) -> None:
    path.with_name("config.json").rename(path.with_name("model.json"))
    for given in (path, path.with_name("model.json"), path.parent):
        assert read_model(given).record["seed"] == 3
    save_model(path, Encoder(SPEC), {"seed": 4})  # the new record is the one that counts
    assert read_model(path).record["seed"] == 4


def test_damaged_weights_are_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"its hash is not the one in config\.json.*; copy both"):
        read_model(path)


def test_a_missing_or_foreign_description_is_refused(path: Path) -> None:
    record = path.with_name("config.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        read_model(path)
    record.write_text("{")
    with pytest.raises(ModelError, match="not a JSON file"):
        read_model(path)
    record.write_text("[1]")
    with pytest.raises(ModelError, match="format None"):
        read_model(path)
    record.unlink()
    with pytest.raises(ModelError, match=r"config\.json: no such file; a model consists of"):
        read_model(path)


def test_what_is_no_safetensors_is_refused_though_its_hash_is_right(path: Path) -> None:
    path.write_bytes(b"\x80\x04.")  # a pickle, as of a stranger
    record = path.with_name("config.json")
    content = {**json.loads(record.read_text()), "sha256": sha256_of(path)}
    record.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="not a model file"):
        read_model(path)


def test_weights_of_another_shape_are_refused(path: Path) -> None:
    record = path.with_name("config.json")
    content = json.loads(record.read_text())
    content["encoder"]["dim"] = 32
    record.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="size mismatch"):
        read_model(path)
