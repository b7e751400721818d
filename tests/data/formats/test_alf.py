"""ALF folders of one's own: sessions, probes, revisions, labels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from strategies import poisson_trains, write_units

import nuclr
from nuclr.config import Chunk, Reading, Sorter
from nuclr.data.formats import below
from nuclr.data.formats.alf import is_alf, read_alf, recording_of, subject_of
from nuclr.data.own import find, open_found
from nuclr.data.population import Population
from nuclr.errors import DataError
from nuclr.files import sha256_of

TRAINS = poisson_trains(5, 20.0)
SPIKES = ("spikes.times", "spikes.clusters")


def write_alf(
    folder: Path, trains: list[np.ndarray] = TRAINS, names: tuple[str, str] = SPIKES, **more: Any
) -> Path:
    """Write the spikes of clusters 0, 1, ..., and other attributes, named as ``clusters_depths``."""
    folder.mkdir(parents=True, exist_ok=True)
    times, clusters = np.concatenate(trains), np.repeat(np.arange(len(trains)), [len(t) for t in trains])
    order = np.argsort(times)
    np.save(folder / f"{names[0]}.npy", times[order])
    np.save(folder / f"{names[1]}.npy", clusters[order].astype(np.int32)[:, None])
    for name, values in more.items():
        np.save(folder / f"{name.replace('_', '.', 1)}.npy", values)
    return folder


def read(path: Path, **sorter: Any) -> list[Population]:
    return list(open_found(find([path]), Reading(sorter=Sorter(**sorter)), Chunk()))


def test_spikes_are_those_of_an_nwb_file(tmp_path: Path) -> None:
    (own,) = nuclr.read(write_alf(tmp_path / "day1" / "alf" / "probe00").parents[1])
    (same,) = nuclr.read(write_units(tmp_path / "same.nwb", TRAINS))
    assert own.population == "day1/probe00"
    assert own.units["unit_id"].tolist() == [f"day1_probe00_{cluster}" for cluster in range(5)]
    assert np.array_equal(np.asarray(own.activity), np.asarray(same.activity))
    assert own.start_s == same.start_s
    assert own.valid_minutes == pytest.approx(same.valid_minutes)
    assert "quality" not in own.units


def test_the_session_that_a_pipeline_left(tmp_path: Path) -> None:
    """As in the wild: nothing but spikes, of the clusters that have any, in ``alf/probe00``."""
    write_alf(tmp_path / "alf_session" / "alf" / "probe00", poisson_trains(14, 60.0, 4.0))
    (only,) = read(tmp_path)
    assert len(only.units) == 14
    assert only.recording == "alf_session"
    assert only.valid_minutes == pytest.approx(1.0, abs=0.02)
    assert (np.asarray(only.activity).sum(axis=1) / 60).mean() == pytest.approx(4.0, rel=0.1)


def test_each_probe_is_a_population_of_one_recording(tmp_path: Path) -> None:
    session = tmp_path / "day1"
    write_alf(session / "alf" / "probe00" / "pykilosort")
    write_alf(session / "alf" / "probe01", TRAINS[:2])
    write_alf(session / "alf" / "probe02" / "sorted by Ada", TRAINS[:3])
    first, second, third = read(session)
    names = [population.population for population in (first, second, third)]
    assert names == ["day1/probe00", "day1/probe01", "day1/probe02"]
    assert [len(population.units) for population in (first, second, third)] == [5, 2, 3]
    assert [p.recording for p in read(session / "alf")] == ["day1"] * 3
    (alone,) = read(session / "alf" / "probe01")
    assert alone.population == "day1_probe01/probe01"
    assert alone.units["unit_id"].tolist() == second.units["unit_id"].tolist()
    populations = read_alf(session)
    assert len({sha256_of(session, population.files) for population in populations}) == 1
    np.save(session / "alf" / "probe01" / "spikes.amps.npy", np.ones(3))
    (before,) = {sha256_of(session, population.files) for population in populations}
    assert sha256_of(session, read_alf(session)[0].files) == before
    write_alf(session / "alf" / "probe01", TRAINS[:3])
    assert sha256_of(session, read_alf(session)[0].files) != before


def test_probes_may_lie_in_the_session_itself(tmp_path: Path) -> None:
    write_alf(tmp_path / "run_g0" / "run_g0_imec0")
    write_alf(tmp_path / "run_g0" / "run_g0_imec1" / "ks2", TRAINS[:2])
    names = [population.population for population in read(tmp_path / "run_g0")]
    assert names == ["run_g0/run_g0_imec0", "run_g0/run_g0_imec1"]


def test_a_folder_of_sessions_is_no_session(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    for animal in ("mouse1", "mouse2"):
        for number in ("001", "002"):
            write_alf(lab / animal / "2024-01-02" / number / "alf" / "probe00")
    write_alf(lab / "flat")
    write_alf(lab / "direct" / "probe00")
    found = below(lab)
    assert [path.relative_to(lab).as_posix() for path, _ in found] == [
        "direct",
        "flat",
        "mouse1/2024-01-02/001",
        "mouse1/2024-01-02/002",
        "mouse2/2024-01-02/001",
        "mouse2/2024-01-02/002",
    ]
    assert [recording_of(path) for path, _ in found][1:4] == [
        "flat",
        "mouse1_2024-01-02_001",
        "mouse1_2024-01-02_002",
    ]
    assert [subject_of(path) for path, _ in found] == ["", "", "mouse1", "mouse1", "mouse2", "mouse2"]
    assert not is_alf(lab)
    assert not is_alf(lab / "mouse1")
    assert not is_alf(lab / "mouse1" / "2024-01-02")
    assert [population.animal for population in read(lab / "mouse2")] == ["mouse2"] * 2


def test_several_sortings_of_a_probe_are_not_chosen_among(tmp_path: Path) -> None:
    write_alf(tmp_path / "day1" / "alf" / "probe00")
    write_alf(tmp_path / "day1" / "alf" / "probe00" / "pykilosort", TRAINS[:3])
    said = r"probe00 has several sortings: alf/probe00, alf/probe00/pykilosort; give the folder of one"
    with pytest.raises(DataError, match=said):
        read(tmp_path / "day1")
    (one,) = read(tmp_path / "day1" / "alf" / "probe00" / "pykilosort")
    assert len(one.units) == 3
    assert one.recording == "day1_probe00_pykilosort"


def test_the_newest_revision_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probe = write_alf(tmp_path / "day1" / "alf" / "probe00", clusters_depths=np.arange(5.0))
    write_alf(probe / "#2023-01-01#", TRAINS[:2])
    write_alf(probe / "#2024-05-06#", TRAINS[:3])
    with caplog.at_level(logging.INFO):
        (only,) = read(tmp_path / "day1")
    assert only.units["depth_um"].tolist() == [0.0, 1.0, 2.0]
    assert "spikes.clusters, spikes.times are read from the revision #2024-05-06#" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ("_ibl_spikes.times", "_phy_spikes.clusters"),
        ("spikes.times.probe00", "spikes.clusters.probe00"),
        (
            "spikes.times.aa52eb98-1d4e-4e5e-9a4a-0f1ba3fd6a2d",
            "spikes.clusters.0f1ba3fd-6a2d-4e5e-9a4a-aa52eb981d4e",
        ),
    ],
)
def test_names_may_have_other_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    (only,) = read(write_alf(tmp_path / "day1", names=names))
    assert len(only.units) == 5
    assert only.recording == "day1"


def test_probes_may_be_told_apart_by_names_of_files(tmp_path: Path) -> None:
    session = write_alf(tmp_path / "day1", names=("spikes.times.probe00", "spikes.clusters.probe00"))
    write_alf(session, TRAINS[:2], names=("spikes.times.probe01", "spikes.clusters.probe01"))
    first, second = read(session)
    assert (first.population, second.population) == ("day1/probe00", "day1/probe01")
    assert len(second.units) == 2


def test_probes_may_be_told_apart_by_a_column(tmp_path: Path) -> None:
    probes = np.array([[0], [1], [1], [0], [1]], np.uint8)
    first, second = read(write_alf(tmp_path / "day1", clusters_probes=probes))
    assert (first.population, second.population) == ("day1/probe0", "day1/probe1")
    assert second.units["unit_id"].tolist() == ["day1_1", "day1_2", "day1_4"]


def test_regions_stand_with_clusters_or_their_channels(tmp_path: Path) -> None:
    regions = ["CA1", "VISp", "root", "LP", "DG", "MOs"]
    channels = [5, 0, 1, 1, 2]
    (direct,) = read(write_alf(tmp_path / "a", clusters_acronym=np.array(regions[:5])))
    assert direct.units["brain_region"].tolist() == regions[:5]
    folder = write_alf(tmp_path / "b", clusters_channels=channels, channels_acronym=np.array(regions))
    (by_channel,) = read(folder)
    assert by_channel.units["brain_region"].tolist() == ["MOs", "CA1", "VISp", "VISp", "root"]
    (ids,) = read(
        write_alf(
            tmp_path / "c",
            clusters_channels=channels,
            channels_brainLocationIds_ccf_2017=np.arange(10, 16),
        )
    )
    assert ids.units["brain_location_id"].tolist() == [15, 10, 11, 11, 12]
    assert "brain_region" not in ids.units
    # As Steinmetz et al. 2019 published: peak channels count from 1.
    peak = write_alf(tmp_path / "d", clusters_peakChannel=np.array(channels, float) + 1)
    table = pd.DataFrame({"ccf_ap": 1.0, "allen_ontology": regions})
    table.to_csv(peak / "channels.brainLocation.tsv", sep="\t", index=False)
    (steinmetz,) = read(peak)
    assert steinmetz.units["brain_region"].tolist() == by_channel.units["brain_region"].tolist()


def test_kinds_of_clusters_can_be_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_alf(tmp_path / "day1")
    # Cluster 4 was too small to be measured.
    table = pd.DataFrame({"cluster_id": [3, 1, 2, 0], "label": [1.0, 2 / 3, 0.0, 1.0]})
    table.assign(ks2_label=["good", "noise", "mua", "good"]).to_parquet(folder / "clusters.metrics.pqt")
    (every,) = read(folder)
    assert every.units["quality"].tolist() == ["1", "0.666667", "0", "1", ""]
    for keep, clusters in ((["1"], [0, 3]), (["1.0"], [0, 3]), (["Good", "mua"], [0, 2, 3])):
        (kept,) = read(folder, keep=keep)
        assert kept.units["unit_id"].tolist() == [f"day1_{cluster}" for cluster in clusters]
    with pytest.raises(
        DataError, match=r"all 5 clusters are not labelled best \(sorter\.keep\); their labels are"
    ):
        read(folder, keep=["best"])
    (folder / "clusters.metrics.pqt").unlink()
    (folder / "clusters.metrics.csv").write_text("cluster_id;group\n0;good\n1;noise\n2;\n3;good\n4;mua\n")
    (curated,) = read(folder)
    assert curated.units["quality"].tolist() == ["good", "", "good", "mua"]


def test_a_probe_of_which_nothing_is_kept_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for probe, words in (("probe00", ["good"] * 5), ("probe01", ["mua"] * 5)):
        folder = write_alf(tmp_path / "day1" / "alf" / probe)
        pd.DataFrame({"label": words}).to_csv(folder / "clusters.metrics.csv", index=False)
    (only,) = read(tmp_path / "day1", keep=["good"])
    assert only.population == "day1/probe00"
    assert "probe01: all 5 clusters are not labelled good (sorter.keep); their labels are mua: left out" in (
        caplog.text
    )


def test_samples_do_where_there_are_no_times(tmp_path: Path) -> None:
    folder = write_alf(tmp_path / "day1")
    times = np.load(folder / "spikes.times.npy")
    (folder / "spikes.times.npy").unlink()
    np.save(folder / "spikes.samples.npy", np.round(times * 30000).astype(np.int64))
    with pytest.raises(DataError, match=r"spikes\.samples without spikes\.times; set sorter\.sample_rate_hz"):
        read(folder)
    (only,) = read(folder, sample_rate_hz=30000.0)
    assert int(only.activity.sum().compute()) == len(times)
    assert only.stop_s == pytest.approx(times[-1], abs=0.03)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "spikes.times",
            np.arange(5),
            "times are not in seconds; save samples .integers. as spikes.samples.npy",
        ),
        ("spikes.times", np.linspace(0, 9, 9), "9 spike times, but"),
        ("spikes.times", np.array([1.0, np.nan, 2.0]), "spike times"),
        ("spikes.times", np.linspace(0, 9e6, 400), "times must be in seconds"),
        ("spikes.clusters", np.array([0.5, 1.0]), "cluster numbers must be integers"),
        ("spikes.clusters", np.array(["a", "b"]), "cluster numbers must be integers"),
        ("spikes.clusters", np.zeros((4, 2), int), "more than one column"),
        ("clusters.acronym", np.array(["CA1"] * 3), "3 rows, but there are spikes of cluster 4"),
        (
            "clusters.acronym",
            np.array(["CA1", None] * 3, object),
            "clusters.acronym.npy: damaged .it contains pickled objects",
        ),
        (
            "clusters.brainLocationIds_ccf_2017",
            np.zeros(5, [("id", "<i8")]),
            "contains records with several fields",
        ),
        ("clusters.probes", np.array([0, 1, 1]), "must contain a probe number for each cluster"),
        ("clusters.probes", np.array([0, 1, 1, np.nan, 1]), "some probe numbers are NaN or infinite"),
        (
            "clusters.channels",
            np.array([0, 1, 2, 3, 9]),
            "clusters.channels refers to channels beyond the 4 in",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, values: np.ndarray, said: str) -> None:
    folder = write_alf(tmp_path / "day1", channels_acronym=np.array(["CA1"] * 4))
    np.save(folder / f"{name}.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=said) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_attribute_are_refused(tmp_path: Path) -> None:
    folder = write_alf(tmp_path / "day1")
    write_alf(folder, names=("_ks_spikes.times", "_ks_spikes.clusters"))
    with pytest.raises(
        DataError, match=r"spikes\.clusters\.npy and .* are both spikes\.clusters; remove one"
    ):
        read(folder)
