"""Objects of other packages in memory, recognised by their attributes without importing these packages.

These are pynapple's ``TsGroup`` and ``TsdFrame``, neo's ``SpikeTrain``, SpikeInterface's ``BaseSorting``,
xarray's ``DataArray``, and plain arrays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nuclr.data.formats.sorting import NOISE
from nuclr.data.recording import merge_spans
from nuclr.errors import DataError
from nuclr.words import counted, share_of

logger = logging.getLogger(__name__)

SECONDS = ("", "s", "sec", "secs", "second", "seconds")
# If all times are integers and some are larger than this, they cannot be seconds.
WHOLE_FROM_S = 1e5


@dataclass(frozen=True)
class HeldSpikes:
    """Spike trains in memory.

    Attributes
    ----------
    ids
        Ids of the units.
    times
        Spike times (s) of each unit, ``(spike,)``.
    columns
        Metadata of the units, one row for each unit.
    spans
        Spans of the session, ``(interval, 2)`` (s); None if they are unknown.
    """

    ids: list[str]
    times: list[np.ndarray]
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    spans: np.ndarray | None = None


@dataclass(frozen=True)
class HeldTraces:
    """Traces in memory.

    Attributes
    ----------
    values
        Any object that can be sliced like a NumPy array, ``(unit, time)`` or ``(time, unit)``.
    by_unit
        Whether it is ``(unit, time)``; None if that is unknown.
    ids
        Ids of the units; None if they have none.
    columns
        Metadata of the units, one row for each unit.
    times
        Times of the frames (s), ``(time,)``; None if they are unknown.
    epochs
        Spans (s) of consecutive frames, ``(interval, 2)``; None: all frames are consecutive.
    """

    values: Any
    by_unit: bool | None = None
    ids: list[str] | None = None
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    times: np.ndarray | None = None
    epochs: np.ndarray | None = None


def is_traces(held: Any) -> bool:
    """Return whether an object contains traces with frame times: a TsdFrame or a DataArray."""
    timed = hasattr(held, "time_support") and hasattr(held, "columns")
    return timed or _is_xarray(held)


def _is_xarray(held: Any) -> bool:
    return all(hasattr(held, name) for name in ("dims", "coords", "ndim"))


def held_spikes(trains: Any) -> HeldSpikes:
    """Return the spike trains in an object.

    Raises
    ------
    DataError
        If it contains none, or they cannot be in seconds.
    """
    if hasattr(trains, "get_unit_spike_train"):
        return _of_spikeinterface(trains)
    keyed = isinstance(trains, Mapping)
    if keyed:
        ids, each = list(trains.keys()), [trains[unit] for unit in trains.keys()]  # noqa: SIM118
    elif isinstance(trains, pd.Series) and trains.dtype == object:
        ids, each = list(trains.index), list(trains)
    else:
        each = _listed(_spiketrains(trains))
        ids = list(range(len(each)))
    if not each:
        raise DataError(
            "spike times: the object contains no units; give an array of spike times (s) for each unit"
        )
    times = [_seconds(own, str(unit)) for unit, own in zip(ids, each, strict=True)]
    _refuse_samples(times)
    if hasattr(trains, "time_support"):
        return HeldSpikes(_texts(ids), times, _metadata(trains), _support(trains, times))
    if all(hasattr(own, "t_stop") and hasattr(own, "rescale") for own in each):
        return _of_neo(each, _texts(ids) if keyed else None, times)
    return HeldSpikes(_texts(ids), times)


def _listed(trains: Any) -> list[Any]:
    # A single array of numbers is ambiguous: it may be one unit, or no spike times at all.
    numbers = is_traces(trains) or getattr(trains, "dtype", np.dtype(object)) != np.dtype(object)
    if isinstance(trains, str | bytes | pd.DataFrame) or numbers or not isinstance(trains, Iterable):
        raise DataError(
            f"spike times: {type(trains).__name__} is not supported; give a list of arrays of spike times "
            "(s), "
            "one for each unit, or {id: times}, a pynapple TsGroup, neo SpikeTrains or a SpikeInterface "
            "sorting. For dF/F, use nuclr.from_traces(array, rate_hz)"
        )
    return list(trains)


def _texts(ids: Iterable[Any]) -> list[str]:
    """Return ids as text; integers of NumPy are written like those of Python."""
    return [str(unit.item() if isinstance(unit, np.generic) else unit) for unit in ids]


def _seconds(times: Any, unit: str) -> np.ndarray:
    """Return the spike times of a unit as floats, converted to seconds if they have a physical unit."""
    if hasattr(times, "rescale"):  # quantities, as in neo
        times = times.rescale("s").magnitude
    elif hasattr(times, "time_support"):  # pynapple, which uses seconds
        times = times.t
    elif type(times) not in (np.ndarray, list, tuple, pd.Series) and (
        hasattr(times, "units") or hasattr(times, "unit")
    ):
        raise DataError(f"unit {unit}: {type(times).__name__} has a physical unit; give plain numbers in s")
    try:
        values = np.asarray(times)
        if values.dtype.kind == "O" or not values.size:
            values = values.astype(np.float64)
    except (TypeError, ValueError):
        raise _not_times(unit, type(times).__name__) from None
    if values.dtype.kind not in "iuf":
        raise _not_times(unit, str(values.dtype))
    # Vectors from MATLAB have two dimensions, one of length 1.
    if values.ndim == 0 or values.size not in (0, max(values.shape)):
        raise _not_times(unit, f"an array of shape {values.shape}")
    return values.reshape(-1).astype(np.float64)


def _not_times(unit: str, what: str) -> DataError:
    return DataError(f"unit {unit}: spike times are {what}; give one number (s) for each spike")


def _refuse_samples(times: Sequence[np.ndarray]) -> None:
    """Check that spike times are not integers that are too large to be seconds.

    Raises
    ------
    DataError
        If they are.
    """
    together = np.concatenate(times)
    known = together[np.isfinite(together)]
    if len(known) and known.max() > WHOLE_FROM_S and (known == np.floor(known)).all():
        raise DataError(
            f"spike times: integers up to {known.max():.0f}, which are probably samples or ms; times must be "
            "in "
            "seconds: divide samples by the sampling rate, or ms by 1000"
        )


def _metadata(held: Any) -> pd.DataFrame:
    """Return pynapple's metadata of units as a table."""
    names = [str(name) for name in getattr(held, "metadata_columns", ()) if name != "rate"]
    if not names:
        return pd.DataFrame()
    return pd.DataFrame(held.metadata)[names].reset_index(drop=True)


def _intervals(support: Any) -> np.ndarray:
    """Return the spans of pynapple's ``IntervalSet``, whose ends are included."""
    spans = np.asarray(support.values, np.float64).reshape(-1, 2)
    if not len(spans) or not (spans[:, 0] <= spans[:, 1]).all():
        raise DataError("time_support: it is empty or not in order; restrict the object to an epoch")
    return merge_spans(np.stack([spans[:, 0], np.nextafter(spans[:, 1], np.inf)], axis=1))


def _support(group: Any, times: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the spans in which units were observed; None if they are only those of the spikes."""
    spans = _intervals(group.time_support)
    together = np.concatenate(times)
    if len(together):
        derived = np.array([[together.min(), np.nextafter(together.max(), np.inf)]])
        if np.array_equal(spans, derived):
            return None
    return spans


def _spiketrains(held: Any) -> Any:
    """Return the spike trains of neo's Block or Segment; other objects are returned unchanged."""
    if hasattr(held, "segments"):
        if len(held.segments) != 1:
            raise DataError(
                f"neo: a Block with {counted(len(held.segments), 'segment')}; give one of them, such as "
                "block.segments[0]"
            )
        held = held.segments[0]
    return getattr(held, "spiketrains", held)


def _of_neo(trains: Sequence[Any], ids: list[str] | None, times: list[np.ndarray]) -> HeldSpikes:
    """Return neo's SpikeTrains with their metadata; their names become ids if they are unique."""
    spans = np.array([[_one(train.t_start), np.nextafter(_one(train.t_stop), np.inf)] for train in trains])
    common = np.array([[spans[:, 0].max(), spans[:, 1].min()]])
    if not common[0, 0] < common[0, 1]:
        raise DataError(
            "neo: some spike trains end before others begin (t_start, t_stop); give those of one session"
        )
    names = [str(train.name or "") for train in trains]
    notes = [dict(train.annotations or {}) for train in trains]
    shared = [name for name in notes[0] if all(np.ndim(own.get(name, [])) == 0 for own in notes)]
    columns = pd.DataFrame({str(name): [own[name] for own in notes] for name in shared})
    if ids is None:
        named = all(names) and len(set(names)) == len(names)
        ids = names if named else _texts(range(len(names)))
    return HeldSpikes(ids, times, columns, common)


def _one(quantity: Any) -> float:
    return float(quantity.rescale("s"))


def _of_spikeinterface(sorting: Any) -> HeldSpikes:
    """Return the spikes of a sorting without units whose ``quality`` is noise, as for a saved sorting."""
    segments = int(sorting.get_num_segments())
    if segments != 1:
        raise DataError(
            f"sorting: {segments} segments; select one with sorting.select_segments([0]), and read each "
            "separately"
        )
    ids = list(sorting.unit_ids)
    if not ids:
        raise DataError("sorting: contains no units")
    columns = {str(name): np.asarray(sorting.get_property(name)) for name in sorting.get_property_keys()}
    columns = {name: own for name, own in columns.items() if own.shape == (len(ids),)}
    table = pd.DataFrame(columns, index=range(len(ids)))
    kept = np.ones(len(ids), bool)
    if "quality" in table:
        kept = (table["quality"].astype(str).str.lower() != NOISE).to_numpy()
        if not kept.all():
            logger.info("sorting: %s labelled noise; left out", share_of((~kept).sum(), len(ids), "unit"))
    chosen = [unit for unit, own in zip(ids, kept, strict=True) if own]
    if not chosen:
        raise DataError(
            f"sorting: all {len(ids)} units are labelled noise (property quality); change their labels"
        )
    times = [
        np.asarray(sorting.get_unit_spike_train(unit, segment_index=0, return_times=True), np.float64)
        for unit in chosen
    ]
    return HeldSpikes(_texts(chosen), times, table[kept].reset_index(drop=True), _session(sorting, times))


def _session(sorting: Any, times: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the span of a sorting, ``(1, 2)`` (s), to the end of its recording or to the last spike."""
    rate = float(sorting.get_sampling_frequency())
    start = float(sorting.get_start_time(segment_index=0)) if hasattr(sorting, "get_start_time") else 0.0
    together = np.concatenate(times)
    if not len(together):
        return None
    # Samples are counted from the start of the recording, and the last sample has a length too.
    start, stop = min(start, float(together.min())), float(together.max()) + 1 / rate
    if hasattr(sorting, "get_num_samples") and sorting.has_recording():
        stop = max(stop, start + int(sorting.get_num_samples(segment_index=0)) / rate)
    return np.array([[start, stop]])


def held_traces(traces: Any) -> HeldTraces:
    """Return the traces in an object.

    Raises
    ------
    DataError
        If it contains none.
    """
    if hasattr(traces, "time_support") and hasattr(traces, "columns"):
        return HeldTraces(
            traces.d,
            by_unit=False,
            ids=_texts(traces.columns),
            columns=_metadata(traces),
            times=np.asarray(traces.t, np.float64),
            epochs=_intervals(traces.time_support),
        )
    if _is_xarray(traces):
        return _of_xarray(traces)
    # Objects that can be sliced like an array may be too large for memory.
    if all(hasattr(traces, name) for name in ("shape", "dtype", "ndim", "__getitem__")):
        return HeldTraces(traces)
    try:
        return HeldTraces(np.asarray(traces))
    except (TypeError, ValueError):
        kind = type(traces).__name__
        raise DataError(f"traces: {kind} is not an array; give an array (unit, time)") from None


def _of_xarray(array: Any) -> HeldTraces:
    dims = [str(dim) for dim in array.dims]
    if len(dims) != 2 or "time" not in dims:
        raise DataError(
            f"DataArray: the dimensions are ({', '.join(dims)}), but must be (unit, time); rename them, or "
            "select along the others (isel)"
        )
    (unit,) = [dim for dim in dims if dim != "time"]
    own = {str(name): each for name, each in array.coords.items() if each.dims == (unit,)}
    named = next((name for name in ("unit_id", unit) if name in own), None)
    columns = {name: np.asarray(each) for name, each in own.items() if name not in (unit, "unit_id")}
    return HeldTraces(
        array.data,
        by_unit=dims[0] == unit,
        ids=None if named is None else _texts(np.asarray(own[named]).tolist()),
        columns=pd.DataFrame(columns),
        times=_clock(array.coords["time"]) if "time" in array.coords else None,
    )


def _clock(times: Any) -> np.ndarray:
    """Return the times of a DataArray's frames (s)."""
    values, named = np.asarray(times), str(times.attrs.get("units", "")).strip().lower()
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "s")
    if values.dtype.kind not in "iuf" or named not in SECONDS:
        raise DataError(
            f"DataArray: time is in {named or values.dtype}; give numbers in s from the start of the session"
        )
    return values.astype(np.float64)
