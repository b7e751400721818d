"""Steinmetz et al. 2019, from the archive to the labels."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from archives import column, config_for, fetch_and_chunk, npy, steinmetz_session, tables, tarred
from servers import Server, figshare, serving

from nuclr.config import load_config
from nuclr.data.archives import recordings
from nuclr.errors import DataError, DownloadError
from nuclr.evaluation.protocols import class_labels

ARTICLE = 9598406
SESSIONS = ["Cori_2016-12-14", "Cori_2016-12-17", "Muller_2017-01-07"]
REPOSITORY = Path(__file__).parents[3]


def serve(server: Server, **changes: dict[str, bytes | None]) -> None:
    """Serve three sessions among others; ``changes`` of one session's files, None to lack one."""
    archives = {f"other_{i}.txt": b"" for i in range(12)}  # more than stand on a page by default
    for session in SESSIONS:
        files = steinmetz_session(session)
        for name, content in changes.get(session.replace("-", "_"), {}).items():
            files[f"{session}/{name}"] = content
        archives[f"{session}.tar"] = tarred({n: c for n, c in files.items() if c is not None})
    figshare(server, ARTICLE, archives)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        serve(running)
        yield running


def test_the_manifest_holds_the_published_sessions(tmp_path: Path) -> None:
    found = recordings(config_for("steinmetz_2019", tmp_path, "none"))
    assert len(found) == 39
    assert len({recording.animal for recording in found}) == 10


def test_from_the_archive_to_the_labels(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for("steinmetz_2019", tmp_path, server.address)
    made = fetch_and_chunk(config, SESSIONS)
    assert [population.population for population in made[:2]] == [
        "Cori_2016-12-14/probe0",
        "Cori_2016-12-14/probe1",
    ]
    assert {population.modality for population in made} == {"spikes"}
    assert {population.source["licence"] for population in made} == {
        "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), says figshare article 9598406"
    }
    units, populations = tables(config)
    # Of 12 clusters of a probe nine are good; the first of the first never fires.
    assert populations["units"].tolist() == [9] * 6
    assert populations["animal"].tolist() == ["Cori"] * 4 + ["Muller"] * 2
    assert (units["rate_hz"] == 0).sum() == 3
    assert units.loc[units["rate_hz"] > 0, "rate_hz"].between(3, 8).all()
    # Every fourth, the MRN ones, is not good; and channels are counted from 1.
    assert units["brain_region"].value_counts().to_dict() == {"VISp": 18, "CA1": 18, "root": 18}
    assert units["depth_um"].iloc[1] == 40.0
    task = load_config(REPOSITORY / "config" / "steinmetz_2019.yaml").probe.tasks[0]
    labels = class_labels(units, task)
    assert {name: int((labels == name).sum()) for name in ("VIS", "HPF", "TH", "MB", "")} == {
        "VIS": 18,
        "HPF": 18,
        "TH": 0,
        "MB": 0,
        "": 18,
    }
    assert not list(config.raw.rglob("*.tar"))
    assert not (config.raw / ".downloads").exists() or not list((config.raw / ".downloads").iterdir())
    assert "warning" not in caplog.text.lower()


def test_every_spike_of_a_good_cluster_is_counted(server: Server, tmp_path: Path) -> None:
    config = config_for("steinmetz_2019", tmp_path, server.address)
    first, _ = fetch_and_chunk(config, SESSIONS[:1])
    files = steinmetz_session(SESSIONS[0])
    clusters = np.load(config.raw / SESSIONS[0] / SESSIONS[0] / "spikes.clusters.npy")[:, 0]
    assert files  # the same as were served
    for place, unit in enumerate(first.units["unit_id"]):
        assert int(np.asarray(first.activity[place]).sum()) == (clusters == int(unit.split("_")[-1])).sum()


@pytest.mark.parametrize("fault", ["cut", 503, "garbled"])
def test_a_fault_of_the_server_is_got_over(server: Server, tmp_path: Path, fault: str | int) -> None:
    server.faults[f"/files/{ARTICLE}/12"] = [fault] * 3
    server.faults[f"/articles/{ARTICLE}/files"] = [503] * 3
    assert len(fetch_and_chunk(config_for("steinmetz_2019", tmp_path, server.address), SESSIONS[:1])) == 2


def test_a_recording_is_as_good_without_a_licence(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.files[f"/articles/{ARTICLE}"] = {"id": ARTICLE, "license": None}
    (first, *_) = fetch_and_chunk(config_for("steinmetz_2019", tmp_path, server.address), SESSIONS[:1])
    assert "licence" not in first.source
    assert f"recording {SESSIONS[0]}: its licence could not be read" in caplog.text


def test_a_session_that_cannot_be_had_fails_by_name_or_is_left_out(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults[f"/files/{ARTICLE}/12"] = [503] * 8
    config = config_for("steinmetz_2019", tmp_path, server.address)
    with pytest.raises(DownloadError, match=rf"recording {SESSIONS[0]}: .* the server answered 503"):
        fetch_and_chunk(config, SESSIONS)
    assert not (config.raw / SESSIONS[0]).exists()
    without = config_for("steinmetz_2019", tmp_path, server.address, download={"go_on_without": True})
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        made = fetch_and_chunk(without, SESSIONS)
    assert {population.recording for population in made} == set(SESSIONS[1:])
    assert f"recording {SESSIONS[0]}: " in caplog.text
    assert "left out (download.go_on_without)" in caplog.text
    # The server is well again: the same command fetches it.
    assert len(fetch_and_chunk(without, SESSIONS)) == 6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"../../x": b"1"}, r"entry Cori_2016-12-14/\.\./\.\./x would be written outside its folder"),
        (
            {"clusters.probes.npy": None},
            r"clusters\.probes\.npy: file not found; delete the folder and download",
        ),
        ({"spikes.times.npy": npy(np.array([[1.0], [2.0], [3.0]]))}, "3 spike times, but"),
        ({"clusters.probes.npy": npy(column(np.zeros(3)))}, "clusters.probes.npy has 3 rows"),
        (
            {"clusters.peakChannel.npy": npy(column(np.zeros(24)))},
            "peakChannel refers to channels beyond the 72 in",
        ),
        ({"spikes.times.npy": b"not an array"}, r"spikes\.times\.npy: damaged"),
        ({"clusters._phy_annotation.npy": npy(np.array([{}] * 24))}, r"_phy_annotation\.npy: damaged"),
        ({"channels.brainLocation.tsv": b"a\tb\n1\t2\n"}, "no column allen_ontology"),
        ({"clusters._phy_annotation.npy": npy(column(np.zeros(24)))}, "no cluster is annotated as good"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(
    server: Server, tmp_path: Path, changes: dict[str, bytes | None], said: str
) -> None:
    serve(server, Cori_2016_12_14=changes)
    config = config_for("steinmetz_2019", tmp_path, server.address)
    with pytest.raises((DataError, DownloadError), match=said):
        fetch_and_chunk(config, SESSIONS[:1])
    assert not list(tmp_path.rglob("*.zarr"))
    assert not list(tmp_path.rglob("x"))


def test_a_session_without_its_optional_file_is_read(server: Server, tmp_path: Path) -> None:
    serve(server, Cori_2016_12_14={"clusters.depths.npy": None})
    config = config_for("steinmetz_2019", tmp_path, server.address)
    made = fetch_and_chunk(config, SESSIONS[:1])
    assert made[0].units["depth_um"].isna().all()


def test_a_dead_probe_is_left_out_with_a_warning(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = steinmetz_session(SESSIONS[0])
    times, clusters = (
        np.load(io.BytesIO(files[f"{SESSIONS[0]}/spikes.{name}.npy"])) for name in ("times", "clusters")
    )
    alive = clusters[:, 0] < 12
    serve(
        server,
        Cori_2016_12_14={
            "spikes.times.npy": npy(times[alive]),
            "spikes.clusters.npy": npy(clusters[alive]),
        },
    )
    made = fetch_and_chunk(config_for("steinmetz_2019", tmp_path, server.address), SESSIONS[:1])
    assert [population.population for population in made] == ["Cori_2016-12-14/probe0"]
    assert "population probe1: no unit ever fires; left out" in caplog.text


def test_a_truncated_archive_of_the_right_hash_is_refused(server: Server, tmp_path: Path) -> None:
    whole = tarred(steinmetz_session(SESSIONS[0]))
    figshare(server, ARTICLE, {f"{SESSIONS[0]}.tar": whole[: len(whole) // 2]})
    with pytest.raises(DownloadError, match=r"Cori_2016-12-14\.tar: damaged"):
        fetch_and_chunk(config_for("steinmetz_2019", tmp_path, server.address), SESSIONS[:1])


def test_duplicate_unit_ids_of_two_recordings_are_refused(server: Server, tmp_path: Path) -> None:
    config = config_for("steinmetz_2019", tmp_path, server.address)
    fetch_and_chunk(config, SESSIONS[:1])
    populations = config.results / config.dataset / "populations"
    shutil.copytree(populations / SESSIONS[0], populations / "again")
    with pytest.raises(DataError, match="unit_id Cori_2016-12-14_0 occurs in recordings"):
        tables(config)
