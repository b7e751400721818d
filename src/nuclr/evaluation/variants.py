"""The ways to probe a representation: kind of probe, centred or not, share of the labels, controls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

from nuclr.config import Probe


@dataclass(frozen=True)
class Variant:
    """One way to probe the same features.

    Attributes
    ----------
    probe
        Kind of classifier; see :func:`nuclr.evaluation.classifiers.fit_classifier`.
    centred
        Whether features lose the mean of their population first, which needs no labels.
    label_share
        Share of the labels that may be learned from.
    shuffled
        Whether these labels are shuffled: a control that must give chance.
    tested_on
        ``panel``: the animals on which every run is tested, with the same labels, so that scores of
        different numbers of pretraining animals can be compared. ``all_pretraining``: all animals that
        the run was pretrained on, as the transductive scores of the paper are.
    """

    probe: str = "linear"
    centred: bool = False
    label_share: float = 1.0
    shuffled: bool = False
    tested_on: Literal["panel", "all_pretraining"] = "panel"

    @property
    def name(self) -> str:
        """Name the probe in words: ``linear``, or ``linear, centred``."""
        return self.probe + (", centred" if self.centred else "")


def variants(options: Probe, representation: str) -> list[Variant]:
    """List the ways to probe a representation; the first is the plain one.

    Among those that learn from all labels, held-out labels choose; shares of the labels and shuffled labels
    are learned by the plain one alone. LOLCAT's features are for its own classifier, which takes long: no
    shares of the labels. Which recording a unit is from is what centring takes away: nothing would be left.
    """
    if representation == "lolcat":
        return [Variant("lolcat")]
    centrings = [False] if representation == "which_recording" else options.centred
    kinds = [Variant(probe, centred) for probe, centred in product(options.kinds, centrings)]
    main = kinds[0]
    shares = [Variant(main.probe, main.centred, 0.5**i) for i in range(1, options.label_halvings + 1)]
    return [*kinds, *shares, Variant(main.probe, main.centred, shuffled=True)]
