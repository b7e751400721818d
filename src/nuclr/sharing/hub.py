"""Download models from the Hugging Face Hub by commit, check them by hash, and publish models there.

The hub's answer about a model (its commit, its files and their hashes) is stored once all files are
downloaded, so that the model can be used again without a network. ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``
and ``HF_HUB_OFFLINE`` have their usual meaning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from nuclr.errors import DownloadError, ModelError
from nuclr.files import sha256_of, write_json

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)
# pathlib.Path reduces the two slashes of an address to one.
HUB = re.compile(r"hf:/{1,2}(?=[^/])")
NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True)
class Address:
    """Address of a model, or of a file in its repository, on the hub.

    Attributes
    ----------
    name
        ``owner/name``.
    revision
        Branch, tag or commit; None: the main branch.
    file
        Path of a file in the repository; "" for the whole repository.
    """

    name: str
    revision: str | None = None
    file: str = ""

    def __str__(self) -> str:
        inside = f"/{self.file}" if self.file else ""
        return f"hf://{self.name}{inside}" + (f"@{self.revision}" if self.revision else "")


class _Known(NamedTuple):
    """The commit of a model on the hub, and the hash of each of its files (:func:`_hash_of`)."""

    commit: str
    hashes: Mapping[str, str]


def is_address(text: str) -> bool:
    """Return whether a text is an address on the hub."""
    return HUB.match(text) is not None


def parse(text: str, *, with_file: bool = False) -> Address:
    """Parse ``hf://owner/name@revision``, with ``with_file`` also the path of a file after the name.

    Raises
    ------
    ModelError
        If the text is not such an address.
    """
    place, _, revision = HUB.sub("", text).partition("@")
    parts = place.strip("/").split("/")
    name, file = "/".join(parts[:2]), "/".join(parts[2:])
    if not is_address(text) or NAME.fullmatch(name) is None or bool(file) != with_file or ".." in parts:
        form = "hf://owner/name/path/of/file.pt" if with_file else "hf://owner/name"
        raise ModelError(
            f"{text}: not an address on the Hugging Face Hub; give {form}, optionally with @revision"
        )
    return Address(name, revision or None, file)


def fetch(
    address: Address, cache: Path, *, wanted: Callable[[str], bool], needed: Sequence[str]
) -> tuple[Path, str]:
    """Download the wanted files of a model, and return their folder and commit.

    Parameters
    ----------
    address
        Address of the model.
    cache
        Folder that stores the hub's answers.
    wanted
        Called with the path of each file; the file is downloaded where it returns True.
    needed
        Files that a model must have.

    Raises
    ------
    ModelError
        If there is no such model, or a needed file is missing.
    DownloadError
        If the model cannot be downloaded and was not downloaded before, or a file has the wrong hash.
    """
    known, fresh = _known(address, cache, wanted)
    if lacking := [name for name in needed if name not in known.hashes]:
        raise ModelError(
            f"{address}: not a nuclr model, because it has no {', '.join(lacking)}; convert a published "
            "checkpoint with `nuclr import-checkpoint`"
        )
    files = {name: _file(address, known.commit, name, digest) for name, digest in known.hashes.items()}
    if fresh:
        _remember(address, cache, known)
    return files[needed[0]].parent, known.commit


def fetch_file(address: Address, cache: Path) -> tuple[Path, str]:
    """Download one file, and return its path and commit; errors are those of :func:`fetch`."""
    known, fresh = _known(address, cache, lambda name: name == address.file)
    if address.file not in known.hashes:
        raise ModelError(f"{address}: the repository has no such file; check the path on its page")
    path = _file(address, known.commit, address.file, known.hashes[address.file])
    if fresh:
        _remember(address, cache, known)
    return path, known.commit


def publish(folder: Path, address: Address, files: Sequence[str], *, private: bool) -> str:
    """Upload files of a model folder in one commit, and return the address of the commit.

    Parameters
    ----------
    folder
        The model folder.
    address
        Repository to upload to; it is created if it does not exist.
    files
        Paths of the files in the folder.
    private
        Whether only the owner can see the repository.

    Raises
    ------
    ModelError
        If ``private`` is requested, but the repository exists and is public.
    DownloadError
        If the hub does not answer or refuses.
    """
    api = _api()
    with _errors(str(address)):
        api.create_repo(address.name, private=private, exist_ok=True)
        if private and not api.model_info(address.name).private:
            raise ModelError(f"{address}: the repository is already public; give --public to upload to it")
        commit = api.upload_folder(
            repo_id=address.name,
            folder_path=folder,
            allow_patterns=list(files),
            revision=address.revision,
            commit_message="Model of nuclr",
        )
    return str(commit.commit_url)


def _known(address: Address, cache: Path, wanted: Callable[[str], bool]) -> tuple[_Known, bool]:
    """Return the commit and hashes of a model, and whether they come from the hub or a stored answer."""
    path = _memory(address, cache)
    if path.exists() and (address.revision is not None and re.fullmatch("[0-9a-f]{40}", address.revision)):
        return _recall(path), False  # a commit never changes
    try:
        with _errors(str(address)):
            info = _api().model_info(address.name, revision=address.revision, files_metadata=True)
    except DownloadError as error:
        if not path.exists():
            raise
        known = _recall(path)
        logger.warning("%s; the downloaded commit %s is used", error, known.commit[:12])
        return known, False
    hashes = {file.rfilename: _hash_told(file) for file in info.siblings if wanted(file.rfilename)}
    return _Known(info.sha, hashes), True


def _memory(address: Address, cache: Path) -> Path:
    """Return the file that stores the hub's answer about an address."""
    return cache / "hub" / f"{quote(str(address).removeprefix('hf://'), safe='')}.json"


def _remember(address: Address, cache: Path, known: _Known) -> None:
    write_json(_memory(address, cache), known._asdict())


def _recall(path: Path) -> _Known:
    try:
        content = json.loads(path.read_text())
        return _Known(str(content["commit"]), dict(content["hashes"]))
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{path}: the file is damaged; delete it and run the same command again") from None


def _file(address: Address, commit: str, name: str, digest: str) -> Path:
    """Return a file of a commit, downloaded or from the hub's cache, with its hash checked."""
    api = _api()
    try:  # a file in the cache is not requested again
        path = Path(api.hf_hub_download(address.name, name, revision=commit, local_files_only=True))
    except _library().errors.LocalEntryNotFoundError:
        with _errors(f"{address}: {name}"):
            path = Path(api.hf_hub_download(address.name, name, revision=commit))
    if (found := _hash_of(path, digest)) != digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{address}: {name}: the download has the hash {found}, not {digest}, and was deleted; run the "
            "same command again"
        )
    return path


def _hash_told(file: Any) -> str:
    """Return the hash that the hub states: sha256 of a large file, git's hash of a small one, or ""."""
    if file.lfs is not None:
        return f"sha256:{file.lfs['sha256']}"
    return f"git:{file.blob_id}" if file.blob_id else ""


def _hash_of(path: Path, like: str) -> str:
    """Return the hash of a file, of the same kind as ``like``."""
    if like.startswith("sha256:"):
        return f"sha256:{sha256_of(path)}"
    content = path.read_bytes()
    named = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return f"git:{named}" if like else ""


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise ModelError(
            "models on the Hugging Face Hub need the package huggingface_hub: run "
            '`python -m pip install "nuclr[hub]"`, or in a clone `python -m pip install -e ".[hub]"`'
        ) from None
    return huggingface_hub


def _api() -> Any:
    # Passed explicitly, because the library reads the variable only once, when it is imported.
    return _library().HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="nuclr")


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn errors of the hub's library into errors of nuclr that say what to do."""
    hf = _library()
    # The HTTP library differs by version; its base error is the base class of the hub's HTTP error.
    http_error: type[Exception] = hf.errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except hf.errors.GatedRepoError:
        raise ModelError(f"{what}: access is restricted by its owner; request access on its page") from None
    except hf.errors.RepositoryNotFoundError:
        raise ModelError(
            f"{what}: no such repository, or it is private; check the name, or log in with `hf auth login` "
            "or set HF_TOKEN"
        ) from None
    except hf.errors.RevisionNotFoundError:
        raise ModelError(
            f"{what}: the repository has no such revision; choose one that its page lists"
        ) from None
    except hf.errors.HFValidationError as error:
        raise ModelError(f"{what}: {' '.join(str(error).split())[:200]}") from None
    except hf.errors.OfflineModeIsEnabled:
        raise DownloadError(
            f"{what}: not downloaded yet, and HF_HUB_OFFLINE forbids downloads; unset it"
        ) from None
    except hf.errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "")
        refused = status in (401, 403)
        remedy = (
            "the access token does not permit this; create one with write access and log in with `hf auth "
            "login`"
            if refused
            else "run the same command again later"
        )
        raise DownloadError(f"{what}: the hub answered with HTTP status {status}; {remedy}") from None
    except (http_error, OSError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DownloadError(
            f"{what}: the hub cannot be reached ({reason}); run the same command again later"
        ) from None
