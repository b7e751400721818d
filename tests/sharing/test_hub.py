"""A model goes to the hub and comes back, and what goes wrong on the way is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, Repository, serving_hub
from shared_model import write_shared

from nuclr.errors import DownloadError, ModelError, NuclrError
from nuclr.model.card import CARD, set_licence
from nuclr.sharing import hub as hub_room
from nuclr.sharing.hub import Address, parse, publish
from nuclr.sharing.layout import shared_files
from nuclr.sharing.loaded import load_model
from nuclr.sharing.publishing import check
from nuclr.sharing.source import locate, locate_file

constants = pytest.importorskip("huggingface_hub.constants")
NAME = "lab/mice"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_shared(tmp_path_factory.mktemp("shared") / "model", ("brain_region",))
    set_licence(made / CARD, "cc-by-4.0")
    return made


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub that stands in for the real one, with an empty cache and nobody logged in."""
    with serving_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("NUCLR_CACHE", str(tmp_path / "nuclr"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def there(hub: Hub, folder: Path) -> Repository:
    """Put the model on the hub, for everybody."""
    files = {name: (folder / name).read_bytes() for name in shared_files(folder)}
    hub.repositories[NAME].commit({**files, "run_me.py": b"print('no')", "probes/x.pkl": b"no"})
    return hub.repositories[NAME]


def test_an_address_is_read() -> None:
    assert parse("hf://lab/mice") == Address("lab/mice")
    assert parse("hf:/lab/mice@refs/pr/1") == Address("lab/mice", "refs/pr/1")  # a path leaves one slash
    assert parse("hf://lab/mice/a/b.pt@v2", with_file=True) == Address("lab/mice", "v2", "a/b.pt")
    assert str(parse("hf://lab/mice/a/b.pt@v2", with_file=True)) == "hf://lab/mice/a/b.pt@v2"
    for wrong in ("hf://mice", "hf://lab/mice/x", "hf://lab/../x", "hf://-lab/mice", "hf://", "lab/mice"):
        with pytest.raises(ModelError, match="not an address on the Hugging Face Hub"):
            parse(wrong)
    with pytest.raises(ModelError, match="path/of/file"):
        parse("hf://lab/mice", with_file=True)


def test_a_model_is_published_and_comes_back(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    files = check(folder)
    assert "probes/brain_region.safetensors" in files
    assert "reference/brain_region.json" in files
    url = publish(folder, parse(f"hf://{NAME}"), files, private=True)
    assert url.startswith(f"{hub.address}/{NAME}/commit/")
    assert hub.repositories[NAME].private
    model = load_model(f"hf://{NAME}")
    assert model.sha256 == load_model(folder).sha256
    assert set(model.probes()) == {"brain_region"}
    commit = hub.repositories[NAME].revisions["main"]
    assert model.origin == {"address": f"hf://{NAME}", "commit": commit}
    # The page of the same model is an address, too.
    assert locate(f"https://huggingface.co/{NAME}/tree/main").origin["commit"] == commit


def test_what_all_can_see_is_not_added_to_by_mistake(
    there: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    before = dict(there.revisions)
    with pytest.raises(ModelError, match="already public; give --public"):
        publish(folder, parse(f"hf://{NAME}"), check(folder), private=True)
    assert there.revisions == before
    publish(folder, parse(f"hf://{NAME}"), check(folder), private=False)


def test_only_what_is_shared_is_fetched(there: Repository) -> None:
    found = locate(f"hf://{NAME}")
    fetched = {path.relative_to(found.path).as_posix() for path in found.path.rglob("*") if path.is_file()}
    assert "probes/brain_region.json" in fetched
    assert not {"run_me.py", "probes/x.pkl"} & fetched


def test_what_is_here_is_used_without_a_network(
    hub: Hub, there: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    commit = there.revisions["main"]
    assert locate(f"hf://{NAME}").origin["commit"] == commit
    assert locate(f"hf://{NAME}@{commit}").origin["commit"] == commit
    hub.down = True
    hub.requests.clear()
    locate(f"hf://{NAME}@{commit}")
    assert not hub.requests  # a commit never changes
    assert locate(f"hf://{NAME}").origin["commit"] == commit
    assert f"the downloaded commit {commit[:12]} is used" in caplog.text
    with pytest.raises(DownloadError, match="the hub answered with HTTP status 503"):
        locate(f"hf://{NAME}@v2")


def test_a_connection_that_is_cut_is_gone_on_with(hub: Hub, there: Repository) -> None:
    hub.faults["model.safetensors"] = ["cut"]
    try:
        locate(f"hf://{NAME}")
    except DownloadError:  # an older library gives up; the same command again goes on
        locate(f"hf://{NAME}")
    assert load_model(f"hf://{NAME}").modality == "spikes"


def test_a_file_with_another_hash_is_refused_and_fetched_again(hub: Hub, there: Repository) -> None:
    for name in ("model.safetensors", "probes/brain_region.json"):
        hub.faults[name] = ["garbled"]
        with pytest.raises(DownloadError, match=rf"{name}: the download has the hash (sha256|git):.*deleted"):
            locate(f"hf://{NAME}")
    assert set(load_model(f"hf://{NAME}").probes()) == {"brain_region"}


def test_what_a_killed_download_left_is_not_taken_for_all(hub: Hub, there: Repository) -> None:
    hub.faults["probes/brain_region.safetensors"] = [404]
    with pytest.raises(NuclrError):
        locate(f"hf://{NAME}")
    hub.down = True
    with pytest.raises(DownloadError, match="the hub answered with HTTP status 503"):
        locate(f"hf://{NAME}")
    hub.down = False
    assert set(load_model(f"hf://{NAME}").probes()) == {"brain_region"}


def test_a_private_model_needs_a_token(hub: Hub, there: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    there.private = True
    with pytest.raises(ModelError, match=r"no such repository, or it is private; .* HF_TOKEN"):
        locate(f"hf://{NAME}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    locate(f"hf://{NAME}")


def test_nobody_publishes_without_a_token(hub: Hub, folder: Path) -> None:
    with pytest.raises(DownloadError, match="create one with write access"):
        publish(folder, parse(f"hf://{NAME}"), check(folder), private=True)


def test_a_revision_that_is_gone_is_said(there: Repository) -> None:
    with pytest.raises(ModelError, match=r"hf://lab/mice@v1: the repository has no such revision"):
        locate(f"hf://{NAME}@v1")


def test_a_hub_that_cannot_be_reached_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="the hub cannot be reached"):
        locate(f"hf://{NAME}")


def test_what_is_no_model_of_nuclr_is_said(hub: Hub) -> None:
    hub.repositories[NAME].commit({"pytorch_model.bin": b"x", "config.json": b"{}"})
    with pytest.raises(ModelError, match=r"not a nuclr model, because it has no model\.safetensors"):
        locate(f"hf://{NAME}")


def test_a_checkpoint_is_fetched_by_itself(hub: Hub) -> None:
    commit = hub.repositories[NAME].commit({"ours/best.pt": b"content", "other.pt": b"y"})
    found = locate_file(f"hf://{NAME}/ours/best.pt")
    assert found.path.read_bytes() == b"content"
    assert found.origin == {"address": f"hf://{NAME}/ours/best.pt", "commit": commit}
    assert not [request for request in hub.requests if "other.pt" in request]
    with pytest.raises(ModelError, match="no such file"):
        locate_file(f"hf://{NAME}/ours/none.pt")


def test_a_damaged_memory_is_said(hub: Hub, there: Repository, tmp_path: Path) -> None:
    commit = there.revisions["main"]
    locate(f"hf://{NAME}@{commit}")
    (kept,) = (tmp_path / "nuclr" / "hub").iterdir()
    assert json.loads(kept.read_text())["commit"] == commit
    kept.write_text("{")
    with pytest.raises(ModelError, match="damaged; delete it"):
        locate(f"hf://{NAME}@{commit}")


def test_the_library_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"pip install \"nuclr\[hub\]\""):
        hub_room._library()
