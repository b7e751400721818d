"""Whatever a server does, a file is whole under its name or not there, and a broken download goes on."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import Server, serving

from nuclr.data.archives.download import Fetcher, Remote, unpack
from nuclr.errors import DownloadError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
QUICK = Fetcher(tries=4, pause_s=0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files["/data"] = CONTENT
        yield running


def remote(server: Server, **changes: object) -> Remote:
    return Remote(
        **{"url": server.url("/data"), "name": "data", "size": len(CONTENT), "digest": MD5, **changes}
    )


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_once_and_verified(server: Server, tmp_path: Path) -> None:
    told = []
    fetcher = Fetcher(progress=lambda name, done, size: told.append((name, done, size)))
    assert fetcher.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert told[-1] == ("data", len(CONTENT), len(CONTENT))
    assert fetcher.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert left(tmp_path) == {"data"}


def test_a_connection_that_is_reset_is_made_again(server: Server, tmp_path: Path) -> None:
    server.faults["/data"] = ["reset", "reset"]
    assert QUICK.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_connection_that_is_cut_is_taken_up_where_it_was(server: Server, tmp_path: Path) -> None:
    server.faults["/data"] = ["cut", "cut"]
    assert QUICK.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    ranges = [int(asked.removeprefix("bytes=")[:-1]) for _, asked in server.requests[1:]]
    assert len(ranges) == 2
    assert 0 < ranges[0] < ranges[1] < len(CONTENT)
    assert left(tmp_path) == {"data"}


def test_a_download_goes_on_in_another_run(server: Server, tmp_path: Path) -> None:
    server.faults["/data"] = ["cut"]
    with pytest.raises(DownloadError, match=r"/data: .* \(1 attempts\); run the same command again later"):
        Fetcher(tries=1).fetch(remote(server), tmp_path)
    assert left(tmp_path) == {".partial-data", ".partial-data.etag"}
    assert QUICK.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] > "bytes=14"  # of 1,500,000 that were sent


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_file_that_changed_on_the_server_is_fetched_anew(
    server: Server, tmp_path: Path, size: int | None
) -> None:
    server.faults["/data"] = ["cut"]
    with pytest.raises(DownloadError):
        Fetcher(tries=1).fetch(remote(server, size=size), tmp_path)
    other = CONTENT[::-1]
    server.files["/data"] = other
    digest = f"md5:{hashlib.md5(other).hexdigest()}"
    assert QUICK.fetch(remote(server, size=size, digest=digest), tmp_path).read_bytes() == other


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.faults["/data"] = ["cut", "whole"]
    assert QUICK.fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_503_three_times_is_waited_out(server: Server, tmp_path: Path) -> None:
    server.faults["/data"] = [503, 503, 503]
    assert QUICK.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    server.faults["/other"] = [503] * 4
    with pytest.raises(
        DownloadError, match=r"the server answered 503 .* \(4 attempts\); run the same command again"
    ):
        QUICK.fetch(remote(server, url=server.url("/other"), name="other"), tmp_path)
    assert left(tmp_path) == {"data"}


def test_a_file_that_is_not_there_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        DownloadError, match="/nowhere: the server answered 404 Not Found; check whether the address"
    ):
        QUICK.fetch(remote(server, url=server.url("/nowhere")), tmp_path)
    assert len(server.requests) == 1


def test_nobody_at_the_address_is_said(tmp_path: Path) -> None:
    with serving() as server:
        gone = remote(server)
    with pytest.raises(DownloadError, match="the connection failed"):
        Fetcher(tries=2, pause_s=0.01).fetch(gone, tmp_path)


def test_a_wrong_content_never_gets_the_files_name(server: Server, tmp_path: Path) -> None:
    server.faults["/data"] = ["garbled"]
    assert QUICK.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    server.faults["/data"] = ["garbled"] * 4
    with pytest.raises(DownloadError, match=rf"its md5 is \w+, not {MD5[4:]} \(4 attempts\)"):
        QUICK.fetch(remote(server), tmp_path / "again")
    assert not (tmp_path / "again" / "data").exists()
    server.files["/data"] = CONTENT[:1000]
    with pytest.raises(DownloadError, match=r"the server's file has 1000 bytes, not 3000000 \(4 attempts\)"):
        QUICK.fetch(remote(server, digest=None), tmp_path / "short")


def test_a_partial_file_that_is_all_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".partial-data").write_bytes(CONTENT)
    assert QUICK.fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert not server.requests
    (tmp_path / ".partial-more").write_bytes(CONTENT)
    (tmp_path / ".partial-more.etag").write_text(f'"{MD5[4:]}"')
    assert QUICK.fetch(remote(server, name="more", size=None), tmp_path).read_bytes() == CONTENT


def test_a_catalogue_that_answers_nonsense_is_said(server: Server) -> None:
    server.files["/list"] = b"<html>"
    with pytest.raises(DownloadError, match=r"/list: the answer is not JSON \(4 attempts\)"):
        QUICK.json(server.url("/list"))


def archive(path: Path, entries: dict[str, bytes], kind: str) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in entries.items():
                zipped.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tarred:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
    return path


KINDS = pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])


@KINDS
def test_the_wanted_files_are_unpacked(tmp_path: Path, kind: str) -> None:
    made = archive(tmp_path / "a", {"d/x.npy": b"1", "d/e/y.npy": b"2", "d/z": b"3"}, kind)
    found = unpack(made, tmp_path / "out", lambda path: path.suffix == ".npy")
    assert sorted(found) == [tmp_path / "out/d/e/y.npy", tmp_path / "out/d/x.npy"]
    assert (tmp_path / "out/d/x.npy").read_bytes() == b"1"
    assert not (tmp_path / "out/d/z").exists()


@KINDS
@pytest.mark.parametrize("name", ["../../x", "/etc/x", "d/../../x", "..\\x"])
def test_an_entry_outside_of_the_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    made = archive(tmp_path / "a", {"good": b"1", name: b"2"}, kind)
    with pytest.raises(DownloadError, match="would be written outside its folder; nothing was unpacked"):
        unpack(made, tmp_path / "deep" / "out", lambda path: True)
    assert not (tmp_path / "deep" / "out").exists()
    assert not list(tmp_path.rglob("x"))


def test_a_link_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w") as tarred:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tarred.addfile(info)
    with zipfile.ZipFile(tmp_path / "b", "w") as zipped:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(entry, "/etc/passwd")
    for name in "ab":
        with pytest.raises(DownloadError, match="entry link is a link or not a regular file"):
            unpack(tmp_path / name, tmp_path / "out", lambda path: True)


@KINDS
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, kind: str, keep: float) -> None:
    made = archive(tmp_path / "a", {f"{i}": CONTENT[i * 99999 :][:99999] for i in range(3)}, kind)
    made.write_bytes(made.read_bytes()[: int(made.stat().st_size * keep)])
    with pytest.raises(DownloadError, match=r"a: damaged .* delete it and run the same command again"):
        unpack(made, tmp_path / "out", lambda path: True)
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
