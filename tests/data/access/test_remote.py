"""Recordings on servers are read as those on the disk are, and no more of them than is needed."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynwb.ecephys import ElectricalSeries
from servers import Server, dandi, folder_files, serving
from strategies import new_nwb, poisson_trains, save_nwb, write_traces, write_units
from typer.testing import CliRunner
from zarr_folders import to_zarr

import nuclr
from nuclr.cli.app import app
from nuclr.config import Chunk, Download, Reading
from nuclr.data.access import ranges
from nuclr.data.access.ranges import RangedFile
from nuclr.data.access.remote import Remote, on_disk, place_of
from nuclr.data.own import find, open_found
from nuclr.data.population import Population
from nuclr.errors import DataError, DownloadError, NuclrError
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.saved import save_model
from nuclr.representation.embeddings import read_all

TRAINS = poisson_trains(12, 30.0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(ranges, "PAUSE_S", 0.001)
    with serving() as running:
        yield running


def read(address: Path | str, where: Server | None = None) -> list[Population]:
    download = Download(dandi=where.address) if where is not None else None
    return list(open_found(find([place_of(address)], download), Reading(), Chunk()))


def same(one: Population, other: Population) -> None:
    assert one.units.equals(other.units)
    assert (one.population, one.animal) == (other.population, other.animal)
    np.testing.assert_array_equal(one.activity.compute(), other.activity.compute())


def write_session(path: Path, *, lfp: int = 0) -> Path:
    """Write a session, with so many samples of LFP of 4 channels beside its units."""
    if not lfp:
        return write_units(path, TRAINS, obs_intervals=[[0.0, 30.0]])
    nwb = new_nwb()
    group = nwb.create_electrode_group(
        "probe", description="", location="", device=nwb.create_device("device")
    )
    for _ in range(4):
        nwb.add_electrode(location="CA1", group=group)
    series = ElectricalSeries(
        name="lfp",
        data=np.random.default_rng(0).standard_normal((lfp, 4)),
        electrodes=nwb.create_electrode_table_region([0, 1, 2, 3], "all"),
        rate=1000.0,
    )
    nwb.add_acquisition(series)
    for times in TRAINS:
        nwb.add_unit(spike_times=times, obs_intervals=[[0.0, 30.0]])
    return save_nwb(nwb, path)


def test_only_the_bytes_that_are_needed_come_and_none_of_them_twice(server: Server, tmp_path: Path) -> None:
    path = write_session(tmp_path / "session.nwb", lfp=100_000)
    server.files["/data/session.nwb"] = path.read_bytes()
    (there,), (here,) = read(server.url("/data/session.nwb")), read(path)
    same(there, here)
    assert there.source["file"] == server.url("/data/session.nwb")
    assert server.sent < path.stat().st_size / 2
    asked = [part for _, part in server.requests]
    assert len(set(asked)) == len(asked)
    (again,) = nuclr.read(server.url("/data/session.nwb"))
    same(again, here)
    assert [part for _, part in server.requests[len(asked) :]] == ["bytes=0-0"]  # is it still the same?


def test_traces_on_a_server_are_read(server: Server, tmp_path: Path) -> None:
    path = write_traces(tmp_path / "a.nwb", np.random.default_rng(0).standard_normal((300, 5)))
    server.files["/a.nwb"] = path.read_bytes()
    same(*read(server.url("/a.nwb")), *read(path))


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Server, bytes]]:
    content = np.random.default_rng(0).bytes(1000)
    with serving() as running, pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranges, "BLOCK", 16)
        running.files["/file"] = content
        yield running, content


@given(places=st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 400)), min_size=1, max_size=8))
def test_any_bytes_are_those_of_the_file(served: tuple[Server, bytes], places: list[tuple[int, int]]) -> None:
    running, content = served
    running.requests.clear()
    file, plain = RangedFile(running.url("/file"), "file"), io.BytesIO(content)
    for start, length in places:
        assert file.seek(start) == plain.seek(start)
        assert file.read(length) == plain.read(length)
        assert file.tell() == plain.tell()
    assert file.seek(-10, io.SEEK_END) == 990
    covered = [part.removeprefix("bytes=").split("-") for _, part in running.requests]
    blocks = [block for low, high in covered for block in range(int(low) // 16, int(high) // 16 + 1)]
    assert len(set(blocks)) == len(blocks)


def refusal(address: str, **more: Any) -> str:
    with pytest.raises(NuclrError) as caught:
        read(address, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_with_a_server_is_said_in_a_line(server: Server, tmp_path: Path) -> None:
    server.files["/a.nwb"] = write_session(tmp_path / "a.nwb").read_bytes()
    secret = server.url("/a.nwb").replace("//", "//me:secret@") + "?token=secret"
    server.faults["/a.nwb"] = [404, 403]
    assert refusal(server.url("/a.nwb")) == f"{server.url('/a.nwb')}: not found (404); check the address"
    assert "not public, or not found (403)" in refusal(secret)
    server.ranges = False
    said = refusal(secret)
    assert "sends only whole files (no HTTP range requests); download it first" in said
    assert "secret" not in said
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "the connection to 127.0.0.1 failed" in refusal(f"http://me:secret@127.0.0.1:{port}/a.nwb")
    assert "not a valid address" in refusal("http://[::1/a.nwb")
    server.ranges = True
    server.files["/b.nwb"] = b"truncated" * 1000
    assert "damaged, truncated, or not an NWB file" in refusal(server.url("/b.nwb"))
    server.files["/page.html"] = b"<html>"
    assert "neither an NWB file nor an NWB folder" in refusal(server.url("/page.html"))


def test_what_passes_is_waited_for(server: Server, tmp_path: Path) -> None:
    path = write_session(tmp_path / "a.nwb")
    server.files["/a.nwb"] = path.read_bytes()
    server.faults["/a.nwb"] = [503, "cut", "reset", 429]
    same(*read(server.url("/a.nwb")), *read(path))
    server.faults["/c.nwb"] = [503] * 5
    assert "the server answered 503" in refusal(server.url("/c.nwb"))


def test_a_file_that_changes_while_it_is_read_is_refused(server: Server) -> None:
    server.files["/a"] = bytes(2**19)
    file = RangedFile(server.url("/a"), "a")
    server.files["/a"] = b"x" * 2**19
    file.seek(2**18)
    with pytest.raises(DataError, match="a: the file changed on the server while it was read"):
        file.read(10)


def test_a_file_that_changed_since_is_read_anew(server: Server, tmp_path: Path) -> None:
    for seed in (0, 1):
        path = write_units(tmp_path / "a.nwb", poisson_trains(12, 30.0, seed=seed))
        server.files["/a.nwb"] = path.read_bytes()
        same(*read(server.url("/a.nwb")), *read(path))


def test_a_signed_address_that_expired_is_asked_for_anew(server: Server) -> None:
    server.redirects["/download"] = "/signed"
    server.files["/signed"] = bytes(2**19)
    file = RangedFile(server.url("/download"), "a")
    assert [path for path, _ in server.requests] == ["/download", "/signed"]
    server.faults["/signed"] = [403]
    file.seek(2**18)
    assert file.read(10) == bytes(10)
    assert [path for path, _ in server.requests[2:]] == ["/signed", "/download", "/signed"]


def test_a_file_whose_address_does_not_tell_is_named_by_its_server(server: Server, tmp_path: Path) -> None:
    path = write_session(tmp_path / "sub-1_ses-2.nwb")
    server.files["/assets/123/download/"] = path.read_bytes()
    server.headers["/assets/123/download/"] = {
        "Content-Disposition": 'attachment; filename="sub-1_ses-2.nwb"'
    }
    (found,) = read(server.url("/assets/123/download/"))
    same(found, *read(path))
    assert found.recording == "sub-1_ses-2"
    assert found.source["file"] == server.url("/assets/123/download/")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = write_units(tmp_path / "h" / "session.nwb", TRAINS, regions=["CA1", "TH"] * 6)
    return to_zarr(path, tmp_path / "session.nwb.zarr", consolidated=True)


def serve_folder(server: Server, at: str, folder: Path) -> None:
    server.files |= {f"{at}/{key}": content for key, content in folder_files(folder).items()}


@pytest.mark.parametrize("end", ["", "/", "?token=secret"])
def test_a_zarr_folder_on_a_server_is_read(server: Server, folder: Path, end: str) -> None:
    serve_folder(server, "/data/session.nwb.zarr", folder)
    (there,) = read(server.url(f"/data/session.nwb.zarr{end}"))
    same(there, *read(folder))
    assert there.source["file"].rstrip("/") == server.url("/data/session.nwb.zarr")
    whole = [path for path, _ in server.requests]
    assert len(set(whole)) == len(whole)


def test_zarr_folders_that_cannot_be_read_are_named(server: Server, folder: Path) -> None:
    assert "no Zarr folder found" in refusal(server.url("/nothing.zarr"))
    serve_folder(server, "/a.nwb.zarr", folder)
    del server.files["/a.nwb.zarr/.zmetadata"]
    said = refusal(server.url("/a.nwb.zarr"))
    assert "no consolidated metadata (.zmetadata), and servers do not list folders" in said


def test_a_chunk_that_is_refused_is_not_zeros(server: Server, folder: Path) -> None:
    serve_folder(server, "/a.nwb.zarr", folder)
    server.faults["/a.nwb.zarr/zarr.json"] = [403]  # as S3 says of what is not there
    server.faults["/a.nwb.zarr/units/spike_times/0"] = [403]
    with pytest.raises(DataError, match=r"a\.nwb\.zarr: units/spike_times/0: not public, or not found"):
        read(server.url("/a.nwb.zarr"))


def test_places_are_told_from_what_a_user_writes() -> None:
    assert place_of("a/b.nwb") == Path("a/b.nwb")
    assert place_of("C:\\mine\\b.nwb") == Path("C:\\mine\\b.nwb")
    assert place_of(Path("https://host/a/b.nwb")) == Remote("https://host/a/b.nwb")
    for text, url in [
        ("s3://bucket/a b/c.nwb", "https://bucket.s3.amazonaws.com/a%20b/c.nwb"),
        ("s3://my.bucket/c.nwb", "https://s3.amazonaws.com/my.bucket/c.nwb"),
        ("HTTPS://host/c.nwb", "https://host/c.nwb"),
        ("dandi://000006/sub-x/c.nwb", "dandi://000006/sub-x/c.nwb"),
    ]:
        place = place_of(text)
        assert isinstance(place, Remote)
        assert place.url == url
        assert place.name == "c.nwb"
        assert str(place) == text.replace("HTTPS", "https")
    assert str(place_of("https://me:secret@host:1/a%20b.nwb?token=secret")) == "https://host:1/a%20b.nwb"
    for wrong in ("gs://bucket/a.nwb", "s3://bucket", "s3://bucket/", "https://:80/a.nwb"):
        with pytest.raises(DataError, match=r"address|names no file"):
            place_of(wrong)
    with pytest.raises(DataError, match=r"https://host/a\.nwb: on a server.*download it first"):
        on_disk(Path("https://host/a.nwb"))


@pytest.fixture
def archive(server: Server, tmp_path: Path, folder: Path) -> Server:
    pytest.importorskip("dandi", reason="the dandi client is not installed: pip install nuclr[dandi]")
    files = {
        f"sub-{animal}/sub-{animal}_ses-a.nwb": write_units(
            tmp_path / f"{animal}.nwb", TRAINS, animal=animal, session=animal
        ).read_bytes()
        for animal in ("m1", "m2")
    }
    more = {"sub-m1/sub-m1_video.mp4": b"", "sub-m10/z.nwb.zarr": folder_files(folder)}
    dandi(server, "000006", {**files, **more})
    return server


@pytest.mark.parametrize(
    "address",
    [
        "000006@0.240101.0000/sub-m1/sub-m1_ses-a.nwb",
        "000006/0.240101.0000/sub-m1/sub-m1_ses-a.nwb",
        "dandi/000006@0.240101.0000/sub-m1/sub-m1_ses-a.nwb",
        "000006/sub-m1/sub-m1_ses-a.nwb",
        "000006/sub-m1/",
        "000006/sub-m1",
    ],
)
def test_a_file_on_dandi_is_read_where_it_is(archive: Server, tmp_path: Path, address: str) -> None:
    (there,) = read(f"dandi://{address}", archive)
    (here,) = read(tmp_path / "m1.nwb")
    assert (there.animal, there.recording) == ("m1", "sub-m1_ses-a")
    np.testing.assert_array_equal(there.activity.compute(), here.activity.compute())
    assert there.source["file"] == "dandi://000006@0.240101.0000/sub-m1/sub-m1_ses-a.nwb"
    assert sum(path.endswith("/download/") for path, _ in archive.requests) == 1


def test_a_dandiset_is_all_nwb_files_in_it(archive: Server, folder: Path) -> None:
    found = read("dandi://000006", archive)
    assert [one.recording for one in found] == ["sub-m1_ses-a", "z", "sub-m2_ses-a"]
    (here,) = read(folder)
    np.testing.assert_array_equal(found[1].activity.compute(), here.activity.compute())
    assert found[1].source["file"] == "dandi://000006@0.240101.0000/sub-m10/z.nwb.zarr"


def test_what_is_wrong_with_an_address_on_dandi_is_said(
    archive: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not a valid DANDI address; give it as dandi://000006/" in refusal(
        "dandi://6/a.nwb", where=archive
    )
    with pytest.raises(DownloadError, match="dandiset 000006 has no NWB file at this path; check the path"):
        read("dandi://000006/sub-m3/", archive)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = Server(f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setattr("nuclr.data.own.DANDI_TRIES", 1)
    assert "the connection failed" in refusal("dandi://000006", where=nowhere)
    for address in ("dandi://000007/a.nwb", "dandi://000006@0.1.1/a.nwb"):
        assert "no dandiset 00000" in refusal(address, where=archive)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = EncoderSpec(patch=50, tokens=4, dim=16, heads=2, dim_head=8)
    views = {"window_s": 4, "patch": 50}
    save_model(
        tmp_path / "model.safetensors",
        Encoder(spec),
        {"modality": "spikes", "bin_s": 0.02, "config": {"views": views}},
    )
    return tmp_path / "model.safetensors"


def test_the_command_line_takes_addresses(
    archive: Server, tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive.files["/x/m2.nwb"] = (tmp_path / "m2.nwb").read_bytes()
    where = json.dumps({"download": {"dandi": archive.address}})
    run = CliRunner().invoke
    seen = run(app, ["inspect", archive.url("/x/m2.nwb?token=secret")])
    assert "1 animal, 1 population, 12 units" in seen.output
    addresses = [archive.url("/x/m2.nwb?token=secret"), "dandi://000006/sub-m1/"]
    output = tmp_path / "e.parquet"
    embedded = run(app, ["embed", *addresses, "--model", str(model), "-o", str(output), "-c", where])
    assert "e.parquet: 24 units" in embedded.output
    _, record = read_all([output])
    assert record["embedded"] == {
        "m2/all": archive.url("/x/m2.nwb"),
        "sub-m1_ses-a/all": "dandi://000006@0.240101.0000/sub-m1/sub-m1_ses-a.nwb",
    }
    assert "secret" not in seen.output + embedded.output + caplog.text + output.read_bytes().decode("latin1")
    refused = run(app, ["pretrain", *addresses, "-o", str(tmp_path / "other.safetensors")])
    assert isinstance(refused.exception, DataError)
    assert "/x/m2.nwb: on a server, but this command reads recordings many times" in str(refused.exception)
