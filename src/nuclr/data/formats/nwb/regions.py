"""Brain regions from the location of electrodes: a name, or a small dictionary as text or JSON."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nuclr.data.access.remote import Remote
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

# Keys for the region, the most specific first.
KEYS = (
    "brain_region", "brain_area", "region", "area", "structure", "acronym", "brain_region_acronym",
    "region_acronym", "allen_acronym", "ccf_acronym", "beryl", "brain_location", "anatomical_location",
    "location",
)  # fmt: skip
PAIR = re.compile(r"\s*([A-Za-z][\w -]*?)\s*[:=]\s*(.*?)\s*")


def regions(locations: np.ndarray, key: str | None, file: Path | Remote) -> np.ndarray:
    """Return the region in each location, ``(unit,)``; "" if it is unknown.

    Parameters
    ----------
    locations
        Locations as text.
    key
        Key of a dictionary for the region (``nwb.region_key``); None uses the first of :data:`KEYS`.
    file
        Path of the file, for messages.

    Raises
    ------
    DataError
        If no dictionary has the key.
    """
    texts = ["" if location is None else str(location) for location in locations]
    parsed = {text: _dictionary(text, key) for text in dict.fromkeys(texts)}
    dictionaries = [found for found in parsed.values() if found is not None]
    if not dictionaries:
        return np.array(texts, object)
    keys = list(dict.fromkeys(name for found in dictionaries for name in found))
    if key is not None and _plain(key) not in map(_plain, keys):
        raise DataError(
            f"{file}: nwb.region_key: no key {key} in the electrodes' location; the keys are "
            f"{', '.join(keys)}"
        )
    chosen = [key] if key is not None else [name for name in KEYS if name in map(_plain, keys)]
    if not chosen:
        logger.warning(
            "%s: the electrodes' location is a dictionary with the keys %s, none of which is a usual name "
            "for the "
            "region; no region is read (set nwb.region_key)",
            file,
            ", ".join(keys),
        )
        return np.full(len(texts), "", object)
    logger.info(
        "%s: the region is the key '%s' of the electrodes' location (nwb.region_key names another key)",
        file,
        chosen[0],
    )
    return np.array(
        [text if parsed[text] is None else _first(parsed[text], chosen) for text in texts], object
    )


def _first(found: dict[str, str] | None, keys: Sequence[str]) -> str:
    plain = {_plain(name): value for name, value in (found or {}).items()}
    return next((plain[_plain(key)] for key in keys if _plain(key) in plain), "")


def _plain(key: str) -> str:
    return re.sub(r"[\s-]+", "_", key.strip().lower())


def _dictionary(text: str, key: str | None) -> dict[str, str] | None:
    """Return a location that is a dictionary; None if it is a plain name."""
    if text.lstrip().startswith("{"):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(text.strip())
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
            if isinstance(found, dict):
                return {str(name): "" if value is None else str(value) for name, value in found.items()}
        return None
    pairs = [PAIR.fullmatch(part) for part in re.split(r"[;,|\n]", text) if part.strip()]
    if not pairs or any(pair is None for pair in pairs):
        return None
    found = {pair[1]: pair[2] for pair in pairs if pair is not None}
    # A name may contain a colon; it is only a dictionary if one of its keys is known to be the region.
    known = {*KEYS, *([_plain(key)] if key else [])}
    return found if known & set(map(_plain, found)) else None
