"""Kinds of recordings: modality and length of bins or frames. A model reads recordings of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nuclr.config import Modality
from nuclr.data.population import Population
from nuclr.data.recording import SpikeTrains, Traces
from nuclr.words import counted, listed, share_of


@dataclass(frozen=True)
class Kind:
    """What a model must be made for to read a recording.

    Attributes
    ----------
    modality
        Spikes or calcium.
    bin_s
        Length of a bin or frame (s); None for spikes that are not binned yet, which fit bins of any length.
    """

    modality: Modality
    bin_s: float | None = None

    def like(self, other: Kind) -> bool:
        """Return whether one model reads both, with bins or frames of the same length within 5 %."""
        if self.modality != other.modality:
            return False
        return self.bin_s is None or other.bin_s is None or same_bin(self.bin_s, other.bin_s)

    def beside(self, *others: Kind) -> str:
        """Return its name; bins are only named among spikes alone, because a file does not contain them."""
        if self.modality == "calcium":
            return f"calcium imaging with frames of {self.bin_s:.4g} s"
        binned = self.bin_s is not None and all(other.modality == "spikes" for other in others)
        return f"spikes in bins of {self.bin_s:.4g} s" if binned else "spikes"


def same_bin(a: float, b: float) -> bool:
    """Return whether two bins or frames (s) have the same length for an encoder, within 5 %."""
    return abs(a / b - 1) <= 0.05


def kind_of(recorded: SpikeTrains | Traces | Population) -> Kind:
    """Return the kind of a population."""
    if isinstance(recorded, Population):
        return Kind(recorded.modality, recorded.bin_s)
    return Kind("calcium", recorded.frame_s) if isinstance(recorded, Traces) else Kind("spikes")


def why_unreadable(own: Kind, model: Kind) -> str:
    """Return the reason why a model cannot read a recording, and the remedy; "" if it can."""
    if own.like(model):
        return ""
    return (
        f"contains {own.beside(model)}, but the model reads {model.beside(own)}; use a model that was "
        "trained on such recordings"
    )


def why_apart(kinds: Sequence[Kind | None]) -> list[str]:
    """Return why each recording cannot be read together with most others; "" if it can, or is unknown."""
    groups = _grouped(kinds)
    most = groups[0] if groups else []
    reasons = []
    for number, own in enumerate(kinds):
        if own is None or number in most:
            reasons.append("")
            continue
        others = kinds[most[0]]
        assert others is not None
        share = share_of(len(most), sum(map(len, groups)), "recording")
        reasons.append(f"{own.beside(others)}, but {share} {others.beside(own)}: one model cannot read both")
    return reasons


def differences(names: Sequence[str], kinds: Sequence[Kind]) -> str:
    """Return how recordings differ, with the number of each kind and the names of the rarer ones; "" if not.

    ``names`` are the recordings of the ``kinds``, of which some may be of the same recording.

    >>> differences(["a", "b", "c"], [Kind("calcium", 0.1), Kind("calcium", 0.1), Kind("calcium", 0.25)])
    'the recordings differ in frame interval: 0.1 s (2 recordings), 0.25 s (1 recording: c)'
    """
    groups = _grouped(kinds)
    if len(groups) < 2:
        return ""
    alike = len({kind.modality for kind in kinds}) == 1
    differ = {"spikes": "bin width", "calcium": "frame interval"}[kinds[0].modality] if alike else "modality"
    parts = []
    for group in groups:
        kind = kinds[group[0]]
        # A recording has several populations.
        own = list(dict.fromkeys(names[number] for number in group))
        which = "" if group is groups[0] else f": {listed(own, 3)}"
        said = f"{kind.bin_s:.4g} s" if alike else kind.beside(*kinds)
        parts.append(f"{said} ({counted(len(own), 'recording')}{which})")
    return f"the recordings differ in {differ}: {', '.join(parts)}"


def _grouped(kinds: Sequence[Kind | None]) -> list[list[int]]:
    """Return the positions of recordings that one model can read, the most frequent kind first."""
    groups: list[tuple[Kind, list[int]]] = []
    for number, own in enumerate(kinds):
        if own is None:
            continue
        group = next((group for first, group in groups if own.like(first)), None)
        groups.append((own, [number])) if group is None else group.append(number)
    return sorted((group for _, group in groups), key=len, reverse=True)
