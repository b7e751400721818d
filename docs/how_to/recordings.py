"""The recordings of the how-to pages and of the tutorials on Neuropixels and Suite2p, and their pictures.

python docs/how_to/recordings.py FOLDER      writes the recordings, and with --pictures draws them anew
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import nuclr
from nuclr.data.archives.simulated import (
    SimulationSpec,
    simulate,
    simulate_along_probe,
    simulate_recording,
)

HERE = Path(__file__).parent
TUTORIALS = HERE.parent / "tutorials"
RATE_HZ, FRAME_HZ = 30000.0, 30.0
UNITS, SECONDS = 24, 120.0
# Of the mice in the tutorial on calcium imaging. Several planes are imaged in turn, so that the rate is low.
MICE, ROIS, NEW_ROIS, MOUSE_SECONDS, VOLUME_HZ = 12, 30, 60, 240.0, 4.0
# What each page inspects, by the page's name.
SHOWN = {
    "nwb": "mouse7.nwb",
    "phy": "mouse7_kilosort",
    "spikeinterface": "mouse7_sorting",
    "suite2p": "mouse7/suite2p",
}
# The folder with the results of each tutorial, by the tutorial's name.
RESULTS = {"neuropixels": "session", "suite2p": "new_mouse_types"}


def write(folder: Path) -> None:
    """Write the same spikes as an NWB file and as sorters leave them, and what a microscope sees of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in simulate(SimulationSpec(units=UNITS, duration_s=SECONDS), 1, 7, folder / "simulated"):
        pass
    (made,) = (folder / "simulated").glob("*.nwb")
    session = made.rename(folder / SHOWN["nwb"])
    made.parent.rmdir()
    trains = spike_times(session)
    write_phy(folder / SHOWN["phy"], trains)
    write_sorting(folder / SHOWN["spikeinterface"], trains)
    write_suite2p(folder / SHOWN["suite2p"] / "plane0", trains)
    write_along_probe(folder)
    write_mice(folder)


def write_along_probe(folder: Path) -> None:
    """Write a session along a probe as phy leaves it, and labelled recordings of twelve other animals."""
    made = simulate_along_probe(folder / "made.nwb", animal=3)
    trains = spike_times(made)
    (population,) = nuclr.read(made)
    depths = population.units["depth_um"]
    made.unlink()
    session = folder / "session_kilosort"
    write_phy(session, trains)
    rows = "".join(f"{i}\t{depth:.0f}\tgood\n" for i, depth in enumerate(depths))
    (session / "cluster_info.tsv").write_text(f"cluster_id\tdepth\tgroup\n{rows}")
    for name in ("cluster_KSLabel.tsv", "cluster_group.tsv"):
        (session / name).unlink()
    for _ in simulate(SimulationSpec(units=40), 12, 11, folder / "labelled"):
        pass


def write_mice(folder: Path) -> None:
    """Write Suite2p's output of labelled mice and of a new one, and the types of their cells as tables."""
    mice = {f"labelled_mice/mouse{i:02d}": "cell_types.csv" for i in range(1, MICE + 1)}
    mice["new_mouse"] = "new_mouse_truth.csv"
    for number, (mouse, table) in enumerate(mice.items()):
        rois = ROIS if number < MICE else NEW_ROIS
        spec = SimulationSpec(units=rois, duration_s=MOUSE_SECONDS, rate_hz=3.0)
        recording = simulate_recording(spec, number, 12)
        plane = folder / mouse / "suite2p" / "plane0"
        write_suite2p(plane, recording.spike_times, spec.duration_s, VOLUME_HZ, seed=number)
        if not (folder / table).exists():
            (folder / table).write_text("unit_id,cell_type\n")
        with (folder / table).open("a") as rows:
            for i in np.flatnonzero(np.load(plane / "iscell.npy")[:, 0]):
                follows = recording.units["cell_type"].iloc[i] == "follower"
                kind = "inhibitory" if follows else "excitatory"
                rows.write(f"{Path(mouse).name}_plane0_{i},{kind}\n")


def spike_times(session: Path) -> list[np.ndarray]:
    """Read the spike times (s) of each unit of an NWB file."""
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(session, "r") as io:
        units = io.read().units
        return [np.asarray(units["spike_times"][i]) for i in range(len(units))]


def in_order(trains: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All spikes in the order of time, in samples, and the unit of each."""
    samples = np.concatenate([np.round(train * RATE_HZ) for train in trains]).astype(np.int64)
    units = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    order = np.argsort(samples, kind="stable")
    return samples[order], units[order]


def write_phy(folder: Path, trains: list[np.ndarray]) -> None:
    """Write what Kilosort 4 leaves, of which a person has judged some clusters in phy."""
    folder.mkdir(parents=True)
    samples, units = in_order(trains)
    np.save(folder / "spike_times.npy", samples)
    np.save(folder / "spike_clusters.npy", units.astype(np.int32))
    (folder / "params.py").write_text(f"dat_path = 'recording.bin'\nsample_rate = {RATE_HZ}\n")
    kilosort = ["good" if i % 3 else "mua" for i in range(len(trains))]
    rows = "".join(f"{i}\t{label}\n" for i, label in enumerate(kilosort))
    (folder / "cluster_KSLabel.tsv").write_text(f"cluster_id\tKSLabel\n{rows}")
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n0\tgood\n5\tnoise\n7\tnoise\n")


def write_sorting(folder: Path, trains: list[np.ndarray]) -> None:
    """Write what ``sorting.save(folder="mouse7_sorting")`` does."""
    (folder / "properties").mkdir(parents=True)
    samples, units = in_order(trains)
    spikes = np.zeros(
        len(samples), [("sample_index", "<i8"), ("unit_index", "<i8"), ("segment_index", "<i8")]
    )
    spikes["sample_index"], spikes["unit_index"] = samples, units
    np.save(folder / "spikes.npy", spikes)
    np.save(folder / "properties" / "quality.npy", np.array(["good"] * len(trains)))
    names = [str(i) for i in range(len(trains))]
    info = {"sampling_frequency": RATE_HZ, "unit_ids": names, "num_segments": 1}
    (folder / "numpysorting_info.json").write_text(json.dumps(info))


def write_suite2p(
    plane: Path,
    trains: list[np.ndarray],
    seconds: float = SECONDS,
    frame_hz: float = FRAME_HZ,
    seed: int = 0,
) -> None:
    """Write what Suite2p leaves of cells whose calcium follows these spikes, and of some that are none."""
    plane.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    frames = int(seconds * frame_hz)
    counts = np.stack([np.histogram(train, bins=frames, range=(0, seconds))[0] for train in trains]).astype(
        float
    )
    decay = np.exp(-np.arange(int(3 * frame_hz)) / (0.6 * frame_hz))
    calcium = np.stack([np.convolve(own, decay)[:frames] for own in counts])
    neuropil = (
        80
        + 15 * np.convolve(calcium.mean(axis=0), np.ones(15) / 15, mode="same")
        + rng.normal(0, 2, (len(trains), frames))
    )
    fluorescence = 100 + 25 * calcium + 0.7 * neuropil + rng.normal(0, 4, calcium.shape)
    iscell = np.stack([np.arange(len(trains)) % 5 != 4, np.ones(len(trains))], axis=1)
    for name, values in (("F", fluorescence), ("Fneu", neuropil), ("iscell", iscell)):
        np.save(plane / f"{name}.npy", values.astype(np.float32))
    options = {"fs": frame_hz, "neucoeff": 0.7, "nplanes": 1}
    np.save(plane / "ops.npy", np.array(options, dtype=object), allow_pickle=True)


def draw(folder: Path) -> None:
    """Draw what the pages show."""
    for page, recording in SHOWN.items():
        command = ["nuclr", "inspect", str(folder / recording), "--picture", str(HERE / page)]
        subprocess.run(command, check=True)
        (HERE / f"{page}.svg").unlink()
    draw_map(folder)
    for tutorial, results in RESULTS.items():
        draw_answers(folder, tutorial, results)


def draw_answers(folder: Path, tutorial: str, results: str) -> None:
    """Run the commands of a tutorial, and take the picture out of the report that they write."""
    for command in re.findall(r"^\$ (.+)$", (TUTORIALS / f"{tutorial}.md").read_text(), re.M):
        subprocess.run(["bash", "-c", command], cwd=folder, check=True)
    report = (folder / results / "report.html").read_text()
    picture = re.search(r"data:image/png;base64,([^\"]+)", report)
    assert picture is not None
    (TUTORIALS / f"{tutorial}.png").write_bytes(base64.b64decode(picture[1]))


def draw_map(folder: Path) -> None:
    """Draw the embeddings of the NWB file's units by a model of twelve other animals."""
    from nuclr.report.figures.overview import embedding_figure, flat
    from nuclr.report.figures.scores import save_figure

    others = folder / "others"
    for _ in simulate(SimulationSpec(units=UNITS, duration_s=SECONDS), 12, 0, others):
        pass
    config = {"pretrain": {"steps": 600}}
    model = nuclr.load_model(nuclr.pretrain(others, folder / "map" / "model.safetensors", config=config))
    embeddings = model.embed(model.read(folder / SHOWN["nwb"]))
    columns = ("cell_type", "brain_region")
    kinds = {column: embeddings.units[column].to_numpy(object) for column in columns}
    figure = embedding_figure(flat(embeddings.vectors), kinds, f"{UNITS} units of mouse7.nwb")
    save_figure(figure, HERE / "notebook")
    (HERE / "notebook.svg").unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    if "--pictures" in sys.argv:
        draw(Path(sys.argv[1]))
