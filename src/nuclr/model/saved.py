"""Trained encoders on disk: weights as safetensors, everything else as JSON. Nothing is pickled.

``model.safetensors`` holds the encoder's tensors by the authors' names; ``model.json`` beside it
says what they are: the encoder's shape, how windows are cut, and what it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nuclr.errors import ModelError
from nuclr.files import whole, write_json
from nuclr.model.encoder import Encoder, EncoderSpec

FORMAT = 1


@dataclass(frozen=True)
class SavedModel:
    """An encoder and what is known of it.

    Attributes
    ----------
    encoder
        In evaluation mode.
    record
        ``modality``, ``bin_s``, ``window``, and where the model comes from (``animals``, ``seed``,
        ``config``, ``versions``, input hashes).
    sha256
        Of the weights' file: the model's name wherever it is used.
    """

    encoder: Encoder
    record: dict[str, Any]
    sha256: str


def save_model(path: Path, encoder: Encoder, record: dict[str, Any]) -> None:
    """Write ``path`` (``.safetensors``) and the ``.json`` beside it, each whole or not at all."""
    with whole(path) as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}, partial)
        content = {
            "format": FORMAT,
            "encoder": asdict(encoder.spec),
            "sha256": hashlib.sha256(partial.read_bytes()).hexdigest(),
            **record,
        }
        write_json(path.with_suffix(".json"), content)


def load_model(path: Path) -> SavedModel:
    """Read a model written by :func:`save_model`.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the two do not belong together.
    """
    try:
        record = json.loads(path.with_suffix(".json").read_text())
        weights = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"{error.filename}: not there; a model is model.safetensors and model.json"
        ) from None
    except ValueError:
        raise ModelError(f"{path.with_suffix('.json')}: not JSON; train or export the model again") from None
    if record.get("format") != FORMAT:
        raise ModelError(
            f"{path.with_suffix('.json')}: format {record.get('format')}, this version reads {FORMAT}"
        )
    sha256 = hashlib.sha256(weights).hexdigest()
    if record.get("sha256") != sha256:
        raise ModelError(
            f"{path}: not the weights that {path.with_suffix('.json').name} describes; copy both again"
        )
    try:
        encoder = Encoder(EncoderSpec(**record["encoder"]))
        encoder.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    return SavedModel(encoder.eval(), record, sha256)
