"""What is in the folder of a model that is shared.

``model.safetensors`` and ``config.json``, the card ``README.md``, ``probes/{task}.safetensors`` and
``reference/{task}.safetensors``, each with a ``.json`` beside it. Nothing else of a folder is uploaded, and
nothing else is ever taken from one: tensors, JSON and a text.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from nuclr.model.card import CARD
from nuclr.model.tensor_files import CONFIG, MODEL

PROBES, REFERENCE = "probes", "reference"
MODEL_IN_THE_BOX = Path(__file__).with_name("demo_model")
MODEL_FILES = (MODEL, CONFIG, CARD)


def is_shared(name: str) -> bool:
    """Whether a file of this path in a model's folder is one of those that are shared."""
    path = PurePosixPath(name)
    if len(path.parts) == 1:
        return name in MODEL_FILES
    inside = len(path.parts) == 2 and path.parts[0] in (PROBES, REFERENCE)
    return inside and not path.name.startswith(".") and path.suffix in (".safetensors", ".json")


def shared_files(folder: Path) -> list[str]:
    """List the files of a model's folder that are shared, by their paths in it."""
    below = (path.relative_to(folder).as_posix() for path in folder.glob("**/*") if path.is_file())
    return sorted(filter(is_shared, below))


def probe_file(folder: Path, task: str) -> Path:
    """Where the probe of a task is; signs that no file's name can have become ``_``."""
    name = re.sub(r"[^\w.-]", "_", task).lstrip(".") or "_"
    return folder / PROBES / f"{name}.safetensors"


def probes_in(folder: Path) -> list[Path]:
    """List the probes in a model's folder."""
    return sorted((folder / PROBES).glob("*.safetensors"))


def reference_file(probe: Path) -> Path:
    """Where is said what the units look like that a probe in a model's folder learned from."""
    return probe.parent.parent / REFERENCE / probe.name
