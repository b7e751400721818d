"""What a saved probe's score shows: its protocol, and what its interval is over.

The protocol depends on which of the scored animals were in pretraining, and on whose units are labelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from nuclr.evaluation.metrics import FEWEST_ANIMALS
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
    return ScoreProtocol(protocol_name(scores["measured_on"], seen), seen, animals)


def protocol_name(measured_on: str, in_pretraining: int | None) -> str:
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


def interval_over(record: Mapping[str, Any]) -> str:
    """Return what the interval of a probe's score is over: ``animals``, ``recordings`` or ``units``."""
    scores = record["scores"]
    if "interval_over" in scores:
        return str(scores["interval_over"])
    # Probes of older versions do not record it.
    of_animals = scores["measured_on"].startswith("other animals")
    return "animals" if of_animals and len(record["learned_from"]["animals"]) >= FEWEST_ANIMALS else "units"


def cautions(record: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each reason why a probe's score shows less than its interval suggests."""
    scores, animals = record["scores"], len(record["learned_from"]["animals"])
    low = scores.get("low")
    if low is None or not isfinite(low):
        return []
    said = []
    if (over := interval_over(record)) != "animals":
        said.append(
            f"The interval is over {over} of {counted(animals, 'animal')}, so it is too narrow for other "
            f"animals; label units of {FEWEST_ANIMALS} animals or more."
        )
    if low <= scores["chance"]:
        said.append("The interval does not lie above chance, so the probe is not shown to decode anything.")
    return said
