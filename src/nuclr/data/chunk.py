"""From recordings to stores, out of core: Dask bins spikes and copies traces shard by shard."""

from __future__ import annotations

import logging
from pathlib import Path

import dask
import dask.array as da
import h5py
import numpy as np

from nuclr import __version__
from nuclr.config import Chunk
from nuclr.data.population import Population
from nuclr.data.sources.nwb import SpikeTrains, Traces
from nuclr.data.store import open_population, shard_bins, stores, write_population
from nuclr.errors import DataError, StoreError
from nuclr.files import sha256_of, whole_folder

logger = logging.getLogger(__name__)


def chunk_recording(
    populations: list[SpikeTrains] | list[Traces],
    folder: Path,
    *,
    dataset: str,
    animal: str,
    recording: str,
    options: Chunk,
) -> list[str]:
    """Write the stores of all populations of a recording to ``folder``, all or none.

    Stores that were made from the same file in the same way are left as they are.

    Parameters
    ----------
    populations
        What the source found in the recording.
    folder
        The recording's folder; one that is there is replaced.
    dataset, animal, recording
        Identity, kept in the stores.
    options
        Bin, chunk and shard lengths; the least firing rate.

    Returns
    -------
    list of str
        Names of the populations written. A population of which no unit is left is left out.

    Raises
    ------
    DataError
        If spike times or traces cannot be trusted, or no unit is left.
    NuclrError
        If the disk is full or the folder cannot be written.
    """
    identity = {"dataset": dataset, "animal": animal, "recording": recording}
    source = {
        "file": populations[0].path.name,
        "sha256": sha256_of(populations[0].path),
        "chunk": options.model_dump_json(),
        "nuclr": __version__,
    }
    if names := _made_before(populations, folder, identity, source):
        logger.info("%s: chunked before, in the same way: nothing to do", populations[0].path)
        return names
    written = []
    with whole_folder(folder) as partial:
        for raw in populations:
            population = to_population(raw, **identity, options=options, source=source)
            if not len(population.units):
                logger.warning(
                    "%s: no unit of population %s fires at chunk.min_rate_hz = %g; left out",
                    raw.path,
                    raw.population,
                    options.min_rate_hz,
                )
                continue
            write_population(
                population,
                partial / f"{raw.population}.zarr",
                chunk_s=options.chunk_s,
                shard_s=options.shard_s,
            )
            written.append(population.population)
        if not written:
            raise DataError(
                f"{populations[0].path}: no unit left; lower chunk.min_rate_hz or leave the file out"
            )
    return written


def _made_before(
    populations: list[SpikeTrains] | list[Traces],
    folder: Path,
    identity: dict[str, str],
    source: dict[str, str],
) -> list[str]:
    """Names of the stores in ``folder`` if they are what these populations would become; else none."""
    names = []
    for raw in populations:
        try:
            store = open_population(folder / f"{raw.population}.zarr")
        except StoreError:
            return []
        same = store.source == source and all(getattr(store, key) == value for key, value in identity.items())
        # Labels come from columns that the configuration names.
        if not same or set(raw.units) != set(store.units):
            return []
        units = raw.units[raw.units["unit_id"].isin(store.units["unit_id"])].reset_index(drop=True)
        if not units.fillna("").astype(str).equals(store.units[list(units)].fillna("").astype(str)):
            return []
        names.append(store.population)
    return names if len(names) == len(stores(folder)) else []


def to_population(
    raw: SpikeTrains | Traces,
    *,
    dataset: str,
    animal: str,
    recording: str,
    options: Chunk,
    source: dict[str, str],
) -> Population:
    """Describe a raw population as a :class:`Population` whose activity is computed when asked for."""
    if isinstance(raw, SpikeTrains):
        activity, kept = bin_spikes(raw, options)
        bin_s, start_s = options.bin_s, float(raw.valid_spans[0, 0])
    else:
        activity, kept = _traces(raw, options), np.arange(len(raw.units))
        bin_s, start_s = raw.frame_s, raw.start_s
    return Population(
        activity=activity,
        units=raw.units.iloc[kept].reset_index(drop=True),
        valid_spans=raw.valid_spans,
        dataset=dataset,
        animal=animal,
        recording=recording,
        population=f"{recording}/{raw.population}",
        modality="spikes" if isinstance(raw, SpikeTrains) else "calcium",
        bin_s=bin_s,
        start_s=start_s,
        source=source,
    )


def bin_spikes(raw: SpikeTrains, options: Chunk) -> tuple[da.Array, np.ndarray]:
    """Count spikes per bin, lazily, one task a shard.

    One pass over the file checks every unit and finds where each shard's spikes begin; a task then
    reads its own spikes only. Policy: NaN is refused; unsorted times are sorted and times outside
    the valid spans are left out, both with a warning.

    Returns
    -------
    activity
        ``(unit, time)``, uint8, or uint16 where a count passes 255.
    kept
        Rows of ``raw.units`` that fire at ``options.min_rate_hz`` or more.

    Raises
    ------
    DataError
        If a spike time is NaN or infinite.
    """
    start, stop = raw.valid_spans[0, 0], raw.valid_spans[-1, 1]
    bins = max(1, int(np.ceil((stop - start) / options.bin_s - 1e-6)))
    _, shard = shard_bins(bins, options.bin_s, options.chunk_s, options.shard_s)
    edges = np.minimum(np.arange(0, bins + shard, shard), bins)
    edge_s = start + edges * options.bin_s
    edge_s[-1] = stop
    observed_s = float(np.diff(raw.valid_spans, axis=1).sum())

    offsets = np.zeros((len(raw.units), len(edges)), np.int64)
    unsorted = np.zeros(len(raw.units), bool)
    rate = np.zeros(len(raw.units))
    densest, outside, total = 0, 0, 0
    for unit, times in enumerate(raw.read()):
        if not np.isfinite(times).all():
            raise DataError(
                f"{raw.path}: unit {raw.units['unit_id'][unit]}: spike times hold NaN or infinity; "
                "mend or remove the unit"
            )
        if len(times) > 1 and (np.diff(times) < 0).any():
            unsorted[unit] = True
            times = np.sort(times)
        offsets[unit] = np.searchsorted(times, edge_s)
        inside = times[offsets[unit, 0] : offsets[unit, -1]]
        outside += len(times) - len(inside)
        total += len(times)
        if len(inside):
            counts = np.unique(_bins_of(inside, start, options.bin_s), return_counts=True)[1]
            densest = max(densest, int(counts.max()))
        spans = np.searchsorted(times, raw.valid_spans)
        rate[unit] = (spans[:, 1] - spans[:, 0]).sum() / observed_s
    if unsorted.any():
        logger.warning("%s: spike times of %d units were not ascending: sorted", raw.path, unsorted.sum())
    if outside:
        logger.warning(
            "%s: %d of %d spikes lie outside the session [%g, %g] s (negative or beyond its end): left out",
            raw.path,
            outside,
            total,
            start,
            stop,
        )
    kept = np.flatnonzero(rate >= options.min_rate_hz)
    dtype = np.uint8 if densest <= 255 else np.uint16
    # Unsorted units are read whole and sorted again by every task: rare, and never more than one unit.
    blocks = [
        da.from_delayed(
            dask.delayed(_count_shard, pure=False)(
                raw.path,
                raw.rows[kept],
                unsorted[kept],
                offsets[kept, i : i + 2],
                (float(start), int(edges[i]), int(edges[i + 1]), options.bin_s),
                dtype,
            ),
            shape=(len(kept), int(edges[i + 1] - edges[i])),
            dtype=dtype,
        )
        for i in range(len(edges) - 1)
    ]
    return da.concatenate(blocks, axis=1), kept


def _bins_of(times: np.ndarray, start: float, bin_s: float) -> np.ndarray:
    """Bin of every time. Divided, not floor-divided: ``1.0 // 0.02`` is 49, since 0.02 is a little more."""
    return np.floor((times - start) / bin_s).astype(np.int64)


def _count_shard(
    path: Path,
    rows: np.ndarray,
    unsorted: np.ndarray,
    offsets: np.ndarray,
    where: tuple[float, int, int, float],
    dtype: type[np.unsignedinteger],
) -> np.ndarray:
    """Count the spikes of one shard, ``(unit, time)``, reading only these."""
    start, first, last, bin_s = where
    counts = np.zeros((len(rows), last - first), dtype)
    with h5py.File(path) as file:
        times, stops = file["units/spike_times"], file["units/spike_times_index"][:].astype(np.int64)
        for unit, row in enumerate(rows):
            begin = stops[row - 1] if row else 0
            low, high = offsets[unit]
            if low == high:
                continue
            if unsorted[unit]:
                own = np.sort(times[begin : stops[row]])[low:high]
            else:
                own = times[begin + low : begin + high]
            # A spike on an edge may round to the neighbouring shard's bin; it stays in this one.
            bins = np.clip(_bins_of(own, start, bin_s) - first, 0, last - first - 1)
            counts[unit] = np.bincount(bins, minlength=last - first)
    return counts


def _traces(raw: Traces, options: Chunk) -> da.Array:
    """dF/F as ``(unit, time)``, one task a shard; gaps in a trace (NaN) become 0 with a warning."""
    with h5py.File(raw.path) as file:
        frames = file[raw.dataset].shape[0]
    _, shard = shard_bins(frames, raw.frame_s, options.chunk_s, options.shard_s)
    blocks = [
        da.from_delayed(
            dask.delayed(_read_traces, pure=False)(raw.path, raw.dataset, first, min(first + shard, frames)),
            shape=(len(raw.units), min(first + shard, frames) - first),
            dtype=np.float32,
        )
        for first in range(0, frames, shard)
    ]
    return da.concatenate(blocks, axis=1)


def _read_traces(path: Path, dataset: str, first: int, last: int) -> np.ndarray:
    with h5py.File(path) as file:
        traces = np.atleast_2d(file[dataset][first:last].astype(np.float32).T)
    bad = ~np.isfinite(traces)
    if bad.any():
        logger.warning("%s: %d samples of %s are NaN: set to 0", path, bad.sum(), dataset)
        traces[bad] = 0.0
    return traces
