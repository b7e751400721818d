"""Bugeon et al. 2022 (Nature 607:330): calcium imaging of mouse V1 with transcriptomic types.

The data set has 17 sessions of 4 mice. Figshare article 19448531 is one zip archive, with files of a session
such as ``SB025/2019-10-04/neuron.ttype.txt``, and files of an experiment such as
``SB025/2019-10-04/Blank/01/frame.neuralActivity.npy`` (frame, neuron) and ``frame.times.npy``. The
experiments of a session have the same neurons; they are joined with gaps of an hour, so that no window spans
two of them.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from nuclr.data.archives.manifests import manifest
from nuclr.data.recording import Recording, Traces
from nuclr.errors import DataError, DownloadError

if TYPE_CHECKING:
    from nuclr.data.archives.download import Fetcher

logger = logging.getLogger(__name__)

ARTICLE = 19448531
TYPES = "neuron.ttype.txt"
ACTIVITY, TIMES = "frame.neuralActivity.npy", "frame.times.npy"
DEPTHS = "neuron.depth.npy"
FILES = (TYPES, ACTIVITY, TIMES, DEPTHS)
APART_S = 3600.0
# With too few detected genes, neurons are only excitatory or inhibitory; Serpinf1 has too few cells.
NO_SUBCLASS = ("EC", "IN", "Serpinf1", "")


def recordings(raw: Path) -> list[Recording]:
    """Return all sessions; each becomes a folder below ``raw`` when it is downloaded."""
    return [
        Recording(raw / name, name, row["animal"], origin=row["session"])
        for row in manifest("bugeon_2022")
        for name in [row["session"].replace("/", "_")]
    ]


def download(recording: Recording, folder: Path, server: str, fetcher: Fetcher) -> None:
    """Unpack a session into ``folder / recording``; the archive is downloaded once and stays in the folder.

    Raises
    ------
    DownloadError
        If the archive cannot be downloaded, is damaged, or does not contain the session.
    """
    from nuclr.data.archives.download import unpack
    from nuclr.data.archives.figshare import files_of

    archives = [file for file in files_of(ARTICLE, server, fetcher) if file.name.endswith(".zip")]
    if not archives:
        raise DownloadError(f"{server}: article {ARTICLE} has no zip archive; check download.figshare")
    # The article contains several versions of the archive; the last is the newest.
    archive = fetcher.fetch(archives[-1], folder)
    animal, date = recording.origin.split("/")

    def of_session(path: PurePosixPath) -> bool:
        return path.name in FILES and (animal, date) in zip(path.parts, path.parts[1:], strict=False)

    if not unpack(archive, folder / recording.recording, of_session):
        raise DownloadError(
            f"{archive}: the archive does not contain session {recording.origin}; delete it and download it "
            "again"
        )


def licence(server: str, fetcher: Fetcher) -> str:
    """Return the licence of the article.

    Raises
    ------
    DownloadError
        If the server states none.
    """
    from nuclr.data.archives.figshare import licence_of

    return licence_of(ARTICLE, server, fetcher)


def read(recording: Recording) -> list[Traces]:
    """Read the population of a session.

    The labels are ``ttype`` as in the archive, ``ei`` (EC or IN), ``subclass`` (Lamp5, Pvalb, Vip, Sncg, Sst)
    and ``class`` (their subtypes), "" if unknown.

    Raises
    ------
    DataError
        If a file is missing or damaged, or files do not fit together.
    """
    import pandas as pd

    from nuclr.data.access.columns import Column
    from nuclr.data.fluorescence import Frames
    from nuclr.data.formats import alf

    folder = recording.path
    types_file = next(iter(sorted(folder.rglob(TYPES))), None)
    if types_file is None:
        raise DataError(f"{folder}: no {TYPES}; delete the folder and download the recording again")
    session = types_file.parent
    ttype = np.array([line.strip() for line in types_file.read_text().splitlines()], object)
    units = pd.DataFrame(
        {
            "unit_id": [f"{recording.recording}_{neuron}" for neuron in range(len(ttype))],
            "ttype": ttype,
            "ei": np.where(ttype == "EC", "EC", np.where(ttype == "", "", "IN")),
            "subclass": [_subclass(name) for name in ttype],
            "class": [name if _subclass(name) else "" for name in ttype],
            "depth_um": alf.load_if_there(session, DEPTHS, len(ttype)),
        }
    )
    experiments = [
        path.parent
        for path in sorted(session.rglob(ACTIVITY))
        if _fits(path, len(ttype), recording.recording)
    ]
    if not experiments:
        raise DataError(
            f"{folder}: no experiment has {ACTIVITY} of the session's {len(ttype)} neurons; delete the "
            "folder and "
            "download the recording again"
        )
    times = [np.asarray(alf.load(path, TIMES), float) for path in experiments]
    for path, own in zip(experiments, times, strict=True):
        alf.check_lengths(path, (ACTIVITY, TIMES), (alf.load(path, ACTIVITY), own))
        _check_times(path, own)
    frame_s = float(np.median(np.concatenate([np.diff(own) for own in times])))
    frames, spans, start, every = [], [], 0, np.arange(len(ttype))
    for path, own in zip(experiments, times, strict=True):
        frames.append(Frames(Column(path / ACTIVITY), every, every, start, len(own)))
        spans.append([start * frame_s, (start + len(own)) * frame_s])
        stop = start + len(own)
        start = stop + round(APART_S / frame_s)
    return [Traces(folder, "v1", units, tuple(frames), stop, frame_s, 0.0, np.array(spans))]


def _subclass(ttype: str) -> str:
    subclass = ttype.partition("-")[0]
    return "" if subclass in NO_SUBCLASS else subclass


def _fits(activity: Path, neurons: int, recording: str) -> bool:
    """Return whether an experiment has the neurons of the session; the few that do not are left out."""
    from nuclr.data.formats import alf

    traces = alf.load(activity.parent, ACTIVITY)
    if traces.ndim == 2 and traces.shape[1] == neurons and len(traces) > 1:
        return True
    logger.warning(
        "%s: experiment %s has traces of shape %s, not of %d neurons; left out",
        recording,
        "/".join(activity.parts[-3:-1]),
        traces.shape,
        neurons,
    )
    return False


def _check_times(path: Path, times: np.ndarray) -> None:
    gaps = np.diff(times)
    if not np.isfinite(times).all() or (gaps <= 0).any():
        raise DataError(
            f"{path / TIMES}: frame times contain NaN or do not ascend; download the recording again"
        )
    uneven = int((np.abs(gaps - np.median(gaps)) > 0.5 * np.median(gaps)).sum())
    if uneven:
        logger.warning(
            "%s: %d frames are early or late by half a frame; treated as evenly spaced", path / TIMES, uneven
        )
