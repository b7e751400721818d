"""Files on servers, of which byte ranges are requested when they are needed (RFC 9110 section 14).

Received ranges are kept in a temporary file while the file is open, so nothing is requested twice.
"""

from __future__ import annotations

import io
import tempfile
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from nuclr.errors import DataError

BLOCK = 2**18
# Largest number of blocks in one request: of needed blocks, and of blocks that are read ahead.
MOST, MOST_AHEAD = 64, 16
TRIES, PAUSE_S, LONGEST_PAUSE_S = 5, 0.5, 30.0
# Timeouts (s) of connecting, and of waiting for a byte.
TIMEOUT = (20.0, 60.0)
# Statuses after which another attempt may succeed.
PASSING = {408, 425, 429, 500, 502, 503, 504}
# Statuses of a signed address that has expired.
EXPIRED = {400, 401, 403, 404, 410}


@dataclass(frozen=True)
class Answer:
    """Response of a server.

    Attributes
    ----------
    status, headers, content
        Status, headers and content; the content is empty after an error, or if the server sends the whole
        file instead of a part.
    url
        Address of the response, after redirects.
    """

    status: int
    headers: requests.structures.CaseInsensitiveDict[str]
    content: bytes
    url: str


@lru_cache(maxsize=1)
def _session() -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=32))
    return session


def ask(url: str, title: str, part: str = "", *, only_part: bool = False) -> Answer:
    """Request a file or a part of it from a server, with further attempts after temporary errors.

    Parameters
    ----------
    url
        Address of the file.
    title
        Name of the file in messages, which contains no credentials.
    part
        Byte range, as in the header ``Range``; "" requests the whole file.
    only_part
        Whether to ignore the content if the server sends the whole file instead of ``part``.

    Raises
    ------
    DataError
        If there is no response after all attempts.
    """
    headers = {"Accept-Encoding": "identity"}  # so that ranges are those of the uncompressed file
    if part:
        headers["Range"] = f"bytes={part}"
    reason = ""
    for tried in range(TRIES):
        pause = PAUSE_S * 2**tried
        try:
            with _session().get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                status = answer.status_code
                if status in PASSING:
                    reason = f"the server answered {status} {answer.reason}"
                    asked = answer.headers.get("Retry-After", "")
                    pause = float(asked) if asked.isdigit() else pause
                else:
                    received = status == 206 or (status == 200 and not only_part)
                    content = answer.content if received else b""
                    if received and len(content) != int(answer.headers.get("Content-Length", len(content))):
                        raise requests.ConnectionError
                    return Answer(status, answer.headers, content, answer.url)
        except requests.Timeout:
            reason = "the server did not answer"
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            reason = f"the connection to {urlsplit(url).hostname} failed"
        except (requests.RequestException, ValueError):
            raise DataError(f"{title}: not a valid address; correct it") from None
        if tried < TRIES - 1:
            time.sleep(min(pause, LONGEST_PAUSE_S))
    raise DataError(
        f"{title}: {reason} ({TRIES} attempts); check the address and the connection, and try again"
    )


def refused(status: int, title: str) -> DataError:
    """Return the error for a status with which a server refuses a file."""
    if status in (404, 410):
        return DataError(f"{title}: not found ({status}); check the address")
    if status in (401, 403):
        return DataError(
            f"{title}: not public, or not found ({status}); check the address, or download it with your "
            "credentials and give the file"
        )
    return DataError(
        f"{title}: the server answered with status {status}; check the address, or download it first"
    )


class Kept:
    """Cache of pieces of files in a temporary file, which is deleted when it is closed."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="nuclr-")  # noqa: SIM115
        self._places: dict[Hashable, tuple[int, int]] = {}
        self._end = 0
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._places

    def get(self, key: Hashable, low: int = 0, high: int | None = None) -> bytes | None:
        """Return a piece, or its bytes from ``low`` to before ``high``; None if it is not in the cache."""
        with self._lock:
            if key not in self._places:
                return None
            start, size = self._places[key]
            self._file.seek(start + low)
            return self._file.read((size if high is None else min(high, size)) - low)

    def put(self, key: Hashable, content: bytes) -> None:
        """Store a piece; if the disk is full, it is not stored and will be requested again."""
        with self._lock, suppress(OSError):
            self._file.seek(self._end)
            self._file.write(content)
            self._file.flush()
            self._places[key] = (self._end, len(content))
            self._end += len(content)


class RangedFile(io.RawIOBase):
    """A file on a server that can be read like one on the disk.

    Attributes
    ----------
    size
        Size (bytes).
    filename
        File name that the server states; "" if it states none.

    Raises
    ------
    DataError
        If the file does not exist or is not public, or the server sends only whole files; also while reading.
    """

    def __init__(self, url: str, title: str) -> None:
        super().__init__()
        self._url, self._title, self._answers_at = url, title, url
        self._kept, self._at, self._next, self._ahead = Kept(), 0, -1, 1
        first = self._ask(0, BLOCK)
        self.size = int(first.headers["Content-Range"].rpartition("/")[2])
        self._version = _version(first)
        self._kept.put(0, first.content)
        said = Message()
        said["Content-Disposition"] = first.headers.get("Content-Disposition", "")
        self.filename = PurePosixPath(said.get_filename() or "").name

    def unchanged(self) -> bool:
        """Return whether the file on the server is still the one that was opened."""
        return _version(self._ask(0, 1)) == self._version

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True, because any position can be read."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position of the next byte."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; fewer are read only at the end of the file."""
        view = memoryview(buffer).cast("B")
        first, stop = self._at, min(self._at + len(view), self.size)
        while self._at < stop:
            block, low = divmod(self._at, BLOCK)
            content = self._block(block, (stop - 1) // BLOCK, low, min(BLOCK, low + stop - self._at))
            view[self._at - first : self._at - first + len(content)] = content
            self._at += len(content)
        return self._at - first

    def _block(self, block: int, last: int, low: int, high: int) -> bytes:
        """Return a part of a block; the same request includes blocks up to ``last`` and those read ahead."""
        if (content := self._kept.get(block, low, high)) is not None:
            return content
        self._ahead = min(2 * self._ahead, MOST_AHEAD) if block == self._next else 1
        end = min(max(min(last, block + MOST - 1), block + self._ahead - 1), (self.size - 1) // BLOCK)
        count = next((i for i in range(1, end - block + 1) if block + i in self._kept), end - block + 1)
        start, stop = block * BLOCK, min((block + count) * BLOCK, self.size)
        answer = self._ask(start, stop)
        if len(answer.content) != stop - start:
            raise DataError(
                f"{self._title}: the server sent a part of the file that was not requested; download it first"
            )
        if _version(answer) != self._version:
            raise DataError(
                f"{self._title}: the file changed on the server while it was read; run the command again"
            )
        for i in range(count):
            self._kept.put(block + i, answer.content[i * BLOCK : (i + 1) * BLOCK])
        self._next = block + count
        return answer.content[low:high]

    def _ask(self, start: int, stop: int) -> Answer:
        part = f"{start}-{stop - 1}"
        answer = ask(self._answers_at, self._title, part, only_part=True)
        if answer.status in EXPIRED and self._answers_at != self._url:
            answer = ask(self._url, self._title, part, only_part=True)
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if answer.status == 416:
            raise DataError(f"{self._title}: the file is empty; check the address")
        if answer.status == 200 or (answer.status == 206 and not whole.isdigit()):
            raise DataError(
                f"{self._title}: the server sends only whole files (no HTTP range requests); download it "
                "first, and give the file"
            )
        if answer.status != 206:
            raise refused(answer.status, self._title)
        if not answer.headers["Content-Range"].startswith(f"bytes {start}-"):
            raise DataError(
                f"{self._title}: the server sent a part of the file that was not requested; download it first"
            )
        # The address after redirects is kept, so that they are followed only once.
        self._answers_at = answer.url
        return answer


def _version(answer: Answer) -> tuple[str, str]:
    """Return the length and the tag of a file, which differ between versions of it."""
    length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return length, answer.headers.get("ETag", answer.headers.get("Last-Modified", ""))
