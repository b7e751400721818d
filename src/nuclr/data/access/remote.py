"""Where recordings are: addresses of files on a server, and paths on the disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from nuclr.errors import DataError

DANDI = "dandi://"
# One slash is what a path leaves of two.
ADDRESS = re.compile(r"(https?|s3|dandi):/{1,2}(?=[^/])", re.IGNORECASE)
OTHER_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Remote:
    """A file, or a Zarr folder, on a server.

    Attributes
    ----------
    url
        Its address: ``https://...`` or ``http://...``; ``dandi://...`` until DANDI is asked.
    title
        What its archive calls it; "" takes the address, without what may be secret in it.
    file
        Name of the file, where neither ends with it.
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
        """Name of the file."""
        return PurePosixPath(self.file or self.title or unquote(urlsplit(self.url).path)).name

    @property
    def suffix(self) -> str:
        """End of the name."""
        return PurePosixPath(self.name).suffix

    def is_dir(self) -> bool:
        """Whether it is a Zarr folder, by its name."""
        return self.suffix == ".zarr"


def place_of(place: Path | str) -> Path | Remote:
    """Say where a recording is, from what a user wrote: an address, or a path.

    Parameters
    ----------
    place
        ``https://...``, ``s3://bucket/key``, ``dandi://000006/...``, or a path on the disk.

    Raises
    ------
    DataError
        If it is an address of another kind, or of no file.
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
        # The certificate of the buckets' servers is not valid for names with dots.
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
    """Make sure that a recording is on the disk, where it is read many times.

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
