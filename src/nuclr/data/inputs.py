"""Preparation of recordings for the encoder: scaling, and checks that modality and bins agree."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from pydantic import ValidationError

from nuclr.config import Chunk
from nuclr.data.kinds import differences, kind_of
from nuclr.data.population import Population, summary_of
from nuclr.data.splits import Member
from nuclr.errors import DataError, TrainingError

logger = logging.getLogger(__name__)


class Reads(Protocol):
    """The requirements of a model for its recordings."""

    @property
    def bin_s(self) -> float:
        """Length of the bins of spike counts (s)."""

    @property
    def min_rate_hz(self) -> float:
        """Lowest firing rate of the units that the model learned from (Hz)."""


def binning(bin_s: float | None, min_rate_hz: float | None, model: Reads | None) -> Chunk:
    """Return how spikes are binned: as a model requires, as given, or as the configuration's defaults.

    Raises
    ------
    DataError
        If both a model and a bin width are given, or a number is out of range.
    """
    if model is not None and bin_s is not None:
        raise DataError(f"bin_s: the model requires bins of {model.bin_s:g} s; give either bin_s or a model")
    said = {"bin_s": model.bin_s, "min_rate_hz": model.min_rate_hz} if model is not None else {}
    said |= {
        name: value for name, value in (("bin_s", bin_s), ("min_rate_hz", min_rate_hz)) if value is not None
    }
    try:
        return Chunk(**said)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise DataError(f"{wrong['loc'][0]}: {wrong['msg']}, not {wrong['input']}") from None


def scaled(population: Population) -> Population:
    """Return a population whose activity is scaled for the encoder; a Dask array remains lazy.

    Spike counts are not changed. dF/F is divided by the recording's 99th percentile.

    Raises
    ------
    DataError
        If the percentile is not above 0.
    """
    if population.modality == "spikes":
        return population
    scale = summary_of(population).scale
    if not scale > 0:
        raise DataError(
            f"population {population.population}: the 99th percentile of dF/F is {scale:g}, but must be "
            "above "
            "0; check that the traces are dF/F"
        )
    return replace(population, activity=population.activity / np.float32(scale))


def in_memory(population: Population) -> Population:
    """Return a population whose activity is in memory and :func:`scaled`."""
    asked = scaled(population)
    return replace(asked, activity=np.asarray(asked.activity))


def why_too_short(population: Population, window: int) -> str:
    """Return that no valid span holds a window of some bins; "" if one does, or if there is no span."""
    bin_s = population.bin_s
    longest = longest_span(population)
    if not 0 < longest < window:
        return ""
    whole_s, window_s = population.activity.shape[1] * bin_s, window * bin_s
    if population.activity.shape[1] < window:
        return f"lasts {whole_s:.4g} s, shorter than a window of {window_s:.4g} s"
    return (
        f"has no valid span as long as a window of {window_s:.4g} s: the longest is {longest * bin_s:.4g} s "
        f"of {whole_s:.4g} s (NWB's obs_intervals and invalid_times, and times in which all units are silent)"
    )


def longest_span(population: Population) -> int:
    """Return the number of bins in the longest valid span; 0 if there is none."""
    return int(max((last - first for first, last in population.valid_bins()), default=0))


def absent_members(
    members: Sequence[str],
    populations: Sequence[Population],
    left_out: Collection[str],
    member: Member = "animal",
) -> list[str]:
    """Return the animals (or recordings) without any population, because all was left out, with a warning.

    Parameters
    ----------
    members
        The requested animals or recordings.
    populations
        The populations that are available.
    left_out
        Members with a recording that was left out; see :mod:`nuclr.data.archives.left_out`.
    member
        Whether the members are animals or recordings.
    """
    there = {getattr(population, member) for population in populations}
    absent = sorted((set(members) & set(left_out)) - there)
    if absent:
        logger.warning(
            "no recording of %s could be used: %d of %d %ss are missing",
            ", ".join(absent),
            len(absent),
            len(members),
            member,
        )
    return absent


def of_members(
    populations: Sequence[Population], members: Sequence[str], lacking: str, member: Member = "animal"
) -> list[Population]:
    """Return the populations of some animals (or recordings).

    Raises
    ------
    TrainingError
        If one has no population; ``lacking`` is the beginning of the message, before its name.
    """
    wanted = set(members)
    chosen = [population for population in populations if getattr(population, member) in wanted]
    if missing := sorted(wanted - {getattr(population, member) for population in chosen}):
        raise TrainingError(f"{lacking} {missing[0]}; chunk its recordings first")
    return chosen


def check_apart(populations: Sequence[Population]) -> None:
    """Check that no population is given twice.

    Raises
    ------
    DataError
        If one is, because it would count twice.
    """
    names = [population.population for population in populations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"population {twice[0]} is given twice; give each recording once")


def common_bin_s(populations: Sequence[Population]) -> float:
    """Return the bin length (s) of all populations, which must agree within 5 %.

    Raises
    ------
    DataError
        If bin lengths or modalities differ, because one encoder cannot read both.
    """
    names = [population.recording for population in populations]
    if differ := differences(names, [kind_of(population) for population in populations]):
        raise DataError(f"{differ}; a model reads only one of them: leave the others out (split.leave_out)")
    return populations[0].bin_s
