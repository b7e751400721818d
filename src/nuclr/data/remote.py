"""Files on a server, of which only the bytes that are needed are read; and files on the disk in the same way.

An HDF5 file is asked for by ranges of bytes (HTTP), a Zarr folder by its chunks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import h5py
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from nuclr.errors import DataError

BLOCK = 2**20  # bytes that are asked for at a time


@dataclass(frozen=True)
class Remote:
    """A file, or a Zarr folder, on a server.

    Attributes
    ----------
    url
        Its address: ``https://...`` or ``http://...``.
    title
        What its archive calls it; "" takes the end of the address.
    """

    url: str
    title: str = ""

    def __str__(self) -> str:
        return self.title or self.url

    def __fspath__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.title or urlsplit(self.url).path).name

    @property
    def suffix(self) -> str:
        """End of the name."""
        return PurePosixPath(self.name).suffix

    def is_dir(self) -> bool:
        """Whether it is a Zarr folder, by its name."""
        return self.suffix == ".zarr"


@lru_cache(maxsize=4)
def _open_remote(url: str) -> Any:
    """Open a file on a server once: what was read of it is kept."""
    try:
        import fsspec  # type: ignore[import-untyped]

        filesystem, path = fsspec.core.url_to_fs(url)
        return filesystem.open(path, "rb", block_size=BLOCK, cache_type="blockcache")
    except ImportError:
        raise DataError(f'{url}: reading from a server needs aiohttp: pip install "nuclr[remote]"') from None
    except (FileNotFoundError, OSError, ValueError) as error:
        raise DataError(f"{url}: cannot be had ({error}); look at the address and the connection") from None


@contextmanager
def open_hdf5(path: Path | Remote) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, wherever it is."""
    with h5py.File(_open_remote(path.url) if isinstance(path, Remote) else path, "r") as file:
        yield file


def open_zarr(path: Path | Remote) -> zarr.Group:
    """Open a Zarr group for reading, wherever it is; consolidated metadata are used where there are any.

    Arrays of objects other than text are passed over, as if they were not there: most are pickled, and
    reading one could run anything.
    """
    if isinstance(path, Remote):
        store: Store = FsspecStore.from_url(path.url, read_only=True)
    else:
        store = LocalStore(path, read_only=True)
    return zarr.open_group(_Format2(store), mode="r")


class _Format2(WrapperStore[Any]):
    """A store whose metadata of format 2, as hdmf-zarr writes them, are such as zarr 3 takes."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        name = key.rpartition("/")[2]
        if found is None or byte_range is not None or name not in (".zarray", ".zmetadata"):
            return found
        try:
            content = json.loads(found.to_bytes())
        except ValueError:
            return found
        if name == ".zarray":
            if (mended := _mended(content)) is None:
                return None
            return prototype.buffer.from_bytes(json.dumps(mended).encode())
        every = content.get("metadata")
        if isinstance(every, dict):
            mended = {path: _mended(own) if path.endswith(".zarray") else own for path, own in every.items()}
            pickled = {path.rpartition("/")[0] for path, own in mended.items() if own is None}
            content["metadata"] = {
                path: own for path, own in mended.items() if path.rpartition("/")[0] not in pickled
            }
        return prototype.buffer.from_bytes(json.dumps(content).encode())


def _mended(array: Any) -> Any:
    """Give an array's metadata with a fill value of its own type; None where it is pickled, or of objects."""
    if not isinstance(array, dict) or array.get("dtype") != "|O":
        return array
    codecs = [codec.get("id") for codec in array.get("filters") or () if isinstance(codec, dict)]
    if not codecs or codecs[0] not in ("vlen-utf8", "vlen-bytes"):
        return None
    # hdmf-zarr writes 0 for text, which zarr 2 took.
    return array if isinstance(array.get("fill_value"), str) else {**array, "fill_value": ""}
