"""Runs where SpikeInterface is: save a sorting in every form, and say how it reads these and others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import spikeinterface as si
import zarr
from spikeinterface.extractors import read_kilosort, read_phy

RATE_HZ, SECONDS = 30000.0, 20.0
folder = Path(sys.argv[1])
# Written by the test: what a sorter and a curator left.
phy, kilosort = folder / "phy", folder / "kilosort4"

rng = np.random.default_rng(0)
samples = {
    f"u{unit}": np.unique(rng.integers(0, int(RATE_HZ * SECONDS), 120 + 40 * unit))
    for unit in (7, 3, 11, 0, 5)
}
sorting = si.NumpySorting.from_unit_dict([samples], RATE_HZ)
sorting.set_property("quality", np.array(["good", "noise", "mua", "", "good"]))
sorting.set_property("brain_region", np.array(["CA1", "CA1", "VISp", "", "CA1"]))
sorting.set_property("tagged", np.array([True, False, False, True, False]))
sorting.set_property("snr", np.linspace(1, 5, 5))
sorting.set_property("location", np.zeros((5, 3)))
sorting.save(folder=folder / "plain")
sorting.save(folder=folder / "zarr_sorting", format="zarr")
recording = si.generate_recording(num_channels=4, sampling_frequency=RATE_HZ, durations=[SECONDS], seed=0)
for name, form in (("analyzer_a", "binary_folder"), ("analyzer_b.zarr", "zarr")):
    analyzer = si.create_sorting_analyzer(
        sorting, recording, format=form, folder=folder / name, sparse=False, return_in_uV=False
    )
    analyzer.compute(["random_spikes", "templates"])
read_phy(phy).save(folder=folder / "phy_saved")
read_kilosort(kilosort).save(folder=folder / "kilosort_saved")


def without_noise(sorting: si.BaseSorting) -> si.BaseSorting:
    keep = sorting.get_property("quality") != "noise"
    return sorting.select_units(sorting.unit_ids[keep])


def seen(sorting: si.BaseSorting) -> dict[str, object]:
    return {
        "rate_hz": sorting.sampling_frequency,
        "samples": {str(unit): sorting.get_unit_spike_train(unit).tolist() for unit in sorting.unit_ids},
        "seconds": {
            str(unit): sorting.get_unit_spike_train(unit, return_times=True).tolist()
            for unit in sorting.unit_ids
        },
        "properties": {
            key: np.asarray(sorting.get_property(key)).tolist() for key in sorting.get_property_keys()
        },
    }


read = {
    "plain": without_noise(si.load(folder / "plain")),
    "zarr_sorting.zarr": without_noise(si.load(folder / "zarr_sorting.zarr")),
    "analyzer_a": without_noise(si.load_sorting_analyzer(folder / "analyzer_a").sorting),
    "analyzer_b.zarr": without_noise(si.load_sorting_analyzer(folder / "analyzer_b.zarr").sorting),
    "phy": read_phy(phy, exclude_cluster_groups=["noise"]),
    "phy_saved": without_noise(si.load(folder / "phy_saved")),
    "kilosort4": read_kilosort(kilosort),
    "kilosort_saved": si.load(folder / "kilosort_saved"),
    "kilosort4, good": read_kilosort(kilosort, keep_good_only=True),
}
(folder / "seen.json").write_text(json.dumps({name: seen(sorting) for name, sorting in read.items()}))
print(si.__version__, zarr.__version__)
