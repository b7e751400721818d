"""Data sets, one file for each: which recordings it has, how they are downloaded, and how they are read.

The code for downloading and reading is imported inside functions, because the workflow and each of its jobs
only need the list of recordings at their start.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nuclr.config import Config, Reading
from nuclr.data.archives.left_out import leave_out, reason_left_out
from nuclr.data.archives.licence import SIMULATED, note_licence, noted_licence
from nuclr.data.defaults import completed, labelled_animals
from nuclr.data.recording import Recording, SpikeTrains, Traces
from nuclr.data.splits import Splits, make_splits
from nuclr.errors import ConfigError, DataError, DownloadError
from nuclr.words import did_you_mean

if TYPE_CHECKING:
    from nuclr.data.archives.download import Fetcher

logger = logging.getLogger(__name__)

Raw = list[SpikeTrains] | list[Traces]


@dataclass(frozen=True)
class DataSet:
    """The functions of a data set, with its part of the configuration filled in.

    Attributes
    ----------
    recordings
        Returns all recordings with their animals, before any work is done on them.
    read
        Reads the populations of a recording, with the labels of the data set.
    download
        Downloads a recording into ``folder / recording``; ``folder`` is kept until all are complete. None if
        nothing is downloaded.
    licence
        Licence of the recordings as text, or a function that asks the archive after a download. "" is
        unknown.
    labels
        Label columns of the recordings, if they are known before the download.
    """

    recordings: Callable[[], list[Recording]]
    read: Callable[[Recording], Raw]
    download: Callable[[Recording, Path, Fetcher], None] | None = None
    licence: str | Callable[[Recording, Fetcher], str] = ""
    labels: Sequence[str] = ("brain_region",)


def data_set(config: Config) -> DataSet:
    """Return the data set of a configuration."""
    raw, servers = config.raw, config.download
    if config.source_kind == "simulated":
        from nuclr.data.archives import simulated

        return DataSet(
            lambda: simulated.recordings(raw, config.simulated.animals),
            simulated.read,
            licence=SIMULATED,
            labels=("cell_type", "brain_region"),
        )
    if config.source_kind == "steinmetz_2019":
        from nuclr.data.archives import steinmetz_2019

        return DataSet(
            lambda: steinmetz_2019.recordings(raw),
            steinmetz_2019.read,
            lambda recording, folder, fetcher: steinmetz_2019.download(
                recording, folder, servers.figshare, fetcher
            ),
            lambda _, fetcher: steinmetz_2019.licence(servers.figshare, fetcher),
        )
    if config.source_kind == "bugeon_2022":
        from nuclr.data.archives import bugeon_2022

        return DataSet(
            lambda: bugeon_2022.recordings(raw),
            bugeon_2022.read,
            lambda recording, folder, fetcher: bugeon_2022.download(
                recording, folder, servers.figshare, fetcher
            ),
            lambda _, fetcher: bugeon_2022.licence(servers.figshare, fetcher),
        )
    if config.source_kind == "ibl_brain_wide_map":
        from nuclr.data.archives import ibl_brain_wide_map

        ibl = config.ibl_brain_wide_map
        return DataSet(
            lambda: ibl_brain_wide_map.recordings(raw),
            lambda recording: ibl_brain_wide_map.read(recording, ibl.drop_last_s),
            lambda recording, folder, fetcher: ibl_brain_wide_map.download(
                recording, folder, servers.alyx, ibl.collection, fetcher
            ),
            ibl_brain_wide_map.LICENCE,
        )
    if config.source_kind == "allen_visual_coding":
        from nuclr.data.archives import allen_visual_coding

        allen = config.allen_visual_coding
        links = raw / allen_visual_coding.LINKS if allen.archive == "allensdk" else None
        return DataSet(
            lambda: allen_visual_coding.recordings(raw),
            lambda recording: allen_visual_coding.read(recording, allen),
            lambda recording, folder, fetcher: allen_visual_coding.download(
                recording, folder, links or servers.dandi, fetcher
            ),
            allen_visual_coding.LICENCE
            if links
            else lambda recording, fetcher: allen_visual_coding.licence(recording, servers.dandi, fetcher),
        )
    if config.nwb.folder is not None:
        from nuclr.data.formats.folder import find_recordings

        folder = config.nwb.folder
        return DataSet(
            lambda: find_recordings(folder, config.reading, config.results / config.dataset / "animals.json"),
            lambda recording: _read_own(recording, config.reading),
            licence=config.nwb.licence,
            labels=(),
        )
    from nuclr.data.archives import dandi
    from nuclr.data.archives.download import Fetcher

    return DataSet(
        lambda: dandi.recordings(raw, config.nwb.dandi, servers.dandi, Fetcher(servers.tries)),
        lambda recording: dandi.read(recording, config.reading),
        lambda recording, folder, fetcher: dandi.download(recording, folder, servers.dandi, fetcher),
        config.nwb.licence
        or (
            lambda recording, fetcher: dandi.licence_of(
                recording.origin.partition(" ")[0], servers.dandi, fetcher
            )
        ),
    )


def _read_own(recording: Recording, options: Reading) -> Raw:
    """Read a recording of any format."""
    from nuclr.data.formats import FORMATS, format_of

    if (form := format_of(recording.path)) is None:
        raise DataError(f"{recording.path}: not recognised; give {', '.join(form.name for form in FORMATS)}")
    return form.read(recording.path, options, recording.animal)


def recordings(config: Config) -> list[Recording]:
    """Return all recordings of a data set that are used, with their animals, before any work is done on them.

    Raises
    ------
    NuclrError
        If the files of the data set do not exist or have the same names, or ``split.leave_out`` names none of
        them.
    """
    return [recording for recording in every_recording(config) if not recording.left_out]


def every_recording(config: Config) -> list[Recording]:
    """Return all recordings of a data set, including those that are left out; see :func:`recordings`."""
    found = data_set(config).recordings()
    names = [recording.recording for recording in found]
    if unknown := [name for name in config.split.leave_out if name not in names]:
        remedy = did_you_mean(unknown[0], names, f"it has {len(names)}, from {min(names)} to {max(names)}")
        raise ConfigError(
            f"split.leave_out: data set {config.dataset} has no recording {unknown[0]}; {remedy}"
        )
    return [recording for recording in found if recording.recording not in config.split.leave_out]


def splits_of(config: Config, found: Sequence[Recording]) -> Splits:
    """Return the split of a data set's recordings into pretraining, labels and test.

    Raises
    ------
    SplitError
        If no animal would be left for pretraining.
    """
    if config.split.by == "paper":
        from nuclr.data.archives import ibl_brain_wide_map

        splits = ibl_brain_wide_map.paper_splits()
    else:
        animals = [recording.animal for recording in found]
        split = completed(config, found, data_set(config).labels)[0].split
        splits = make_splits(
            animals,
            split.test_animals or 0,
            split.label_animals or 0,
            split.seed,
            labelled=labelled_animals(found),
        )
    recordings: dict[str, list[str]] = {}
    for recording in found:
        recordings.setdefault(getattr(recording, splits.member), []).append(recording.recording)
    return replace(splits, recordings=recordings)


def recording_at(config: Config, path: Path) -> Recording:
    """Return the recording of a data set that a file or folder is.

    Raises
    ------
    DataError
        If the data set has no recording with this name.
    """
    if config.source_kind == "nwb" and not config.downloads:
        from nuclr.data.formats import animal_of, format_of

        if (form := format_of(path)) is None:
            raise DataError(
                f"{path}: not a recording in any format that nuclr reads; see `nuclr inspect --help`"
            )
        return Recording(path, form.recording_of(path), animal_of(path, form, config.reading)[0])
    for recording in recordings(config):
        if recording.path.name == path.name:
            return Recording(path, recording.recording, recording.animal, recording.origin)
    raise DataError(f"{path}: data set {config.dataset} has no recording with this file name")


def read_recording(config: Config, recording: Recording) -> Raw:
    """Read the populations of a recording, with the labels of its data set.

    Raises
    ------
    DataError
        If a file is damaged, or does not contain what the configuration names.
    """
    if not recording.path.exists():
        raise DataError(f"{recording.path}: file not found; download it with `nuclr download`")
    return data_set(config).read(recording)


def licence_of(config: Config, recording: Recording) -> str:
    """Return the licence of a recording, as its archive states it; "" if it is unknown."""
    licence = data_set(config).licence
    return noted_licence(recording.path) or (licence if isinstance(licence, str) else "")


def _note_licence(chosen: DataSet, recording: Recording, folder: Path, fetcher: Fetcher) -> None:
    """Ask the archive for the licence of a recording and store it; a failure is only a warning."""
    if isinstance(chosen.licence, str):
        return
    try:
        note_licence(folder, chosen.licence(recording, fetcher))
    except DownloadError as error:
        logger.warning("recording %s: its licence could not be read (%s)", recording.recording, error)


def download_recordings(config: Config, names: Sequence[str], fetcher: Fetcher) -> list[Recording]:
    """Download recordings, each completely or not at all; existing ones are not downloaded again.

    Parameters
    ----------
    config
        Its ``download.go_on_without`` says whether a recording that cannot be downloaded is an error, or is
        left out; then its folder contains only the reason.
    names
        Names of recordings; empty: all.
    fetcher
        How files are downloaded.

    Returns
    -------
    list of Recording
        The recordings that were left out.

    Raises
    ------
    ConfigError
        If the data set has nothing to download, or no recording with such a name.
    DownloadError
        If a recording cannot be downloaded; the message contains its name.
    """
    chosen = data_set(config)
    if chosen.download is None:
        raise ConfigError(
            f"dataset: {config.dataset} has nothing to download; choose a public data set, or set nwb.dandi"
        )
    known = {recording.recording: recording for recording in chosen.recordings()}
    if unknown := [name for name in names if name not in known]:
        remedy = did_you_mean(unknown[0], known, f"it has {len(known)}, from {min(known)} to {max(known)}")
        raise ConfigError(f"data set {config.dataset} has no recording {unknown[0]}; {remedy}")
    wanted = [known[name] for name in names] or list(known.values())
    # Outside the outputs that Snakemake deletes after an error, so that a download can be resumed.
    work = config.raw / ".downloads" / (wanted[0].recording if len(wanted) == 1 else config.dataset)
    lacking = []
    for recording in wanted:
        if recording.path.exists() and reason_left_out(recording.path) is None:
            continue
        try:
            chosen.download(recording, work, fetcher)
        except DownloadError as error:
            message = f"recording {recording.recording}: {error}"
            if not config.download.go_on_without:
                raise DownloadError(message) from None
            logger.warning("%s; left out (download.go_on_without)", message)
            leave_out(recording.path, recording.recording, recording.animal, message)
            lacking.append(recording)
        else:
            _note_licence(chosen, recording, work / recording.recording, fetcher)
            shutil.rmtree(recording.path, ignore_errors=True)
            (work / recording.recording).replace(recording.path)
    shutil.rmtree(work, ignore_errors=True)
    return lacking
