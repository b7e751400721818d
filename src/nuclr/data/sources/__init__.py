"""One file per data set: how its recordings are found and read."""

from __future__ import annotations

from pathlib import Path

from nuclr.config import Config
from nuclr.data.sources import nwb, simulated


def recordings(config: Config) -> list[nwb.Recording]:
    """List all recordings of a data set with their animals, before any work is done on them.

    Raises
    ------
    NuclrError
        If the data set's files are not there or cannot be told apart.
    """
    if config.source_kind == "nwb":
        assert config.nwb.folder is not None  # checked with the configuration
        return nwb.find_recordings(config.nwb.folder)
    raw = Path(config.results) / config.dataset / "raw"
    names = simulated.animal_names(config.simulated.animals)
    return [nwb.Recording(raw / f"{name}.nwb", name, name) for name in names]


def read_recording(config: Config, path: Path) -> list[nwb.SpikeTrains] | list[nwb.Traces]:
    """Read what populations a recording holds, with the labels that its data set has.

    Raises
    ------
    DataError
        If the file is damaged, or lacks what the configuration names.
    """
    if config.source_kind == "simulated":
        return nwb.read_populations(path, list(simulated.LABELS))
    return nwb.read_populations(path, config.nwb.unit_columns, config.nwb.region_column)
