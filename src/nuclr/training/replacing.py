"""What a training would replace: a model of another training, on which probes in its folder may depend."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nuclr.errors import ModelError, TrainingError
from nuclr.model.tensor_files import PROBES, read_record, record_of
from nuclr.rank import rank_told
from nuclr.words import counted

logger = logging.getLogger(__name__)
# Entries of a model's record that its weights depend on, of which some are optional.
DEPENDS_ON = ("config", "seed", "animals", "recordings", "left_out", "inputs", "chosen_by", "ablation")


def check_replacing(output: Path, depends_on: Mapping[str, Any]) -> None:
    """Check that a training does not replace the model of another training that probes depend on.

    A model of the same training may be replaced. A model of another training may be replaced, with a warning,
    if its folder contains no probes of it.

    Parameters
    ----------
    output
        File of the weights that the training will write.
    depends_on
        Everything that these weights depend on, as it will be in the model's record.

    Raises
    ------
    TrainingError
        If the folder contains probes of a model of another training.
    """
    try:
        existing = read_record(output, "model", "")
    except ModelError:  # there is none, or none that could be used
        return
    wanted = json.loads(json.dumps(depends_on))
    if all(existing.get(name) == wanted.get(name) for name in DEPENDS_ON):
        return
    animals = existing.get("animals", [])
    trained = f"{counted(len(animals), 'animal')}, seed {existing.get('seed')}"
    whose = trained if "seed" in existing else "imported"
    if probes := _probes_of(existing["sha256"], output.parent):
        raise TrainingError(
            f"{output}: this training would replace the model of another one ({whose}), and the folder "
            f"contains probes that read only that model: {', '.join(probes)}; choose another -o, or remove "
            f"these probes from {output.parent / PROBES}"
        )
    if not rank_told():
        logger.warning("%s: the model of another training (%s) will be replaced", output, whose)


def _probes_of(model: str, folder: Path) -> list[str]:
    """Return the names of the probes in a model folder that read the embeddings of a model."""
    found = []
    for path in sorted((folder / PROBES).glob("*.safetensors")):
        try:
            record = json.loads(record_of(path).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("model") == model:
            found.append(path.stem)
    return found
