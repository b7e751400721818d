"""Mean waveforms of sorted units, left in their file until they are wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

COLUMN = "units/waveform_mean"


@dataclass(frozen=True)
class Waveforms:
    """``waveform_mean`` of an NWB Units table.

    Source: NWB schema, Units: ``(unit, sample)``, ``(unit, sample, electrode)``, or ragged, each
    unit's electrodes one after another, ``(electrode, sample)``.

    Attributes
    ----------
    path
        The NWB file.
    rows
        Each unit's row in the table.
    """

    path: Path
    rows: np.ndarray

    def only(self, chosen: np.ndarray) -> Waveforms:
        """Return those of some units: ``chosen`` is a mask or rows, ``(unit,)``."""
        return replace(self, rows=self.rows[chosen])

    def read(self) -> np.ndarray:
        """Each unit's waveform where it is largest, peak to peak, ``(unit, sample)``, in its file's unit.

        NaN for a unit without.
        """
        with h5py.File(self.path) as file:
            column, index = file[COLUMN], file.get(f"{COLUMN}_index")
            stops = np.arange(1, len(column) + 1) if index is None else index[:].astype(np.int64)
            starts = np.concatenate([[0], stops[:-1]])
            return np.stack([_largest(column[starts[row] : stops[row]], column) for row in self.rows])


def _largest(own: np.ndarray, column: h5py.Dataset) -> np.ndarray:
    """Choose among a unit's electrodes; ``own`` is ``(electrode, sample)`` or ``(1, sample, electrode)``."""
    by_electrode = own[0].T if own.ndim == 3 else own
    if not len(by_electrode):
        return np.full(column.shape[1], np.nan, np.float32)
    heights = np.nan_to_num(np.ptp(by_electrode, axis=1), nan=-1.0)
    return by_electrode[heights.argmax()].astype(np.float32)
