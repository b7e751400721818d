"""Save and read trained encoders: weights as safetensors, everything else as JSON.

``model.safetensors`` contains the tensors of the encoder, with the names of the authors' code.
``config.json`` beside it describes them: the shape of the encoder, how windows are cut, and the training
data.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nuclr.errors import ModelError
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.tensor_files import read_tensors, write_tensors


@dataclass(frozen=True)
class SavedModel:
    """An encoder and its record.

    Attributes
    ----------
    encoder
        The encoder in evaluation mode.
    record
        ``modality``, ``bin_s``, ``min_rate_hz``, and the provenance of the model (``animals``, ``seed``,
        ``config``, ``versions``, hashes of inputs).
    sha256
        Hash of the file of weights, which identifies the model.
    """

    encoder: Encoder
    record: dict[str, Any]
    sha256: str


def save_model(path: Path, encoder: Encoder, record: dict[str, Any]) -> None:
    """Write ``path`` (``.safetensors``) and its record beside it, each completely or not at all."""
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in encoder.state_dict().items()}
    write_tensors(path, weights, {**record, "encoder": asdict(encoder.spec)})


def read_model(path: Path) -> SavedModel:
    """Read a model written by :func:`save_model`.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the two files do not belong together.
    """
    weights, record = read_tensors(path, "model", "train or import it again")
    try:
        encoder = Encoder(EncoderSpec(**record["encoder"]))
        encoder.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
    except (RuntimeError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: the weights and their configuration do not match ({reason})") from None
    return SavedModel(encoder.eval(), record, record["sha256"])
