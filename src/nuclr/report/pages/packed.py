"""Pack the data of an interactive page, so that no name from a file can become markup or script.

The data are one compressed (zlib) block in base64, which contains no character that is special in HTML. The
block consists of the length of its header (uint32), the header (JSON), and arrays at the offsets in the
header. ``interactive.js`` unpacks it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from nuclr.data.text import as_text
from nuclr.report.figures.classes import in_order

# Higher levels take ten times as long for a tenth fewer bytes.
LEVEL = 6
MOST_COLUMNS = 16
# Columns that come first, if they exist; the others follow in the order of the table.
FIRST_COLUMNS = ("brain_region", "cell_type", "animal", "recording", "population", "rate_hz")
ALIGNMENT = 8
# Largest whole number below which float32 holds all whole numbers.
EXACT = 2**24


def _narrowed(numbers: np.ndarray) -> np.ndarray:
    """Return numbers as float32, unless they are larger than all numbers that float32 holds exactly.

    These are ids, times of day and the like, in which the last digit matters.
    """
    largest = np.abs(numbers[np.isfinite(numbers)]).max(initial=0)
    return numbers if largest > EXACT else numbers.astype(np.float32)


class Block:
    """Arrays that are concatenated into one block of bytes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, values: np.ndarray) -> dict[str, Any]:
        """Add an array, and return its place for the header: ``type``, ``offset``, ``length``."""
        values = np.ascontiguousarray(values)
        raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
        where = {"type": values.dtype.name, "offset": self.length, "length": int(values.size)}
        self.parts.append(raw + bytes(-len(raw) % ALIGNMENT))
        self.length += len(self.parts[-1])
        return where

    def add_columns(
        self, units: pd.DataFrame, wanted: Sequence[str] = ()
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Add the columns of a unit table; return their places, and the names of columns that are left out.

        Only the first ``MOST_COLUMNS`` are added, to keep the page small. Columns that a user asked for,
        ``wanted``, are among the first.
        """
        places = {name: place for place, name in enumerate([*FIRST_COLUMNS, *wanted])}
        names = sorted(units.columns.drop("unit_id"), key=lambda name: places.get(name, len(places)))
        columns = []
        for name in names[:MOST_COLUMNS]:
            values = units[name]
            if is_numeric_dtype(values) and not is_bool_dtype(values):
                numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
                columns.append({"name": str(name), "values": self.add(_narrowed(numbers))})
                continue
            text = as_text(values)
            classes = in_order(text)
            codes = text.map({value: place for place, value in enumerate(classes)}).fillna(len(classes))
            kind = np.uint16 if len(classes) < 2**16 else np.uint32
            columns.append({"name": str(name), "names": classes, "values": self.add(codes.to_numpy(kind))})
        return columns, [str(name) for name in names[MOST_COLUMNS:]]

    def packed(self, header: Mapping[str, Any]) -> str:
        """Return the header and the arrays as base64."""
        written = json.dumps(header, allow_nan=False).encode()
        start = 4 + len(written)
        head = len(written).to_bytes(4, "little") + written + bytes(-start % ALIGNMENT)
        return base64.b64encode(zlib.compress(head + b"".join(self.parts), LEVEL)).decode()
