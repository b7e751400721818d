"""The IBL Brain-Wide Map, from the server to the labels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from archives import config_for, fetch_and_chunk, ibl_probe, npy, tables
from servers import Server, alyx, serving

from nuclr.config import load_config
from nuclr.data.archives import recordings, splits_of
from nuclr.data.archives.manifests import manifest
from nuclr.data.plan import make_plan
from nuclr.errors import DataError, DownloadError
from nuclr.evaluation.protocols import class_labels

pytest.importorskip("one", reason="ONE-api is not installed: pip install nuclr[ibl]")
CONFIG = Path(__file__).parents[3] / "config" / "ibl_brain_wide_map.yaml"
ROWS = manifest("ibl_brain_wide_map")
TWO_PROBES = ROWS[1]["eid"]
FILES = "/data/lab/Subjects/mouse/2020-01-01/001/alf/probe00/pykilosort/%232024-05-06%23/"


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONE keeps its settings in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        serve(running)
        yield running


def serve(server: Server, changes: dict[str, bytes | None] | None = None, **more: Any) -> None:
    """Serve a session of two probes; ``changes`` of the first one's files, None to lack one."""
    probes = {"probe00": {**ibl_probe(), **(changes or {})}, "probe01": ibl_probe(seed=1)}
    alyx(server, TWO_PROBES, probes, **more)


def fetched(server: Server, folder: Path, **more: Any) -> list[Any]:
    config = config_for("ibl_brain_wide_map", folder, server.address, **more)
    return fetch_and_chunk(config, [TWO_PROBES])


def test_the_manifest_holds_the_release(tmp_path: Path) -> None:
    found = recordings(config_for("ibl_brain_wide_map", tmp_path, "none"))
    assert len(found) == 459
    assert len(ROWS) == 699
    assert len({recording.animal for recording in found}) == 139


def test_from_the_server_to_the_labels(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = fetched(server, tmp_path)
    assert [population.population.partition("/")[2] for population in made] == ["probe00", "probe01"]
    assert "www.internationalbrainlab.com/data" in made[0].source["licence"]
    config = config_for("ibl_brain_wide_map", tmp_path, server.address)
    units, populations = tables(config)
    # Of 30 clusters 29 are in the table of metrics, and 20 of these pass.
    assert populations["units"].tolist() == [20, 20]
    assert populations["animal"].unique().tolist() == [ROWS[1]["animal"]]
    labels = class_labels(units, load_config(CONFIG).probe.tasks[0])
    assert pd.Series(labels).value_counts().to_dict() == {"": 18, "HPF": 12, "Isocortex": 10}
    assert units["brain_region"].value_counts().to_dict() == {"CA1": 12, "VISp5": 10, "root": 8, "void": 10}
    # 400 s, of which the last 300 are not used; that is no reason to warn.
    np.testing.assert_allclose(populations["minutes"], 100 / 60, rtol=0.01)
    assert units["rate_hz"].between(1.4, 2.6).all()
    assert not caplog.records


def test_only_the_spikes_of_clusters_that_pass_are_counted(server: Server, tmp_path: Path) -> None:
    first, _ = fetched(server, tmp_path, ibl_brain_wide_map={"drop_last_s": 0})
    clusters = np.load(io.BytesIO(ibl_probe()["spikes.clusters.npy"]))
    own = [int(unit[-12:]) for unit in first.units["unit_id"]]
    assert [cluster % 3 for cluster in own] == [0, 1] * 10
    counts = np.asarray(first.activity).sum(axis=1).tolist()
    assert counts == [int((clusters == cluster).sum()) for cluster in own]


@pytest.mark.parametrize("fault", ["cut", 503, "garbled"])
def test_a_fault_of_the_server_is_got_over(server: Server, tmp_path: Path, fault: str | int) -> None:
    server.faults[f"{FILES}spikes.times.npy"] = [fault] * 3
    server.faults[f"/sessions/{TWO_PROBES}"] = [503] * 3
    server.faults["/auth-token"] = [503] * 3
    assert len(fetched(server, tmp_path)) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clusters.metrics.pqt": None}, r"no clusters\.metrics\.pqt in alf/probe00/pykilosort; check"),
        ({"clusters.metrics.pqt": b"no"}, "clusters.metrics.pqt: damaged"),
        ({"clusters.uuids.csv": b"uuids\na\n"}, "clusters.uuids.csv has 1"),
        ({"spikes.clusters.npy": npy(np.zeros(5, int))}, "spike times, but 5 entries in spikes.clusters.npy"),
        ({"channels.brainLocationIds_ccf_2017.npy": npy(np.zeros(2, int))}, "channels beyond the 2 in"),
        ({"clusters.uuids.csv": ("uuids\n" + "a\n" * 30).encode()}, "unit_id a occurs twice"),
        ({"spikes.times.npy": npy(np.linspace(0, 9, 9))}, "shorter than ibl_brain_wide_map.drop_last_s"),
    ],
)
def test_what_is_wrong_with_a_session_is_said(
    server: Server, tmp_path: Path, changes: dict[str, bytes | None], said: str
) -> None:
    serve(server, changes)
    with pytest.raises((DataError, DownloadError), match=said):
        fetched(server, tmp_path)
    assert not list(tmp_path.rglob("*.zarr"))


def test_a_probe_without_locations_has_no_regions(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serve(server, {"channels.brainLocationIds_ccf_2017.npy": None, "clusters.depths.npy": None})
    first, second = fetched(server, tmp_path)
    assert set(first.units["brain_region"]) == {""}
    assert first.units["depth_um"].isna().all()
    assert "HPF" in set(second.units["cosmos"])
    assert "probe00: no channels.brainLocationIds_ccf_2017.npy; the units have no brain_region" in caplog.text


def test_a_probe_of_which_nothing_passes_is_left_out(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = io.BytesIO()
    pd.DataFrame({"cluster_id": range(30), "label": 0.5}).to_parquet(buffer)
    serve(server, {"clusters.metrics.pqt": buffer.getvalue()})
    (only,) = fetched(server, tmp_path)
    assert only.population.endswith("/probe01")
    assert "no cluster of probe00 passes all quality metrics; left out" in caplog.text


def test_a_session_that_the_database_does_not_know_is_named(server: Server, tmp_path: Path) -> None:
    del server.files[f"/sessions/{TWO_PROBES}"]
    with pytest.raises(DownloadError, match=rf"recording {TWO_PROBES}: .*the server answered 404"):
        fetched(server, tmp_path)


def test_another_sorting_can_be_taken(server: Server, tmp_path: Path) -> None:
    serve(server, collection="iblsorter")
    assert len(fetched(server, tmp_path, ibl_brain_wide_map={"collection": "iblsorter"})) == 2
    with pytest.raises(DownloadError, match=r"check ibl_brain_wide_map\.collection"):
        fetched(server, tmp_path / "other")


def test_the_published_split_is_that_of_the_paper(tmp_path: Path) -> None:
    config = config_for("ibl_brain_wide_map", tmp_path, "none", split={"by": "paper"})
    splits = splits_of(config, recordings(config))
    # tiny, medium, large and all: animals and sessions.
    assert splits.published == ((68, 89), (100, 179), (122, 272), (132, 362))
    assert len(splits.test) == 93
    assert "57 of 64 test animals are also in pretraining" in splits.note
    plan = make_plan(config)
    assert list(plan.animal_counts) == [68, 100, 122, 132]
    assert len(plan.to_pretrain(68, 1)) == 89
    assert len(plan.to_pretrain(0, 1)) == 3
    assert len(plan.to_embed(132, 0)) == 362 + 93
