"""A file, a folder or an object in memory becomes the populations of a recording.

A new format is one file here and one line in :data:`FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nuclr.config import Nwb
from nuclr.data.formats import kilosort, nwb, spikeinterface
from nuclr.data.formats.sorting import recording_of
from nuclr.data.recording import SpikeTrains, Traces, name_of

Raw = list[SpikeTrains] | list[Traces]


@dataclass(frozen=True)
class Format:
    """One form that recordings have on a disk.

    Attributes
    ----------
    name
        What it is, with its article.
    known_by
        How it is recognised, in words.
    recognised
        Whether a path is a recording of this form.
    read
        Reads what populations a recording holds.
    recording_of, animal_of
        Name a recording, and its animal.
    """

    name: str
    known_by: str
    recognised: Callable[[Path], bool]
    read: Callable[[Path, Nwb], Raw]
    recording_of: Callable[[Path], str]
    animal_of: Callable[[Path], str]


FORMATS = (
    Format(
        "an NWB file",
        "the suffix `.nwb`",
        lambda path: path.is_file() and path.suffix == ".nwb",
        lambda path, named: nwb.read_populations(path, named.unit_columns, named.region_column),
        name_of,
        nwb.animal_of,
    ),
    # A sorter does not know the animal: a folder of its is an animal of its own.
    Format(
        "a Kilosort or phy folder",
        "`spike_times.npy` in it",
        kilosort.is_kilosort,
        lambda folder, _: kilosort.read_kilosort(folder),
        recording_of,
        recording_of,
    ),
    Format(
        "a saved SpikeInterface sorting",
        "`numpysorting_info.json` or `spikes/sample_index` in it",
        spikeinterface.is_spikeinterface,
        lambda folder, _: spikeinterface.read_spikeinterface(folder),
        recording_of,
        recording_of,
    ),
)


def format_of(path: Path) -> Format | None:
    """Recognise a recording; None if a path is none, or is hidden.

    Hidden are files that a download or another system left beside the others.
    """
    if path.name.startswith("."):
        return None
    return next((form for form in FORMATS if form.recognised(path)), None)
