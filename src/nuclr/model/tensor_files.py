"""Tensors on disk, with what they are beside them: safetensors and JSON. Nothing is pickled.

What is trained is two files, ``x.safetensors`` and ``x.json``; the second holds the hash of the first, so
that no pair is read that does not belong together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nuclr.errors import ModelError
from nuclr.files import whole, write_json

FORMAT = 1


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Write ``path`` (``.safetensors``) and the ``.json`` beside it, each whole or not at all."""
    content = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    with whole(path) as partial:
        partial.write_bytes(content)
        described = {**record, "format": FORMAT, "sha256": hashlib.sha256(content).hexdigest()}
        write_json(path.with_suffix(".json"), described)


def read_tensors(path: Path, what: str, remedy: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote: tensors by name, and their record.

    Parameters
    ----------
    path
        ``.safetensors``; its ``.json`` or the folder of both will do.
    what
        Is expected there: ``model`` or ``probe``.
    remedy
        What to do if it is damaged.

    Raises
    ------
    ModelError
        If a file is missing, damaged or of another format, or the two do not belong together.
    """
    content, record = _read(path, what, remedy)
    try:
        return load(content), record
    except SafetensorError as error:
        raise ModelError(f"{path}: not a {what} ({error}); {remedy}") from None


def read_record(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read the record alone, of tensors that are whole; see :func:`read_tensors`."""
    return _read(path, what, remedy)[1]


def _read(path: Path, what: str, remedy: str) -> tuple[bytes, dict[str, Any]]:
    if path.is_dir():
        path = path / f"{what}.safetensors"
    elif path.suffix == ".json":
        path = path.with_suffix(".safetensors")
    beside = path.with_suffix(".json")
    try:
        record, content = json.loads(beside.read_text()), path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"{error.filename}: not there; a {what} is {what}.safetensors and {what}.json"
        ) from None
    except ValueError:
        raise ModelError(f"{beside}: not JSON; {remedy}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        told = record.get("format") if isinstance(record, dict) else None
        raise ModelError(f"{beside}: format {told}, this version reads {FORMAT}")
    if record.get("sha256") != hashlib.sha256(content).hexdigest():
        raise ModelError(f"{path}: not the {what} that {beside.name} describes; copy both again")
    return content, record
