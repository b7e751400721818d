"""SpikeInterface's own readers see the same units, spikes and labels as are read here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sorted_folders import write_phy
from strategies import poisson_trains

import nuclr
from nuclr.config import Reading, Sorter
from nuclr.data.formats import format_of
from nuclr.data.recording import SpikeTrains
from nuclr.data.spikes import SpikesByTime

if TYPE_CHECKING:
    from conftest import Environment

SAVED = ("plain", "zarr_sorting.zarr", "analyzer_a", "analyzer_b.zarr")
FORMS = (*SAVED, "phy", "phy_saved", "kilosort4", "kilosort_saved")
GROUPS = ["good", "noise", "mua", "good", "noise", "unsorted"]
KS_LABELS = ["good", "mua", "mua", "good", "good", "mua"]
BIN_S = 0.02


@dataclass(frozen=True)
class Seen:
    """Where recordings are, and what SpikeInterface read of each."""

    folder: Path
    by_form: dict[str, dict[str, Any]]
    versions: list[str]


def write_kilosort(folder: Path) -> None:
    """Write what Kilosort 4 does: its word on each cluster in two tables, with Windows' line ends."""
    write_phy(folder, poisson_trains(6, 20.0, seed=1))
    rows = "".join(f"{10 + 2 * unit}\t{label}\r\n" for unit, label in enumerate(KS_LABELS))
    for name in ("cluster_group", "cluster_KSLabel"):
        (folder / f"{name}.tsv").write_bytes(f"cluster_id\tKSLabel\r\n{rows}".encode())


@pytest.fixture(scope="module")
def seen(spikeinterface: Environment, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("mouse1")
    write_phy(folder / "phy", poisson_trains(6, 20.0), GROUPS)
    write_kilosort(folder / "kilosort4")
    versions = spikeinterface.run("in_spikeinterface.py", folder).split()
    return Seen(folder, json.loads((folder / "seen.json").read_text()), versions)


def read(path: Path, options: Reading | None = None) -> SpikeTrains:
    form = format_of(path)
    assert form is not None
    (trains,) = form.read(path, options or Reading(), "mouse1")
    assert isinstance(trains, SpikeTrains)
    return trains


def samples_of(trains: SpikeTrains) -> dict[str, list[int]]:
    """Samples of each unit's spikes, by its id in the sorting."""
    spikes = trains.spikes
    assert isinstance(spikes, SpikesByTime)
    samples, units = (column.read(0, len(column)) for column in (spikes.times, spikes.clusters))
    ids = trains.units["unit_id"].str.rpartition("_")[2]
    return {unit: samples[units == row].tolist() for unit, row in zip(ids, spikes.ids, strict=True)}


@pytest.mark.parametrize("form", FORMS)
def test_units_and_their_spikes_are_the_same(seen: Seen, form: str) -> None:
    trains, theirs = read(seen.folder / form), seen.by_form[form]
    assert samples_of(trains) == theirs["samples"]
    assert isinstance(trains.spikes, SpikesByTime)
    assert trains.spikes.rate_hz == theirs["rate_hz"]


@pytest.mark.parametrize("form", FORMS)
def test_activity_counts_the_same_spikes_in_each_bin(seen: Seen, form: str) -> None:
    (population,) = nuclr.read(seen.folder / form, bin_s=BIN_S)
    activity = np.asarray(population.activity)
    for counts, seconds in zip(activity, seen.by_form[form]["seconds"].values(), strict=True):
        bins = np.floor(np.array(seconds) / BIN_S).astype(int)
        np.testing.assert_array_equal(counts, np.bincount(bins, minlength=len(counts)))


@pytest.mark.parametrize("form", SAVED)
def test_properties_are_labels(seen: Seen, form: str) -> None:
    units, theirs = read(seen.folder / form).units, seen.by_form[form]["properties"]
    assert set(units) == {"unit_id", "quality", "brain_region", "tagged"}
    for name in ("quality", "brain_region", "tagged"):
        assert units[name].tolist() == theirs[name]


def test_what_units_are_called_is_the_same(seen: Seen) -> None:
    properties = seen.by_form["phy"]["properties"]
    # phy's word for what nobody has judged is none here.
    called = [group.replace("unsorted", "") for group in properties["quality"]]
    for form in ("phy", "phy_saved"):
        assert read(seen.folder / form).units["quality"].tolist() == called
    for form in ("kilosort4", "kilosort_saved"):
        assert read(seen.folder / form).units["quality"].tolist() == KS_LABELS


@pytest.mark.parametrize("form", ["kilosort4", "kilosort_saved"])
def test_good_units_alone_are_the_same(seen: Seen, form: str) -> None:
    good = read(seen.folder / form, Reading(sorter=Sorter(keep=["good"])))
    assert samples_of(good) == seen.by_form["kilosort4, good"]["samples"]


def test_it_cannot_share_our_environment(seen: Seen) -> None:
    """Once it takes zarr 3, these tests need no environment of its own."""
    assert seen.versions[1].startswith("2.")
