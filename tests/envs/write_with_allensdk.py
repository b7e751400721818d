"""Runs in allensdk's environment: write a session with allensdk's own types, and say how it reads it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import h5py
import numpy as np
import pandas as pd
from allensdk.brain_observatory.ecephys.ecephys_session import EcephysSession
from allensdk.brain_observatory.ecephys.nwb import EcephysSpecimen
from allensdk.brain_observatory.ecephys.nwb_util import (
    add_ecephys_electrodes,
    add_probe_to_nwbfile,
    add_ragged_data_to_dynamic_table,
)
from allensdk.brain_observatory.ecephys.optotagging import OptotaggingTable
from pynwb import NWBHDF5IO, NWBFile
from pynwb.misc import Units

path = sys.argv[1]
UNITS = 16
PULSES = 400.0 + 2.0 * np.arange(40)
rng = np.random.default_rng(0)

nwb = NWBFile(
    session_description="Data and metadata for an Ecephys session",
    identifier="715093703",
    session_id="715093703",
    session_start_time=datetime(2019, 1, 1, tzinfo=UTC),
    stimulus_notes="brain_observatory_1.1",
    subject=EcephysSpecimen(
        specimen_name="Sst-IRES-Cre;Ai32-386129",
        subject_id="699733573",
        genotype="Sst-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt",
        age_in_days=118.0,
        age="P118D",
        species="Mus musculus",
        sex="M",
        strain="mixed",
    ),
)
for probe, name in enumerate(("probeA", "probeB")):
    nwb, _, group = add_probe_to_nwbfile(
        nwb,
        probe_id=810755797 + probe,
        name=name,
        sampling_rate=30000.0,
        lfp_sampling_rate=1250.0,
        has_lfp_data=False,
    )
    own = range(probe * UNITS // 2, (probe + 1) * UNITS // 2)
    channels = [
        {
            "id": 850_000_000 + 2 * unit,
            "probe_id": 810755797 + probe,
            "valid_data": True,
            "probe_channel_number": unit,
            "probe_vertical_position": 20 * unit,
            "probe_horizontal_position": 43,
            "structure_acronym": ("VISp", "VISl", "CA1", "nothing")[unit % 4],
            "anterior_posterior_ccf_coordinate": 1.0,
            "dorsal_ventral_ccf_coordinate": 2.0,
            "left_right_ccf_coordinate": 3.0,
            "impedance": np.nan,
            "filtering": "AP band: 500 Hz high-pass",
        }
        for unit in own
    ]
    add_ecephys_electrodes(nwb, channels, group)

trains = [np.sort(rng.uniform(0, 500, 1500)) for _ in range(UNITS)]
trains[0] = np.sort(np.concatenate([trains[0], PULSES + 0.003]))
quality = {
    "quality": ["noise" if unit == 4 else "good" for unit in range(UNITS)],
    "amplitude_cutoff": [0.5 if unit == 5 else 0.01 for unit in range(UNITS)],
    "presence_ratio": [0.5 if unit == 8 else 0.99 for unit in range(UNITS)],
    "isi_violations": [0.9 if unit == 9 else 0.1 for unit in range(UNITS)],
}
table = pd.DataFrame(
    {
        "id": 950_000_000 + np.arange(UNITS),
        "peak_channel_id": 850_000_000 + 2 * np.arange(UNITS),
        "local_index": np.arange(UNITS),
        "cluster_id": np.arange(UNITS),
        "firing_rate": 3.0,
        **quality,
    }
).set_index("id")
nwb.units = Units.from_dataframe(table, name="units")
for name, values in (("spike_times", trains), ("spike_amplitudes", [np.ones(len(t)) for t in trains])):
    add_ragged_data_to_dynamic_table(
        table=nwb.units,
        data=dict(zip(table.index, values, strict=True)),
        column_name=name,
        column_description="of a unit",
    )
nwb.units.add_column("waveform_mean", "mean waveform", data=[np.zeros((2, 3)) for _ in range(UNITS)])
pulses = pd.DataFrame(
    {
        "start_time": PULSES,
        "stop_time": PULSES + 0.01,
        "condition": "a single square pulse",
        "level": 1.2,
        "duration": 0.01,
        "stimulus_name": "pulse",
    }
)
OptotaggingTable(pulses).to_nwb(nwb)
nwb.add_invalid_time_interval(start_time=50.0, stop_time=60.0, tags=["all_probes"])
with NWBHDF5IO(path, "w") as io:
    io.write(nwb)
with h5py.File(path, "a") as file:  # pynwb refuses empty text; the published files have it all the same
    location = file["general/extracellular_ephys/electrodes/location"]
    location[np.array([text == b"nothing" for text in location[:]])] = ""

session = EcephysSession.from_nwb_path(path)
units = session.units
print(
    json.dumps(
        {
            "units": {str(unit): structure for unit, structure in units["structure_acronym"].items()},
            "spikes": {str(unit): len(session.spike_times[unit]) for unit in units.index},
            "invalid": session.get_invalid_times()[["start_time", "stop_time"]].to_numpy().tolist(),
            "light": float(session.optogenetic_stimulation_epochs["start_time"].min()),
        }
    )
)
