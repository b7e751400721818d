"""Bugeon et al. 2022, from the archive to the labels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from archives import bugeon_session, column, config_for, fetch_and_chunk, npy, tables, zipped
from servers import Server, figshare, serving

from nuclr.config import load_config
from nuclr.data.archives import recordings
from nuclr.data.inputs import scaled
from nuclr.errors import DataError, DownloadError
from nuclr.evaluation.protocols import class_labels

ARTICLE = 19448531
CONFIG = Path(__file__).parents[3] / "config" / "bugeon_2022.yaml"
FOLDER = "Bugeon et al 2022 v2/SB025/2019-10-07"
NAMES = ["SB025_2019-10-07", "SB030_2020-01-28"]


def serve(server: Server, changes: dict[str, bytes | None] | None = None) -> None:
    """Serve two sessions and an older archive; ``changes`` of the first session's files."""
    files = bugeon_session("SB025", "2019-10-07") | bugeon_session("SB030", "2020-01-28")
    files |= {f"{FOLDER}/{name}": content for name, content in (changes or {}).items()}
    archive = zipped({name: content for name, content in files.items() if content is not None})
    figshare(server, ARTICLE, {"Bugeon et al 2022.zip": b"old", "Bugeon et al 2022 v2.zip": archive})


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        serve(running)
        yield running


def test_the_manifest_holds_the_published_sessions(tmp_path: Path) -> None:
    found = recordings(config_for("bugeon_2022", tmp_path, "none"))
    assert len(found) == 17
    assert {recording.animal for recording in found} == {"SB025", "SB026", "SB028", "SB030"}


def test_from_the_archive_to_the_labels(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for("bugeon_2022", tmp_path, server.address)
    made = fetch_and_chunk(config, NAMES)
    assert [population.population for population in made] == [f"{name}/v1" for name in NAMES]
    assert [population.modality for population in made] == ["calcium"] * 2
    assert made[0].source["licence"].startswith("CC BY 4.0 ")
    units, populations = tables(config)
    assert populations["units"].tolist() == [14, 14]
    np.testing.assert_allclose(populations["minutes"], 3 * 200 * 0.23344 / 60)
    tasks = {task.name: class_labels(units, task) for task in load_config(CONFIG).probe.tasks}

    def counts(name: str) -> dict[str, int]:
        return {str(label): int((tasks[name] == label).sum()) for label in sorted(set(tasks[name]))}

    assert counts("ei") == {"": 2, "EC": 10, "IN": 16}
    assert counts("subclass") == {"": 16, "Lamp5": 2, "Pvalb": 4, "Sncg": 2, "Sst": 2, "Vip": 2}
    assert counts("class") == {
        "": 16,
        "Lamp5-Plch2": 2,
        "Pvalb-Tac1": 2,
        "Pvalb-Vipr2": 2,
        "Sncg": 2,
        "Sst-Reln": 2,
        "Vip-Cp": 2,
    }
    assert (
        "experiment Natural Scenes/02 has traces of shape (200, 9), not of 14 neurons; left out"
        in caplog.text
    )
    # The archive was fetched once for both.
    assert [path for path, _ in server.requests].count(f"/files/{ARTICLE}/1") == 1


def test_experiments_are_joined_an_hour_apart(server: Server, tmp_path: Path) -> None:
    made, *_ = fetch_and_chunk(config_for("bugeon_2022", tmp_path, server.address), NAMES[:1])
    gaps = made.valid_spans[1:, 0] - made.valid_spans[:-1, 1]
    np.testing.assert_allclose(gaps, 3600, atol=0.2)
    files = bugeon_session("SB025", "2019-10-07")
    activity = np.asarray(made.activity)
    for (first, last), experiment in zip(
        made.valid_bins(), ("Blank/01", "Drifting Gratings/01", "Natural Scenes/01"), strict=True
    ):
        served = files[f"{FOLDER}/{experiment}/frame.neuralActivity.npy"]
        traces = np.load(io.BytesIO(served))
        np.testing.assert_array_equal(activity[:, first:last], traces.T.astype(np.float32))
    # What was never recorded does not count for the scale.
    recorded = np.concatenate([activity[:, a:b] for a, b in made.valid_bins()], axis=1)
    again = np.asarray(scaled(made).activity[:, :200]) * np.percentile(recorded, 99)
    np.testing.assert_allclose(again, activity[:, :200], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"../../../../x": b"1"}, "would be written outside its folder"),
        ({"neuron.ttype.txt": None}, r"no neuron\.ttype\.txt"),
        ({"neuron.ttype.txt": b"EC\n"}, "neuron.depth.npy has 14"),
        (
            {"neuron.ttype.txt": b"EC\n", "neuron.depth.npy": None},
            "no experiment has frame.neuralActivity.npy of the session's 1 neurons",
        ),
        ({"Blank/01/frame.times.npy": None}, r"frame\.times\.npy: file not found"),
        ({"Blank/01/frame.times.npy": npy(column(np.arange(9.0)))}, "frame.times.npy has 9"),
        ({"Blank/01/frame.times.npy": npy(column(np.zeros(200)))}, "NaN or do not ascend"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(
    server: Server, tmp_path: Path, changes: dict[str, bytes | None], said: str
) -> None:
    serve(server, changes)
    with pytest.raises((DataError, DownloadError), match=said):
        fetch_and_chunk(config_for("bugeon_2022", tmp_path, server.address), NAMES[:1])
    assert not list(tmp_path.rglob("*.zarr"))


def test_a_truncated_zip_and_one_without_the_session_are_refused(server: Server, tmp_path: Path) -> None:
    whole = zipped(bugeon_session("SB025", "2019-10-07"))
    config = config_for("bugeon_2022", tmp_path, server.address)
    figshare(server, ARTICLE, {"a.zip": whole[: len(whole) // 2]})
    with pytest.raises(DownloadError, match=r"a\.zip: damaged"):
        fetch_and_chunk(config, NAMES[:1])
    (config.raw / ".downloads" / NAMES[0] / "a.zip").unlink()
    figshare(server, ARTICLE, {"a.zip": whole})
    with pytest.raises(DownloadError, match="the archive does not contain session SB030/2020-01-28"):
        fetch_and_chunk(config, NAMES[1:])


def test_frames_that_come_late_are_said(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    times = 0.23344 * np.arange(200)
    times[100:] += 0.2
    serve(server, {"Blank/01/frame.times.npy": npy(column(times))})
    fetch_and_chunk(config_for("bugeon_2022", tmp_path, server.address), NAMES[:1])
    assert "1 frames are early or late by half a frame; treated as evenly spaced" in caplog.text
