"""Check that a model folder is complete before it is uploaded."""

from __future__ import annotations

import logging
from pathlib import Path

from nuclr.errors import ModelError
from nuclr.model.card import CARD, UNKNOWN, lacks
from nuclr.model.saved import read_model
from nuclr.sharing.folder import load_probes
from nuclr.sharing.layout import probes_in, shared_files

logger = logging.getLogger(__name__)


def check(folder: Path) -> list[str]:
    """Check a model, its probes and its card, and return the files that would be uploaded.

    Raises
    ------
    ModelError
        If a file is missing or damaged, a probe reads embeddings of another model, or the card lacks the
        licence, the data sets or the intended use.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: not a folder; give the folder that contains model.safetensors")
    model = read_model(folder)
    load_probes(probes_in(folder), model.sha256)
    if lacking := lacks(folder / CARD):
        raise ModelError(f"{folder / CARD}: the model card lacks {'; and '.join(lacking)}")
    if UNKNOWN in (folder / CARD).read_text():
        logger.warning(
            "%s: the licence of some recordings is not known; ask the people who recorded them before "
            "publishing",
            folder / CARD,
        )
    return shared_files(folder)
