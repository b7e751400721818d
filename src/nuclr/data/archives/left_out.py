"""Recordings that could not be downloaded and are left out: their folders contain only the reason."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from nuclr.data.splits import Member
from nuclr.files import whole_folder, write_json

NOTE = "left_out.json"


def leave_out(folder: Path, recording: str, animal: str, reason: str) -> None:
    """Write the reason to the folder where the recording, or its stores, would be."""
    with whole_folder(folder) as partial:
        write_json(partial / NOTE, {"recording": recording, "animal": animal, "reason": reason})


def reason_left_out(folder: Path) -> str | None:
    """Return the reason why a recording is left out; None if it is not left out."""
    note = folder / NOTE
    return str(json.loads(note.read_text())["reason"]) if note.exists() else None


def members_left_out(folders: Iterable[Path], member: Member) -> set[str]:
    """Return the recordings that are left out below some folders, or their animals."""
    notes = [note for folder in folders for note in folder.rglob(NOTE)]
    return {str(json.loads(note.read_text())[member]) for note in notes}
