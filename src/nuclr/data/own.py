"""Recordings that lie somewhere on a disk, in any form: what needs no data set and no workflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclr.config import Chunk, Nwb
from nuclr.data.chunk import chunk_recording, to_population, why_left_out
from nuclr.data.left_out import reason_left_out
from nuclr.data.population import Population
from nuclr.data.recording import SpikeTrains, Traces, name_of
from nuclr.data.sources import nwb, sorters
from nuclr.data.store import open_population, stores
from nuclr.errors import DataError

logger = logging.getLogger(__name__)

FORMS = "a population store, an NWB file, a Kilosort or phy folder, a saved SpikeInterface sorting"
DATASET = "own"


@dataclass(frozen=True)
class Found:
    """A recording on a disk.

    Attributes
    ----------
    path
        A file or a folder.
    recording
        Its name.
    read
        Reads what populations it holds; None for a population store, which is opened as it is.
    """

    path: Path
    recording: str
    read: Callable[[Path, Nwb], list[SpikeTrains] | list[Traces]] | None

    @property
    def animal(self) -> str:
        """NWB's ``subject_id``; a sorter does not know it, so a folder of its is an animal of its own."""
        return nwb.animal_of(self.path) if self.path.suffix == ".nwb" else self.recording


def find(paths: Sequence[Path]) -> list[Found]:
    """List the recordings that some paths are, or hold at any depth.

    Raises
    ------
    DataError
        If a path is not there or holds none, or two recordings have one name.
    """
    # A recording that could not be had left its reason behind, and is done without.
    found = [one for path in paths if reason_left_out(path) is None for one in _find(path)]
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: nothing there; all is left out")
    seen: dict[str, Path] = {}
    for one in found:
        if one.read is not None and seen.setdefault(one.recording, one.path) != one.path:
            raise DataError(
                f"{one.path} and {seen[one.recording]} would both be recording {one.recording}; rename one"
            )
    return found


def _find(path: Path) -> list[Found]:
    if not path.exists():
        raise DataError(f"{path}: not there; give {FORMS}, or a folder of them")
    if (itself := _form(path)) is not None:
        return [itself]
    if path.is_file():
        raise DataError(f"{path}: not {FORMS}")
    inside = [Found(store, name_of(store), None) for store in stores(path) if (store / "activity").is_dir()]
    # Below a recording there is none.
    inside = inside or [form for form in map(_form, sorted(path.rglob("*"))) if form is not None]
    inside = [one for one in inside if not any(other.path in one.path.parents for other in inside)]
    if not inside:
        raise DataError(f"{path}: nothing in it that is {FORMS}")
    return inside


def _form(path: Path) -> Found | None:
    if path.name.startswith("."):
        return None  # what a download or another system left beside the files
    if path.is_file():
        if path.suffix != ".nwb":
            return None
        return Found(path, name_of(path), _read_nwb)
    if sorters.is_kilosort(path):
        return Found(path, sorters.recording_of(path), lambda folder, _: sorters.read_kilosort(folder))
    if sorters.is_spikeinterface(path):
        return Found(path, sorters.recording_of(path), lambda folder, _: sorters.read_spikeinterface(folder))
    if path.suffix == ".zarr" and (path / "activity").is_dir():
        return Found(path, name_of(path), None)
    return None


def _read_nwb(path: Path, named: Nwb) -> list[SpikeTrains] | list[Traces]:
    return nwb.read_populations(path, named.unit_columns, named.region_column)


def open_found(found: Sequence[Found], named: Nwb, chunk: Chunk) -> Iterator[Population]:
    """Open recordings one after another; spikes are binned when activity is computed.

    Parameters
    ----------
    found
        Of :func:`find`.
    named
        Which columns of an NWB file's unit table are labels.
    chunk
        How spikes are binned, and the least rate of a unit.

    Raises
    ------
    DataError
        If a file is damaged, or its spikes cannot be trusted.
    """
    for one in found:
        if one.read is None:
            yield open_population(one.path)
            continue
        for raw in one.read(one.path, named):
            population = to_population(
                raw,
                dataset=DATASET,
                animal=one.animal,
                recording=one.recording,
                options=chunk,
                source={"file": one.path.name},
            )
            # A silent one can be looked at; one without units cannot.
            if len(population.units):
                yield population
            else:
                why = why_left_out(population, chunk)
                logger.warning("%s: population %s: %s; left out", raw.path, raw.population, why)


def store_found(found: Sequence[Found], folder: Path, named: Nwb, chunk: Chunk) -> list[Path]:
    """Make population stores of recordings that are none yet, below a folder; what is made is not made again.

    Returns
    -------
    list of Path
        Folders with all stores.

    Raises
    ------
    DataError
        As for :func:`nuclr.data.chunk.chunk_recording`.
    """
    folders = []
    for one in found:
        if one.read is None:
            folders.append(one.path.parent)
            continue
        folders.append(folder / one.recording)
        chunk_recording(
            one.read(one.path, named),
            folders[-1],
            dataset=DATASET,
            animal=one.animal,
            recording=one.recording,
            options=chunk,
            licence=named.licence,
        )
    return list(dict.fromkeys(folders))


def read(
    path: Path | str,
    *,
    bin_s: float = 0.02,
    min_rate_hz: float = 0.0,
    unit_columns: Sequence[str] = (),
    region_column: str | None = None,
) -> list[Population]:
    """Read the populations of a recording, or of a folder of them: what ``nuclr.read`` is.

    Parameters
    ----------
    path
        An NWB file, a Kilosort or phy folder, a sorting that SpikeInterface saved, or a folder of these.
    bin_s
        Bin of spike counts (s): a model's ``bin_s``. Calcium keeps its frames.
    min_rate_hz
        Units that fire less are left out: a model's ``min_rate_hz``.
    unit_columns
        Which columns of an NWB file's unit table are kept as labels.
    region_column
        Which of them is the brain region; None: the location of a unit's electrode.

    Raises
    ------
    DataError
        If nothing of the kind is there, or it cannot be trusted.
    """
    named = Nwb(unit_columns=list(unit_columns), region_column=region_column)
    return list(open_found(find([Path(path)]), named, Chunk(bin_s=bin_s, min_rate_hz=min_rate_hz)))
