"""Zarr folders on a server, of which only the needed files are requested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote, urlsplit, urlunsplit

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import MemoryStore

from nuclr.data.access.ranges import Kept, ask, refused
from nuclr.errors import DataError

METADATA = (".zmetadata", ".zgroup", ".zarray", ".zattrs", "zarr.json")


class ServedFolder(MemoryStore):
    """A Zarr folder on a server, whose files are requested by name.

    Servers do not list folders, so the metadata must be consolidated. In spite of the base class, the folder
    is not kept in memory.

    Raises
    ------
    DataError
        If it does not exist, is not public, or its metadata are not consolidated; also while reading.
    """

    def __init__(self, url: str, title: str) -> None:
        super().__init__(read_only=True)
        self._url, self._title = urlsplit(url), title
        self._kept, self._missing = Kept(), set[str]()
        if self._content(".zmetadata") is None and b"consolidated" not in (self._content("zarr.json") or b""):
            if self._content(".zgroup") is None and self._content("zarr.json") is None:
                raise DataError(f"{title}: no Zarr folder found (no .zmetadata); check the address")
            raise self._unlisted()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServedFolder) and self._url == other._url

    __hash__ = None  # type: ignore[assignment]

    def _unlisted(self) -> DataError:
        return DataError(
            f"{self._title}: the Zarr folder has no consolidated metadata (.zmetadata), and servers do not "
            "list folders; download it first, and give the folder"
        )

    def _content(self, key: str, part: str = "") -> bytes | None:
        if key in self._missing:
            return None
        if (content := self._kept.get((key, part))) is not None:
            return content
        path = f"{self._url.path.rstrip('/')}/{quote(key)}"
        answer = ask(urlunsplit(self._url._replace(path=path)), f"{self._title}: {key}", part)
        # S3 answers 403 for missing files if folders may not be listed. Only for metadata does this mean
        # "absent"; a missing chunk of numbers would be read as zeros.
        absent = answer.status == 403 and key.rpartition("/")[2] in METADATA
        if absent or answer.status in (404, 410):
            self._missing.add(key)
            return None
        if answer.status not in (200, 206):
            raise refused(answer.status, f"{self._title}: {key}")
        content = answer.content
        if part and answer.status == 200:
            low, _, high = part.partition("-")
            content = content[int(low) : int(high) + 1 if high else None] if low else content[-int(high) :]
        self._kept.put((key, part), content)
        return content

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return a file, or a part of it; None if it does not exist."""
        content = await asyncio.to_thread(self._content, key, _part(byte_range))
        prototype = prototype or default_buffer_prototype()
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of several files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether a file exists."""
        return await asyncio.to_thread(self._content, key) is not None

    def list(self) -> AsyncIterator[str]:
        """Refuse to list."""
        raise self._unlisted()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refuse to list."""
        raise self._unlisted()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Refuse to list."""
        raise self._unlisted()


def _part(wanted: ByteRequest | None) -> str:
    """Return a byte range as in HTTP's ``Range`` header."""
    if wanted is None:
        return ""
    if isinstance(wanted, RangeByteRequest):
        return f"{wanted.start}-{wanted.end - 1}"
    return f"{wanted.offset}-" if isinstance(wanted, OffsetByteRequest) else f"-{wanted.suffix}"
