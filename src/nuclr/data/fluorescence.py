"""Traces of imaged ROIs in files, read in blocks of frames, and dF/F of raw fluorescence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nuclr.data.access.columns import Column

# Suite2p's defaults (its settings win_baseline, in seconds, and sig_baseline, in frames).
WINDOW_S, SMOOTHING_FRAMES = 60.0, 10.0


@dataclass(frozen=True)
class Correction:
    """Computation of dF/F from raw fluorescence.

    ``dF/F = (C - B(C)) / B(F)``, where C is the fluorescence F minus a share of the neuropil's fluorescence,
    and B is Suite2p's baseline "maximin": the trace is smoothed with a Gaussian of 10 frames, followed by the
    running minimum over 60 s and the running maximum of that over 60 s (https://suite2p.readthedocs.io). The
    divisor is the baseline of F, because that of C may be near or below 0.

    Attributes
    ----------
    frame_s
        Length of a frame (s).
    neuropil
        Fluorescence around the ROIs, with the shape of theirs; None: nothing is subtracted.
    share
        Share of the neuropil that is subtracted.
    """

    frame_s: float
    neuropil: Column | None = None
    share: float = 0.7

    @property
    def margin(self) -> int:
        """Number of frames on either side that influence the baseline of a frame."""
        return 2 * (self._window // 2 + 1) + int(4 * SMOOTHING_FRAMES + 1)

    @property
    def _window(self) -> int:
        # Suite2p's int(60 * fs): whole frames; a frame's length may be rounded.
        return max(1, int(WINDOW_S / self.frame_s + 1e-6))

    def baseline(self, traces: np.ndarray) -> np.ndarray:
        """Return the slow lower envelope of traces, ``(unit, time)``."""
        from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

        smooth = gaussian_filter1d(_filled(traces), SMOOTHING_FRAMES, axis=1, truncate=4.0)
        return maximum_filter1d(minimum_filter1d(smooth, self._window, axis=1), self._window, axis=1)

    def dff(self, raw: np.ndarray, neuropil: np.ndarray | None) -> np.ndarray:
        """Return dF/F of raw fluorescence, ``(unit, time)``; NaN where it cannot be computed."""
        raw = np.asarray(raw, np.float64)
        corrected = raw if neuropil is None else raw - self.share * np.asarray(neuropil, np.float64)
        divisor = self.baseline(raw)
        own = self.baseline(corrected) if neuropil is not None else divisor
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(divisor > 0, (corrected - own) / divisor, np.nan)


def frame_length(gaps: np.ndarray) -> float | None:
    """Return the length of a frame (s) from the times between frames; None if they are not evenly spaced."""
    frame_s = float(np.median(gaps))
    # Written so that NaN is refused as well.
    even = (gaps > 0).all() and (np.abs(gaps - frame_s) <= 0.5 * frame_s).all()
    return frame_s if even else None


def _filled(traces: np.ndarray) -> np.ndarray:
    """Interpolate samples that are not finite, so that a gap does not lower the baseline."""
    good = np.isfinite(traces)
    if good.all():
        return traces
    filled, time = np.zeros_like(traces), np.arange(traces.shape[1])
    for unit in np.flatnonzero(good.any(axis=1)):
        filled[unit] = np.interp(time, time[good[unit]], traces[unit, good[unit]])
    return filled


@dataclass(frozen=True)
class Frames:
    """Consecutive frames of some ROIs in a file.

    Attributes
    ----------
    data
        The array, ``(frame, ROI)``, or ``(ROI, frame)`` if ``by_roi``; for a single ROI also ``(frame,)``.
    rois
        Index of each unit's ROI in the array, ``(unit,)``.
    units
        Index of each unit in the population, ``(unit,)``.
    first
        Index of the first frame in the recording.
    count
        Number of frames.
    by_roi
        Whether the array is ``(ROI, frame)``.
    correction
        How dF/F is computed; None if the array is dF/F.
    """

    data: Column
    rois: np.ndarray
    units: np.ndarray
    first: int
    count: int
    by_roi: bool = False
    correction: Correction | None = None

    def only(self, chosen: np.ndarray) -> Frames:
        """Return the frames of some units, which are renumbered; ``chosen`` is a mask, ``(unit,)``."""
        kept = chosen[self.units]
        return replace(self, rois=self.rois[kept], units=(np.cumsum(chosen) - 1)[self.units[kept]])

    def read(self, first: int, last: int) -> np.ndarray:
        """Frames from ``first`` to before ``last``, counted within the file, ``(unit, time)``."""
        if self.correction is None:
            return self._read(self.data, first, last)
        # With enough frames around these that their baseline equals that of the whole trace.
        low = max(0, first - self.correction.margin)
        high = min(self.count, last + self.correction.margin)
        neuropil = self.correction.neuropil
        around = self._read(neuropil, low, high) if neuropil is not None else None
        made = self.correction.dff(self._read(self.data, low, high), around)
        return made[:, first - low : last - low]

    def raw(self) -> bool:
        """Return whether the traces look like raw fluorescence, which is above 0, and not like dF/F."""
        some = self.read(0, min(self.count, 1000))
        lowest = np.min(np.where(np.isfinite(some), some, np.inf), axis=1)
        return bool(np.mean(lowest[np.isfinite(lowest)] > 0) >= 0.9) if np.isfinite(lowest).any() else False

    def _read(self, column: Column, first: int, last: int) -> np.ndarray:
        with column.opened() as array:
            if len(array.shape) == 1:
                return np.array(array[first:last])[None, :]
            if self.by_roi:
                return np.array(array[:, first:last])[self.rois]
            return np.array(array[first:last]).reshape(last - first, -1)[:, self.rois].T
