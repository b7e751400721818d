"""Populations from spike times and traces in memory, for example in a notebook."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nuclr.config import Chunk, Nwb
from nuclr.data.chunk import to_population, why_left_out
from nuclr.data.formats.memory import frames
from nuclr.data.formats.memory.labels import ALL, Labels, labelled, unit_table
from nuclr.data.formats.memory.objects import HeldSpikes, held_spikes, held_traces, is_traces
from nuclr.data.formats.nwb import in_memory
from nuclr.data.inputs import Reads, binning
from nuclr.data.population import Population
from nuclr.data.recording import (
    SpikeTrains,
    Traces,
    check_seconds,
    intersect_spans,
    safe_name,
    session_span,
)
from nuclr.data.spikes import spikes_in_memory
from nuclr.errors import DataError, NothingToLearn

logger = logging.getLogger(__name__)

RECORDING, POPULATION = "memory", "all"
# If the mean rate of all units is lower than this, spike times may be in milliseconds.
RARE_HZ = 0.01


@dataclass(frozen=True)
class Names:
    """Names of a recording in memory, its animal and its population."""

    recording: str = RECORDING
    animal: str | None = None
    population: str = POPULATION

    @property
    def path(self) -> Path:
        """Name of the recording in messages."""
        return Path(self.recording)

    def made(self, raw: SpikeTrains | Traces, options: Chunk) -> Population:
        """Return the population with these names."""
        recording = safe_name(self.recording)
        return to_population(
            raw,
            dataset=RECORDING,
            animal=recording if self.animal is None else str(self.animal),
            recording=recording,
            options=options,
            source={"file": self.recording},
        )


def from_spike_times(
    trains: Any,
    *,
    start_s: float | None = None,
    stop_s: float | None = None,
    labels: Labels | None = None,
    animal: str | None = None,
    recording: str = RECORDING,
    population: str = POPULATION,
    bin_s: float | None = None,
    min_rate_hz: float | None = None,
    model: Reads | None = None,
) -> Population:
    """Return a population of spike times in memory, for ``model.embed``.

    The following objects are supported: a list of arrays; ``{id: times}``; pynapple's ``TsGroup``; neo's
    ``SpikeTrain`` in a list, a ``Segment`` or a ``Block``; and SpikeInterface's ``BaseSorting``. Their
    metadata that contain text or booleans become labels. The limits of the session are read from
    ``time_support``, from ``t_start`` and ``t_stop`` in any unit, or from the recording of a sorting. Units
    of a sorting whose ``quality`` is noise are left out.

    Times are in seconds. Times that are not in order are sorted, and times outside the session are left out,
    both with a warning. NaN is an error, and so are integers above 100,000, which are samples or
    milliseconds.

    Parameters
    ----------
    trains
        Spike times (s), one array for each unit.
    start_s, stop_s
        Start and end of the session (s); None: from the object, or else the first spike rounded down to a
        whole second, and the last spike.
    labels
        Label columns, as ``{"brain_region": [...]}`` or a DataFrame, with rows in the order of the units, or
        indexed by their ids (or with a column ``unit_id``).
    animal
        Name of the animal; None: the name of the recording. If you use recordings of several animals, give
        the name of each; otherwise probes treat all of them as one animal.
    recording, population
        Names of the session and of the units that were recorded together.
    bin_s
        Bin width of spike counts (s); None: as the model requires, or without a model 0.02.
    min_rate_hz
        Units that fire less are left out; None: as the model requires, or without a model none.
    model
        A model from ``nuclr.load_model``.

    Raises
    ------
    DataError
        If there is no unit or no spike, two units have the same id, or times or labels are not valid.

    Examples
    --------
    >>> import nuclr
    >>> population = nuclr.from_spike_times(
    ...     [[0.5, 1.2, 7.9], [0.1, 3.3, 9.5]], labels={"brain_region": ["CA1", "VISp"]}, animal="mouse1"
    ... )
    >>> population.activity.shape, population.units["unit_id"].tolist(), population.animal
    ((2, 475), ['0', '1'], 'mouse1')

    >>> trains = {12: [0.5, 1.2], 31: [0.1, 3.3]}
    >>> nuclr.from_spike_times(trains, start_s=0, stop_s=10, bin_s=0.1).activity.shape
    (2, 100)

    >>> tsgroup = pynapple.load_file("my_session.nwb")["units"]  # doctest: +SKIP
    >>> model.embed(nuclr.from_spike_times(tsgroup, model=model))  # doctest: +SKIP
    >>> block = neo.io.get_io("my_session.plx").read_block()  # doctest: +SKIP
    >>> model.embed(nuclr.from_spike_times(block.segments[0], model=model))  # doctest: +SKIP
    >>> sorting = spikeinterface.extractors.read_kilosort("my_folder")  # doctest: +SKIP
    >>> model.embed(nuclr.from_spike_times(sorting, model=model))  # doctest: +SKIP
    """
    options = binning(bin_s, min_rate_hz, model)
    names = Names(recording, animal, population)
    return _of_spikes(held_spikes(trains), names, options, limits=(start_s, stop_s), labels=labels)


def from_traces(
    traces: Any,
    rate_hz: float | None = None,
    *,
    start_s: float | None = None,
    time_first: bool | None = None,
    fluorescence: bool = False,
    labels: Labels | None = None,
    animal: str | None = None,
    recording: str = RECORDING,
    population: str = POPULATION,
) -> Population:
    """Return a population of dF/F in memory, for ``model.embed``.

    The following objects are supported: an array, also of Dask, h5py or Zarr, which is read in parts;
    pynapple's ``TsdFrame``; and xarray's ``DataArray`` with the dimension ``time`` in s and another
    dimension, in either order. The last two contain the times of their frames, which must be evenly spaced; a
    ``TsdFrame`` may have gaps between the epochs of its ``time_support``, which are not used. The array is
    not copied.

    Parameters
    ----------
    traces
        dF/F, ``(unit, time)``.
    rate_hz
        Frame rate (Hz), for an array without frame times.
    start_s
        Time of the first frame (s), for an array without frame times; None: 0.
    time_first
        Whether an array is ``(time, unit)``; None: it is ``(unit, time)``, and an array with more units than
        frames is an error.
    fluorescence
        True: the traces are raw fluorescence, from which dF/F is computed with Suite2p's baseline "maximin".
    labels, animal, recording, population
        As for :func:`from_spike_times`.

    Raises
    ------
    DataError
        If there is no unit or no finite sample, frames are not evenly spaced, or the orientation or labels
        are not valid.

    Examples
    --------
    >>> import numpy as np, nuclr
    >>> dff = np.random.default_rng(0).normal(size=(12, 600))
    >>> population = nuclr.from_traces(dff, 10.0, labels={"cell_type": ["E"] * 9 + ["I"] * 3})
    >>> population.activity.shape, population.bin_s, population.modality
    ((12, 600), 0.1, 'calcium')

    >>> import xarray
    >>> array = xarray.DataArray(dff.T, dims=("time", "unit"), coords={"time": np.arange(600) / 10})
    >>> nuclr.from_traces(array).activity.shape
    (12, 600)

    >>> tsdframe = pynapple.load_file("my_imaging.nwb")["RoiResponseSeries"]  # doctest: +SKIP
    >>> model.embed(nuclr.from_traces(tsdframe))  # doctest: +SKIP
    """
    names = Names(recording, animal, population)
    held = frames.oriented(held_traces(traces), time_first, recording)
    timing = (rate_hz, start_s)
    raw = frames.traces(held, recording, population, timing, fluorescence=fluorescence)
    raw = replace(raw, units=labelled(raw, labels, recording))
    return _with_something(names.made(raw, Chunk()), Chunk(), names)


def read_object(held: Any, options: Nwb, chunk: Chunk) -> list[Population]:
    """Return the populations of an object in memory: spike times, traces with frame times, or an NWBFile.

    Raises
    ------
    DataError
        If it is none of these, or is not valid.
    """
    if isinstance(held, Population):
        return [held]
    if in_memory.is_nwbfile(held):
        raws, session = in_memory.read_populations(held, options)
        names = Names(session.recording, session.animal)
        made = [names.made(raw, chunk) for raw in raws]
        for population in made:
            if why := why_left_out(population, chunk):
                logger.warning("%s: population %s: %s", names.path, population.population, why)
        if not (kept := [population for population in made if len(population.units)]):
            raise NothingToLearn(f"{names.path}: no units are left; lower min_rate_hz")
        return kept
    if is_traces(held):
        names = Names()
        traces = frames.oriented(held_traces(held), None, names.recording)
        raw = frames.traces(traces, names.recording, names.population, options=options)
        return [_with_something(names.made(raw, chunk), chunk, names)]
    return [_of_spikes(held_spikes(held), Names(), chunk, options=options)]


def _of_spikes(
    held: HeldSpikes,
    names: Names,
    chunk: Chunk,
    *,
    limits: tuple[float | None, float | None] = (None, None),
    labels: Labels | None = None,
    options: Nwb = ALL,
) -> Population:
    spans = _session(held, limits, names)
    check_seconds(spans, names.path)
    raw = SpikeTrains(
        path=names.path,
        population=safe_name(names.population),
        units=unit_table(held.ids, held.columns, options, names.recording),
        spikes=spikes_in_memory(names.recording, held.times),
        valid_spans=spans,
    )
    raw = replace(raw, units=labelled(raw, labels, names.recording))
    rate_hz = np.mean([len(own) for own in held.times]) / float(np.diff(spans).sum())
    if rate_hz < RARE_HZ:
        logger.warning("%s: units fire at only %.2g Hz; check that times are in seconds", names.path, rate_hz)
    return _with_something(names.made(raw, chunk), chunk, names)


def _with_something(population: Population, chunk: Chunk, names: Names) -> Population:
    """Return a population after checking that it can be used."""
    if population.modality == "calcium" and not len(population.units):
        raise NothingToLearn(f"{names.path}: all traces are NaN in all frames; check the traces")
    if why := why_left_out(population, chunk):
        raise NothingToLearn(
            f"{names.path}: {why}; check the spike times and the session, or lower min_rate_hz"
        )
    return population


def _session(held: HeldSpikes, limits: tuple[float | None, float | None], names: Names) -> np.ndarray:
    """Return the spans of the session, ``(interval, 2)`` (s)."""
    together = np.concatenate(held.times)
    known = together[np.isfinite(together)]
    if not len(known):
        raise NothingToLearn(f"{names.path}: contains no spikes; check the spike times")
    start, stop = limits
    if held.spans is None:
        spans = session_span(known.min(), known.max())
        spans[0] = [spans[0, 0] if start is None else start, spans[0, 1] if stop is None else stop]
    else:
        within = [-np.inf if start is None else start, np.inf if stop is None else stop]
        spans = intersect_spans(held.spans, np.array([within], float))
    if not (len(spans) and np.isfinite(spans).all() and (spans[:, 0] < spans[:, 1]).all()):
        raise DataError(
            f"{names.path}: no time is left between start_s = {start} and stop_s = {stop}; the spikes are "
            f"between {known.min():g} and {known.max():g} s"
        )
    return spans
