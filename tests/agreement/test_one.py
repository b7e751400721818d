"""ALF sessions hold the same spikes here as ONE loads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nuclr.data.formats.alf import read_alf
from nuclr.data.recording import SpikeTrains
from nuclr.data.spikes import SpikesByTime

alfio = pytest.importorskip("one.alf.io", reason="ONE-api is not installed: pip install nuclr[ibl]")

CLUSTERS = 6


def write(
    folder: Path, seed: int, namespace: str = "", attributes: tuple[str, ...] = ("times", "clusters")
) -> None:
    """Write the spikes of a probe, or a revision of some of their attributes."""
    rng = np.random.default_rng(seed)
    arrays = {"times": np.sort(rng.uniform(5, 65, 400)), "clusters": rng.integers(0, CLUSTERS, 400)}
    folder.mkdir(parents=True, exist_ok=True)
    for name in attributes:
        np.save(folder / f"{namespace}spikes.{name}.npy", arrays[name])


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write probes of a namespace, of a sorter's folder, and of one that was sorted or curated anew."""
    session = tmp_path_factory.mktemp("one") / "lab" / "Subjects" / "mouse1" / "2024-03-05" / "001"
    alf = session / "alf"
    write(alf / "probe00", 0)
    write(alf / "probe01" / "pykilosort", 1, namespace="_mine_")
    write(alf / "probe02", 2)
    write(alf / "probe02" / "#2024-04-01#", 3)
    write(alf / "probe02" / "#2024-05-01#", 4)
    write(alf / "probe03" / "pykilosort", 5)
    write(alf / "probe03" / "pykilosort" / "#2024-05-01#", 6, attributes=("clusters",))
    return session


def trains_of(population: SpikeTrains) -> dict[int, np.ndarray]:
    """Spike times of each cluster."""
    spikes = population.spikes
    assert isinstance(spikes, SpikesByTime)
    times, clusters = (column.read(0, len(column)) for column in (spikes.times, spikes.clusters))
    return {int(cluster): times[clusters == cluster] / spikes.rate_hz for cluster in spikes.ids}


def assert_same(population: SpikeTrains, spikes: dict[str, np.ndarray]) -> None:
    ours = trains_of(population)
    assert sorted(ours) == np.unique(spikes["clusters"]).tolist()
    assert [unit.rpartition("_")[2] for unit in population.units["unit_id"]] == [str(c) for c in sorted(ours)]
    for cluster, train in ours.items():
        np.testing.assert_array_equal(train, spikes["times"][spikes["clusters"] == cluster])


@pytest.mark.parametrize("folder", ["probe00", "probe01/pykilosort"])
def test_alf_loads_the_same_spikes(session: Path, folder: str) -> None:
    (population,) = read_alf(session / "alf" / folder)
    assert_same(population, alfio.load_object(session / "alf" / folder, "spikes"))


@pytest.mark.filterwarnings("ignore::one.alf.exceptions.ALFWarning")
def test_one_loads_the_same_probes_and_revisions(session: Path) -> None:
    from one.alf.cache import make_parquet_db
    from one.api import One

    root = session.parents[4]
    make_parquet_db(root)
    one = One(cache_dir=root, mode="local")
    (eid,) = one.search()
    collections = sorted(one.list_collections(eid))
    populations = read_alf(session)
    assert [population.population for population in populations] == [c.split("/")[1] for c in collections]
    for population, collection in zip(populations, collections, strict=True):
        assert_same(population, one.load_object(eid, "spikes", collection=collection))
