"""Conversion of recordings to population stores, out of core: Dask bins spikes and copies traces."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import dask
import dask.array as da
import numpy as np

from nuclr import __version__
from nuclr.config import Chunk
from nuclr.data.access.remote import Remote
from nuclr.data.population import Population
from nuclr.data.recording import SpikeTrains, Traces, check_seconds, remove_spans
from nuclr.data.spikes import Grid, SpikesByUnit
from nuclr.data.store import open_population, shard_bins, stores, write_population
from nuclr.data.text import as_text
from nuclr.errors import DataError, NothingToLearn, StoreError
from nuclr.files import sha256_of, whole_folder
from nuclr.words import counted, share_of

logger = logging.getLogger(__name__)

FRAMES_S = (1e-5, 1e3)  # shortest and longest plausible frame (s)


def chunk_recording(
    populations: list[SpikeTrains] | list[Traces],
    folder: Path,
    *,
    dataset: str,
    animal: str,
    recording: str,
    options: Chunk,
    licence: str = "",
) -> list[str]:
    """Write the stores of all populations of a recording to ``folder``, all of them or none.

    Stores that were made from the same file with the same settings are kept.

    Parameters
    ----------
    populations
        Populations that were read from the recording.
    folder
        Folder of the recording; an existing one is replaced.
    dataset, animal, recording
        Identity, which is stored.
    options
        Bin, chunk and shard lengths, and the lowest firing rate.
    licence
        Licence of the recording, which is stored; "" if it is unknown.

    Returns
    -------
    list of str
        Names of the stored populations. A population without units is left out.

    Raises
    ------
    DataError
        If spike times or traces are not valid, no unit is left, or two populations have the same name.
    NuclrError
        If the disk is full or the folder cannot be written.
    """
    identity = {"dataset": dataset, "animal": animal, "recording": recording}
    names = [raw.population.lower() for raw in populations]
    if twice := [raw.population for raw in populations if names.count(raw.population.lower()) > 1]:
        raise DataError(
            f"{populations[0].path}: populations {', '.join(twice)} would be written to the same store; "
            "give them different names"
        )
    source = {
        "file": populations[0].path.name,
        "sha256": hash_of(populations[0]),
        "chunk": options.model_dump_json(),
        "nuclr": __version__,
        **({"licence": licence} if licence else {}),
        **_origin_of(populations[0]),
    }
    if made := _made_before(populations, folder, identity, source):
        logger.info("%s: already chunked with the same settings; nothing to do", populations[0].path)
        return made
    kept, left_out = [], []
    for raw in populations:
        population = to_population(raw, **identity, options=options, source=source)
        if why := why_left_out(population, options):
            logger.warning("%s: population %s: %s; left out", raw.path, raw.population, why)
            left_out.append(raw.population)
        else:
            kept.append(population)
    if not kept:
        raise NothingToLearn(
            f"{populations[0].path}: no units are left; lower chunk.min_rate_hz, or leave the file out"
        )
    if left_out:
        source["left_out"] = ", ".join(left_out)
    with whole_folder(folder) as partial:
        for population in kept:
            write_population(
                replace(population, source=source),
                partial / f"{population.population.rpartition('/')[2]}.zarr",
                chunk_s=options.chunk_s,
                shard_s=options.shard_s,
            )
    return [population.population for population in kept]


def hash_of(raw: SpikeTrains | Traces) -> str:
    """Return the hash of the files that were read; for a recording on a server, that of its address."""
    if isinstance(raw.path, Remote):
        return hashlib.sha256(raw.path.url.encode()).hexdigest()
    return sha256_of(raw.path, raw.files)


def _made_before(
    populations: list[SpikeTrains] | list[Traces],
    folder: Path,
    identity: dict[str, str],
    source: dict[str, str],
) -> list[str]:
    """Return the names of the stores in ``folder`` if they equal what would be written; otherwise none."""
    made = {}
    for path in stores(folder):
        try:
            made[path.stem] = open_population(path)
        except StoreError:
            return []
    left_out = {
        name for store in made.values() for name in store.source.get("left_out", "").split(", ") if name
    }
    if {raw.population for raw in populations} != {*made, *left_out}:
        return []
    for raw in populations:
        if raw.population in left_out:
            continue
        store = made[raw.population]
        same = {**store.source, "left_out": ""} == {**source, "left_out": ""}
        same = same and all(getattr(store, key) == value for key, value in identity.items())
        # The configuration may have changed which columns are labels.
        if not same or set(raw.units) != set(store.units):
            return []
        units = raw.units[raw.units["unit_id"].isin(store.units["unit_id"])].reset_index(drop=True)
        if not units.apply(as_text).equals(store.units[list(units)].apply(as_text)):
            return []
    return [store.population for store in made.values()]


def why_left_out(population: Population, options: Chunk) -> str:
    """Return the reason why a population cannot be used; "" if it can."""
    if not len(population.valid_spans):
        return "no unit ever fires"
    if not len(population.units):
        return f"no unit fires at chunk.min_rate_hz = {options.min_rate_hz:g} or more"
    return ""


def to_population(
    raw: SpikeTrains | Traces,
    *,
    dataset: str,
    animal: str,
    recording: str,
    options: Chunk,
    source: dict[str, str],
) -> Population:
    """Return a :class:`Population` whose activity is computed lazily from a population in files."""
    waveforms = None
    if isinstance(raw, SpikeTrains):
        activity, kept, spans = bin_spikes(raw, options)
        if options.waveforms:
            waveforms = _waveforms(raw, kept)
        bin_s, start_s = options.bin_s, float(raw.valid_spans[0, 0])
    else:
        activity, kept, spans = copy_traces(raw, options)
        bin_s, start_s = raw.frame_s, raw.start_s
    return Population(
        activity=activity,
        units=raw.units.iloc[kept].reset_index(drop=True),
        valid_spans=spans,
        dataset=dataset,
        animal=animal,
        recording=recording,
        population=f"{recording}/{raw.population}",
        modality="spikes" if isinstance(raw, SpikeTrains) else "calcium",
        bin_s=bin_s,
        start_s=start_s,
        source=source | _origin_of(raw),
        waveforms=waveforms,
    )


def _origin_of(raw: SpikeTrains | Traces) -> dict[str, str]:
    return {"origin": raw.origin} if raw.origin else {}


def _waveforms(raw: SpikeTrains, kept: np.ndarray) -> np.ndarray | None:
    """Read the mean waveforms of some units; None, with a warning, if the file has none."""
    if raw.waveforms is None:
        logger.warning(
            "%s: population %s: no mean waveforms in the file; none are stored (chunk.waveforms)",
            raw.path,
            raw.population,
        )
        return None
    return raw.waveforms.only(kept).read()


def bin_spikes(raw: SpikeTrains, options: Chunk) -> tuple[da.Array, np.ndarray, np.ndarray]:
    """Count spikes per bin, lazily, with one Dask task for each shard.

    One pass over the files checks every spike and finds the position of each shard's spikes; a task then
    reads only its own spikes. Spike times that are not in order are sorted, and those outside the session are
    left out, both with a warning. Seconds in which the whole probe is silent are removed from the valid
    spans.

    Returns
    -------
    activity
        ``(unit, time)``, uint8, or uint16 if a count exceeds 255.
    kept
        Rows of ``raw.units`` that fire at ``options.min_rate_hz`` or more.
    valid_spans
        Valid spans without the silences, ``(interval, 2)``.

    Raises
    ------
    DataError
        If a spike time is NaN or infinite, or a bin contains more spikes than 16 bits can count.
    """
    check_seconds(raw.valid_spans, raw.path)
    start, stop = raw.valid_spans[0, 0], raw.valid_spans[-1, 1]
    if stop - start < options.bin_s:
        raise DataError(
            f"{raw.path}: population {raw.population}: the session lasts {stop - start:.3g} s, less than one "
            f"bin of {options.bin_s:g} s; check that spike times are in seconds"
        )
    bins = max(1, int(np.ceil((stop - start) / options.bin_s - 1e-6)))
    _, shard = shard_bins(bins, options.bin_s, options.chunk_s, options.shard_s, len(raw.units))
    grid = Grid(start, stop, options.bin_s, np.minimum(np.arange(0, bins + shard, shard), bins))
    found = raw.spikes.survey(grid, raw.valid_spans, list(raw.units["unit_id"]))
    if found.unsorted:
        what = "unit" if isinstance(raw.spikes, SpikesByUnit) else "file"
        logger.warning(
            "%s: spike times of %s were not in ascending order; they were sorted",
            raw.path,
            counted(found.unsorted, what),
        )
    if found.outside and not raw.cut:
        logger.warning(
            "%s: %s outside the session [%g, %g] s (negative or beyond its end); left out",
            raw.path,
            share_of(found.outside, found.total, "spike"),
            start,
            stop,
        )
    spans, inside = raw.valid_spans, found.inside
    silent = silences(found.by_second, spans, start)
    if len(silent):
        spans = remove_spans(spans, silent)
        inside = raw.spikes.inside(spans)
        logger.warning(
            "%s: population %s: all units are silent for %.0f s, which are not used",
            raw.path,
            raw.population,
            np.diff(raw.valid_spans).sum() - np.diff(spans).sum(),
        )
    observed_s = float(np.diff(spans).sum())
    rate = inside / observed_s if observed_s else np.zeros(len(inside))
    kept = np.flatnonzero(rate >= options.min_rate_hz)
    if 0 < len(kept) < len(rate):
        logger.info(
            "%s: population %s: %s less than chunk.min_rate_hz = %g; left out",
            raw.path,
            raw.population,
            share_of(len(rate) - len(kept), len(rate), "unit", "fires", "fire"),
            options.min_rate_hz,
        )
    if found.densest > 65535:
        raise DataError(
            f"{raw.path}: population {raw.population}: a unit has {found.densest} spikes in one bin of "
            f"{options.bin_s:g} s, more than 65535; check that spike times are in seconds, or lower "
            "chunk.bin_s"
        )
    dtype = np.uint8 if found.densest <= 255 else np.uint16
    blocks = [
        da.from_delayed(
            dask.delayed(raw.spikes.count, pure=False)(grid, found.shard(i), kept, dtype),
            shape=(len(kept), grid.length(i)),
            dtype=dtype,
        )
        for i in range(len(grid.edges) - 1)
    ]
    return da.concatenate(blocks, axis=1), kept, spans


def silences(by_second: np.ndarray, spans: np.ndarray, start_s: float) -> np.ndarray:
    """Return spans in which a whole probe is silent, with a second on either side, ``(interval, 2)``.

    A silence counts if it is unlikely to occur by chance in a session: a population with the rate r is silent
    for k seconds with probability exp(-r k). One silent second is therefore enough for most probes, while a
    few sparse units need a longer silence. If a population is silent in most seconds, it may be sparse or
    bursting, and no silence counts, unless it never fires.

    Parameters
    ----------
    by_second
        Spikes of the population in each whole second, ``(second,)``.
    spans
        Valid spans (s); seconds that are not completely inside one are ignored.
    start_s
        Start of the first second (s).
    """
    starts = start_s + np.arange(len(by_second))
    span = np.searchsorted(spans[:, 0], starts + 1e-6, side="right") - 1
    valid = (span >= 0) & (starts + 1 <= spans[np.maximum(span, 0), 1] + 1e-6)
    if not valid.any():
        return np.zeros((0, 2))
    rate = np.median(by_second[valid])
    silent = np.concatenate([[False], valid & (by_second == 0), [False]])
    first, last = np.flatnonzero(silent[1:] & ~silent[:-1]), np.flatnonzero(silent[:-1] & ~silent[1:])
    certain = valid.sum() * np.exp(-rate * (last - first)) < 1e-3
    if not by_second[valid].any():
        certain[:] = True
    return start_s + np.stack([first[certain] - 1, last[certain] + 1], axis=1).astype(float)


def copy_traces(raw: Traces, options: Chunk) -> tuple[da.Array, np.ndarray, np.ndarray]:
    """Read dF/F lazily, with one Dask task for each shard.

    One pass over the files finds samples that are NaN or infinite. ROIs without any finite sample are left
    out, and frames in which no ROI is finite are removed from the valid spans, both with a warning. Other
    such samples become 0.

    Returns
    -------
    activity
        ``(unit, time)``, float32.
    kept
        Rows of ``raw.units`` with at least one finite sample.
    valid_spans
        Valid spans without the removed frames, ``(interval, 2)``.

    Raises
    ------
    DataError
        If the frame length is not plausible, or times are not in seconds.
    """
    if not FRAMES_S[0] <= raw.frame_s <= FRAMES_S[1]:
        raise DataError(
            f"{raw.path}: population {raw.population}: a frame length of {raw.frame_s:.3g} s is not "
            "plausible; "
            "set imaging.rate_hz to the frame rate"
        )
    check_seconds(raw.valid_spans, raw.path)
    _, shard = shard_bins(raw.count, raw.frame_s, options.chunk_s, options.shard_s, 4 * len(raw.units))
    parts = [(first, min(first + shard, raw.count)) for first in range(0, raw.count, shard)]
    ever, dark, missing = np.zeros(len(raw.units), bool), np.zeros(raw.count, bool), 0
    for first, last in parts:
        good = np.isfinite(raw.read(first, last))
        ever |= good.any(axis=1)
        dark[first:last] = ~good.any(axis=0)
        missing += good.size - np.count_nonzero(good)
    kept, spans = np.flatnonzero(ever), raw.valid_spans
    if len(kept) < len(ever) and len(kept):
        logger.warning(
            "%s: population %s: %s NaN in all frames; left out",
            raw.path,
            raw.population,
            counted(int((~ever).sum()), "ROI is", "ROIs are"),
        )
    if dark.any() and len(kept):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], dark.astype(np.int8), [0]]))).reshape(-1, 2)
        spans = remove_spans(spans, raw.start_s + edges * raw.frame_s)
        logger.warning(
            "%s: population %s: all ROIs are NaN for %.3g s, which are not used",
            raw.path,
            raw.population,
            dark.sum() * raw.frame_s,
        )
    left = missing - raw.count * int((~ever).sum()) - int(dark.sum()) * len(kept)
    if left > 0 and len(kept):
        logger.warning("%s: population %s: %d samples are NaN; set to 0", raw.path, raw.population, left)
    chosen = raw.only(ever)
    blocks = [
        da.from_delayed(
            dask.delayed(_read_traces, pure=False)(chosen, first, last),
            shape=(len(kept), last - first),
            dtype=np.float32,
        )
        for first, last in parts
    ]
    return da.concatenate(blocks, axis=1), kept, spans


def _read_traces(raw: Traces, first: int, last: int) -> np.ndarray:
    """Read the frames of a shard, ``(unit, time)``; 0 for samples that are not finite."""
    return np.nan_to_num(raw.read(first, last), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
