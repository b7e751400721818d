"""Locate a model: a local folder or file, a repository on the Hugging Face Hub, or an address on the web."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from nuclr.data.access.remote import Remote as Place
from nuclr.errors import DownloadError, ModelError
from nuclr.files import sha256_of
from nuclr.model.card import CARD
from nuclr.model.tensor_files import CONFIG, MODEL
from nuclr.sharing import hub
from nuclr.sharing.layout import is_shared

logger = logging.getLogger(__name__)
WEB = re.compile(r"https?:/{1,2}(?=[^/])", re.IGNORECASE)
HUB_PAGE = re.compile(r"https?:/{1,2}huggingface\.co/([^/?#]+/[^/?#]+)(?:/tree/([^?#]+?))?/?", re.IGNORECASE)
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")
# Fewer tries than in the workflow, because a person is waiting.
TRIES = 4


@dataclass(frozen=True)
class Source:
    """A model on the local disk.

    Attributes
    ----------
    path
        The model folder, or the file of its weights.
    origin
        Where the model was downloaded from: ``address``, and the ``commit`` or the ``sha256``; empty for a
        local model.
    """

    path: Path
    origin: Mapping[str, str] = field(default_factory=dict)


def cache_folder() -> Path:
    """Return the folder for downloads: ``NUCLR_CACHE``, or ``~/.cache/nuclr``."""
    return Path(os.environ.get("NUCLR_CACHE") or Path.home() / ".cache" / "nuclr")


def locate(model: Path | str) -> Source:
    """Locate a model; it is downloaded if necessary.

    Parameters
    ----------
    model
        A folder or a file; ``hf://owner/name``, ``hf://owner/name@revision``; or the ``https://...`` address
        of an archive (zip, tar) of a model folder, or of its ``model.safetensors``. The required hash of the
        file may follow the address after ``#sha256=``.

    Raises
    ------
    ModelError
        If there is no model.
    DownloadError
        If the model cannot be downloaded, or has the wrong hash.
    """
    text = model.as_posix() if isinstance(model, Path) else model
    if hub.is_address(text):
        return _on_the_hub(hub.parse(text))
    if found := HUB_PAGE.fullmatch(text):
        return _on_the_hub(hub.Address(found[1], found[2]))
    if WEB.match(text):
        return _on_the_web(text)
    return Source(Path(model))


def locate_file(place: Path | str) -> Source:
    """Locate a single file, such as a published checkpoint; it is downloaded if necessary.

    Parameters
    ----------
    place
        A file; ``hf://owner/name/path/of/file`` or ``hf://owner/name/path/of/file@revision``; or
        ``https://...``.

    Raises
    ------
    ModelError, DownloadError
        As for :func:`locate`.
    """
    text = place.as_posix() if isinstance(place, Path) else place
    if hub.is_address(text):
        address = hub.parse(text, with_file=True)
        path, commit = hub.fetch_file(address, cache_folder())
        return Source(path, {"address": str(address), "commit": commit})
    if WEB.match(text):
        path = _fetched(text)
        return Source(path, {"address": str(Place(text)), "sha256": sha256_of(path)})
    return Source(Path(place))


def _on_the_hub(address: hub.Address) -> Source:
    folder, commit = hub.fetch(address, cache_folder(), wanted=is_shared, needed=(MODEL, CONFIG))
    return Source(folder, {"address": str(address), "commit": commit})


def _on_the_web(text: str) -> Source:
    path = PurePosixPath(urlsplit(text).path)
    if path.name.lower().endswith(ARCHIVES):
        archive = _fetched(text)
        digest = sha256_of(archive)
        folder = archive.parent / digest[:16]
        if not folder.exists():
            from nuclr.data.archives.download import unpack

            unpack(archive, folder, lambda entry: is_shared(_in_its_folder(entry)))
        return Source(_model_in(folder, text), {"address": str(Place(text)), "sha256": digest})
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{Place(text)}: not the address of a model; give the address of a zip or tar file of the model "
            "folder, or of its model.safetensors"
        )
    weights = _fetched(text)
    beside = CONFIG if path.name == MODEL else f"{path.stem}.json"
    _fetched(_beside(text, beside), weights.parent)
    try:
        _fetched(_beside(text, CARD), weights.parent)
    except DownloadError:
        logger.info("%s: it has no model card (README.md) beside it", Place(text))
    return Source(weights, {"address": str(Place(text)), "sha256": sha256_of(weights)})


def _fetched(text: str, folder: Path | None = None) -> Path:
    """Return the path of a file in the cache; it is downloaded once."""
    from nuclr.data.archives.download import Fetcher, Remote

    url, _, fragment = text.partition("#")
    url = WEB.sub(lambda found: f"{found[0].rstrip('/')}//", url)
    digest = fragment.removeprefix("sha256=").lower() if fragment.startswith("sha256=") else None
    if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise ModelError(f"{Place(text)}: sha256= must be followed by 64 hexadecimal digits")
    folder = folder or cache_folder() / "web" / hashlib.sha256(f"{url}#{digest}".encode()).hexdigest()[:16]
    name = PurePosixPath(urlsplit(url).path).name
    if not name:
        raise ModelError(f"{Place(text)}: the address must end with the name of a file")
    if (folder / name).exists():
        logger.info("%s: already downloaded (%s)", Place(text), folder / name)
    return Fetcher(TRIES).fetch(Remote(url, name, digest=f"sha256:{digest}" if digest else None), folder)


def _beside(text: str, name: str) -> str:
    """Return the address of another file in the same folder."""
    url = urlsplit(text.partition("#")[0])
    return url._replace(path=str(PurePosixPath(url.path).with_name(name))).geturl()


def _in_its_folder(entry: PurePosixPath) -> str:
    """Return the path of an archive's entry within the model folder, without the archive's top folder."""
    parts = entry.parts
    if len(parts) > 1 and not is_shared(entry.as_posix()):
        parts = parts[1:]
    return PurePosixPath(*parts).as_posix()


def _model_in(folder: Path, text: str) -> Path:
    """Return the folder of the only model in an unpacked archive."""
    models = sorted(path.parent for path in folder.glob("**/" + MODEL))
    if len(models) != 1:
        raise ModelError(
            f"{Place(text)}: the archive contains {len(models) or 'no'} models; it must contain exactly one "
            f"folder with {MODEL} and {CONFIG}"
        )
    return models[0]
