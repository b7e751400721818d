"""The licence of a recording as its archive states it: a note beside the files, for the cards of models."""

from __future__ import annotations

import json
from pathlib import Path

from nuclr.files import write_json

NOTE = "licence.json"
LONGEST = 300
SIMULATED = "none needed: simulated by nuclr"


def note_licence(folder: Path, licence: str) -> None:
    """Put what an archive states, on one line, beside the files of a downloaded recording."""
    write_json(folder / NOTE, {"licence": " ".join(licence.split())[:LONGEST]})


def noted_licence(recording: Path) -> str:
    """Read what was put beside a recording's files; "" where nothing was."""
    note = recording / NOTE
    return str(json.loads(note.read_text())["licence"]) if note.is_file() else ""
