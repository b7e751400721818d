"""Allen Visual Coding, from either archive to the labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from archives import ALLEN_PULSES, allen_session, allen_trains, config_for, fetch_and_chunk, tables
from servers import Server, dandi, serving

from nuclr.config import load_config
from nuclr.data.archives import recordings
from nuclr.data.archives.allen_visual_coding import light_response
from nuclr.errors import DataError, DownloadError
from nuclr.evaluation.protocols import class_labels

CONFIG = Path(__file__).parents[3] / "config" / "allen_visual_coding.yaml"
SESSION, ANIMAL = "715093703", "699733573"
OTHER, OTHER_ANIMAL = "719161530", "703279277"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def link(server: Server, folder: Path, **contents: bytes) -> None:
    """Serve sessions as the warehouse does, and say where they are as allensdk's environment would."""
    rows = []
    for session, content in contents.items():
        path = f"/api/v2/well_known_file_download/{session[1:]}"
        server.files[path] = content
        rows.append({"session": session[1:], "url": server.url(path)})
    raw = folder / "allen_visual_coding" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(raw / "links.tsv", sep="\t", index=False)


def fetched(server: Server, folder: Path, names: list[str] | None = None, **options: Any) -> list[Any]:
    config = config_for("allen_visual_coding", folder, server.address, allen_visual_coding=options)
    return fetch_and_chunk(config, names or [SESSION])


def test_the_manifest_holds_the_published_sessions(tmp_path: Path) -> None:
    found = recordings(config_for("allen_visual_coding", tmp_path, "none"))
    assert len({recording.recording for recording in found}) == 58
    assert len({recording.animal for recording in found}) == 58
    assert {recording.origin for recording in found} == {"000021", "000022"}


@pytest.mark.parametrize("archive", ["allensdk", "dandi"])
def test_from_the_archive_to_the_labels(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, archive: str
) -> None:
    one = allen_session(tmp_path / "one.nwb", SESSION, ANIMAL)
    two = allen_session(tmp_path / "two.nwb", OTHER, OTHER_ANIMAL, genotype="wt/wt", light=False)
    if archive == "dandi":
        pytest.importorskip("dandi", reason="the dandi client is not installed: pip install nuclr[dandi]")
        dandi(
            server,
            "000021",
            {
                f"sub-{ANIMAL}/sub-{ANIMAL}_ses-{SESSION}.nwb": one,
                f"sub-{ANIMAL}/sub-{ANIMAL}_ses-{SESSION}_probe-810755797_ecephys.nwb": b"LFP, not wanted",
                f"sub-{OTHER_ANIMAL}/sub-{OTHER_ANIMAL}_ses-{OTHER}.nwb": two,
            },
        )
    else:
        link(server, tmp_path, s715093703=one, s719161530=two)
    made = fetched(server, tmp_path, [SESSION, OTHER], archive=archive)
    assert [population.population for population in made] == [
        f"{SESSION}/probeA",
        f"{SESSION}/probeB",
        f"{OTHER}/probeA",
        f"{OTHER}/probeB",
    ]
    stated = {"dandi": "CC-BY-4.0, says dandiset 000021", "allensdk": "Allen Institute's terms of use"}
    assert {population.source["licence"].split(", http")[0] for population in made} == {stated[archive]}
    units, populations = tables(config_for("allen_visual_coding", tmp_path, server.address))
    # Of twelve units on probe A two fail by region, one is noise, three are below a threshold.
    assert populations["units"].tolist() == [6, 10, 6, 10]
    assert populations["animal"].tolist() == [ANIMAL] * 2 + [OTHER_ANIMAL] * 2
    # Until 300 s before the light at 700 s, without 10 s of invalid times; all of 850 s where is no light.
    np.testing.assert_allclose(populations["minutes"] * 60, [390, 390, 840, 840], atol=1)
    tasks = {task.name: class_labels(units, task) for task in load_config(CONFIG).probe.tasks}
    assert pd.Series(tasks["cell_type"]).value_counts().to_dict() == {"": 30, "Sst": 2}
    assert pd.Series(tasks["visual_area"]).value_counts().to_dict() == {"VISp": 14, "VISl": 18}
    light = units.set_index("unit_id")[["light_ratio", "light_latency_ms", "light_p"]]
    assert (light.loc[[f"{ANIMAL}_{SESSION}_95000000{i}" for i in (0, 1)], "light_ratio"] > 10).all()
    assert light.loc[f"{ANIMAL}_{SESSION}_950000002", "light_p"] > 0.01
    assert light[light.index.str.startswith(OTHER_ANIMAL)].isna().all(axis=None)
    assert "warning" not in caplog.text.lower()


def test_all_regions_can_be_kept(server: Server, tmp_path: Path) -> None:
    link(server, tmp_path, s715093703=allen_session(tmp_path / "one.nwb", SESSION, ANIMAL))
    made = fetched(server, tmp_path, regions="")
    assert sum(len(population.units) for population in made) == 19
    assert "CA1" in set(made[0].units["brain_region"])


def test_cell_types_can_come_from_a_table(server: Server, tmp_path: Path) -> None:
    link(server, tmp_path, s715093703=allen_session(tmp_path / "one.nwb", SESSION, ANIMAL))
    table = pd.DataFrame(
        {"unit_id": ["950000001", f"{ANIMAL}_{SESSION}_950000002"], "cell_type": ["Vip", "Sst"]}
    )
    table.to_csv(tmp_path / "labels.csv", index=False)
    made = fetched(server, tmp_path, labels=str(tmp_path / "labels.csv"))
    assert made[0].units.set_index("unit_id")["cell_type"].to_dict() == {
        f"{ANIMAL}_{SESSION}_{950_000_000 + unit}": {1: "Vip", 2: "Sst"}.get(unit, "")
        for unit in (0, 1, 2, 9, 10, 11)
    }
    pd.concat([table, table]).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DataError, match=r"labels\.csv: unit_id 950000001 occurs twice"):
        fetched(server, tmp_path, labels=str(tmp_path / "labels.csv"))
    with pytest.raises(DataError, match=r"allen_visual_coding\.labels: .*nowhere\.csv: cannot be read"):
        fetched(server, tmp_path, labels=str(tmp_path / "nowhere.csv"))


def test_the_threshold_can_be_moved(server: Server, tmp_path: Path) -> None:
    link(server, tmp_path, s715093703=allen_session(tmp_path / "one.nwb", SESSION, ANIMAL))
    made = fetched(server, tmp_path, light_ratio=1000)
    assert set(made[0].units["cell_type"]) == {""}


def test_the_response_to_light_has_size_latency_and_significance() -> None:
    response = light_response(allen_trains(), ALLEN_PULSES)
    assert (response["light_latency_ms"][:2] <= 3).all()
    assert (response["light_p"][:2] < 1e-9).all()
    assert (response["light_ratio"][:2] > 10).all()
    # A late response, and none.
    assert ((response["light_p"][2:] > 0.01) | (response["light_ratio"][2:] < 2)).all()
    silent = light_response([np.zeros(0)], ALLEN_PULSES)
    assert silent["light_ratio"].tolist() == [1.0]
    assert silent["light_p"].tolist() == [1.0]
    assert silent["light_latency_ms"].isna().all()


@pytest.mark.parametrize("fault", ["cut", 503])
def test_a_fault_of_the_server_is_got_over(server: Server, tmp_path: Path, fault: str | int) -> None:
    link(server, tmp_path, s715093703=allen_session(tmp_path / "one.nwb", SESSION, ANIMAL))
    server.faults[f"/api/v2/well_known_file_download/{SESSION}"] = [fault] * 3
    assert len(fetched(server, tmp_path)) == 2


def test_what_is_wrong_is_said(server: Server, tmp_path: Path) -> None:
    whole = allen_session(tmp_path / "one.nwb", SESSION, ANIMAL)
    with pytest.raises(DownloadError, match=r"links\.tsv: no address for session 715093703"):
        fetched(server, tmp_path / "none")
    link(server, tmp_path, s715093703=whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"715093703\.nwb: damaged, truncated, or not an NWB file"):
        fetched(server, tmp_path)
    noise = allen_session(tmp_path / "two.nwb", SESSION, ANIMAL, changes={"quality": ["noise"] * 24})
    link(server, tmp_path / "noise", s715093703=noise)
    with pytest.raises(DataError, match="no good unit in a region that begins with VIS"):
        fetched(server, tmp_path / "noise")


def test_a_dandiset_without_the_session_is_named(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("dandi", reason="the dandi client is not installed: pip install nuclr[dandi]")
    dandi(server, "000021", {"sub-1/sub-1_ses-1.nwb": b""})
    with pytest.raises(
        DownloadError, match=r"dandiset 000021 has 0 files \*_ses-715093703.nwb, not exactly one"
    ):
        fetched(server, tmp_path, archive="dandi")
