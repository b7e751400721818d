"""Folders as spike sorters leave them, made of the same spikes as an NWB file would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import zarr

RATE_HZ = 30000.0


def by_time(trains: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All spikes in the order of time: samples, and the unit of each."""
    samples = np.concatenate([np.round(train * RATE_HZ) for train in trains]).astype(np.int64)
    units = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    order = np.argsort(samples, kind="stable")
    return samples[order], units[order]


def write_phy(folder: Path, trains: list[np.ndarray], groups: list[str] | None = None) -> Path:
    """Write what phy opens: clusters 10, 12, 14, ..., of which a person has called some noise."""
    folder.mkdir(parents=True)
    samples, units = by_time(trains)
    np.save(folder / "spike_times.npy", samples.astype(np.uint64)[:, None])  # as Kilosort does
    np.save(folder / "spike_clusters.npy", (10 + 2 * units).astype(np.int32))
    (folder / "params.py").write_text(
        f"dat_path = 'recording.dat'\nsample_rate = {RATE_HZ}  # Hz\nhp_filtered = False\n"
    )
    if groups is not None:
        rows = "".join(f"{10 + 2 * i}\t{group}\n" for i, group in enumerate(groups))
        (folder / "cluster_group.tsv").write_text(f"cluster_id\tgroup\n{rows}")
    return folder


def write_spikeinterface(
    folder: Path, trains: list[np.ndarray], quality: list[str], segments: int = 1
) -> Path:
    """Write what ``sorting.save(folder=...)`` does."""
    samples, units = by_time(trains)
    (folder / "properties").mkdir(parents=True)
    spikes = np.zeros(
        len(samples), [("sample_index", "<i8"), ("unit_index", "<i8"), ("segment_index", "<i8")]
    )
    spikes["sample_index"], spikes["unit_index"] = samples, units
    np.save(folder / "spikes.npy", spikes)
    np.save(folder / "properties" / "quality.npy", np.array(quality))
    info = {
        "sampling_frequency": RATE_HZ,
        "unit_ids": [f"u{i}" for i in range(len(trains))],
        "num_segments": segments,
    }
    (folder / "numpysorting_info.json").write_text(json.dumps(info))
    return folder


def write_spikeinterface_zarr(folder: Path, trains: list[np.ndarray], quality: list[str]) -> Path:
    """Write what ``sorting.save(folder=..., format="zarr")`` does: Zarr format 2."""
    samples, units = by_time(trains)
    group = zarr.create_group(folder, zarr_format=2)
    group.attrs["sampling_frequency"], group.attrs["num_segments"] = RATE_HZ, 1
    for name, values in {
        "unit_ids": np.array([f"u{i}" for i in range(len(trains))]),
        "properties/quality": np.array(quality),
        "spikes/sample_index": samples,
        "spikes/unit_index": units,
    }.items():
        group.create_array(name, data=values)
    return folder
