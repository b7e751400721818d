"""NWB files on DANDI, found through the dandi client (https://dandi.readthedocs.io)."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from nuclr.data.archives.download import Fetcher, Remote
from nuclr.data.recording import Recording, safe_name
from nuclr.errors import DataError, DownloadError
from nuclr.files import whole

LISTING = "dandi.tsv"


@contextmanager
def _dandiset(identifier: str, server: str) -> Iterator[Any]:
    os.environ.setdefault("DANDI_NO_ET", "1")  # it would report its use to another server
    try:
        from dandi.dandiapi import DandiAPIClient
        from dandi.exceptions import NotFoundError
    except ImportError:
        raise DownloadError('DANDI needs its client: pip install "nuclr[dandi]"') from None
    number, _, version = identifier.removeprefix("DANDI:").partition("/")
    try:
        client = DandiAPIClient(server)
    except RuntimeError as error:  # what the client makes of a mirror that does not answer
        raise requests.ConnectionError(error) from None
    with client:
        try:
            yield client.get_dandiset(number, version or None)
        except NotFoundError:
            raise DownloadError(f"{server}: no dandiset {identifier} there; look at its number") from None


def recordings(raw: Path, dandisets: Sequence[str], server: str, fetcher: Fetcher) -> list[Recording]:
    """List the NWB files of some dandisets, each a recording; a folder below ``raw`` once downloaded.

    DANDI is asked once: the list is kept in ``raw``, and plans after it need no network.

    Raises
    ------
    DataError
        If a dandiset has no NWB file, or two files would have one name.
    DownloadError
        If a dandiset is not there, or the server does not answer.
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
        path = Path(row["path"])
        name = safe_name(path.stem)
        if row["dandiset"] not in dandisets:
            continue
        if name in found:
            raise DataError(f"nwb.dandi: {path} of {row['dandiset']} and {found[name].origin} have one name")
        # Every file of a dandiset is in a folder sub-{subject_id}.
        animal = path.parts[0].removeprefix("sub-")
        found[name] = Recording(raw / name, name, animal, origin=f"{row['dandiset']} {path}")
    return list(found.values())


def _paths(dandiset: str, server: str, fetcher: Fetcher) -> list[str]:
    def ask() -> list[str]:
        with _dandiset(dandiset, server) as found:
            return sorted(asset.path for asset in found.get_assets() if asset.path.endswith(".nwb"))

    paths: list[str] = fetcher.patiently(ask, f"{server}: dandiset {dandiset}")
    if not paths:
        raise DataError(f"nwb.dandi: dandiset {dandiset} has no NWB file")
    return paths


def download(recording: Recording, folder: Path, server: str, fetcher: Fetcher) -> None:
    """Fetch a recording to ``folder / recording / recording.nwb``.

    Raises
    ------
    DownloadError
        If it cannot be had.
    """
    dandiset, _, path = recording.origin.partition(" ")
    file = remote(dandiset, path, f"{recording.recording}.nwb", server, fetcher)
    fetcher.fetch(file, folder / recording.recording)


def file_of(recording: Recording) -> Path:
    """Say where a downloaded recording's NWB file is."""
    return recording.path / f"{recording.recording}.nwb"


def remote(identifier: str, path: str, name: str, server: str, fetcher: Fetcher) -> Remote:
    """Say where a file of a dandiset is, with its size and hash.

    The server is asked for this file alone: a list of all files is hundreds of pages of a large dandiset.

    Parameters
    ----------
    identifier
        Of the dandiset.
    path
        Of the file in it; a ``*`` stands for any characters.
    name
        Of the file that is written.
    server
        Address of DANDI's interface.
    fetcher
        How often it is asked.

    Raises
    ------
    DownloadError
        If it is not there, or the server does not answer.
    """

    def ask() -> Remote:
        with _dandiset(identifier, server) as dandiset:
            if "*" in path:
                found = list(dandiset.get_assets_by_glob(path))
            else:
                # The path is also the beginning of the paths of others.
                found = [asset for asset in dandiset.get_assets_with_path_prefix(path) if asset.path == path]
            if len(found) != 1:
                raise DownloadError(f"{server}: dandiset {identifier} has {len(found)} files {path}, not one")
            digest = found[0].get_raw_metadata().get("digest", {}).get("dandi:sha2-256")
            return Remote(
                found[0].base_download_url, name, found[0].size, f"sha256:{digest}" if digest else None
            )

    return fetcher.patiently(ask, f"{server}: dandiset {identifier}")


def licence_of(identifier: str, server: str, fetcher: Fetcher) -> str:
    """Say under which licence a dandiset is given, as its metadata have it (SPDX).

    Raises
    ------
    DownloadError
        If the server does not say.
    """

    def ask() -> str:
        with _dandiset(identifier, server) as dandiset:
            stated = dandiset.get_raw_metadata().get("license") or []
            if not isinstance(stated, list) or not stated:
                raise DownloadError(f"{server}: dandiset {identifier} states no licence")
            names = ", ".join(str(name).removeprefix("spdx:") for name in stated)
            return f"{names}, says dandiset {identifier}"

    return fetcher.patiently(ask, f"{server}: dandiset {identifier}")
