"""Steinmetz et al. 2019 (Nature 576:266): 39 Neuropixels sessions of 10 mice, figshare article 9598406.

Each session is an archive of ALF files. Their contents, from the README of the article:
``clusters._phy_annotation`` is 0 for noise, 1 for multi-unit, 2 for good and 3 for unsorted clusters;
``clusters.peakChannel`` counts from 1 through the channels of all probes; ``channels.brainLocation`` has the
Allen acronym of each channel.
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
    """Return all sessions; each becomes a folder below ``raw`` when it is downloaded."""
    return [
        Recording(raw / row["session"], row["session"], row["animal"], origin=row["session"])
        for row in manifest("steinmetz_2019")
    ]


def download(recording: Recording, folder: Path, server: str, fetcher: Fetcher) -> None:
    """Download and unpack a session into ``folder / recording``.

    Raises
    ------
    DownloadError
        If the archive cannot be downloaded, or is damaged.
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
    """Return the licence of the article.

    Raises
    ------
    DownloadError
        If the server states none.
    """
    from nuclr.data.archives.figshare import licence_of

    return licence_of(ARTICLE, server, fetcher)


def read(recording: Recording) -> list[SpikeTrains]:
    """Read the populations of a session, one for each probe; units are the good clusters.

    Raises
    ------
    DataError
        If a file is missing or damaged, or files do not fit together.
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
    """Return the folder with the ALF files, which may be inside another folder of the archive."""
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
