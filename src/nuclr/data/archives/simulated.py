r"""Simulated recordings with known regions and cell types, written as NWB files.

The generative model
--------------------
An animal a has one recording: a population whose units i, of region r and cell type c, are
Poisson processes with the rate

.. math::

    \lambda_i(t) = \exp\bigl(g_a + \rho_r + \epsilon_i
        + k_a \, (\gamma_0 + \gamma_c) \, x_a(t) + k_a \, \delta_r \, y_a(t)
        - \tfrac12 k_a^2 ((\gamma_0 + \gamma_c)^2 + \delta_r^2)\bigr)

where x and y are fluctuations shared by the whole population: independent Ornstein-Uhlenbeck
processes of unit variance with time constants of the animal,

.. math::  \tau \, dx = -x \, dt + \sqrt{2 \tau} \, dW .

Cell types and regions determine how a unit relates to its population:

- a **cell type** is a coupling gamma_c to x: with it, indifferent, or against it;
- a **region** is a rate relative to the population, rho_r, and a coupling delta_r to y, which is
  slower than x: two levels of each make four regions.

The firing rate of a single unit does not identify them: the animal's log gain g_a, uniform over a
wide range, varies more than rho_r, and the last term makes the mean rate of a unit independent of its
couplings. Animals also differ in time constants, in the overall strength of coupling k_a and in
their mix of regions and types (Dirichlet), so that one animal is not enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nuclr.config import Nwb, Reading
from nuclr.data.recording import SIMULATED, Recording, SpikeTrains, Traces
from nuclr.files import whole

if TYPE_CHECKING:
    import pandas as pd

CELL_TYPES = ("follower", "indifferent", "opponent")
REGIONS = ("A1", "A2", "B1", "B2")
LABELS = ("cell_type",)  # columns of the Units table; regions are in the electrodes' location
STEP_S = 0.01
# Units, spacing and seed of a recording along a probe.
PROBE_UNITS, UNIT_SPACING_UM, PROBE_SEED = 80, 25.0, 7


@dataclass(frozen=True)
class SimulationSpec:
    """Parameters of the generative model; see the docstring of the module for the symbols.

    Attributes
    ----------
    units, duration_s
        Number of units in a recording, and its length (s).
    rate_hz
        Median rate of an animal with median gain.
    gain_sd, unit_sd
        Standard deviation of g_a and of epsilon_i, in log rate.
    type_coupling
        gamma_0 and s, where gamma_c is +s, 0 or -s.
    region_rate
        rho_r is plus or minus this.
    region_coupling
        The two levels of delta_r.
    tau_s
        Median time constants of x and y.
    tau_sd, coupling_sd
        Standard deviation of the logarithm of time constants, and of k_a.
    mix
        Concentration of the Dirichlet from which an animal's shares of regions and types come.
    """

    units: int = 25
    duration_s: float = 60.0
    rate_hz: float = 15.0
    gain_sd: float = 0.8
    unit_sd: float = 0.15
    type_coupling: tuple[float, float] = (0.5, 0.8)
    region_rate: float = 0.5
    region_coupling: tuple[float, float] = (0.1, 0.7)
    tau_s: tuple[float, float] = (2.0, 4.0)
    tau_sd: float = 0.3
    coupling_sd: float = 0.1
    mix: float = 30.0


@dataclass(frozen=True)
class SimulatedRecording:
    """Spike times (s) of every unit, ascending, and the units' true regions and types."""

    spike_times: list[np.ndarray]
    units: pd.DataFrame


def ornstein_uhlenbeck(steps: int, tau_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return a stationary Ornstein-Uhlenbeck process of unit variance in steps of ``STEP_S``, ``(time,)``."""
    from scipy.signal import lfilter

    keep = np.exp(-STEP_S / tau_s)
    noise = rng.standard_normal(steps)
    noise[1:] *= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], noise)


def simulate_recording(spec: SimulationSpec, animal: int, seed: int) -> SimulatedRecording:
    """Simulate the recording of one animal; the same arguments give the same spikes.

    Parameters
    ----------
    spec
        Parameters of the generative model.
    animal
        Number of the animal; animals are independent.
    seed
        Seed of the whole data set.
    """
    import pandas as pd

    rng = np.random.default_rng([seed, animal])
    gain = np.exp(spec.gain_sd * np.sqrt(3) * rng.uniform(-1, 1))
    coupling = np.exp(spec.coupling_sd * rng.standard_normal())
    scale = np.exp(spec.tau_sd * rng.standard_normal(2))
    region = rng.choice(4, spec.units, p=rng.dirichlet(np.full(4, spec.mix)))
    cell_type = rng.choice(3, spec.units, p=rng.dirichlet(np.full(3, spec.mix)))

    base, size = spec.type_coupling
    to_x = coupling * (base + size * np.array([1.0, 0.0, -1.0])[cell_type])
    to_y = coupling * np.array(spec.region_coupling)[region % 2]
    log_rate = np.log(spec.rate_hz * gain) + spec.region_rate * np.where(region < 2, 1, -1)
    log_rate = log_rate + spec.unit_sd * rng.standard_normal(spec.units) - (to_x**2 + to_y**2) / 2

    steps = round(spec.duration_s / STEP_S)
    x, y = (ornstein_uhlenbeck(steps, tau * s, rng) for tau, s in zip(spec.tau_s, scale, strict=True))
    rate = np.exp(log_rate[:, None] + to_x[:, None] * x + to_y[:, None] * y)
    counts = rng.poisson(rate * STEP_S)
    unit, step = np.nonzero(counts)
    repeats = counts[unit, step]
    unit, step = np.repeat(unit, repeats), np.repeat(step, repeats)
    times = (step + rng.random(len(step))) * STEP_S
    order = np.lexsort((times, unit))
    spike_times = np.split(times[order], np.bincount(unit, minlength=spec.units).cumsum()[:-1])
    units = pd.DataFrame(
        {
            "brain_region": np.array(REGIONS)[region],
            "cell_type": np.array(CELL_TYPES)[cell_type],
        }
    )
    return SimulatedRecording(spike_times, units)


def animal_names(animals: int) -> list[str]:
    """Return the names of the simulated animals; each has one recording with the same name."""
    return [f"sim{animal:03d}" for animal in range(animals)]


def recordings(raw: Path, animals: int) -> list[Recording]:
    """Return all recordings; each becomes a file in ``raw`` when it is simulated."""
    return [Recording(raw / f"{name}.nwb", name, name) for name in animal_names(animals)]


def read(recording: Recording) -> list[SpikeTrains] | list[Traces]:
    """Read the population of a recording, with its true regions and cell types."""
    from nuclr.data.formats import nwb

    return nwb.read_populations(recording.path, Reading(nwb=Nwb(unit_columns=list(LABELS))))


def write_nwb(recording: SimulatedRecording, name: str, path: Path, duration_s: float) -> None:
    """Write a recording as an NWB file: Units table with electrodes, labels and obs_intervals."""
    import h5py
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.file import Subject

    nwb = NWBFile(
        session_description="Simulated population; model in nuclr.data.archives.simulated",
        identifier=name,
        session_id=name,
        keywords=[SIMULATED],
        # A fixed date, so that the same simulation gives the same file.
        session_start_time=datetime(2025, 1, 1, tzinfo=UTC),
        file_create_date=datetime(2025, 1, 1, tzinfo=UTC),
        subject=Subject(subject_id=name, species="Mus musculus", sex="U", age="P90D"),
    )
    device = nwb.create_device("simulated probe")
    probe = nwb.create_electrode_group("probe", description="simulated", location="simulated", device=device)
    depths = recording.units.get("depth_um")
    for unit, region in enumerate(recording.units["brain_region"]):
        place = {} if depths is None else {"rel_x": 0.0, "rel_y": float(depths.iloc[unit])}
        nwb.add_electrode(location=region, group=probe, **place)
    nwb.add_unit_column("cell_type", "true cell type of the simulation")
    for unit, times in enumerate(recording.spike_times):
        nwb.add_unit(
            spike_times=times,
            obs_intervals=[[0.0, duration_s]],
            electrodes=[unit],
            cell_type=recording.units["cell_type"].iloc[unit],
        )
    # Written in memory first: if the disk is full, HDF5 can crash, whereas a plain write raises an error.
    buffer = BytesIO()
    with h5py.File(buffer, "w") as file, NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwb)
    with whole(path) as partial:
        partial.write_bytes(buffer.getvalue())


def simulate_along_probe(path: Path, animal: int) -> Path:
    """Write a recording whose regions are arranged along a probe as an NWB file, and return its path.

    Parameters
    ----------
    path
        Path of the file.
    animal
        Number of the animal, which differs from all that :func:`simulate` draws with the default seed.
    """
    spec = SimulationSpec(units=PROBE_UNITS)
    recording = simulate_recording(spec, animal, PROBE_SEED)
    rng = np.random.default_rng([PROBE_SEED, animal, 1])
    from_tip = rng.permutation(REGIONS).tolist()
    place = recording.units["brain_region"].map(from_tip.index).to_numpy() + rng.random(spec.units)
    depth_um = UNIT_SPACING_UM * np.argsort(np.argsort(place)).astype(float)
    placed = SimulatedRecording(recording.spike_times, recording.units.assign(depth_um=depth_um))
    write_nwb(placed, f"demo{animal}", path, spec.duration_s)
    return path


def simulate(spec: SimulationSpec, animals: int, seed: int, folder: Path) -> Iterator[Path]:
    """Write the recordings of a number of animals, and yield each file when it is complete."""
    for animal, name in enumerate(animal_names(animals)):
        path = folder / f"{name}.nwb"
        write_nwb(simulate_recording(spec, animal, seed), name, path, spec.duration_s)
        yield path
