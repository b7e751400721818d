"""An NWB file as groups, datasets and attributes, the same for HDF5 and for Zarr, on a disk or on a server.

Source: NWB's storage in HDF5 (https://nwb-storage.readthedocs.io) and in Zarr, as hdmf-zarr writes it
(https://hdmf-zarr.readthedocs.io/en/stable/storage.html): Zarr format 2, references as JSON attributes,
links in the attribute ``zarr_link``. hdmf-zarr itself needs zarr below 3 and cannot be installed beside it.
Nothing pickled is read: such arrays are passed over.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from nuclr.data.access.columns import Column
from nuclr.data.access.opening import open_hdf5, open_zarr
from nuclr.data.access.remote import Remote
from nuclr.errors import DataError, NothingToLearn

LINKS = "zarr_link"
MOST_LINKS = 16
# Bytes beyond which an array is looked at, and how many may be stored as one.
LARGE, DENSEST = 2**32, 10_000
SPECIFICATIONS = "specifications"  # the schema that the file was written by


@contextmanager
def opened(path: Path | Remote) -> Iterator[Node]:
    """Open an NWB file and give its root.

    Raises
    ------
    DataError
        If it is not there, damaged, not NWB, or of a version that is not read.
    """
    if isinstance(path, Path) and not path.exists():
        raise DataError(f"{path}: file not found; check the path")
    try:
        if path.is_dir():
            root = Node(path, open_zarr(path), "")
            root.check()
            yield root
            return
        held = open_hdf5(path)
        raw = held.__enter__()
    except DataError:
        raise
    except Exception as error:  # h5py, zarr and fsspec raise what they like on a damaged file
        raise damaged(path, error) from None
    try:
        root = Node(path, raw, "")
        root.check()
        yield root
    finally:
        held.__exit__(None, None, None)


def damaged(path: Path | Remote, error: Exception | str) -> DataError:
    """Say that a file cannot be read, and why."""
    reason = " ".join(str(error).split())[:200]
    return DataError(f"{path}: damaged, truncated, or not an NWB file ({reason}); download or write it again")


@dataclass(frozen=True, eq=False)
class Node:
    """A group or a dataset.

    Attributes
    ----------
    file
        Where the file is.
    raw
        The group or dataset, of h5py or zarr.
    path
        Where in the file it is, as ``units/spike_times``; "" is the root.
    links
        How many links of hdmf-zarr were followed to it.
    """

    file: Path | Remote
    raw: Any
    path: str
    links: int = 0

    @property
    def name(self) -> str:
        """Its own name, without those above it."""
        return self.path.rpartition("/")[2]

    @property
    def is_group(self) -> bool:
        """Whether it is a group; else it is a dataset."""
        return isinstance(self.raw, h5py.Group | zarr.Group)

    @property
    def kind(self) -> str:
        """NWB's ``neurodata_type``; "" where it is none."""
        return str(self.attribute("neurodata_type", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a dataset; a group has none."""
        return () if self.is_group else tuple(self.raw.shape or ())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a dataset."""
        return np.dtype(self.raw.dtype)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def check(self) -> None:
        """Make sure that a root is that of an NWB file of version 2.

        Raises
        ------
        DataError
            If not.
        """
        version = self.attribute("nwb_version", "")
        if not version and (dataset := self.get("nwb_version")) is not None and not dataset.is_group:
            version = dataset.text()
        number = str(version).removeprefix("NWB-").strip()
        if number.startswith(("0", "1")):
            raise NothingToLearn(
                f"{self.file}: NWB {number} is not supported; export it to NWB 2 (pynwb, MatNWB or "
                "NeuroConv), "
                "or give its spike times with nuclr.from_spike_times"
            )
        if number.startswith("2.0b"):
            raise NothingToLearn(
                f"{self.file}: NWB {number}, a beta version of NWB 2, is not supported; export it again with "
                "a "
                "current pynwb, or give its spike times with nuclr.from_spike_times"
            )
        if not number and self.kind != "NWBFile":
            raise damaged(self.file, "it has no nwb_version")

    def get(self, path: str) -> Node | None:
        """Give what is at a path below a group; None if nothing is."""
        node: Node | None = self
        for part in path.strip("/").split("/"):
            if node is None or not node.is_group:
                return None
            node = node._child(part)
        return node

    def children(self) -> dict[str, Node]:
        """Give what is in a group, by name; links that lead nowhere are passed over."""
        if not self.is_group:
            return {}
        with self._reading():
            names = [*self._names(), *(str(link.get("name")) for link in self._links())]
        # What is not UTF-8 is no name in NWB, and no terminal or table takes it.
        names = [name for name in names if _as_text(name) == name]
        found = {name: self._child(name) for name in dict.fromkeys(names)}
        return {name: node for name, node in found.items() if node is not None}

    def _names(self) -> Iterator[str]:
        if isinstance(self.raw, zarr.Group) and isinstance(self.file, Path):
            # zarr would open each, at once: slow, and where several are damaged it prints their tracebacks.
            folder = self.file / self.path
            yield from sorted(inside.name for inside in folder.iterdir() if inside.is_dir())
        else:
            yield from self.raw

    def _child(self, name: str) -> Node | None:
        path = f"{self.path}/{name}".lstrip("/")
        with self._reading():
            try:
                return Node(self.file, self.raw[name], path, self.links)
            except KeyError:  # nothing there, or in HDF5 a link that leads nowhere
                pass
        link = next((link for link in self._links() if link.get("name") == name), None)
        return None if link is None else self._linked(link)

    def _links(self) -> list[dict[str, Any]]:
        if isinstance(self.raw, h5py.Group):
            return []
        links = self.raw.attrs.get(LINKS, [])
        return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []

    def _linked(self, link: dict[str, Any]) -> Node | None:
        """Follow a link or a reference of hdmf-zarr; those into other files are not followed."""
        path, source = str(link.get("path", "")), str(link.get("source", "."))
        if source not in (".", "") and Path(source).name != self.file.name:
            raise DataError(
                f"{self.file}: {self.path} is a link into another file, {source}, which is not read; "
                "export the session to one file"
            )
        if self.links == MOST_LINKS:
            raise damaged(self.file, f"{self.path}: more than {MOST_LINKS} links that lead to links")
        root = Node(self.file, open_zarr(self.file), "", self.links + 1)
        return root.get(path) if path.strip("/") else root

    def nodes(self) -> Iterator[Node]:
        """Yield this node and all below it, those of a group in the order of the file."""
        seen: set[Any] = set()
        waiting = [self]
        while waiting:
            node = waiting.pop()
            # A link may lead to a group above it.
            own = node.raw.id.__hash__() if isinstance(node.raw, h5py.Group | h5py.Dataset) else node.path
            if own in seen or node.path.split("/")[0] == SPECIFICATIONS:
                continue
            seen.add(own)
            yield node
            waiting += reversed(node.children().values())

    def attribute(self, name: str, default: Any = None) -> Any:
        """Give an attribute: text as ``str``, arrays as lists, numbers as they are."""
        with self._reading():
            if name not in self.raw.attrs:
                return default
            value = self.raw.attrs[name]
        if isinstance(value, dict) and "value" in value:  # as hdmf-zarr keeps references
            value = value["value"]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, list | tuple):
            return [_as_text(item) for item in value]
        return _as_text(value)

    def target(self, attribute: str) -> Node | None:
        """Give what an attribute refers to; None if it refers to nothing."""
        value = self.attribute(attribute)
        if isinstance(value, dict):
            return self._linked(value)
        if not isinstance(value, h5py.Reference) or not value:
            return None
        with self._reading():
            raw = self.raw.file[value]
            return Node(self.file, raw, raw.name.strip("/"))

    def read(self, low: int | None = None, high: int | None = None) -> np.ndarray:
        """Read a dataset, or its rows from one to before another; text becomes ``str``."""
        if low is None:
            self._check_stored()
        with self._reading():
            values = self.raw[()] if not self.shape else self.raw[low:high]
            if isinstance(values, bytes | str):
                return np.array(_as_text(values), object)
            if isinstance(values, h5py.Empty):
                return np.zeros(0)
            values = np.asarray(values)
            if values.dtype.kind in "iuf":  # an order of bytes and a width that pandas takes too
                width = "f8" if values.dtype == np.float16 else values.dtype.newbyteorder("=")
                values = values.astype(width, copy=False)
            if values.dtype.kind in "OSUT":
                texts = [self._item(value) for value in values.ravel().tolist()]
                flat = np.empty(len(texts), object)
                flat[:] = texts
                return flat.reshape(values.shape)
        return values

    def _item(self, value: Any) -> Any:
        """Give text as ``str``, and of a reference the name of what it refers to."""
        if isinstance(value, h5py.Reference):
            return self.raw.file[value].name.rpartition("/")[2] if value else ""
        if isinstance(value, dict):  # a reference of hdmf-zarr
            return str(value.get("path", "")).rpartition("/")[2]
        if isinstance(value, np.ndarray):  # a row of several, which is no text
            return ""
        return _as_text(value if value is not None else "")

    def text(self) -> str:
        """Read a dataset that holds one text."""
        values = self.read().ravel()
        return str(values[0]) if len(values) else ""

    def column(self) -> Column:
        """Give the dataset as one that is read a part at a time, after this file is closed."""
        self._check_stored()
        return Column(self.file, dataset=self.path)

    def _check_stored(self) -> None:
        """Make sure that an array is about as large as its shape says: else it would be read for ever."""
        if self.is_group or isinstance(self.file, Remote):
            return
        with self._reading():
            size = math.prod(self.shape) * self.dtype.itemsize
            if size <= LARGE:
                return
            hdf5 = isinstance(self.raw, h5py.Dataset)
            stored = self.raw.id.get_storage_size() if hdf5 else self.raw.nbytes_stored()
        if size > DENSEST * stored:
            raise damaged(
                self.file, f"{self.path}: {stored} bytes cannot contain an array of shape {self.shape}"
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries: nothing a user can mend
                yield
        except DataError:
            raise
        except Exception as error:  # h5py and zarr raise what they like on damaged bytes
            raise damaged(self.file, f"{self.path}: {error}") from None


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        # Bytes that are no UTF-8 come as surrogates, which no terminal or table takes.
        return value if value.isascii() else value.encode(errors="surrogatepass").decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value
