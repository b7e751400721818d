"""What the tests are made of: hypothesis strategies for populations, and makers of small recordings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, RoiResponseSeries

from nuclr.data.population import Population


def population(
    units: int = 14,
    bins: int = 3000,
    *,
    animal: str = "mouse",
    recording: str = "session",
    rate: float = 0.1,
    seed: int = 0,
    spans: Sequence[tuple[float, float]] | None = None,
    modality: str = "spikes",
    bin_s: float = 0.02,
    start_s: float = 0.0,
) -> Population:
    """Make a population of Poisson units (or noise, for calcium) with labels of three kinds."""
    rng = np.random.default_rng(seed)
    activity: np.ndarray
    if modality == "spikes":
        activity = rng.poisson(rate, (units, bins)).astype(np.uint8)
    else:
        activity = rng.standard_normal((units, bins)).astype(np.float32)
    table = pd.DataFrame(
        {
            "unit_id": [f"{animal}_{recording}_{i}" for i in range(units)],
            "cell_type": [("a", "b", "")[i % 3] for i in range(units)],
        }
    )
    return Population(
        activity=activity,
        units=table,
        valid_spans=np.array(spans if spans is not None else [(start_s, start_s + bins * bin_s)]),
        dataset="test",
        animal=animal,
        recording=recording,
        population=f"{recording}/probe",
        modality=modality,
        bin_s=bin_s,
        start_s=start_s,
        source={"file": "none", "sha256": "0"},
    )


@st.composite
def populations(draw: st.DrawFn, *, largest: int = 30, modality: str | None = None) -> Population:
    """Draw populations of any size, length, bin and valid spans."""
    bins = draw(st.integers(1, 400))
    bin_s = draw(st.sampled_from([0.01, 0.02, 0.3]))
    start_s = draw(st.floats(-5, 5))
    cuts = sorted(draw(st.sets(st.integers(0, bins), min_size=2, max_size=6)) | {0, bins})
    spans = [(start_s + a * bin_s, start_s + b * bin_s) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    return population(
        draw(st.integers(1, largest)),
        bins,
        rate=draw(st.sampled_from([0.0, 0.05, 2.0])),
        seed=draw(st.integers(0, 99)),
        spans=spans,
        modality=modality or draw(st.sampled_from(["spikes", "calcium"])),
        bin_s=bin_s,
        start_s=start_s,
    )


@st.composite
def span_lists(draw: st.DrawFn, *, longest: int = 600) -> np.ndarray:
    """Draw ascending spans of bins that do not overlap, ``(span, 2)``."""
    cuts = sorted(draw(st.sets(st.integers(0, longest), min_size=2, max_size=8)))
    cuts = cuts[: len(cuts) // 2 * 2]
    return np.array(cuts).reshape(-1, 2)


def new_nwb(animal: str | None = "mouse", session: str = "session") -> NWBFile:
    """Begin an NWB file in memory."""
    return NWBFile(
        session_description="made for a test",
        identifier=session,
        session_id=session,
        session_start_time=datetime(2025, 1, 1, tzinfo=UTC),
        subject=None if animal is None else Subject(subject_id=animal, age="P90D", sex="U", species="Mus"),
    )


def save_nwb(nwb: NWBFile, path: Path) -> Path:
    """Write an NWB file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path


def write_units(
    path: Path,
    spike_times: Sequence[np.ndarray],
    *,
    animal: str | None = "mouse",
    session: str = "session",
    obs_intervals: Any = None,
    regions: Sequence[str] | None = None,
    probes: Sequence[str] | None = None,
    columns: dict[str, Sequence[Any]] | None = None,
    waveforms: Sequence[np.ndarray] | None = None,
) -> Path:
    """Write an NWB file with a Units table."""
    nwb = new_nwb(animal, session)
    if regions is not None:
        device = nwb.create_device("device")
        names = list(probes or ["probe"] * len(regions))
        groups = {
            name: nwb.create_electrode_group(name, description="", location="", device=device)
            for name in dict.fromkeys(names)
        }
        for region, name in zip(regions, names, strict=True):
            nwb.add_electrode(location=region, group=groups[name])
    for name in columns or {}:
        nwb.add_unit_column(name, "a column")
    for unit, times in enumerate(spike_times):
        extra: dict[str, Any] = {name: values[unit] for name, values in (columns or {}).items()}
        if obs_intervals is not None:
            extra["obs_intervals"] = obs_intervals
        if regions is not None:
            extra["electrodes"] = [unit]
        if waveforms is not None:
            extra["waveform_mean"] = waveforms[unit]
        nwb.add_unit(spike_times=times, **extra)
    return save_nwb(nwb, path)


def write_traces(
    path: Path,
    traces: np.ndarray,
    *,
    animal: str = "worm",
    session: str = "session",
    rate: float | None = 2.0,
    timestamps: np.ndarray | None = None,
    columns: dict[str, Sequence[Any]] | None = None,
    more: Sequence[str] = (),
) -> Path:
    """Write an NWB file with one dF/F series from ``traces`` ``(time, unit)``; ``more``: ``module/name``."""
    nwb = new_nwb(animal, session)
    device = nwb.create_device("microscope")
    plane = nwb.create_imaging_plane(
        name="plane",
        optical_channel=OpticalChannel(name="channel", description="", emission_lambda=500.0),
        description="",
        device=device,
        excitation_lambda=600.0,
        indicator="GCaMP",
        location="head",
    )
    segmentation = ImageSegmentation()
    table = segmentation.create_plane_segmentation(name="rois", description="", imaging_plane=plane)
    for name in columns or {}:
        table.add_column(name, "a column")
    for unit in range(traces.shape[1]):
        extra = {name: values[unit] for name, values in (columns or {}).items()}
        table.add_roi(image_mask=np.ones((2, 2)), **extra)
    module = nwb.create_processing_module("ophys", "")
    module.add(segmentation)
    rois = table.create_roi_table_region("all", region=list(range(traces.shape[1])))
    timing: dict[str, Any] = {"rate": rate} if timestamps is None else {"timestamps": timestamps}
    series = RoiResponseSeries(name="dff", data=traces, rois=rois, unit="", **timing)
    module.add(DfOverF(roi_response_series=series))
    for place in more:
        name, _, own = place.partition("/")
        if name not in nwb.processing:
            nwb.create_processing_module(name, "").add(DfOverF())
        rois = table.create_roi_table_region("all", region=list(range(traces.shape[1])))
        other = RoiResponseSeries(name=own, data=traces, rois=rois, unit="", **timing)
        nwb.processing[name]["DfOverF"].add_roi_response_series(other)
    return save_nwb(nwb, path)


def poisson_trains(units: int, duration_s: float, rate_hz: float = 5.0, seed: int = 0) -> list[np.ndarray]:
    """Sorted spike times of independent Poisson units."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.uniform(0, duration_s, rng.poisson(rate_hz * duration_s) + 1)) for _ in range(units)]
