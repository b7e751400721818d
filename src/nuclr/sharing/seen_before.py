"""Warnings about recordings that a model was pretrained on, or whose labels trained its probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nuclr.evaluation.answers.saved_probe import SavedProbe
from nuclr.representation.embeddings import Embeddings
from nuclr.representation.training_recordings import KnownBy, Named, TrainingRecordings, recordings_in
from nuclr.words import listed

# One recording, and several, by how they are known. Two recordings can have the same name by coincidence.
WORDS: dict[KnownBy, tuple[str, str]] = {
    "file": ("this recording", "these recordings"),
    "recording": ("a recording of this name", "recordings of these names"),
    "animal": (
        "another recording of an animal of this name",
        "other recordings of animals of these names",
    ),
}


def seen_before(embeddings: Embeddings, probes: Mapping[str, SavedProbe]) -> Iterator[str]:
    """Yield a sentence for each way in which recordings were part of pretraining, or trained probes.

    Parameters
    ----------
    embeddings
        Embeddings of the recordings.
    probes
        The probes by task.
    """
    named = list(recordings_in(embeddings.units, embeddings.hashes))
    if embeddings.pretraining is not None:
        for those in _those_known(named, embeddings.pretraining):
            yield (
                f"the model was pretrained on {those}, so these answers do not show how well units of an "
                "animal that the model has never seen are decoded"
            )
    tasks: dict[str, list[str]] = {}
    for task, probe in probes.items():
        for those in _those_known(named, probe.learned_from):
            tasks.setdefault(those, []).append(task.replace("_", " "))
    for those, several in tasks.items():
        yield (
            f"labels of {those} trained the probe{'s' * (len(several) > 1)} of {' and '.join(several)}, so "
            "agreement of the answers with these labels is not a test"
        )


def trained(probe: SavedProbe, embeddings: Embeddings) -> bool:
    """Return whether labels of some of the recordings, or of others of their animals, trained a probe."""
    named = recordings_in(embeddings.units, embeddings.hashes)
    return any(probe.learned_from.known_by(one) for one in named)


def _those_known(named: Sequence[Named], among: TrainingRecordings) -> Iterator[str]:
    """Yield the recordings that are among others, in words, separately by how they are known."""
    for by, words in WORDS.items():
        known = [one for one in named if among.known_by(one) == by]
        names = dict.fromkeys(
            one.animal if by == "animal" else f"{one.recording} of animal {one.animal}" for one in known
        )
        if names:
            yield f"{words[len(names) > 1]} ({listed(list(names))})"
