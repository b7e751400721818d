"""Population stores: Zarr format 3, opened with xarray. The only file that knows the layout.

``{population}.zarr`` holds ``activity`` (unit, time), the unit table as coordinates on ``unit``, the
valid spans (interval), the summary of the activity (``mean_activity`` on ``unit``, attribute ``scale``), and
where they were kept ``waveform`` (unit, sample). Chunks span all units and some time; shards group chunks,
so that a recording is a handful of files.
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
    """Bins in a chunk and in a shard (a whole number of chunks) of an activity of ``bins`` bins.

    A shard is made in memory as a whole, so wide recordings (many ``bytes_a_bin``, over all units)
    have shorter ones.
    """
    chunk = max(1, min(bins, round(chunk_s / bin_s)))
    chunks = min(
        -(-bins // chunk), round(shard_s / bin_s / chunk), LARGEST_SHARD // max(1, bytes_a_bin * chunk)
    )
    return chunk, chunk * max(1, chunks)


def write_population(population: Population, path: Path, *, chunk_s: float, shard_s: float) -> None:
    """Write a population, whole or not at all.

    A Dask array is computed one shard at a time: Zarr takes no locks, and two tasks in one shard
    would corrupt it silently, so the array is cut exactly at the shards.

    Parameters
    ----------
    population
        Its activity may be a Dask array.
    path
        The store; one that is there is replaced.
    chunk_s, shard_s
        Length of a chunk and, rounded to whole chunks, of a shard (s).

    Raises
    ------
    NuclrError
        If the store cannot be written; nothing is left behind.
    """
    units, bins = population.activity.shape
    activity = da.asarray(population.activity)
    chunk, shard = shard_bins(bins, population.bin_s, chunk_s, shard_s, units * activity.dtype.itemsize)
    if isinstance(population.activity, da.Array) and activity.chunksize[1] % chunk == 0:
        shard = activity.chunksize[1]  # made shard by shard already
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
    # Byte shuffling gains nothing on one-byte counts; bit shuffling drops their empty high bits.
    encoding = {
        "activity": {
            "chunks": (units, chunk),
            "shards": (units, shard),
            "compressors": (BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),),
        }
    }
    with whole_folder(path) as partial:
        content.to_zarr(partial, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
        # From what was written: of a Dask array, making it again would take as long as the first time.
        summary = summarise(replace(population, activity=_activity(partial)))
        scale = summary.scale if np.isfinite(summary.scale) else None  # JSON has no NaN
        known = xr.Dataset(
            {"mean_activity": ("unit", summary.mean_activity)}, attrs={**content.attrs, "scale": scale}
        )
        known.to_zarr(partial, mode="a", zarr_format=3, consolidated=False)


def _as_column(values: pd.Series) -> np.ndarray:
    """Numbers as they are; everything else as text, the empty string where it is missing."""
    if not is_label(values):
        return values.to_numpy()
    return as_text(values).to_numpy(dtype=np.dtypes.StringDType())


def open_population(path: Path) -> Population:
    """Open a store; its activity is a Dask array, read when it is needed.

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
        if "mean_activity" not in content:  # a store that was made before summaries were kept
            return population
        scale = float("nan") if attrs["scale"] is None else float(attrs["scale"])
        return population.summarised(Summary(content["mean_activity"].to_numpy(), scale))
    except (KeyError, ValueError, OSError) as error:
        raise StoreError(
            f"{path}: damaged ({error}); delete the store and chunk the recording again"
        ) from None


def _activity(path: Path) -> da.Array:
    """Activity of a store, ``(unit, time)``; a Dask chunk is a shard, the smallest piece that is a file.

    Its name, and that of all that is made of it, tells what it holds, in any process.
    """
    activity = zarr.open_array(path / "activity", mode="r", zarr_format=3)
    written = (path / "activity" / "zarr.json").stat()
    name = f"activity-{tokenize(str(path.absolute()), written.st_mtime_ns, written.st_ino)}"
    return da.from_zarr(activity, chunks=activity.shards or activity.chunks, name=name)


def identity_of(path: Path) -> dict[str, Any]:
    """Read what a store says of itself, without opening its arrays: empty where it cannot be read."""
    try:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError):
        return {}
    return attributes if isinstance(attributes, dict) else {}


def stores(folder: Path) -> list[Path]:
    """All population stores below a folder, in the order of their names; not what a kill left half-made."""
    return sorted(path for path in folder.rglob("*.zarr") if not is_half_made(path, folder))
