"""Locations of recordings: addresses of files on a server, and paths on the disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from nuclr.errors import DataError

DANDI = "dandi://"
# pathlib.Path reduces two slashes to one.
ADDRESS = re.compile(r"(https?|s3|dandi):/{1,2}(?=[^/])", re.IGNORECASE)
OTHER_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Remote:
    """A file, or a Zarr folder, on a server.

    Attributes
    ----------
    url
        Address: ``https://...`` or ``http://...``; ``dandi://...`` until DANDI is asked for the address.
    title
        Name in its archive; "" uses the address without credentials and query.
    file
        Name of the file, if neither ``url`` nor ``title`` ends with it.
    """

    url: str
    title: str = ""
    file: str = ""

    def __str__(self) -> str:
        if self.title:
            return self.title
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def __fspath__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """File name."""
        return PurePosixPath(self.file or self.title or unquote(urlsplit(self.url).path)).name

    @property
    def suffix(self) -> str:
        """Suffix of the file name."""
        return PurePosixPath(self.name).suffix

    def is_dir(self) -> bool:
        """Return whether it is a Zarr folder, by its name."""
        return self.suffix == ".zarr"


def place_of(place: Path | str) -> Path | Remote:
    """Return the location that a user gave as an address or a path.

    Parameters
    ----------
    place
        ``https://...``, ``s3://bucket/key``, ``dandi://000006/...``, or a path on the disk.

    Raises
    ------
    DataError
        If the address is of another kind, or names no file.
    """
    text = place.as_posix() if isinstance(place, Path) else place
    found = ADDRESS.match(text)
    if found is None:
        if OTHER_ADDRESS.match(text):
            raise DataError(
                f"{text}: this kind of address is not supported; give https://, s3://, dandi:// or a path"
            )
        return Path(place)
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme == "dandi":
        return Remote(f"{DANDI}{rest}", f"{DANDI}{rest}")
    if scheme == "s3":
        bucket, _, key = rest.partition("/")
        if not key.strip("/"):
            raise DataError(f"{text}: the address names no file; give it as s3://bucket/key")
        # The certificate of the buckets' servers is not valid for bucket names with dots.
        host = f"s3.amazonaws.com/{bucket}" if "." in bucket else f"{bucket}.s3.amazonaws.com"
        return Remote(f"https://{host}/{quote(key)}", f"s3://{rest}")
    try:
        named = urlsplit(f"{scheme}://{rest}").hostname
    except ValueError:
        named = None
    if not named:
        raise DataError(f"{text}: not a valid address; give it as https://server/file.nwb")
    return Remote(f"{scheme}://{rest}")


def on_disk(place: Path | str) -> Path:
    """Return the path of a recording that must be on the disk, because it is read many times.

    Raises
    ------
    DataError
        If it is on a server.
    """
    found = place_of(place)
    if isinstance(found, Remote):
        raise DataError(
            f"{found}: on a server, but this command reads recordings many times; download it first (`nuclr "
            "download` with nwb.dandi, or a browser), and give the file"
        )
    return found
