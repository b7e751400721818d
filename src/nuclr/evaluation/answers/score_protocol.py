"""The protocol of a saved probe's score: which of the scored animals were in pretraining, or had labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nuclr.representation.training_recordings import Named, TrainingRecordings
from nuclr.words import counted

INDUCTIVE, ZERO_SHOT, TRANSDUCTIVE = "inductive_zero_shot", "transductive_zero_shot", "transductive"


@dataclass(frozen=True)
class ScoreProtocol:
    """The protocol of a score.

    Attributes
    ----------
    name
        ``inductive_zero_shot``, ``transductive_zero_shot`` or ``transductive``; "" if it is not known.
    in_pretraining
        Number of scored animals that were in pretraining; None if it is not known.
    animals
        Number of scored animals.
    """

    name: str
    in_pretraining: int | None
    animals: int

    @property
    def called(self) -> str:
        """Name of the protocol in words, with the number of animals that were in pretraining."""
        if not self.name:
            return "protocol not known"
        seen = f" ({self.in_pretraining} of {counted(self.animals, 'labelled animal')} in pretraining)"
        name = self.name.replace("zero_shot", "zero-shot").replace("_", " ")
        return name + (seen if self.name == ZERO_SHOT else "")

    @property
    def meaning(self) -> str:
        """A sentence that says what the score shows about a new animal."""
        if self.name == INDUCTIVE:
            return (
                f"None of the {counted(self.animals, 'labelled animal')} was in pretraining, so this is the "
                "score to expect for a new animal of the same kind."
            )
        if self.name == ZERO_SHOT:
            return (
                "These animals were in pretraining, without their labels; an animal that was not may be "
                "decoded less well."
            )
        if self.name == TRANSDUCTIVE:
            return "Other units of the same animal are labelled, so it shows nothing about other animals."
        return (
            "It is not known whether the labelled animals were in pretraining, so this may not be the score "
            "to expect for a new animal."
        )


def protocol_of(record: Mapping[str, Any], pretraining: TrainingRecordings | None) -> ScoreProtocol:
    """Return the protocol of a probe's score.

    Parameters
    ----------
    record
        Record of the probe: ``learned_from``, and ``measured_on`` in ``scores``.
    pretraining
        The recordings of the model's pretraining; None if they are not known.
    """
    learned, scores = record["learned_from"], record["scores"]
    animals = len(learned["animals"])
    if scores.get("protocol"):
        return ScoreProtocol(scores["protocol"], scores["in_pretraining"], animals)
    # Probes of older versions do not record their protocol and their recordings, but their animals.
    named = [Named("", animal, "") for animal in learned["animals"]]
    seen = None if pretraining is None else sum(bool(pretraining.known_by(one)) for one in named)
    return ScoreProtocol(name_of(scores["measured_on"], seen), seen, animals)


def name_of(measured_on: str, in_pretraining: int | None) -> str:
    """Return the name of a protocol; "" if it is not known.

    Parameters
    ----------
    measured_on
        Which units were held out, in words (:class:`nuclr.evaluation.answers.held_out.HeldOut`).
    in_pretraining
        Number of scored animals that were in pretraining; None if it is not known.
    """
    if not measured_on.startswith("other animals"):
        return TRANSDUCTIVE
    if in_pretraining is None:
        return ""
    return ZERO_SHOT if in_pretraining else INDUCTIVE
