"""Population stores in Zarr format 3, opened with xarray. Only this file knows their layout.

``{population}.zarr`` contains ``activity`` (unit, time), the unit table as coordinates on ``unit``, the
valid spans (interval), the summary of the activity (``mean_activity`` on ``unit``, attribute ``scale``), and
optionally ``waveform`` (unit, sample). Chunks span all units and some time; shards group chunks, so that a
recording consists of few files.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
import zarr
from dask.base import tokenize
from zarr.codecs import BloscCodec

from nuclr.data.population import Population, Summary, summarise
from nuclr.data.text import as_text, is_label
from nuclr.errors import StoreError
from nuclr.files import is_half_made, whole_folder

SCHEMA_VERSION = 1
LARGEST_SHARD = 32_000_000  # bytes, decoded
IDENTITY = ("dataset", "animal", "recording", "population", "modality", "bin_s", "start_s")


def shard_bins(
    bins: int, bin_s: float, chunk_s: float, shard_s: float, bytes_a_bin: int = 0
) -> tuple[int, int]:
    """Return the number of bins in a chunk and in a shard, which is a whole number of chunks.

    A shard is made in memory as a whole, so recordings of many units (large ``bytes_a_bin``, over all units)
    have shorter shards.
    """
    chunk = max(1, min(bins, round(chunk_s / bin_s)))
    chunks = min(
        -(-bins // chunk), round(shard_s / bin_s / chunk), LARGEST_SHARD // max(1, bytes_a_bin * chunk)
    )
    return chunk, chunk * max(1, chunks)


def write_population(population: Population, path: Path, *, chunk_s: float, shard_s: float) -> None:
    """Write a population store completely or not at all.

    A Dask array is computed one shard at a time: Zarr does not lock, and two tasks in one shard would corrupt
    it silently, so the chunks of the array are exactly the shards.

    Parameters
    ----------
    population
        The population; its activity may be a Dask array.
    path
        Path of the store; an existing one is replaced.
    chunk_s, shard_s
        Length of a chunk and, rounded to whole chunks, of a shard (s).

    Raises
    ------
    NuclrError
        If the store cannot be written; no partial store remains.
    """
    units, bins = population.activity.shape
    activity = da.asarray(population.activity)
    chunk, shard = shard_bins(bins, population.bin_s, chunk_s, shard_s, units * activity.dtype.itemsize)
    if isinstance(population.activity, da.Array) and activity.chunksize[1] % chunk == 0:
        shard = activity.chunksize[1]  # its chunks are already shards
    activity = activity.rechunk((units, shard))
    table = {name: ("unit", _as_column(population.units[name])) for name in population.units}
    arrays = {"activity": (("unit", "time"), activity)}
    if population.waveforms is not None:
        arrays["waveform"] = (("unit", "sample"), population.waveforms)
    content = xr.Dataset(
        arrays,
        coords={
            **table,
            "valid_start_s": ("interval", population.valid_spans[:, 0]),
            "valid_stop_s": ("interval", population.valid_spans[:, 1]),
        },
        attrs={
            **{name: getattr(population, name) for name in IDENTITY},
            "source": population.source,
            "schema_version": SCHEMA_VERSION,
        },
    )
    # Byte shuffling does not help with one-byte counts; bit shuffling compresses their empty high bits.
    encoding = {
        "activity": {
            "chunks": (units, chunk),
            "shards": (units, shard),
            "compressors": (BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),),
        }
    }
    with whole_folder(path) as partial:
        content.to_zarr(partial, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
        # Computed from the written store, because computing the Dask array again would take as long.
        summary = summarise(replace(population, activity=_activity(partial)))
        scale = summary.scale if np.isfinite(summary.scale) else None  # JSON has no NaN
        known = xr.Dataset(
            {"mean_activity": ("unit", summary.mean_activity)}, attrs={**content.attrs, "scale": scale}
        )
        known.to_zarr(partial, mode="a", zarr_format=3, consolidated=False)


def _as_column(values: pd.Series) -> np.ndarray:
    """Return numbers unchanged, and everything else as text, with the empty string for missing values."""
    if not is_label(values):
        return values.to_numpy()
    return as_text(values).to_numpy(dtype=np.dtypes.StringDType())


def open_population(path: Path) -> Population:
    """Open a store; its activity is a Dask array, which is read when it is needed.

    Raises
    ------
    StoreError
        If there is no store, or it is damaged or of another version.
    """
    if not path.exists():
        raise StoreError(f"{path}: no such population store; run `nuclr chunk` on the recording")
    try:
        content = xr.open_zarr(path, consolidated=False, chunks=None, zarr_format=3)
        attrs: dict[str, Any] = content.attrs
        if attrs.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: schema version {attrs.get('schema_version')}, but this version of nuclr reads "
                f"{SCHEMA_VERSION}; delete the store and chunk the recording again"
            )
        units = pd.DataFrame(
            {
                str(name): column.to_numpy()
                for name, column in content.coords.items()
                if column.dims == ("unit",)
            }
        )
        population = Population(
            activity=_activity(path),
            units=units,
            valid_spans=np.stack(
                [content["valid_start_s"].to_numpy(), content["valid_stop_s"].to_numpy()], axis=1
            ),
            source=attrs["source"],
            waveforms=content["waveform"].to_numpy() if "waveform" in content else None,
            **{name: attrs[name] for name in IDENTITY},
        )
        if "mean_activity" not in content:  # a store from a version without summaries
            return population
        scale = float("nan") if attrs["scale"] is None else float(attrs["scale"])
        return population.summarised(Summary(content["mean_activity"].to_numpy(), scale))
    except (KeyError, ValueError, OSError) as error:
        raise StoreError(
            f"{path}: damaged ({error}); delete the store and chunk the recording again"
        ) from None


def _activity(path: Path) -> da.Array:
    """Return the activity of a store, ``(unit, time)``; each Dask chunk is a shard, which is one file.

    The name of the Dask array identifies its content, so it is the same in all processes.
    """
    activity = zarr.open_array(path / "activity", mode="r", zarr_format=3)
    written = (path / "activity" / "zarr.json").stat()
    name = f"activity-{tokenize(str(path.absolute()), written.st_mtime_ns, written.st_ino)}"
    return da.from_zarr(activity, chunks=activity.shards or activity.chunks, name=name)


def identity_of(path: Path) -> dict[str, Any]:
    """Return the attributes of a store without opening its arrays; empty if they cannot be read."""
    try:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError):
        return {}
    return attributes if isinstance(attributes, dict) else {}


def stores(folder: Path) -> list[Path]:
    """Return all population stores below a folder, sorted by name, without incomplete ones."""
    return sorted(path for path in folder.rglob("*.zarr") if not is_half_made(path, folder))
