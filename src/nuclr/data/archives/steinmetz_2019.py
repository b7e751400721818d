"""Steinmetz et al. 2019 (Nature 576:266): 39 Neuropixels sessions of 10 mice, figshare article 9598406.

One archive a session with its ALF files. What they hold (README of the article):
``clusters._phy_annotation`` 0 noise, 1 multi-unit, 2 good, 3 unsorted; ``clusters.peakChannel`` counts
from 1, through the channels of all probes; ``channels.brainLocation`` has the Allen acronym of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nuclr.data.archives.manifests import manifest
from nuclr.data.recording import Recording, SpikeTrains
from nuclr.errors import DataError, DownloadError

if TYPE_CHECKING:
    from nuclr.data.archives.download import Fetcher

ARTICLE = 9598406
GOOD = 2
REGIONS = "channels.brainLocation.tsv"
OF_CLUSTERS = ("clusters.probes.npy", "clusters.peakChannel.npy", "clusters._phy_annotation.npy")
OPTIONAL = "clusters.depths.npy"
FILES = ("spikes.times.npy", "spikes.clusters.npy", *OF_CLUSTERS, OPTIONAL, REGIONS)


def recordings(raw: Path) -> list[Recording]:
    """List all sessions; each is a folder below ``raw`` once it is downloaded."""
    return [
        Recording(raw / row["session"], row["session"], row["animal"], origin=row["session"])
        for row in manifest("steinmetz_2019")
    ]


def download(recording: Recording, folder: Path, server: str, fetcher: Fetcher) -> None:
    """Fetch and unpack a session into ``folder / recording``.

    Raises
    ------
    DownloadError
        If the archive cannot be had, or is damaged.
    """
    from nuclr.data.archives.download import unpack
    from nuclr.data.archives.figshare import files_of

    listed = files_of(ARTICLE, server, fetcher)
    archives = [file for file in listed if file.name.partition(".")[0] == recording.origin]
    if not archives:
        raise DownloadError(f"{server}: article {ARTICLE} has no archive of session {recording.origin}")
    archive = fetcher.fetch(archives[0], folder)
    unpack(archive, folder / recording.recording, lambda path: path.name in FILES)
    archive.unlink()


def licence(server: str, fetcher: Fetcher) -> str:
    """Say under which licence the article is given.

    Raises
    ------
    DownloadError
        If the server does not say.
    """
    from nuclr.data.archives.figshare import licence_of

    return licence_of(ARTICLE, server, fetcher)


def read(recording: Recording) -> list[SpikeTrains]:
    """Read what populations a session holds, one a probe; units are the good clusters.

    Raises
    ------
    DataError
        If a file is missing or damaged, or files do not fit each other.
    """
    import pandas as pd

    from nuclr.data.formats import alf

    folder = recording.path
    inside = _where(folder)
    sorting = alf.sorting_in(inside)
    probes, channels, annotation = (sorting.array(name.removesuffix(".npy")) for name in OF_CLUSTERS)
    alf.check_lengths(inside, OF_CLUSTERS, (probes, channels, annotation))
    regions = _regions(inside / REGIONS)
    channels = np.asarray(channels, np.int64) - 1
    sorting.check_channels("clusters.peakChannel", channels, REGIONS, len(regions))
    units = pd.DataFrame(
        {
            "unit_id": [f"{recording.recording}_{cluster}" for cluster in range(len(probes))],
            "brain_region": regions[channels],
            "depth_um": sorting.array_if_there("clusters.depths", len(probes)),
            "phy_annotation": np.asarray(annotation, np.int64),
        }
    )
    spikes = sorting.spikes(np.arange(len(units)))
    span = spikes.span()
    everything = SpikeTrains(folder, "", units, spikes, span)
    found = alf.by_probe(everything, np.asarray(probes), np.asarray(annotation) >= GOOD)
    if not found or not len(span):
        raise DataError(
            f"{folder}: no cluster is annotated as good, or none fires; leave it out with split.leave_out"
        )
    return found


def _where(folder: Path) -> Path:
    """Find the ALF files: archives may hold a folder of their own."""
    found = sorted(folder.rglob("spikes.times.npy"))
    if len(found) != 1:
        raise DataError(
            f"{folder}: {len(found)} files spikes.times.npy instead of one; "
            "delete the folder and download the recording again"
        )
    return found[0].parent


def _regions(path: Path) -> np.ndarray:
    import pandas as pd

    try:
        return pd.read_csv(path, sep="\t", keep_default_na=False)["allen_ontology"].to_numpy(object)
    except FileNotFoundError:
        raise DataError(
            f"{path}: file not found; delete the folder and download the recording again"
        ) from None
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{path}: no column allen_ontology ({error}); delete the folder and download the recording again"
        ) from None
