"""NWB files on DANDI, in HDF5 or Zarr, found through the dandi client (https://dandi.readthedocs.io).

The address of a file is ``dandi://000006@0.220126.1855/sub-x/sub-x_ses-y.nwb``; without a version it means
the latest published version (or the draft). A folder or a dandiset stands for all NWB files in it.
"""

from __future__ import annotations

import csv
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests

from nuclr.config import Reading
from nuclr.data.access.ranges import TIMEOUT
from nuclr.data.access.remote import Remote as Streamed
from nuclr.data.archives.download import Fetcher, Remote, digest_of
from nuclr.data.recording import Recording, SpikeTrains, Traces, name_of
from nuclr.errors import DataError, DownloadError
from nuclr.files import whole

LISTING = "dandi.tsv"
NWB = (".nwb", ".nwb.zarr")
# The client writes dandi://dandi/000006@version/path; the web page, 000006/version.
ADDRESS = re.compile(
    r"dandi://(?:dandi/)?(?:DANDI:)?(?P<number>\d{6})"
    r"(?:@(?P<version>[^/]+)|/(?P<other>draft|\d+\.\d{6}\.\d{4})(?=/|$))?(?:/(?P<path>.*))?",
    re.IGNORECASE,
)
AT_ONCE = 8  # parallel downloads of a Zarr folder's files, most of which are small

Asked = TypeVar("Asked")


@contextmanager
def _dandiset(identifier: str, server: str) -> Iterator[Any]:
    os.environ.setdefault("DANDI_NO_ET", "1")  # otherwise the client reports its use to another server
    try:
        from dandi.dandiapi import DandiAPIClient
        from dandi.exceptions import NotFoundError
    except ImportError:
        raise DownloadError(
            'reading from DANDI needs its client; install it: pip install "nuclr[dandi]"'
        ) from None
    logging.getLogger("dandi").setLevel(logging.CRITICAL)  # it logs the tracebacks of errors that it raises
    # The client would try for minutes to reach a server that does not exist.
    requests.get(server, timeout=TIMEOUT, stream=True).close()
    number, _, version = identifier.removeprefix("DANDI:").partition("/")
    try:
        client = DandiAPIClient(server)
    except RuntimeError as error:  # the client's error for a mirror that does not answer
        raise requests.ConnectionError(error) from None
    with client:
        try:
            yield client.get_dandiset(number, version or None)
        except NotFoundError:
            raise DownloadError(f"{server}: no dandiset {identifier} found; check its number") from None


def recordings(raw: Path, dandisets: Sequence[str], server: str, fetcher: Fetcher) -> list[Recording]:
    """Return the NWB files of some dandisets as recordings; each becomes a folder below ``raw``.

    DANDI is asked once: the list is stored in ``raw``, so that later plans need no network.

    Raises
    ------
    DataError
        If a dandiset has no NWB file, or two files have the same name.
    DownloadError
        If a dandiset does not exist, or the server does not answer.
    """
    listing = raw / LISTING
    rows = list(csv.DictReader(listing.read_text().splitlines(), delimiter="\t")) if listing.exists() else []
    asked = [dandiset for dandiset in dandisets if dandiset not in {row["dandiset"] for row in rows}]
    for dandiset in asked:
        rows += [{"dandiset": dandiset, "path": path} for path in _paths(dandiset, server, fetcher)]
    if asked:
        with whole(listing) as partial, partial.open("w") as file:
            table = csv.DictWriter(file, ["dandiset", "path"], delimiter="\t", lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    found: dict[str, Recording] = {}
    for row in rows:
        path = PurePosixPath(row["path"])
        name = name_of(Path(path))
        if row["dandiset"] not in dandisets:
            continue
        if name in found:
            raise DataError(
                f"nwb.dandi: {path} of {row['dandiset']} and {found[name].origin} have the same name; use "
                "them in "
                "separate data sets"
            )
        # Every file of a dandiset is in a folder sub-{subject_id}.
        animal = path.parts[0].removeprefix("sub-")
        found[name] = Recording(raw / name, name, animal, origin=f"{row['dandiset']} {path}")
    return list(found.values())


def _paths(dandiset: str, server: str, fetcher: Fetcher) -> list[str]:
    def ask() -> list[str]:
        with _dandiset(dandiset, server) as found:
            return sorted(asset.path for asset in found.get_assets() if asset.path.endswith(NWB))

    paths: list[str] = fetcher.patiently(ask, f"{server}: dandiset {dandiset}")
    if not paths:
        raise DataError(f"nwb.dandi: dandiset {dandiset} has no NWB files; choose another")
    return paths


def download(recording: Recording, folder: Path, server: str, fetcher: Fetcher) -> None:
    """Download a recording to ``folder / recording / recording.nwb``, or ``recording.nwb.zarr`` (Zarr).

    Raises
    ------
    DownloadError
        If it cannot be downloaded.
    """
    dandiset, _, path = recording.origin.partition(" ")
    place = folder / recording.recording
    name = f"{recording.recording}.nwb"
    found = _ask_of(
        dandiset,
        path,
        server,
        fetcher,
        lambda asset: _zarr_folder(asset) if _is_zarr(asset) else _file(asset, name),
    )
    if isinstance(found, _ZarrFolder):
        _fetch_folder(found, place / f"{name}.zarr", fetcher)
    else:
        fetcher.fetch(found, place)


def file_of(recording: Recording) -> Path:
    """Return the path of a downloaded recording's NWB file or Zarr folder."""
    folder = recording.path / f"{recording.recording}.nwb.zarr"
    return folder if folder.is_dir() else folder.with_suffix("")


def read(recording: Recording, options: Reading) -> list[SpikeTrains] | list[Traces]:
    """Read the populations of a downloaded recording."""
    from nuclr.data.formats import nwb

    return nwb.read_populations(file_of(recording), options, recording.animal)


def remote(identifier: str, path: str, name: str, server: str, fetcher: Fetcher) -> Remote:
    """Return the address, size and hash of a file of a dandiset.

    Only this file is requested, because the list of all files of a large dandiset has hundreds of pages.

    Parameters
    ----------
    identifier
        Identifier of the dandiset.
    path
        Path of the file in it; a ``*`` matches any characters.
    name
        Name of the file that is written.
    server
        Address of DANDI's API.
    fetcher
        Number of attempts.

    Raises
    ------
    DownloadError
        If the file does not exist, or the server does not answer.
    """
    return _ask_of(identifier, path, server, fetcher, lambda asset: _file(asset, name))


def _ask_of(identifier: str, path: str, server: str, fetcher: Fetcher, what: Callable[[Any], Asked]) -> Asked:
    """Return the result of a function of one asset of a dandiset."""

    def ask() -> Asked:
        with _dandiset(identifier, server) as dandiset:
            if "*" in path:
                found = list(dandiset.get_assets_by_glob(path))
            else:
                # The paths of other files may begin with this path.
                found = [asset for asset in dandiset.get_assets_with_path_prefix(path) if asset.path == path]
            if len(found) != 1:
                raise DownloadError(
                    f"{server}: dandiset {identifier} has {len(found)} files {path}, not exactly one"
                )
            return what(found[0])

    answer: Asked = fetcher.patiently(ask, f"{server}: dandiset {identifier}")
    return answer


def _file(asset: Any, name: str) -> Remote:
    digest = asset.get_raw_metadata().get("digest", {}).get("dandi:sha2-256")
    return Remote(asset.base_download_url, name, asset.size, f"sha256:{digest}" if digest else None)


def _is_zarr(asset: Any) -> bool:
    return bool(getattr(asset, "zarr", None))


def _address_of_zarr(asset: Any) -> str:
    """Return the address of a Zarr asset's files; DANDI's own address of the asset cannot be read."""
    for url in asset.get_raw_metadata().get("contentUrl", []):
        if asset.zarr in urlsplit(url).path:
            return str(url).rstrip("/")
    raise DownloadError(f"{asset.path}: DANDI gives no address for this Zarr folder (contentUrl)")


@dataclass(frozen=True)
class _ZarrFolder:
    """A Zarr folder on DANDI: its path there, and its files by their paths in it."""

    path: str
    files: dict[str, Remote]


def _zarr_folder(asset: Any) -> _ZarrFolder:
    address = _address_of_zarr(asset)
    files = {}
    for entry in asset.iterfiles():
        key = str(entry)
        inside = PurePosixPath(key)
        if inside.is_absolute() or {"..", ".", ""} & set(entry.parts) or "\\" in key or ":" in key:
            raise DownloadError(
                f"{asset.path}: its file {key} would be written outside its folder; nothing was downloaded"
            )
        # The tag of a file on S3 is its md5, unless the file was uploaded in several parts.
        tag = entry.digest.value.strip('"')
        digest = f"md5:{tag}" if re.fullmatch("[0-9a-f]{32}", tag) else None
        files[key] = Remote(f"{address}/{quote(key)}", inside.name, entry.size, digest)
    if not files:
        raise DownloadError(f"{asset.path}: DANDI lists no files in this Zarr folder")
    return _ZarrFolder(asset.path, files)


def _fetch_folder(zarr: _ZarrFolder, folder: Path, fetcher: Fetcher) -> None:
    """Download the files of a Zarr folder; unchanged files of an earlier attempt are kept."""
    wanted = {folder / key: file for key, file in zarr.files.items()}
    for path, file in wanted.items():
        if path.exists() and not _same(path, file):
            path.unlink()
    total, lock = sum(file.size or 0 for file in wanted.values()), threading.Lock()
    came: dict[Path, int] = {}

    def fetch(path: Path, file: Remote) -> None:
        def told(name: str, done: int, size: int | None) -> None:
            with lock:
                came[path] = done
                fetcher.progress(folder.name, sum(came.values()), total)

        replace(fetcher, progress=told).fetch(file, path.parent)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(fetch, path, file) for path, file in wanted.items()]
        try:
            for each in waiting:
                each.result()
        finally:
            for each in waiting:
                each.cancel()
    for there in folder.rglob("*"):
        if there.is_file() and there not in wanted:  # from an earlier attempt, and no longer on DANDI
            there.unlink()


def _same(path: Path, file: Remote) -> bool:
    same_size = path.stat().st_size == file.size
    return same_size and file.digest in (None, f"md5:{digest_of(path, 'md5')}")


def find(address: str, server: str, fetcher: Fetcher) -> list[Streamed]:
    """Return the NWB files at an address (``dandi://...``), to be read without downloading them.

    Parameters
    ----------
    address
        Address of a file, a folder or a dandiset.
    server
        Address of DANDI's API.
    fetcher
        Number of attempts.

    Raises
    ------
    DataError
        If it is not a valid DANDI address.
    DownloadError
        If there is no NWB file at the address, or the server does not answer.
    """
    named = ADDRESS.fullmatch(address)
    if named is None:
        raise DataError(
            f"{address}: not a valid DANDI address; give it as dandi://000006/sub-x/sub-x_ses-y.nwb, or with "
            "a "
            "version as dandi://000006@0.220126.1855/..."
        )
    number, version = named["number"], named["version"] or named["other"]
    path = (named["path"] or "").strip("/")
    identifier = f"{number}/{version}" if version else number

    def ask() -> list[Streamed]:
        with _dandiset(identifier, server) as dandiset:
            assets = dandiset.get_assets_with_path_prefix(path) if path else dandiset.get_assets()
            chosen = [asset for asset in assets if _is_at(path, asset.path)]
            where = f"dandi://{number}@{dandiset.version_id}" if chosen else ""
            return [_streamed(asset, f"{where}/{asset.path}") for asset in chosen]

    found: list[Streamed] = fetcher.patiently(ask, f"{server}: dandiset {identifier}")
    if not found:
        raise DownloadError(f"{address}: dandiset {identifier} has no NWB file at this path; check the path")
    return sorted(found, key=str)


def _is_at(path: str, asset: str) -> bool:
    if asset == path:
        return asset.endswith((".nwb", ".zarr"))
    return asset.endswith(NWB) and (not path or asset.startswith(f"{path}/"))


def _streamed(asset: Any, title: str) -> Streamed:
    if not _is_zarr(asset):
        return Streamed(asset.base_download_url, title)
    name = PurePosixPath(asset.path).name
    return Streamed(_address_of_zarr(asset), title, f"{name.removesuffix('.zarr')}.zarr")


def licence_of(identifier: str, server: str, fetcher: Fetcher) -> str:
    """Return the licence of a dandiset from its metadata (SPDX).

    Raises
    ------
    DownloadError
        If the server states none.
    """

    def ask() -> str:
        with _dandiset(identifier, server) as dandiset:
            stated = dandiset.get_raw_metadata().get("license") or []
            if not isinstance(stated, list) or not stated:
                raise DownloadError(f"{server}: dandiset {identifier} states no licence")
            names = ", ".join(str(name).removeprefix("spdx:") for name in stated)
            return f"{names}, says dandiset {identifier}"

    return fetcher.patiently(ask, f"{server}: dandiset {identifier}")
