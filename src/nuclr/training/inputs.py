"""Recordings as the encoder takes them: scaled, and alike in kind and bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nuclr.data.population import Population
from nuclr.errors import DataError, TrainingError


def scaled(population: Population) -> Population:
    """Give activity as the encoder wants it; a Dask array stays one.

    Spikes stay raw counts. Calcium is divided by the recording's 99th percentile.

    Raises
    ------
    DataError
        If the percentile is not above 0.
    """
    if population.modality == "spikes":
        return population
    scale = float(np.percentile(np.asarray(population.activity), 99))
    if not scale > 0:
        raise DataError(
            f"population {population.population}: the 99th percentile of dF/F is {scale:g}, so it cannot be "
            "scaled; is it dF/F?"
        )
    return replace(population, activity=population.activity / np.float32(scale))


def in_memory(population: Population) -> Population:
    """Read a population's activity, :func:`scaled`."""
    return scaled(replace(population, activity=np.asarray(population.activity)))


def of_animals(populations: Sequence[Population], animals: Sequence[str], lacking: str) -> list[Population]:
    """Choose the populations of some animals.

    Raises
    ------
    TrainingError
        If an animal has none; ``lacking`` begins the message, before the animal's name.
    """
    chosen = [population for population in populations if population.animal in set(animals)]
    if missing := sorted(set(animals) - {population.animal for population in chosen}):
        raise TrainingError(f"{lacking} {missing[0]}; chunk its recordings first")
    return chosen


def common_bin_s(populations: Sequence[Population]) -> float:
    """Length of a bin that all populations share, to 5 %.

    Raises
    ------
    DataError
        If they differ more, or in modality: one encoder cannot read both.
    """
    first = populations[0]
    for other in populations:
        if other.modality != first.modality or abs(other.bin_s / first.bin_s - 1) > 0.05:
            raise DataError(
                f"population {other.population} is {other.modality} at {other.bin_s:.4g} s a bin, but "
                f"{first.population} is {first.modality} at {first.bin_s:.4g} s; use them in data "
                "sets of their own"
            )
    return first.bin_s
