"""Variants of a probe: kind of classifier, centring, share of the labels, and controls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

from nuclr.config import Probe


@dataclass(frozen=True)
class Variant:
    """One variant of a probe of the same features.

    Attributes
    ----------
    probe
        Kind of classifier; see :func:`nuclr.evaluation.classifiers.fit_classifier`.
    centred
        Whether the mean of each population is subtracted from the features first, which needs no labels.
    label_share
        Share of the labels that are used for training.
    shuffled
        Whether the training labels are shuffled: a control that must score at chance.
    tested_on
        ``panel``: the animals on which every run is tested, with the same labels, so that scores of
        different numbers of pretraining animals can be compared. ``all_pretraining``: all animals that
        the run was pretrained on, as in the transductive scores of the paper.
    """

    probe: str = "linear"
    centred: bool = False
    label_share: float = 1.0
    shuffled: bool = False
    tested_on: Literal["panel", "all_pretraining"] = "panel"

    @property
    def name(self) -> str:
        """Name of the probe in words: ``linear``, or ``linear, centred``."""
        return self.probe + (", centred" if self.centred else "")


def variants(options: Probe, representation: str) -> list[Variant]:
    """List the variants with which a representation is probed; the first is the plain probe.

    Held-out labels choose among the variants that use all labels; shares of the labels and shuffled labels
    are used with the plain probe only. LOLCAT's features are used with its own classifier only, without
    shares of the labels, because it is slow. The which-recording features are not centred, because centring
    would remove all of their information.
    """
    if representation == "lolcat":
        return [Variant("lolcat")]
    centrings = [False] if representation == "which_recording" else options.centred
    kinds = [Variant(probe, centred) for probe, centred in product(options.kinds, centrings)]
    main = kinds[0]
    shares = [Variant(main.probe, main.centred, 0.5**i) for i in range(1, options.label_halvings + 1)]
    return [*kinds, *shares, Variant(main.probe, main.centred, shuffled=True)]
