"""IBL Brain-Wide Map (International Brain Laboratory 2023): 459 sessions, 699 insertions, 139 mice.

Alyx (IBL's database, through ONE-api) lists the files of every session, with sizes and MD5; the files are on
IBL's public server. For each probe, the spike sorting in ``alf/{probe}/{collection}`` is used, in Alyx's
default revision.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nuclr.data.archives.manifests import manifest
from nuclr.data.recording import Recording, SpikeTrains
from nuclr.data.splits import Splits, published_splits
from nuclr.errors import DataError, DownloadError

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.data.archives.download import Fetcher, Remote
    from nuclr.data.formats import alf

logger = logging.getLogger(__name__)

# Public credentials: https://int-brain-lab.github.io/ONE/notebooks/one_quickstart.html
USER, PASSWORD = "intbrainlab", "international"
# Alyx does not state a licence.
LICENCE = "International Brain Laboratory's, see https://www.internationalbrainlab.com/data"
METRICS, UUIDS = "clusters.metrics.pqt", "clusters.uuids.csv"
NEEDED = ("spikes.times.npy", "spikes.clusters.npy", "clusters.channels.npy", METRICS, UUIDS)
LOCATIONS, DEPTHS = "channels.brainLocationIds_ccf_2017.npy", "clusters.depths.npy"
OPTIONAL = (LOCATIONS, DEPTHS)
# All three quality metrics passed (clusters.metrics, "label").
PASSED = 1.0


def recordings(raw: Path) -> list[Recording]:
    """Return all sessions; each becomes a folder below ``raw`` when it is downloaded."""
    animals = {row["eid"]: row["animal"] for row in manifest("ibl_brain_wide_map")}
    return [Recording(raw / eid, eid, animal, origin=eid) for eid, animal in animals.items()]


def paper_splits() -> Splits:
    """Return the split of the authors of NuCLR: pretraining sessions (tiny, medium, large, all) and test."""
    sets = ("tiny", "medium", "large", "all", "test", "")
    rows = {
        row["eid"]: (row["eid"], row["animal"], row["paper_set"]) for row in manifest("ibl_brain_wide_map")
    }
    return published_splits(sorted(rows.values(), key=lambda row: sets.index(row[2])))


def probes_of(eid: str) -> list[str]:
    """Return the names of a session's probes that are in the release."""
    return sorted(row["probe"] for row in manifest("ibl_brain_wide_map") if row["eid"] == eid)


def download(recording: Recording, folder: Path, server: str, collection: str, fetcher: Fetcher) -> None:
    """Download a session, each probe into ``folder / recording / probe``.

    Raises
    ------
    DownloadError
        If ONE-api is not installed, or a file cannot be downloaded.
    """
    alyx = _alyx(server, folder, fetcher)
    address = f"/sessions/{recording.origin}"
    session = fetcher.patiently(lambda: alyx.get(address, expires=True), server + address)
    for probe in probes_of(recording.origin):
        for remote in _files(session, probe, collection):
            fetcher.fetch(remote, folder / recording.recording / probe)


def _alyx(server: str, folder: Path, fetcher: Fetcher) -> Any:
    try:
        from one.webclient import AlyxClient
    except ImportError:
        raise DownloadError(
            'ibl_brain_wide_map needs ONE-api; install it: pip install "nuclr[ibl]"'
        ) from None

    def connect() -> Any:
        client = AlyxClient(base_url=server, cache_dir=str(folder / ".alyx"), silent=True, cache_rest=None)
        client.authenticate(USER, PASSWORD, cache_token=False)
        return client

    return fetcher.patiently(connect, server)


def _files(session: dict[str, Any], probe: str, collection: str) -> list[Remote]:
    """Return a probe's files from the datasets of an Alyx session record."""
    from nuclr.data.archives.download import Remote

    where = f"alf/{probe}/{collection}"
    found = {}
    for dataset in session.get("data_dataset_session_related", []):
        default = str(dataset.get("default_revision", True)) == "True"
        if dataset.get("collection") == where and default and dataset.get("data_url"):
            md5 = dataset.get("hash")
            found[dataset["name"]] = Remote(
                url=dataset["data_url"],
                name=dataset["name"],
                size=dataset.get("file_size"),
                digest=f"md5:{str(md5).replace('-', '')}" if md5 else None,
            )
    if missing := [name for name in NEEDED if name not in found]:
        raise DownloadError(
            f"session {session.get('id', '')}: no {missing[0]} in {where}; "
            "check ibl_brain_wide_map.collection, or leave the session out with download.go_on_without"
        )
    return [found[name] for name in (*NEEDED, *OPTIONAL) if name in found]


def read(recording: Recording, drop_last_s: float) -> list[SpikeTrains]:
    """Read the populations of a session, one for each probe; units are the clusters that pass all metrics.

    The labels are ``brain_region`` (Allen acronym, the same for left and right) and ``cosmos``, its coarse
    region (iblatlas), "" for root and void.

    Raises
    ------
    DataError
        If a file is missing or damaged, files do not fit together, or no cluster passes.
    """
    import pandas as pd

    from nuclr.data.formats import alf

    folder, found = recording.path, []
    for probe in sorted(path for path in folder.iterdir() if path.is_dir()):
        sorting = alf.sorting_in(probe)
        metrics, channels = _metrics(sorting), sorting.array("clusters.channels")
        uuids = _uuids(sorting)
        alf.check_lengths(probe, ("clusters.channels.npy", UUIDS), (channels, uuids))
        # Clusters without a row in the table were too small to be measured.
        label = metrics["label"].reindex(range(len(channels)))
        passed = np.flatnonzero(label.to_numpy(float) == PASSED)
        if not len(passed):
            logger.warning("%s: no cluster of %s passes all quality metrics; left out", folder, probe.name)
            continue
        region, cosmos = _regions(sorting, np.asarray(channels, np.int64)[passed])
        units = pd.DataFrame(
            {
                "unit_id": uuids[passed],
                "brain_region": region,
                "cosmos": cosmos,
                "depth_um": sorting.array_if_there("clusters.depths", len(channels))[passed],
            }
        )
        spikes = sorting.spikes(passed)
        span = spikes.span(drop_last_s)
        if not len(span):
            raise DataError(
                f"{probe}: the session is shorter than ibl_brain_wide_map.drop_last_s = {drop_last_s:g} s; "
                "lower it"
            )
        found.append(SpikeTrains(folder, probe.name, units, spikes, span, cut=drop_last_s > 0))
    if not found:
        raise DataError(
            f"{folder}: no cluster of recording {recording.recording} passes all quality metrics; leave it "
            "out with "
            "split.leave_out"
        )
    return found


def _metrics(sorting: alf.Sorting) -> pd.DataFrame:
    table = sorting.table("clusters.metrics", ".pqt")
    if missing := [name for name in ("cluster_id", "label") if name not in table]:
        path = sorting.path("clusters.metrics")
        raise DataError(f"{path}: no column {missing[0]}; download the recording again")
    return table.set_index("cluster_id")[["label"]]


def _uuids(sorting: alf.Sorting) -> np.ndarray:
    table = sorting.table("clusters.uuids", ".csv")
    if "uuids" not in table:
        path = sorting.path("clusters.uuids")
        raise DataError(f"{path}: no column uuids; download the recording again")
    return table["uuids"].to_numpy(object)


def _regions(sorting: alf.Sorting, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the acronym and the Cosmos acronym of each unit's channel."""
    if LOCATIONS.removesuffix(".npy") not in sorting.files:
        logger.warning("%s: no %s; the units have no brain_region", sorting.folder, LOCATIONS)
        return np.full(len(channels), "", object), np.full(len(channels), "", object)
    ids = sorting.array(LOCATIONS.removesuffix(".npy"))
    sorting.check_channels("clusters.channels", channels, LOCATIONS, len(ids))
    try:
        from iblatlas.regions import BrainRegions
    except ImportError:
        raise DataError('ibl_brain_wide_map needs iblatlas; install it: pip install "nuclr[ibl]"') from None
    regions = BrainRegions()
    # Ids of the left hemisphere are negative.
    region = regions.id2acronym(np.abs(np.asarray(ids, np.int64)[channels]))
    cosmos = regions.acronym2acronym(region, mapping="Cosmos")
    return region.astype(object), np.where(np.isin(cosmos, ["root", "void"]), "", cosmos).astype(object)
