"""Published checkpoints give the golden embeddings, and nothing in them is run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import load_golden, part_of
from omegaconf import OmegaConf
from servers import serving
from strategies import population
from typer.testing import CliRunner

import nuclr
from nuclr.cli.app import app
from nuclr.errors import ModelError
from nuclr.model.encoder import as_patches
from nuclr.model.published import read_published
from nuclr.model.saved import read_model
from nuclr.representation.embed import embed_with_model

CFG = {
    "ephys": {"ctx_duration": 10.0, "latent_step": 1.0, "bin_size": 0.02},
    "calcium": {"ctx_duration": 30.0},
}


def golden(kind: str) -> dict[str, np.ndarray]:
    return load_golden(f"encoder_{kind}.npz")


def weights_of(kind: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(x) for key, x in part_of(golden(kind), "weights").items()}


def config_of(kind: str) -> dict[str, Any]:
    shape = {key: x.item() for key, x in part_of(golden(kind), "config").items()}
    return {"model": {**shape, **CFG[kind]}, "optim": {"lr": 5e-4, "betas": [0.9, 0.99]}, "name": None}


def publish(path: Path, kind: str = "ephys", **change: Any) -> Path:
    """Write a file as the authors do: weights, optimiser, scheduler, and an omegaconf configuration."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    with torch.enable_grad():
        parameter.sum().backward()
    optimizer.step()
    content = {
        "model_state_dict": {**weights_of(kind), "projector.1.weight": torch.ones(2, 2)},
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": {"last_epoch": 3, "_step_count": 4},
        "epoch": 7,
        "cfg": OmegaConf.create(config_of(kind)),
        **change,
    }
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path


@torch.no_grad()
def test_an_imported_ephys_model_gives_the_golden_embeddings(tmp_path: Path) -> None:
    model = read_published(publish(tmp_path / "official.pt"))
    want = golden("ephys")
    assert (model.modality, model.window_s, model.bin_s) == ("spikes", 10.0, 0.02)
    patches = torch.from_numpy(want["patches"]).unflatten(0, (-1, 10))
    embeddings = model.encoder(patches, torch.from_numpy(want["population_sizes"]))
    torch.testing.assert_close(embeddings, torch.from_numpy(want["embeddings"]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_an_imported_calcium_model_gives_the_golden_embeddings(tmp_path: Path) -> None:
    model = read_published(publish(tmp_path / "official.pt", "calcium"))
    want = golden("calcium")
    assert model.modality == "calcium"
    assert model.bin_s == pytest.approx(0.23344201, rel=0.01)
    embeddings = model.encoder(
        as_patches(torch.from_numpy(want["traces"]), 4), torch.from_numpy(want["population_sizes"])
    )
    torch.testing.assert_close(embeddings, torch.from_numpy(want["embeddings"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": None, "config": config_of("ephys")},
        {"state_dict": None, "hyper_parameters": {"run": OmegaConf.create(config_of("ephys"))}},
    ],
    ids=["plain", "nested"],
)
def test_weights_and_configuration_are_found_by_what_they_hold(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    """The benchmark's files name them otherwise, and a wrapper puts a prefix before every name."""
    wrapped = {f"module.{name}": x for name, x in weights_of("ephys").items()}
    torch.save({**content, "state_dict": wrapped}, tmp_path / "nuclr_0.pt")
    model = read_published(tmp_path / "nuclr_0.pt")
    for name, x in weights_of("ephys").items():
        torch.testing.assert_close(model.encoder.state_dict()[name], x)


def test_the_command_writes_a_model_that_embeds_recordings(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["import-checkpoint", str(publish(tmp_path / "official.pt")), "-o", str(tmp_path / "m.safetensors")],
    )
    assert done.exit_code == 0
    assert "reads spikes at 0.02 s in windows of 10 s" in done.stdout
    saved = read_model(tmp_path / "m.safetensors")
    units, embeddings, windows = embed_with_model(saved, [population(units=12, bins=1500)])
    assert embeddings.shape == (len(units), saved.encoder.spec.dim)
    assert windows.max() == 3


def test_a_checkpoint_at_an_address_becomes_a_models_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUCLR_CACHE", str(tmp_path / "cache"))
    content = publish(tmp_path / "official.pt").read_bytes()
    with serving() as server:
        server.files["/official.pt"] = content
        command = ["import-checkpoint", server.url("/official.pt"), "-o", str(tmp_path / "theirs")]
        assert CliRunner().invoke(app, command).exit_code == 0
        address = server.url("/official.pt")
    model = nuclr.load_model(tmp_path / "theirs")
    source = model.saved.record["source"]
    assert source == {
        "address": address,
        "file": "official.pt",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert model.probes() == {}
    assert "imported from official.pt" in (tmp_path / "theirs" / "README.md").read_text()


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch was_run",)


def test_a_file_that_asks_for_more_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = publish(tmp_path / "evil.pt", extra=Evil())
    with pytest.raises(ModelError, match=r"evil\.pt: .* would load (posix|nt)\.system; .* only tensors"):
        read_published(path)
    assert not (tmp_path / "was_run").exists()


def test_a_class_that_is_not_on_the_list_is_refused_by_name(tmp_path: Path) -> None:
    path = publish(tmp_path / "other.pt", extra=Path("x"))
    with pytest.raises(ModelError, match="pathlib"):
        read_published(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_state_dict": {"w": torch.ones(2)}}, "contains no NuCLR encoder"),
        ({"cfg": None}, "contains no model configuration"),
        (
            {"cfg": {"model": {**config_of("ephys")["model"], "latent_step": 0.5}}},
            "does not match the weights",
        ),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_published(publish(tmp_path / "a.pt", **change))


def test_weights_of_an_unknown_shape_are_refused(tmp_path: Path) -> None:
    weights = weights_of("ephys")
    del weights["st_blocks.0.1.in_proj.weight"]
    with pytest.raises(ModelError, match="st_blocks"):
        read_published(publish(tmp_path / "a.pt", model_state_dict=weights))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04half", b"\x80\x02}q\x00."])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.pt: not a checkpoint"):
        read_published(tmp_path / "a.pt")
