"""The files of a model folder that are shared.

These are ``model.safetensors`` and ``config.json``, the model card ``README.md``,
``probes/{task}.safetensors`` and ``reference/{task}.safetensors``, the latter two with a ``.json`` file
each. No other file of a folder is uploaded or downloaded: only tensors, JSON and one text.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from nuclr.model.card import CARD
from nuclr.model.tensor_files import CONFIG, MODEL, PROBES

REFERENCE = "reference"
MODEL_IN_THE_BOX = Path(__file__).with_name("demo_model")
MODEL_FILES = (MODEL, CONFIG, CARD)


def is_shared(name: str) -> bool:
    """Return whether the file with this path in a model folder is shared."""
    path = PurePosixPath(name)
    if len(path.parts) == 1:
        return name in MODEL_FILES
    inside = len(path.parts) == 2 and path.parts[0] in (PROBES, REFERENCE)
    return inside and not path.name.startswith(".") and path.suffix in (".safetensors", ".json")


def shared_files(folder: Path) -> list[str]:
    """List the shared files of a model folder, as paths relative to it."""
    below = (path.relative_to(folder).as_posix() for path in folder.glob("**/*") if path.is_file())
    return sorted(filter(is_shared, below))


def probe_file(folder: Path, task: str) -> Path:
    """Return the file of a task's probe; characters that file names cannot have become ``_``."""
    name = re.sub(r"[^\w.-]", "_", task).lstrip(".") or "_"
    return folder / PROBES / f"{name}.safetensors"


def probes_in(folder: Path) -> list[Path]:
    """List the probe files in a model folder."""
    return sorted((folder / PROBES).glob("*.safetensors"))


def reference_file(probe: Path) -> Path:
    """Return the file with reference statistics of the units that a probe was trained on."""
    return probe.parent.parent / REFERENCE / probe.name
