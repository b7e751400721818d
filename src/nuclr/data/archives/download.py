"""Verified, resumable downloads of files, and safe unpacking of archives, for all sources.

Received bytes are in a partial file. A download is resumed (HTTP Range, RFC 9110 section 14) if the file on
the server has not changed (If-Range). A file gets its final name only when its size and hash are correct.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import lzma
import random
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import requests

from nuclr.data.access.ranges import PASSING, TIMEOUT
from nuclr.errors import DownloadError
from nuclr.files import partial_of, whole_folder

logger = logging.getLogger(__name__)

BLOCK = 2**16
LONGEST_PAUSE_S = 120.0
# Errors for damaged archives; RuntimeError is raised for unknown compression methods.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
)

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes
    ----------
    url, name
        Address, and the name of the downloaded file.
    size
        Size (bytes); None if the server's catalogue does not state it.
    digest
        ``algorithm:hexdigest``, such as ``md5:9e10...``; None if the catalogue does not state it.
    """

    url: str
    name: str
    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Fetcher:
    """How files are downloaded.

    Attributes
    ----------
    tries
        Number of attempts; each pause between attempts is about twice the one before.
    pause_s
        The first pause (s).
    progress
        Function that is called for every block with the name, the received bytes, and all bytes (None:
        unknown).
    """

    tries: int = 8
    pause_s: float = 1.0
    progress: Progress = field(default=lambda name, done, size: None)

    def fetch(self, remote: Remote, folder: Path) -> Path:
        """Download a file into a folder; an existing file is complete, and not downloaded again.

        Raises
        ------
        DownloadError
            If all attempts fail, or the server refuses the file permanently. Received bytes are kept
            for the next call, unless their hash is wrong.
        """
        path = folder / remote.name
        if path.exists():
            return path
        folder.mkdir(parents=True, exist_ok=True)

        def attempt() -> None:
            self._receive(remote, folder)
            _verify(remote, partial_of(path))

        self.patiently(attempt, remote.url)
        partial_of(path).replace(path)
        _validator(path).unlink(missing_ok=True)
        return path

    def json(self, url: str, **parameters: Any) -> Any:
        """Return the JSON at an address, with further attempts after temporary errors.

        Raises
        ------
        DownloadError
            If there is no answer after all attempts, or it is not JSON.
        """

        def ask() -> Any:
            answer = requests.get(url, params=parameters, timeout=TIMEOUT)
            answer.raise_for_status()
            return answer.json()

        return self.patiently(ask, url)

    def patiently(self, what: Callable[[], Any], url: str) -> Any:
        """Return the result of a function that asks a server, with further attempts after temporary errors.

        Raises
        ------
        DownloadError
            If all attempts fail, or the error is permanent.
        """
        for tried in range(1, self.tries + 1):
            try:
                return what()
            except (requests.RequestException, _WrongContent) as error:
                reason = _reason(error)
                if not _may_pass(error):
                    raise DownloadError(
                        f"{url}: {reason}; check whether the address is correct or has moved"
                    ) from None
                if tried == self.tries:
                    raise DownloadError(
                        f"{url}: {reason} ({tried} attempts); run the same command again later, which "
                        "resumes "
                        "the download"
                    ) from None
                pause = _pause(error, self.pause_s * 2 ** (tried - 1))
                logger.info(
                    "%s: %s; next attempt in %.0f s (%d of %d)", url, reason, pause, tried + 1, self.tries
                )
                time.sleep(pause)
        raise AssertionError  # unreachable: the last try returns or raises

    def _receive(self, remote: Remote, folder: Path) -> None:
        """Receive the missing bytes of a file into its partial file."""
        partial, validator = partial_of(folder / remote.name), _validator(folder / remote.name)
        have = partial.stat().st_size if partial.exists() else 0
        if remote.size is not None and have == remote.size:
            return
        headers = {"Accept-Encoding": "identity"}  # so that sizes and ranges are of the uncompressed file
        if have and validator.exists():
            headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text()}
        else:
            have = 0
        with requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:  # the partial file is complete, or longer than the file
                length = _length_of(answer)
                if remote.size is None and length == have:
                    return
                partial.unlink()
                raise _WrongContent(f"the server's file has {length} bytes, not {remote.size or have}")
            answer.raise_for_status()
            resumed = answer.status_code == 206
            if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                partial.unlink()
                raise _WrongContent("the server sent a part of the file that was not requested")
            have = have if resumed else 0
            _remember(validator, answer)
            coming = answer.headers.get("Content-Length")
            size = remote.size if remote.size is not None else have + int(coming) if coming else None
            with partial.open("ab" if resumed else "wb") as file:
                for block in answer.iter_content(BLOCK):
                    file.write(block)
                    have += len(block)
                    self.progress(remote.name, have, size)
        if size is not None and have < size:  # the connection was closed before the end without an error
            raise requests.ConnectionError(f"ended after {have} of {size} bytes")


class _WrongContent(Exception):
    """The received content is not the expected one; another attempt may succeed."""


def _validator(path: Path) -> Path:
    partial = partial_of(path)
    return partial.with_name(f"{partial.name}.etag")


def _remember(validator: Path, answer: requests.Response) -> None:
    """Store the tag or date that identifies the file's version; weak tags do not (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    tag = answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    if tag:
        validator.write_text(tag)
    else:
        validator.unlink(missing_ok=True)


def _length_of(answer: requests.Response) -> int | None:
    """Return the length of the whole file from the response to an invalid range (``bytes */123``)."""
    length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(length) if length.isdigit() else None


def _verify(remote: Remote, partial: Path) -> None:
    size = partial.stat().st_size
    wrong = f"{size} bytes were received instead of {remote.size}" if remote.size not in (None, size) else ""
    if not wrong and remote.digest is not None:
        algorithm, _, expected = remote.digest.partition(":")
        found = digest_of(partial, algorithm)
        if found != expected.lower():
            wrong = f"its {algorithm} is {found}, not {expected}"
    if wrong:
        partial.unlink()
        raise _WrongContent(wrong)


def digest_of(path: Path, algorithm: str) -> str:
    """Return the hash of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _may_pass(error: Exception) -> bool:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in PASSING
    wrong_address = (
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
    )
    return not isinstance(error, wrong_address)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server did not answer"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "the answer is not JSON"
    if isinstance(error, requests.RequestException):
        return f"the connection failed ({' '.join(str(error).split())[:120]})"
    return str(error)


def _pause(error: Exception, pause_s: float) -> float:
    """Return the pause that the server requests, or else a random one, so that jobs do not retry together."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        asked = error.response.headers.get("Retry-After", "")
        if asked.isdigit():
            return min(float(asked), LONGEST_PAUSE_S)
    return min(pause_s, LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)


def unpack(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> list[Path]:
    """Unpack some files of a zip or tar archive into a folder, all of them or none.

    Parameters
    ----------
    archive
        ``.zip``, ``.tar``, ``.tar.gz``, ...; the format is recognised by the content.
    folder
        Target folder; an existing one is replaced.
    wanted
        Function of a path that returns whether the file is unpacked.

    Raises
    ------
    DownloadError
        If the archive is damaged, or has an entry that is a link or would be outside the folder.
    """
    with whole_folder(folder) as partial:
        written = []
        try:
            for path, content in _members(archive, wanted):
                target = partial / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with content as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, BLOCK)
                written.append(folder / path)
        except DAMAGED as error:
            reason = " ".join(str(error).split())
            raise DownloadError(
                f"{archive}: damaged ({reason}); delete it and run the same command again"
            ) from None
        return written


def _members(archive: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, Any]]:
    """Yield the wanted files of an archive, opened; all entries are checked before the first is opened."""
    with archive.open("rb") as file:
        zip_begins = file.read(2) == b"PK"  # is_zipfile reads the end, which a truncated archive lacks
    if zip_begins:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            for entry in entries:
                link = stat.S_ISLNK(entry.external_attr >> 16)
                _check_entry(archive, entry.filename, link)
            for entry in entries:
                path = PurePosixPath(entry.filename)
                if not entry.is_dir() and wanted(path):
                    yield path, zipped.open(entry)
        return
    with tarfile.open(archive) as tarred:
        members = tarred.getmembers()
        for member in members:
            _check_entry(archive, member.name, not (member.isfile() or member.isdir()))
        for member in members:
            path = PurePosixPath(member.name)
            if member.isfile() and wanted(path):
                yield path, tarred.extractfile(member)


def _check_entry(archive: Path, name: str, special: bool) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise DownloadError(
            f"{archive}: entry {name} would be written outside its folder; nothing was unpacked"
        )
    if special:
        raise DownloadError(f"{archive}: entry {name} is a link or not a regular file; nothing was unpacked")
