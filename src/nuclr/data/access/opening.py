"""Opening of HDF5 files and Zarr folders on the disk or on a server.

Of files on a server, only the needed bytes are read: byte ranges of HDF5 files (HTTP), and chunks of Zarr
folders. Only public files can be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from nuclr.data.access.remote import Remote
from nuclr.errors import DataError

if TYPE_CHECKING:
    from nuclr.data.access.ranges import RangedFile
    from nuclr.data.access.served import ServedFolder

HDF5 = b"\x89HDF\r\n\x1a\n"


def looked_at(place: Remote) -> Remote:
    """Check an NWB file on a server, and return it with the server's file name if the address has none.

    If the file has changed since it was opened, its cached parts are deleted.

    Raises
    ------
    DataError
        If the file cannot be read, or is not an NWB file.
    """
    if place.is_dir():
        _open_folder.cache_clear()
        return place
    if not _open_remote(place.url, str(place)).unchanged():
        _open_remote.cache_clear()
    if place.suffix == ".nwb":
        return place
    file = _open_remote(place.url, str(place))
    file.seek(0)
    if file.read(len(HDF5)) != HDF5:
        raise DataError(
            f"{place}: neither an NWB file nor an NWB folder (.nwb.zarr); download other recordings first, "
            "and "
            "give the file"
        )
    name = file.filename or place.name or "session"
    return replace(place, file=f"{name.removesuffix('.nwb')}.nwb")


@lru_cache(maxsize=4)
def _open_remote(url: str, title: str) -> RangedFile:
    """Open a file on a server once; its parts are cached."""
    from nuclr.data.access.ranges import RangedFile

    return RangedFile(url, title)


@lru_cache(maxsize=4)
def _open_folder(url: str, title: str) -> ServedFolder:
    """Open a Zarr folder on a server once; its parts are cached."""
    from nuclr.data.access.served import ServedFolder

    return ServedFolder(url, title)


@contextmanager
def open_hdf5(path: Path | Remote) -> Iterator[h5py.File]:
    """Open an HDF5 file on the disk or on a server for reading."""
    with h5py.File(_open_remote(path.url, str(path)) if isinstance(path, Remote) else path, "r") as file:
        yield file


def open_zarr(path: Path | Remote) -> zarr.Group:
    """Open a Zarr group on the disk or on a server for reading, with its consolidated metadata if it has any.

    Arrays of objects other than text are ignored as if they did not exist, because most are pickled, and
    unpickling could execute code.
    """
    if isinstance(path, Remote):
        store: Store = _open_folder(path.url, str(path))
    else:
        store = LocalStore(path, read_only=True)
    return zarr.open_group(_Format2(store), mode="r")


class _Format2(WrapperStore[Any]):
    """A store whose metadata of format 2, which hdmf-zarr writes, are converted to what zarr 3 accepts."""

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
        every = content.get("metadata") if isinstance(content, dict) else None
        if isinstance(every, dict):
            mended = {path: _mended(own) if path.endswith(".zarray") else own for path, own in every.items()}
            pickled = {path.rpartition("/")[0] for path, own in mended.items() if own is None}
            content["metadata"] = {
                path: own for path, own in mended.items() if path.rpartition("/")[0] not in pickled
            }
        return prototype.buffer.from_bytes(json.dumps(content).encode())


def _mended(array: Any) -> Any:
    """Return an array's metadata with a valid fill value; None if it contains pickled or other objects."""
    if not isinstance(array, dict):
        return array
    if "pickle" in codecs_of(array):
        return None
    if array.get("dtype") != "|O":
        return array
    codecs = codecs_of(array)
    if not codecs or codecs[0] not in ("vlen-utf8", "vlen-bytes"):
        return None
    # hdmf-zarr writes 0 for text, which zarr 2 accepted.
    return array if isinstance(array.get("fill_value"), str) else {**array, "fill_value": ""}


def codecs_of(array: dict[str, Any]) -> list[Any]:
    """Return the names of an array's codecs: its filters, then its compressor."""
    filters = array.get("filters")
    every = [*(filters if isinstance(filters, list) else []), array.get("compressor")]
    return [codec.get("id") for codec in every if isinstance(codec, dict)]
