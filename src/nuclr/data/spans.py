"""Spans of time: arrays ``(interval, 2)`` of start and stop, ascending and apart."""

from __future__ import annotations

import numpy as np


def intersect_spans(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spans that lie in both, ``(interval, 2)``; each must ascend and not overlap."""
    low = np.maximum(a[:, None, 0], b[None, :, 0]).ravel()
    high = np.minimum(a[:, None, 1], b[None, :, 1]).ravel()
    spans = np.stack([low, high], axis=1)[low < high]
    return spans[np.argsort(spans[:, 0])]


def merge_spans(spans: np.ndarray, gap: float = 0.0) -> np.ndarray:
    """Spans in any order; those that overlap, or are ``gap`` apart or less, made one, ``(interval, 2)``."""
    merged: list[list[float]] = []
    for start, stop in spans[np.argsort(spans[:, 0])]:
        if merged and start <= merged[-1][1] + gap:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return np.array(merged, float).reshape(-1, 2)


def remove_spans(spans: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Take holes (in any order) out of some spans, ``(interval, 2)``."""
    holes = merge_spans(np.asarray(holes, float).reshape(-1, 2))
    between = np.concatenate([[-np.inf], holes.ravel(), [np.inf]]).reshape(-1, 2)
    return intersect_spans(spans, between)
