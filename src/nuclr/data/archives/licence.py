"""The licence of a recording as its archive states it: a note beside the files, for the cards of models."""

from __future__ import annotations

import json
from pathlib import Path

from nuclr.files import write_json

NOTE = "licence.json"
LONGEST = 300
SIMULATED = "none needed: simulated by nuclr"


def note_licence(folder: Path, licence: str) -> None:
    """Write the licence that an archive states, as one line, to the folder of a downloaded recording."""
    write_json(folder / NOTE, {"licence": " ".join(licence.split())[:LONGEST]})


def noted_licence(recording: Path) -> str:
    """Return the licence in the folder of a recording; "" if there is none."""
    note = recording / NOTE
    return str(json.loads(note.read_text())["licence"]) if note.is_file() else ""
