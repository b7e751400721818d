"""Small archives of exactly the format of the public data sets, and the road from one to its labels."""

from __future__ import annotations

import io
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from strategies import poisson_trains, save_nwb

from nuclr.config import Config, load_config
from nuclr.data.archives import download_recordings, licence_of, read_recording, recordings
from nuclr.data.archives.download import Fetcher
from nuclr.data.archives.left_out import reason_left_out
from nuclr.data.catalog import catalog
from nuclr.data.chunk import chunk_recording
from nuclr.data.population import Population
from nuclr.data.store import open_population, stores

QUICK = Fetcher(tries=4, pause_s=0.01)


def config_for(dataset: str, results: Path, server: str, **more: Any) -> Config:
    """Configure a data set whose servers are all ``server``."""
    servers = dict.fromkeys(("figshare", "alyx", "dandi"), server)
    return load_config(
        {"dataset": dataset, "results": str(results), "download": servers},
        more,
    )


def fetch_and_chunk(config: Config, names: list[str]) -> list[Population]:
    """Download recordings and chunk them; their populations."""
    download_recordings(config, names, QUICK)
    found = []
    for recording in recordings(config):
        if recording.recording not in names or reason_left_out(recording.path):
            continue
        folder = config.results / config.dataset / "populations" / recording.recording
        chunk_recording(
            read_recording(config, recording),
            folder,
            dataset=config.dataset,
            animal=recording.animal,
            recording=recording.recording,
            options=config.chunk,
            licence=licence_of(config, recording),
        )
        found += [open_population(path) for path in stores(folder)]
    return found


def tables(config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Catalogue all that was chunked."""
    return catalog(stores(config.results / config.dataset / "populations"))


def npy(values: Any) -> bytes:
    """Content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def column(values: Any) -> np.ndarray:
    """Make an array as MATLAB writes it: ``(n, 1)``, in Fortran's order."""
    return np.asfortranarray(np.asarray(values)[:, None])


def by_time(trains: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All spikes in the order of time, and the cluster of each."""
    times, clusters = np.concatenate(trains), np.repeat(np.arange(len(trains)), [len(t) for t in trains])
    order = np.argsort(times)
    return times[order], clusters[order]


def tarred(files: dict[str, bytes]) -> bytes:
    """Content of a .tar file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """Content of a .zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def steinmetz_session(session: str, *, clusters: int = 24, duration_s: float = 40.0) -> dict[str, bytes]:
    """Files of a session: two probes of half the clusters each, one cluster in four not good.

    Cluster 0 is good and never fires. The regions of a probe's clusters go through four acronyms.
    """
    trains = poisson_trains(clusters, duration_s)
    trains[0] = np.zeros(0)
    times, numbers = by_time(trains)
    channels = np.arange(clusters) * 3 + 1  # counted from 1, as the archive does
    regions = np.array(["VISp", "CA1", "root", "MRN"])[np.arange(3 * clusters) // 3 % 4]
    table = pd.DataFrame({"ccf_ap": 1.0, "ccf_dv": 2.0, "ccf_lr": 3.0, "allen_ontology": regions})
    files = {
        "spikes.times.npy": npy(column(times)),
        "spikes.clusters.npy": npy(column(numbers.astype(np.uint32))),
        "spikes.amps.npy": npy(column(np.ones(len(times)))),
        "clusters.probes.npy": npy(column((np.arange(clusters) >= clusters // 2).astype(np.uint8))),
        "clusters.peakChannel.npy": npy(column(channels.astype(float))),
        "clusters.depths.npy": npy(column(channels * 10.0)),
        "clusters._phy_annotation.npy": npy(
            column(np.where(np.arange(clusters) % 4 == 3, 1, 2).astype(np.uint8))
        ),
        "channels.brainLocation.tsv": table.to_csv(sep="\t", index=False).encode(),
        "trials.intervals.npy": npy(np.zeros((3, 2))),
    }
    return {f"{session}/{name}": content for name, content in files.items()}


def bugeon_session(animal: str, date: str, *, frames: int = 200) -> dict[str, bytes]:
    """Files of a session: three experiments of 14 neurons, and one whose neurons do not fit."""
    types = ["EC"] * 5 + ["IN", "Pvalb-Tac1", "Pvalb-Vipr2", "Sst-Reln", "Vip-Cp", "Lamp5-Plch2", "Sncg"]
    types += ["Serpinf1", ""]
    rng = np.random.default_rng(0)
    folder = f"Bugeon et al 2022 v2/{animal}/{date}"
    files = {
        f"{folder}/neuron.ttype.txt": ("\n".join(types) + "\n").encode(),
        f"{folder}/neuron.depth.npy": npy(column(np.arange(14.0))),
        f"{folder}/neuron.gene_count.npy": npy(np.zeros((14, 72))),
    }
    for experiment, neurons in (
        ("Blank/01", 14),
        ("Drifting Gratings/01", 14),
        ("Natural Scenes/01", 14),
        ("Natural Scenes/02", 9),
    ):
        here = f"{folder}/{experiment}"
        traces = np.abs(rng.standard_normal((frames, neurons)))
        files[f"{here}/frame.neuralActivity.npy"] = npy(np.asfortranarray(traces))
        files[f"{here}/frame.times.npy"] = npy(column(5.0 + 0.23344 * np.arange(frames)))
        files[f"{here}/frame.states.npy"] = npy(column(np.zeros(frames)))
    return files


def ibl_probe(*, clusters: int = 30, duration_s: float = 400.0, seed: int = 0) -> dict[str, bytes]:
    """Files of a probe: two clusters in three pass all metrics, one is not in the table of metrics.

    Channels are in CA1 (left hemisphere), VISp layer 5, root and void.
    """
    trains = poisson_trains(clusters, duration_s, rate_hz=2.0, seed=seed)
    times, numbers = by_time(trains)
    metrics = pd.DataFrame(
        {
            "cluster_id": np.arange(clusters - 1),
            "firing_rate": 2.0,
            "label": np.where(np.arange(clusters - 1) % 3 == 2, 2 / 3, 1.0),
        }
    )
    buffer = io.BytesIO()
    metrics.to_parquet(buffer)
    uuids = [f"{seed:08d}-0000-4000-8000-{cluster:012d}" for cluster in range(clusters)]
    return {
        "spikes.times.npy": npy(times),
        "spikes.clusters.npy": npy(numbers.astype(np.uint16)),
        "clusters.channels.npy": npy(np.arange(clusters).astype(np.int32)),
        "clusters.depths.npy": npy(np.arange(clusters) * 20.0),
        "clusters.metrics.pqt": buffer.getvalue(),
        "clusters.uuids.csv": ("uuids\n" + "\n".join(uuids) + "\n").encode(),
        # CA1, VISp5, root, void
        "channels.brainLocationIds_ccf_2017.npy": npy(np.array([-382, 778, 997, 0])[np.arange(clusters) % 4]),
        "spikes.amps.npy": npy(np.ones(len(times))),
    }


ALLEN_PULSES = 700.0 + 2.0 * np.arange(60)


def allen_trains(units: int = 24, seed: int = 0) -> list[np.ndarray]:
    """Spike times of 850 s. To each pulse of light, units 0 and 1 fire after 3 ms, unit 2 after 30 ms."""
    trains = poisson_trains(units, 850.0, rate_hz=3.0, seed=seed)
    for unit, delay_s in ((0, 0.003), (1, 0.003), (2, 0.030)):
        trains[unit] = np.sort(np.concatenate([trains[unit], ALLEN_PULSES + delay_s]))
    return trains


def allen_session(
    path: Path,
    session: str,
    animal: str,
    *,
    genotype: str = "Sst-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt",
    light: bool = True,
    changes: dict[str, Any] | None = None,
) -> bytes:
    """Content of a session's NWB file, as the Allen Institute writes them.

    24 units on two probes: every eighth outside of VIS, one without a structure, one noisy, one below each
    threshold of quality; one pair of invalid times.
    """
    nwb = NWBFile(
        session_description="Data and metadata for an Ecephys session",
        identifier=session,
        session_id=session,
        session_start_time=datetime(2019, 1, 1, tzinfo=UTC),
        institution="Allen Institute for Brain Science",
        stimulus_notes="brain_observatory_1.1",
        subject=Subject(subject_id=animal, genotype=genotype, age="P100D", sex="M", species="Mus musculus"),
    )
    units = 24
    values: dict[str, list[Any]] = {
        "quality": ["good"] * units,
        "amplitude_cutoff": [0.01] * units,
        "presence_ratio": [0.99] * units,
        "isi_violations": [0.1] * units,
        "peak_channel_id": [850_000_000 + 2 * unit for unit in range(units)],
    }
    regions = np.where(np.arange(units) % 8 == 7, "CA1", np.where(np.arange(units) % 2, "VISp", "VISl"))
    regions[3] = ""
    values["quality"][4] = "noise"
    values["amplitude_cutoff"][5], values["presence_ratio"][6], values["isi_violations"][8] = 0.2, 0.5, 0.9
    values |= changes or {}
    device = nwb.create_device("probe")
    probes = [
        nwb.create_electrode_group(name, description="", location="See electrode locations", device=device)
        for name in ("probeA", "probeB")
    ]
    for name in ("local_index", "probe_id"):
        nwb.add_electrode_column(name, "a column")
    for unit, region in enumerate(regions):
        probe = int(unit >= units // 2)
        nwb.add_electrode(
            id=values["peak_channel_id"][unit],
            # pynwb refuses empty text; the archive's files have it all the same.
            location=region or "nothing",
            group=probes[probe],
            local_index=unit,
            probe_id=probe,
        )
    for name in values:
        nwb.add_unit_column(name, "a column")
    for unit, times in enumerate(allen_trains(units)):
        row = {name: column[unit] for name, column in values.items()}
        nwb.add_unit(spike_times=times, id=950_000_000 + unit, **row)
    nwb.add_invalid_time_interval(start_time=50.0, stop_time=60.0, tags=["all_probes"])
    if light:
        table = TimeIntervals(name="optogenetic_stimulation", description="pulses of light")
        for name in ("condition", "level", "duration", "stimulus_name"):
            table.add_column(name, "a column")
        for onset in ALLEN_PULSES:
            table.add_row(
                start_time=onset,
                stop_time=onset + 0.01,
                condition="a single square pulse",
                level=1.2,
                duration=0.01,
                stimulus_name="pulse",
            )
        nwb.create_processing_module("optotagging", "optogenetic stimulation").add(table)
    save_nwb(nwb, path)
    with h5py.File(path, "a") as file:
        locations = file["general/extracellular_ephys/electrodes/location"]
        locations[np.array([text == b"nothing" for text in locations[:]])] = ""
    return path.read_bytes()
