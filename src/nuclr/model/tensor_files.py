"""Save and read tensors with a record that describes them: safetensors and JSON, no pickles.

Tensors and record are two files, ``x.safetensors`` and ``x.json``. The record contains the hash of the
tensors, so that two files that do not belong together are refused. A model is a folder with
``model.safetensors`` and ``config.json``, the usual names on model hubs.
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
from nuclr.words import did_you_mean

FORMAT = 1
MODEL = "model.safetensors"
CONFIG = "config.json"
# Folder of a model's probes, beside its weights.
PROBES = "probes"


def record_of(path: Path) -> Path:
    """Return the file of the record of some tensors: ``config.json`` for a model, else ``{name}.json``.

    The name ``model.json`` of older models is still read.
    """
    beside = path.with_suffix(".json")
    if path.name != MODEL:
        return beside
    config = path.with_name(CONFIG)
    return beside if beside.exists() and not config.exists() else config


def weights_at(place: Path) -> Path:
    """Return the file of a model's weights, given the model folder or the file itself."""
    return place if place.suffix == ".safetensors" else place / MODEL


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Write ``path`` (``.safetensors``) and its record (:func:`record_of`), each completely or not at all."""
    content = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    with whole(path) as partial:
        partial.write_bytes(content)
        described = {**record, "format": FORMAT, "sha256": hashlib.sha256(content).hexdigest()}
        write_json(path.with_name(CONFIG) if path.name == MODEL else path.with_suffix(".json"), described)


def read_tensors(path: Path, what: str, remedy: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors by name and their record, as written by :func:`write_tensors`.

    Parameters
    ----------
    path
        The ``.safetensors`` file, its ``.json``, or the folder of both.
    what
        What the files contain, for error messages: ``model``, ``probe`` or ``reference``.
    remedy
        What the user should do if a file is damaged.

    Raises
    ------
    ModelError
        If a file is missing, damaged or of another format, or the two files do not belong together.
    """
    content, record = _read(path, what, remedy)
    try:
        return load(content), record
    except SafetensorError as error:
        raise ModelError(f"{path}: not a {what} file ({error}); {remedy}") from None


def read_record(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Return only the record, after checking the tensors' hash; see :func:`read_tensors`."""
    return _read(path, what, remedy)[1]


def _read(path: Path, what: str, remedy: str) -> tuple[bytes, dict[str, Any]]:
    if not path.exists() and not record_of(path).exists():
        there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, there, f"give a folder with {what}.safetensors")
        raise ModelError(f"{path}: does not exist; {near}")
    if path.is_dir():
        path = path / f"{what}.safetensors"
    elif path.suffix == ".json":
        path = path.with_name(MODEL) if path.name == CONFIG else path.with_suffix(".safetensors")
    beside = record_of(path)
    try:
        record, content = json.loads(beside.read_text()), path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"{error.filename}: no such file; a {what} consists of {path.name} and {beside.name} in one "
            "folder"
        ) from None
    except ValueError:
        raise ModelError(f"{beside}: not a JSON file; {remedy}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        told = record.get("format") if isinstance(record, dict) else None
        raise ModelError(
            f"{beside}: file format {told}, but this version of nuclr reads format {FORMAT}; {remedy}"
        )
    if record.get("sha256") != hashlib.sha256(content).hexdigest():
        raise ModelError(
            f"{path}: its hash is not the one in {beside.name}, so the two files do not belong together; "
            "copy both again"
        )
    return content, record
