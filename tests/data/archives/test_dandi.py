"""Anybody's NWB files on DANDI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import fetch_and_chunk
from servers import Server, dandi, folder_files, serving
from strategies import poisson_trains, write_units
from zarr_folders import to_zarr

from nuclr.config import Config, load_config
from nuclr.data.archives import recordings
from nuclr.errors import ConfigError, DataError, DownloadError

pytest.importorskip("dandi", reason="the dandi client is not installed: pip install nuclr[dandi]")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    content = {
        animal: write_units(
            tmp_path / f"{animal}.nwb", poisson_trains(12, 30.0), animal=animal, obs_intervals=[[0.0, 30.0]]
        ).read_bytes()
        for animal in ("m1", "m2")
    }
    files = {f"sub-{animal}/sub-{animal}_ses-a.nwb": own for animal, own in content.items()}
    with serving() as running:
        dandi(running, "000006", {**files, "sub-m1/sub-m1_video.mp4": b"no NWB"})
        yield running


def config(server: Server, where: Path, **nwb: Any) -> Config:
    return load_config(
        {
            "dataset": "mine",
            "results": str(where / "results"),
            "nwb": {"dandi": ["000006"], **nwb},
            "download": {"dandi": server.address},
        }
    )


def test_a_dandiset_is_listed_once_and_its_files_are_chunked(server: Server, tmp_path: Path) -> None:
    made = config(server, tmp_path)
    found = recordings(made)
    assert [(one.recording, one.animal) for one in found] == [("sub-m1_ses-a", "m1"), ("sub-m2_ses-a", "m2")]
    asked = len(server.requests)
    assert recordings(made) == found
    assert len(server.requests) == asked
    populations = fetch_and_chunk(made, [one.recording for one in found])
    assert [(p.population, p.animal, len(p.units)) for p in populations] == [
        ("sub-m1_ses-a/all", "m1", 12),
        ("sub-m2_ses-a/all", "m2", 12),
    ]


def test_a_file_is_asked_for_by_its_path(server: Server, tmp_path: Path) -> None:
    """A list of all files for each file was ten thousand times ten thousand rows of a large dandiset."""
    made = config(server, tmp_path)
    recordings(made)
    assets = "/dandisets/000006/versions/0.240101.0000/assets/"
    answer: Any = server.files[assets]
    questions: list[dict[str, str]] = []
    server.files[assets] = lambda asked: questions.append(asked) or answer(asked)
    fetch_and_chunk(made, ["sub-m1_ses-a"])
    assert [question.get("path") for question in questions] == ["sub-m1/sub-m1_ses-a.nwb"]


def test_the_licence_is_the_dandisets_or_ones_own(server: Server, tmp_path: Path) -> None:
    (population,) = fetch_and_chunk(config(server, tmp_path), ["sub-m1_ses-a"])
    assert population.source["licence"] == "CC-BY-4.0, says dandiset 000006"
    about = server.files["/dandisets/000006/versions/0.240101.0000/"]
    assert isinstance(about, dict)
    about["license"] = ["spdx:MIT\n\n## Intended use\n\nall", "x" * 900]
    (odd,) = fetch_and_chunk(config(server, tmp_path / "3"), ["sub-m1_ses-a"])
    assert odd.source["licence"].startswith("MIT ## Intended use all, xxx")
    assert len(odd.source["licence"]) == 300
    (other,) = fetch_and_chunk(config(server, tmp_path / "2", licence="ask me"), ["sub-m1_ses-a"])
    assert other.source["licence"] == "ask me"


def test_a_wrong_hash_is_refused_and_a_cut_is_got_over(server: Server, tmp_path: Path) -> None:
    made = config(server, tmp_path)
    first, second = (f"/blobs/00000006-0000-4000-8000-00000000000{i}" for i in (0, 2))
    server.faults[first] = ["cut", 503, "cut"]
    assert len(fetch_and_chunk(made, ["sub-m1_ses-a"])) == 1
    server.files[second] = server.files[second][::-1]  # type: ignore[index]
    with pytest.raises(DownloadError, match=r"recording sub-m2_ses-a: .*its sha256 is"):
        fetch_and_chunk(made, ["sub-m2_ses-a"])
    assert not (made.raw / "sub-m2_ses-a").exists()


def test_dandisets_that_are_not_there_or_hold_no_nwb_are_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no dandiset 000007 found; check its number"):
        recordings(config(server, tmp_path, dandi=["000007"]))
    dandi(server, "000008", {"sub-m1/sub-m1_video.mp4": b"no NWB"})
    with pytest.raises(DataError, match="dandiset 000008 has no NWB files"):
        recordings(config(server, tmp_path, dandi=["000008"]))
    assert not (tmp_path / "results" / "mine" / "raw" / "dandi.tsv").exists()


def test_a_folder_and_dandisets_exclude_each_other(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"needs either a folder of recordings .* or dandisets \(nwb\.dandi\)"
    ):
        config(server, tmp_path, folder=str(tmp_path))


BUCKET = "/bucket/zarr/00000009-0000-5000-8000-000000000001"


@pytest.fixture
def zarr(server: Server, tmp_path: Path) -> dict[str, bytes]:
    """Serve a Zarr folder as the one asset of dandiset 000009; its files."""
    path = write_units(tmp_path / "h.nwb", poisson_trains(12, 30.0), animal="m3", obs_intervals=[[0.0, 30.0]])
    files = folder_files(to_zarr(path, tmp_path / "h.nwb.zarr", consolidated=True))
    dandi(server, "000009", {"sub-m3/sub-m3_ses-a.nwb.zarr": files, "sub-m3/image.ome.zarr": {"a": b"b"}})
    return files


def test_a_zarr_folder_is_downloaded_and_chunked(
    server: Server, zarr: dict[str, bytes], tmp_path: Path
) -> None:
    made = config(server, tmp_path, dandi=["000009"])
    (found,) = recordings(made)
    assert (found.recording, found.animal) == ("sub-m3_ses-a", "m3")
    (population,) = fetch_and_chunk(made, ["sub-m3_ses-a"])
    assert (population.animal, len(population.units)) == ("m3", 12)
    assert folder_files(found.path / "sub-m3_ses-a.nwb.zarr") == zarr


def test_a_zarr_folder_is_there_whole_or_not_at_all_and_goes_on(
    server: Server, zarr: dict[str, bytes], tmp_path: Path
) -> None:
    made = config(server, tmp_path, dandi=["000009"])
    damaged = f"{BUCKET}/units/spike_times/0"
    server.faults[damaged] = ["garbled"] * 4
    with pytest.raises(DownloadError, match="units/spike_times/0: its md5 is"):
        fetch_and_chunk(made, ["sub-m3_ses-a"])
    assert not (made.raw / "sub-m3_ses-a").exists()
    (begun,) = (made.raw / ".downloads").rglob("*.nwb.zarr")
    (begun / ".zgroup").write_bytes(b"x" * len(zarr[".zgroup"]))  # such as a crash leaves
    (begun / "gone.since").touch()
    before = len(server.requests)
    server.faults[damaged] = ["cut", 503]
    assert len(fetch_and_chunk(made, ["sub-m3_ses-a"])) == 1
    asked = {path for path, _ in server.requests[before:] if path.startswith(BUCKET)}
    assert {damaged, f"{BUCKET}/.zgroup"} <= asked
    assert len(asked) < len(zarr)
    assert folder_files(made.raw / "sub-m3_ses-a" / "sub-m3_ses-a.nwb.zarr") == zarr


@pytest.mark.parametrize("key", ["../out", "/etc/out", "a/../../out", "a\\..\\out", "C:/out", "a//out"])
def test_files_that_would_lie_outside_of_a_zarr_folder_are_refused(
    server: Server, tmp_path: Path, key: str
) -> None:
    dandi(server, "000010", {"sub-m4/x.nwb.zarr": {".zgroup": b"{}", key: b"content"}})
    made = config(server, tmp_path, dandi=["000010"])
    with pytest.raises(DownloadError, match="would be written outside its folder; nothing was downloaded"):
        fetch_and_chunk(made, ["x"])
    assert not list(tmp_path.rglob("out"))
    assert not list(tmp_path.rglob(".zgroup"))
