"""A model on the web: an archive of its folder, or its files, checked by a hash where one is given."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, serving
from shared_model import write_shared

from nuclr.errors import DownloadError, ModelError
from nuclr.sharing.layout import is_shared, probe_file, shared_files
from nuclr.sharing.loaded import load_model
from nuclr.sharing.source import locate, locate_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shared(tmp_path_factory.mktemp("shared") / "model", ("brain_region",))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NUCLR_CACHE", str(tmp_path / "cache"))
    with serving() as running:
        yield running


def zipped(folder: Path, inside: str = "") -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{inside}{path.relative_to(folder).as_posix()}")
        archive.writestr(f"{inside}evil.py", "print('no')")
    return held.getvalue()


@pytest.mark.parametrize("inside", ["", "my_model/"])
def test_an_archive_of_a_folder_is_a_model(server: Server, folder: Path, inside: str) -> None:
    content = zipped(folder, inside)
    server.files["/m.zip"] = content
    address = server.url("/m.zip?download=1")
    model = load_model(address)
    assert set(model.probes()) == {"brain_region"}
    digest = hashlib.sha256(content).hexdigest()
    assert model.origin == {"address": server.url("/m.zip"), "sha256": digest}
    assert model.folder is not None
    assert not list(model.folder.rglob("*.py"))
    asked = len(server.requests)
    assert load_model(address).sha256 == model.sha256
    assert len(server.requests) == asked  # it is here


def test_a_tar_is_one_too(server: Server, folder: Path) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        archive.add(folder, "model")
    server.files["/m.tar.gz"] = held.getvalue()
    assert set(load_model(server.url("/m.tar.gz")).probes()) == {"brain_region"}


def test_the_files_themselves_are_a_model(server: Server, folder: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        server.files[f"/a/{name}"] = (folder / name).read_bytes()
    model = load_model(server.url("/a/model.safetensors"))
    assert model.sha256 == load_model(folder).sha256
    assert model.probes() == {}


def test_a_hash_in_the_address_is_checked(server: Server, folder: Path) -> None:
    content = zipped(folder)
    server.files["/m.zip"] = content
    load_model(server.url(f"/m.zip#sha256={hashlib.sha256(content).hexdigest()}"))
    with pytest.raises(ModelError, match="64 hexadecimal digits"):
        load_model(server.url("/m.zip#sha256=12"))
    server.faults["/m.zip"] = [*["garbled"] * 4]
    with pytest.raises(DownloadError, match="its sha256 is"):
        load_model(server.url(f"/m.zip#sha256={'0' * 64}"))


def test_an_archive_that_climbs_out_or_holds_no_model_is_refused(server: Server) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("../model.safetensors", b"x")
    server.files["/out.zip"] = held.getvalue()
    with pytest.raises(DownloadError, match="outside its folder"):
        locate(server.url("/out.zip"))
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("notes.txt", b"x")
    server.files["/none.zip"] = held.getvalue()
    with pytest.raises(ModelError, match="contains no models"):
        locate(server.url("/none.zip"))


def test_other_addresses_are_refused(server: Server) -> None:
    with pytest.raises(ModelError, match="give the address of a zip or tar file"):
        locate("https://somebody:secret@server.org/models/mine?token=1")
    with pytest.raises(DownloadError, match="404"):
        locate(server.url("/none.zip"))


def test_a_single_file_is_fetched(server: Server) -> None:
    server.files["/best.pt"] = b"content"
    found = locate_file(server.url("/best.pt"))
    assert found.path.read_bytes() == b"content"
    assert found.origin["sha256"] == hashlib.sha256(b"content").hexdigest()
    assert locate_file("here.pt").path == Path("here.pt")


def test_only_tensors_json_and_the_card_are_shared(folder: Path) -> None:
    for name in ("model.safetensors", "config.json", "README.md", "probes/a.json", "reference/a.safetensors"):
        assert is_shared(name)
    others = ("model.pt", "a.json", "probes/a.pkl", "probes/b/a.json", "probes/.a.json", "populations/a.json")
    for name in (*others, "../config.json", "checkpoints/a.safetensors"):
        assert not is_shared(name)
    assert shared_files(folder) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "probes/brain_region.json",
        "probes/brain_region.safetensors",
        "reference/brain_region.json",
        "reference/brain_region.safetensors",
    ]


def test_a_task_of_any_name_has_a_file_in_the_folder() -> None:
    for task in ("../../x", "a/b", "..", "", "Région", "a b"):
        path = probe_file(Path("m"), task)
        assert path.parent == Path("m/probes")
        assert not path.name.startswith("..")
