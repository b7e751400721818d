"""The recordings that an encoder or a probe was trained on, and whether other recordings are among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

# How a recording is known: by the hash of its file, by its name, or only by the name of its animal.
KnownBy = Literal["", "file", "recording", "animal"]


class Named(NamedTuple):
    """A recording, its animal, and the hash of its file ("" if it is not known)."""

    recording: str
    animal: str
    sha256: str


@dataclass(frozen=True)
class TrainingRecordings:
    """The animals and recordings that an encoder or a probe was trained on.

    Attributes
    ----------
    animals
        Names of the animals.
    recordings
        Hash of the file of each recording, by the recording's name; "" if it is not known.
    """

    animals: frozenset[str]
    recordings: Mapping[str, str]

    def known_by(self, named: Named) -> KnownBy:
        """Return how a recording is known to be among these; "" if it is not.

        Names of recordings coincide more easily than those of animals: if two recordings of one name have
        different files, and their animals have different names, they are taken for two recordings.
        """
        if named.sha256 and named.sha256 in self.recordings.values():
            return "file"
        there = named.animal in self.animals
        if named.recording in self.recordings:
            different = named.sha256 and self.recordings[named.recording]
            if there or not different:
                return "recording"
        return "animal" if there else ""


def pretraining_of(record: Mapping[str, Any]) -> TrainingRecordings | None:
    """Return the recordings of a model's pretraining, from its record; None if they are not known.

    Parameters
    ----------
    record
        Record of a model (``config.json``), or of its embeddings, which contains it.
    """
    if "animals" not in record:
        return None
    recordings = {
        population.rpartition("/")[0] or population: source.get("sha256", "")
        for population, source in record.get("inputs", {}).items()
    }
    return TrainingRecordings(frozenset(record["animals"]), recordings)


def recordings_in(units: pd.DataFrame, hashes: Mapping[str, str]) -> Iterator[Named]:
    """Yield each recording of a unit table once.

    Parameters
    ----------
    units
        Unit table; a missing column of ``population``, ``recording`` and ``animal`` counts as unknown.
    hashes
        Hash of the file of each population, where it is known.
    """
    columns = ["population", "recording", "animal"]
    for population, recording, animal in (
        units.reindex(columns=columns, fill_value="").drop_duplicates().itertuples(index=False)
    ):
        yield Named(str(recording), str(animal), hashes.get(str(population), ""))
