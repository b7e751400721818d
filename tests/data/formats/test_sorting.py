"""Spikes in sorters' folders become the same counts as those of an NWB file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sorted_folders import write_phy, write_spikeinterface, write_spikeinterface_zarr
from strategies import poisson_trains, population, write_units

import nuclr
from nuclr.config import Chunk, Reading
from nuclr.data.archives.left_out import leave_out
from nuclr.data.chunk import bin_spikes
from nuclr.data.formats.kilosort import read_kilosort
from nuclr.data.own import animals_of, find
from nuclr.data.own_stores import store_found
from nuclr.data.store import open_population, stores, write_population
from nuclr.errors import DataError
from nuclr.files import sha256_of

TRAINS = [np.round(train * 30000) / 30000 for train in poisson_trains(4, 20.0)]
QUALITY = ["good", "noise", "", "mua"]


@pytest.fixture
def counts(tmp_path: Path) -> np.ndarray:
    """Give what the three units that are no noise should be, ``(unit, time)``."""
    path = write_units(tmp_path / "same.nwb", [TRAINS[i] for i in (0, 2, 3)])
    (population,) = nuclr.read(path)
    return np.asarray(population.activity)


@pytest.mark.parametrize("form", ["phy", "spikeinterface", "spikeinterface.zarr"])
def test_every_form_holds_the_same_spikes(
    tmp_path: Path, counts: np.ndarray, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    write = {
        "phy": write_phy,
        "spikeinterface": write_spikeinterface,
        "spikeinterface.zarr": write_spikeinterface_zarr,
    }[form]
    with caplog.at_level("WARNING"):
        (population,) = nuclr.read(write(tmp_path / f"day1-{form}", TRAINS, QUALITY))
    assert population.start_s == 0
    activity = np.asarray(population.activity)[:, : counts.shape[1]]
    # A spike on the edge of two bins may be in either.
    assert np.abs(activity - counts.astype(int)).sum() <= 2
    assert activity.sum(axis=1).tolist() == counts.sum(axis=1).tolist()
    (said,) = caplog.messages
    assert said.startswith(f"{population.recording} names no animal; it counts as a separate animal")
    name = f"day1-{form.removesuffix('.zarr')}"
    last = "16" if form == "phy" else "u3"
    assert population.units["unit_id"].tolist()[-1] == f"{name}_{last}"
    assert population.units["quality"].tolist() == ["good", "", "mua"]


def test_kilosorts_own_labels_and_templates_do_where_nobody_curated(tmp_path: Path) -> None:
    folder = write_phy(tmp_path / "ks", TRAINS)
    (folder / "spike_clusters.npy").rename(folder / "spike_templates.npy")
    (folder / "cluster_KSLabel.tsv").write_text("cluster_id\tKSLabel\n10\tgood\n12\tmua\n")
    (population,) = nuclr.read(folder)
    assert population.units["quality"].tolist() == ["good", "mua", "", ""]


def test_clusters_lie_where_phy_says_or_where_their_templates_are_largest(tmp_path: Path) -> None:
    folder = write_phy(tmp_path / "ks", TRAINS)  # clusters 10, 12, 14, 16
    (without,) = nuclr.read(folder)
    assert "depth_um" not in without.units
    np.save(folder / "channel_positions.npy", np.array([[16.0, 20.0 * i] for i in range(8)]))
    templates = np.zeros((15, 5, 8), np.float32)
    templates[10, 2, 3], templates[12, 1, 7] = -5.0, 4.0
    templates[14, 3, 0], templates[14, 2, 1] = 1.0, -0.9
    np.save(folder / "templates.npy", templates)
    (population,) = nuclr.read(folder)
    np.testing.assert_array_equal(population.units["depth_um"], [60.0, 140.0, 0.0, np.nan])
    rows = "10\t300\tgood\n12\t\tgood\n14\t1200.5\tmua\n99\t7\tmua\n"
    (folder / "cluster_info.tsv").write_text(f"cluster_id\tdepth\tgroup\n{rows}")
    (curated,) = nuclr.read(folder)
    np.testing.assert_array_equal(curated.units["depth_um"], [300.0, np.nan, 1200.5, np.nan])


@pytest.mark.parametrize(
    "templates",
    [np.zeros((15, 5, 3)), np.zeros(4), np.array([None, 1], object), np.zeros((2, 2, 8), "<U3")],
    ids=["other channels", "one axis", "objects", "text"],
)
def test_templates_that_are_none_give_no_depths(
    tmp_path: Path, templates: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_phy(tmp_path / "ks", TRAINS)
    np.save(folder / "channel_positions.npy", np.zeros((8, 2)))
    np.save(folder / "templates.npy", templates, allow_pickle=True)
    with caplog.at_level("INFO", "nuclr"):
        (population,) = nuclr.read(folder)
    assert "depth_um" not in population.units
    assert "depths are unknown" in caplog.text


def test_a_file_that_is_not_read_does_not_change_a_recording(tmp_path: Path) -> None:
    folder = write_phy(tmp_path / "ks", TRAINS, QUALITY)

    def hash_of() -> str:
        (raw,) = read_kilosort(folder)
        return sha256_of(raw.path, raw.files)

    first = hash_of()
    (folder / "phy.log").write_text("phy was here")
    (folder / "temp_wh.dat").write_bytes(bytes(1000))
    assert hash_of() == first
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n")
    assert hash_of() != first


def test_units_whose_names_differ_by_signs_alone_keep_apart(tmp_path: Path) -> None:
    """A folder's name cannot hold each sign; ids that only such signs told apart used to become one."""
    folder = write_spikeinterface(tmp_path / "si", TRAINS, ["good"] * 4)
    info = folder / "numpysorting_info.json"
    content = json.loads(info.read_text())
    content["unit_ids"] = ["a 1", "a/1", "a-1-2", "b"]
    info.write_text(json.dumps(content))
    (population,) = nuclr.read(folder)
    assert population.units["unit_id"].tolist() == ["si_a-1", "si_a-1-3", "si_a-1-2", "si_b"]


def test_nothing_in_a_folder_is_run(tmp_path: Path) -> None:
    folder = write_phy(tmp_path / "phy", TRAINS)
    (folder / "params.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nsample_rate = 30000.\n")
    list(nuclr.read(folder))
    assert not (tmp_path / "ran").exists()
    objects = write_spikeinterface(tmp_path / "si", TRAINS, QUALITY)
    np.save(objects / "properties" / "quality.npy", np.array(["a", None, 1, 2], object), allow_pickle=True)
    with pytest.raises(DataError, match="damaged SpikeInterface sorting"):
        list(nuclr.read(objects))
    pickled = write_spikeinterface_zarr(tmp_path / "pickled.zarr", TRAINS, QUALITY)
    described = pickled / "spikes" / "unit_index" / ".zarray"
    content = json.loads(described.read_text())
    content["filters"] = [{"id": "delta", "dtype": "<i8"}, {"id": "pickle", "protocol": 5}]
    described.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match="contains a pickled array, which is not read because it could execute code"
    ):
        list(nuclr.read(pickled))


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    def phy(name: str) -> Path:
        return write_phy(tmp_path / name, TRAINS, QUALITY)

    (phy("a") / "params.py").unlink()
    (phy("b") / "params.py").write_text("sample_rate = rate()\n")
    (phy("c") / "spike_clusters.npy").unlink()
    (phy("d") / "spike_times.npy").write_bytes(b"\x93NUMPY")
    np.save(phy("e") / "spike_clusters.npy", np.zeros(3, np.int32))
    (phy("f") / "cluster_group.tsv").write_text("cluster\tgroup\n10\tgood\n")
    write_phy(tmp_path / "g", TRAINS, ["noise"] * 4)
    write_spikeinterface(tmp_path / "h", TRAINS, QUALITY, segments=2)
    for name, said in {
        "a": "params.py: file not found",
        "b": "no line such as sample_rate = 30000",
        "c": "neither spike_clusters.npy nor spike_templates.npy",
        "d": "spike_times.npy: damaged",
        "e": "spike times, but 3 entries in spike_clusters.npy",
        "f": "needs the columns cluster_id and group",
        "g": "all 4 clusters are labelled noise",
        "h": "2 segments; save each",
    }.items():
        with pytest.raises(DataError, match=said):
            list(nuclr.read(tmp_path / name))


def test_a_folder_of_all_kinds_becomes_stores_once(tmp_path: Path) -> None:
    write_units(tmp_path / "mine" / "a.nwb", TRAINS, animal="mouse1")
    write_phy(tmp_path / "mine" / "deep" / "b", TRAINS)
    write_spikeinterface_zarr(tmp_path / "mine" / "c.zarr", TRAINS, QUALITY)
    found = find([tmp_path / "mine"])
    assert [one.recording for one in found] == ["a", "c", "b"]
    assert animals_of(found, Reading()) == [("mouse1", True), ("c", False), ("b", False)]
    made = store_found(found, tmp_path / "stores", Reading(), Chunk())
    assert {open_population(store).animal for store in made} == {"mouse1", "b", "c"}
    assert sorted(made) == stores(tmp_path / "stores")
    dates = [store.stat().st_mtime_ns for store in made]
    assert store_found(found, tmp_path / "stores", Reading(), Chunk()) == made
    assert dates == [store.stat().st_mtime_ns for store in made]
    # Stores are recordings too.
    assert [one.form for one in find([tmp_path / "stores"])] == [None] * 3


def test_stores_that_are_given_are_all_that_is_taken(tmp_path: Path) -> None:
    """Every store of their folder was: one that was held out was learned from."""
    for animal in ("m1", "m2", "held_out"):
        write_phy(tmp_path / "mine" / animal, TRAINS)
    store_found(find([tmp_path / "mine"]), tmp_path / "stores", Reading(), Chunk())
    given = [tmp_path / "stores" / animal / "sorting.zarr" for animal in ("m1", "m2")]
    assert store_found(find(given), tmp_path / "other", Reading(), Chunk()) == given


def test_files_go_before_the_stores_that_were_made_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a model and its stores lay in a folder of recordings, files that came later were not seen."""
    caplog.set_level("INFO")
    mine = tmp_path / "mine"
    for animal in ("m1", "m2"):
        write_phy(mine / animal, TRAINS)
    store_found(find([mine]), mine / "model" / "populations", Reading(), Chunk())
    write_phy(mine / "m3", TRAINS)
    # What was taken away, to be tested, does not come back by its copy.
    (mine / "m2").rename(tmp_path / "m2")
    assert [one.path for one in find([mine])] == [mine / "m1", mine / "m3"]
    assert "2 stores made from recordings are not read; the recordings themselves are" in caplog.text
    # A store of another data set stands for itself, unless its recording is there too.
    made = population(units=4, bins=100, recording="other", animal="x")
    write_population(made, mine / "other" / "all.zarr", chunk_s=1, shard_s=1)
    write_population(replace(made, recording="m1"), mine / "chunked" / "all.zarr", chunk_s=1, shard_s=1)
    assert [one.path.name for one in find([mine])] == ["m1", "m3", "all.zarr"]


def test_two_that_make_the_same_store_at_once_make_it_once(tmp_path: Path) -> None:
    """As the processes that srun starts: each of them wrote into one half-made folder, and all failed."""
    for animal in ("m1", "m2", "m3"):
        write_phy(tmp_path / "mine" / animal, poisson_trains(10, 60.0))
    code = (
        "import sys; from pathlib import Path; from nuclr.config import Chunk, Reading; "
        "from nuclr.data.own import animals_of, find; from nuclr.data.own_stores import store_found; "
        "print(*store_found(find([Path('mine')]), Path('stores'), Reading(), Chunk()))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert set(said) == {" ".join(f"stores/{animal}/sorting.zarr" for animal in ("m1", "m2", "m3")) + "\n"}


def test_what_was_left_out_is_done_without(tmp_path: Path) -> None:
    write_phy(tmp_path / "monday", TRAINS)
    leave_out(tmp_path / "lost", "lost", "mouse", "the server answered 404")
    assert [one.recording for one in find([tmp_path / "lost", tmp_path / "monday"])] == ["monday"]
    with pytest.raises(DataError, match="lost: all recordings are left out"):
        find([tmp_path / "lost"])


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_phy(tmp_path / folder / "monday", TRAINS)
    with pytest.raises(DataError, match="have the same recording name, monday; rename one"):
        find([tmp_path])


def test_a_folder_that_is_called_like_any_sorters_has_its_session_in_its_name(tmp_path: Path) -> None:
    made = {
        "monday/kilosort4/sorter_output": "monday_kilosort4_sorter_output",
        "tuesday/kilosort2.5": "tuesday_kilosort2.5",
        "mouse_g0/imec0/imec0_ks2": "mouse_g0_imec0_imec0_ks2",
        "mouse_g0/imec1/imec1_ks2": "mouse_g0_imec1_imec1_ks2",
        "wednesday/Phy": "wednesday_Phy",
        "mouse-phy": "mouse-phy",
        "graphy": "graphy",
    }
    for folder in made:
        write_phy(tmp_path / folder, TRAINS)
    assert {one.recording for one in find([tmp_path])} == set(made.values())
    (population,) = nuclr.read(tmp_path / "monday")
    assert population.units["unit_id"][0] == "monday_kilosort4_sorter_output_10"


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    """As in a cloned archive, whose links lead to files that are named by a hash."""
    write_units(tmp_path / "annex" / "MD5E-s1234--abcd.nwb", TRAINS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "monday.nwb").symlink_to(tmp_path / "annex" / "MD5E-s1234--abcd.nwb")
    assert [one.recording for one in find([tmp_path / "mine"])] == ["monday"]


def test_no_spike_is_lost_at_the_edges_of_shards(tmp_path: Path) -> None:
    """Spikes on the first and last sample, and on samples that are edges of bins and shards."""
    edges = np.array([0, 1, 599, 600, 601, 30000, 30001, 60000, 89999, 90000]) / 30000
    folder = write_phy(tmp_path / "edges", [edges, edges])
    (raw,) = find([folder])[0].read(Reading(), "edges")
    activity, _, _ = bin_spikes(raw, Chunk(chunk_s=1, shard_s=1))
    counted = np.asarray(activity)
    assert counted.sum(axis=1).tolist() == [10, 10]
    assert counted[0, [0, 1, 50, 100, 149, 150]].tolist() == [3, 2, 2, 1, 1, 1]
