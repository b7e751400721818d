"""Groups, datasets and attributes of NWB files, the same for HDF5 and Zarr, on a disk or on a server.

Source: NWB's storage in HDF5 (https://nwb-storage.readthedocs.io) and in Zarr, as hdmf-zarr writes it
(https://hdmf-zarr.readthedocs.io/en/stable/storage.html): Zarr format 2, references as JSON attributes, links
in the attribute ``zarr_link``. hdmf-zarr itself needs zarr below 3 and cannot be installed together with zarr
3. Pickled arrays are ignored.
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
# Size (bytes) above which the storage of an array is checked, and its largest compression ratio.
LARGE, DENSEST = 2**32, 10_000
SPECIFICATIONS = "specifications"  # group with the schema of the file


@contextmanager
def opened(path: Path | Remote) -> Iterator[Node]:
    """Open an NWB file and yield its root.

    Raises
    ------
    DataError
        If the file does not exist, is damaged, is not NWB, or has a version that is not supported.
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
    except Exception as error:  # h5py, zarr and fsspec raise various errors for a damaged file
        raise damaged(path, error) from None
    try:
        root = Node(path, raw, "")
        root.check()
        yield root
    finally:
        held.__exit__(None, None, None)


def damaged(path: Path | Remote, error: Exception | str) -> DataError:
    """Return the error for a file that cannot be read."""
    reason = " ".join(str(error).split())[:200]
    return DataError(f"{path}: damaged, truncated, or not an NWB file ({reason}); download or write it again")


@dataclass(frozen=True, eq=False)
class Node:
    """A group or a dataset.

    Attributes
    ----------
    file
        Path of the file.
    raw
        The group or dataset, of h5py or zarr.
    path
        Path in the file, such as ``units/spike_times``; "" is the root.
    links
        Number of links of hdmf-zarr that were followed to it.
    """

    file: Path | Remote
    raw: Any
    path: str
    links: int = 0

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def is_group(self) -> bool:
        """Whether it is a group and not a dataset."""
        return isinstance(self.raw, h5py.Group | zarr.Group)

    @property
    def kind(self) -> str:
        """NWB's ``neurodata_type``; "" if it has none."""
        return str(self.attribute("neurodata_type", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a dataset; () for a group."""
        return () if self.is_group else tuple(self.raw.shape or ())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of a dataset."""
        return np.dtype(self.raw.dtype)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def check(self) -> None:
        """Check that this is the root of an NWB file of version 2.

        Raises
        ------
        DataError
            If it is not.
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
        """Return the node at a path below a group; None if there is none."""
        node: Node | None = self
        for part in path.strip("/").split("/"):
            if node is None or not node.is_group:
                return None
            node = node._child(part)
        return node

    def children(self) -> dict[str, Node]:
        """Return the nodes in a group by name, without broken links."""
        if not self.is_group:
            return {}
        with self._reading():
            names = [*self._names(), *(str(link.get("name")) for link in self._links())]
        # Names that are not UTF-8 are not valid in NWB, and cannot be printed or stored in tables.
        names = [name for name in names if _as_text(name) == name]
        found = {name: self._child(name) for name in dict.fromkeys(names)}
        return {name: node for name, node in found.items() if node is not None}

    def _names(self) -> Iterator[str]:
        if isinstance(self.raw, zarr.Group) and isinstance(self.file, Path):
            # zarr would open all of them, which is slow and prints tracebacks if several are damaged.
            folder = self.file / self.path
            yield from sorted(inside.name for inside in folder.iterdir() if inside.is_dir())
        else:
            yield from self.raw

    def _child(self, name: str) -> Node | None:
        path = f"{self.path}/{name}".lstrip("/")
        with self._reading():
            try:
                return Node(self.file, self.raw[name], path, self.links)
            except KeyError:  # there is no such node, or it is a broken link in HDF5
                pass
        link = next((link for link in self._links() if link.get("name") == name), None)
        return None if link is None else self._linked(link)

    def _links(self) -> list[dict[str, Any]]:
        if isinstance(self.raw, h5py.Group):
            return []
        links = self.raw.attrs.get(LINKS, [])
        return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []

    def _linked(self, link: dict[str, Any]) -> Node | None:
        """Return the target of a link or a reference of hdmf-zarr; links into other files are errors."""
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
        """Yield this node and all nodes below it, in the order of the file."""
        seen: set[Any] = set()
        waiting = [self]
        while waiting:
            node = waiting.pop()
            # A link may point to a group above it.
            own = node.raw.id.__hash__() if isinstance(node.raw, h5py.Group | h5py.Dataset) else node.path
            if own in seen or node.path.split("/")[0] == SPECIFICATIONS:
                continue
            seen.add(own)
            yield node
            waiting += reversed(node.children().values())

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute: text as ``str``, arrays as lists, numbers unchanged."""
        with self._reading():
            if name not in self.raw.attrs:
                return default
            value = self.raw.attrs[name]
        if isinstance(value, dict) and "value" in value:  # a reference of hdmf-zarr
            value = value["value"]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, list | tuple):
            return [_as_text(item) for item in value]
        return _as_text(value)

    def target(self, attribute: str) -> Node | None:
        """Return the node that an attribute refers to; None if it refers to nothing."""
        value = self.attribute(attribute)
        if isinstance(value, dict):
            return self._linked(value)
        if not isinstance(value, h5py.Reference) or not value:
            return None
        with self._reading():
            raw = self.raw.file[value]
            return Node(self.file, raw, raw.name.strip("/"))

    def read(self, low: int | None = None, high: int | None = None) -> np.ndarray:
        """Return a dataset, or its rows from ``low`` to before ``high``; text becomes ``str``."""
        if low is None:
            self._check_stored()
        with self._reading():
            values = self.raw[()] if not self.shape else self.raw[low:high]
            if isinstance(values, bytes | str):
                return np.array(_as_text(values), object)
            if isinstance(values, h5py.Empty):
                return np.zeros(0)
            values = np.asarray(values)
            if values.dtype.kind in "iuf":  # a byte order and a width that pandas accepts
                width = "f8" if values.dtype == np.float16 else values.dtype.newbyteorder("=")
                values = values.astype(width, copy=False)
            if values.dtype.kind in "OSUT":
                texts = [self._item(value) for value in values.ravel().tolist()]
                flat = np.empty(len(texts), object)
                flat[:] = texts
                return flat.reshape(values.shape)
        return values

    def _item(self, value: Any) -> Any:
        """Return text as ``str``, and for a reference the name of its target."""
        if isinstance(value, h5py.Reference):
            return self.raw.file[value].name.rpartition("/")[2] if value else ""
        if isinstance(value, dict):  # a reference of hdmf-zarr
            return str(value.get("path", "")).rpartition("/")[2]
        if isinstance(value, np.ndarray):  # a row of several values, which is not text
            return ""
        return _as_text(value if value is not None else "")

    def text(self) -> str:
        """Return a dataset that contains one text."""
        values = self.read().ravel()
        return str(values[0]) if len(values) else ""

    def column(self) -> Column:
        """Return the dataset as a column that can be read in parts after this file is closed."""
        self._check_stored()
        return Column(self.file, dataset=self.path)

    def _check_stored(self) -> None:
        """Check that the stored size of an array fits its shape; otherwise reading it would never end."""
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
                warnings.simplefilter("ignore")  # warnings of the libraries do not help users
                yield
        except DataError:
            raise
        except Exception as error:  # h5py and zarr raise various errors for damaged files
            raise damaged(self.file, f"{self.path}: {error}") from None


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        # Bytes that are not UTF-8 become surrogates, which cannot be printed or stored in tables.
        return value if value.isascii() else value.encode(errors="surrogatepass").decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value
