"""A probe on disk: what a unit is, from its embedding, with a probability and a "don't know".

``probe.safetensors`` holds the standardisation and the classifier, ``probe.json`` beside it what they are:
classes, the model whose embeddings it reads, what it learned from, and how good it was.

A probe reads embeddings of the model that it was trained on alone: dimensions of two models have nothing
in common, even where they are as many.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.special import log_softmax

from nuclr.errors import DataError, ModelError
from nuclr.evaluation.answers.conformal import is_conformal, most_coverage, prediction_sets
from nuclr.evaluation.answers.kinds import Kind, are_whole, log_probability
from nuclr.evaluation.answers.typicality import is_reference, typicality
from nuclr.model.tensor_files import read_tensors, write_tensors
from nuclr.provenance import versions
from nuclr.representation.centring import FEWEST_TO_CENTRE, centred, populations_of

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.representation.embeddings import Embeddings

logger = logging.getLogger(__name__)
# What sets of classes promise where nothing else is asked for.
COVERAGE = 0.9
# Why a unit gets no answer, the first that holds.
NEVER_ACTIVE, UNLIKE, TOO_FEW, UNSURE = (
    "never active",
    "in a recording unlike those learned from",
    "in a population of too few units",
    "not sure enough",
)


@dataclass(frozen=True)
class SavedProbe:
    """A classifier of embeddings, as :func:`nuclr.train_probe` makes it.

    Attributes
    ----------
    classes
        What a unit can be.
    tensors
        What it learned; see :mod:`nuclr.evaluation.answers.kinds`.
    record
        ``task``, ``model`` (hash), ``kind``, ``centred``, ``temperature``, ``answers``, ``scores``, and where
        they come from.
    """

    classes: tuple[str, ...]
    tensors: Mapping[str, np.ndarray]
    record: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """Kind of classifier."""
        return cast(Kind, self.record.get("kind", "linear"))

    @property
    def is_centred(self) -> bool:
        """Whether embeddings lose the mean of their population first."""
        return bool(self.record.get("centred", False))

    def probabilities(self, embeddings: np.ndarray, populations: np.ndarray | None = None) -> np.ndarray:
        """Probability of every class, calibrated, ``(unit, class)``; NaN where the embedding is.

        Parameters
        ----------
        embeddings
            ``(unit, dim)``.
        populations
            Which population each unit is of, ``(unit,)``; None: all are of one. A probe on centred
            embeddings takes the mean of each population from its units.
        """
        if self.is_centred:
            names = populations if populations is not None else np.zeros(len(embeddings), int)
            embeddings = centred(embeddings, names)
        log_odds = log_probability(self.kind, self.tensors, embeddings)
        return np.exp(log_softmax(log_odds / self.record["temperature"], axis=1))

    def threshold(self, sure: float) -> float:
        """Least probability at which answers to new units are right as often as ``sure``.

        That is as often with 95 % confidence, over animals that the probe had not learned from: the accuracy
        that was seen would be too good, for it is the best of many. Above 1 where the probe is not shown to
        be so good.
        """
        enough = [row["probability"] for row in self.record["answers"] if row["at_least"] >= sure]
        return min(enough, default=np.inf)

    def check_model(self, model: str) -> None:
        """Make sure that embeddings come from the model that the probe was trained on.

        Raises
        ------
        ModelError
            If not.
        """
        if model != self.record["model"]:
            raise ModelError(
                f"the probe reads embeddings of model {self.record['model'][:12]}, but these come from "
                f"{model[:12] or 'no model'}; embed with that model, or train a probe on these embeddings"
            )

    def predict(
        self, embeddings: Embeddings, sure: float = 0.8, coverage: float | None = None
    ) -> pd.DataFrame:
        """Say what units are, where it is sure enough.

        Parameters
        ----------
        embeddings
            Of the model that the probe was trained on: what ``nuclr.load_model(...).embed`` returns.
        sure
            How often an answer shall be right.
        coverage
            How often ``one_of`` shall name the true class; None: 0.9, or what so few animals can promise.

        Returns
        -------
        DataFrame
            ``unit_id, population, recording, animal, predicted`` ("" for "don't know"), ``probability`` of
            the likeliest class, ``why_not`` (why there is no answer, "" where there is one), ``one_of``
            (classes that the unit may be of, likeliest first, joined by "|"), ``typical`` (share of units in
            held-out recordings that were as far from others; NaN where it is not known), and ``p_{class}``
            of each; NaN for a unit that was never active. A recording that is unlike those that the probe
            learned from gets no answers, and a warning.

        Raises
        ------
        ModelError
            If the embeddings come from another model.
        """
        from nuclr.representation.embeddings import who

        self.check_model(embeddings.model)
        units, populations = embeddings.units, populations_of(embeddings.units)
        probability = self.probabilities(embeddings.vectors, populations)
        active = ~np.isnan(probability).any(axis=1)
        enough = self._can_be_centred(populations, active)
        if not enough.all():
            logger.warning(
                "%s: fewer than %d active units, too few to estimate the population mean that this probe "
                "subtracts; these units get no answers.",
                ", ".join(np.unique(populations[~enough])),
                FEWEST_TO_CENTRE,
            )
        typical, unlike = self._typical(embeddings.vectors, populations)
        for name, why in unlike.items():
            logger.warning(
                "%s is unlike the %d recordings that this probe was trained on (%s), so its units get no "
                "answers; check whether its species, spike sorting or bin differ.",
                name,
                self.record["typical"]["recordings"],
                why,
            )
        alike = ~np.isin(populations, list(unlike))
        best = np.where(active, np.nan_to_num(probability).argmax(axis=1), 0)
        highest = probability[np.arange(len(best)), best]
        sure_enough = np.nan_to_num(highest) >= self.threshold(sure)
        why_not = np.select(
            [~active, ~alike, ~enough, ~sure_enough], [NEVER_ACTIVE, UNLIKE, TOO_FEW, UNSURE], ""
        )
        return who(units).assign(
            predicted=np.where(why_not == "", np.array(self.classes, object)[best], ""),
            probability=highest,
            why_not=why_not,
            one_of=self._sets(probability, coverage),
            typical=typical,
            **{f"p_{name}": probability[:, i] for i, name in enumerate(self.classes)},
        )

    @property
    def neighbours_help(self) -> bool:
        """Whether neighbours in depth help to tell what a unit is: regions, and what was seen to be so."""
        if "region" in str(self.record["task"]).lower():
            return True
        learned = self.record.get("along_probe")
        return learned is not None and bool(learned["after"]["log_loss"] < learned["before"]["log_loss"])

    def along_probe(
        self, embeddings: Embeddings, depth: str = "depth_um", length_um: float | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Say what units are, given their neighbours in depth, which share regions.

        Parameters
        ----------
        embeddings
            Of the model that the probe was trained on; their units have ``population`` and the depth.
        depth
            Column with depths (um).
        length_um
            How far a class reaches, about; None: as learned from the probe's recordings, else 400.

        Returns
        -------
        units
            ``unit_id, along_probe`` (the likeliest class) and ``along_probe_probability``, a row a unit.
        boundaries
            ``population, depth_um, low_um, high_um`` (90 % of the posterior), ``above, below``.

        Raises
        ------
        DataError
            If there is no such column, or it holds no depth.
        ModelError
            If the embeddings come from another model.
        """
        from nuclr.evaluation.answers.along_probe import UNLEARNED, depths_of, smooth_all

        self.check_model(embeddings.model)
        units = embeddings.units
        if depth not in units or np.isnan(depths_of(units, depth)).all():
            raise DataError(
                f"--along-probe: the embeddings have no depths in a column {depth}; give the name of the "
                "column with --depth"
            )
        settings = {name: self.record.get("along_probe", UNLEARNED)[name] for name in UNLEARNED}
        if length_um is not None:
            settings["length_um"] = length_um
        populations = populations_of(units)
        probability = self.probabilities(embeddings.vectors, populations)
        found, boundaries = smooth_all(probability, units, depth, settings, self.classes)
        _, unlike = self._typical(embeddings.vectors, populations)
        untold = np.isin(populations, list(unlike)) | ~self._can_be_centred(
            populations, ~np.isnan(probability).any(axis=1)
        )
        found[untold] = np.nan
        boundaries = boundaries[~boundaries["population"].isin(populations[untold])]
        known = ~np.isnan(found).any(axis=1)
        best = np.nan_to_num(found).argmax(axis=1)
        table = units[["unit_id"]].assign(
            along_probe=np.where(known, np.array(self.classes, object)[best], ""),
            along_probe_probability=found[np.arange(len(best)), best],
        )
        return table, boundaries

    def promise(self, coverage: float | None = None) -> float:
        """How often ``one_of`` names the true class: as asked for, or 0.9 if its animals bear that out."""
        return min(COVERAGE, most_coverage(self.record["conformal"])) if coverage is None else coverage

    def unkept(self, sure: float, coverage: float | None = None) -> list[str]:
        """Say which promises it cannot keep, since it learned from too few animals; a sentence for each."""
        said = []
        if self.threshold(sure) > 1:
            said.append(
                f"answers of the probe are not shown to be correct {100 * sure:g} % of the time in other "
                "animals, so no unit gets an answer; use the probabilities, lower --sure, or train the probe "
                "on more animals"
            )
        if "conformal" in self.record:
            promise, most = self.promise(coverage), most_coverage(self.record["conformal"])
            if promise > most:
                said.append(
                    "the probe was trained on too few animals to guarantee that one_of contains the true "
                    f"class {100 * promise:g} % of the time, so one_of lists all classes; {100 * most:g} % "
                    "can be guaranteed"
                )
        return said

    def _sets(self, probability: np.ndarray, coverage: float | None) -> list[str]:
        """Write out each unit's set of classes, the likeliest first; all of them for a probe without sets."""
        inside = ~np.isnan(probability)
        if "conformal" in self.record:
            promise = self.promise(coverage)
            inside = prediction_sets(probability, self.record["conformal"], self.classes, promise)
        order = np.argsort(-np.nan_to_num(probability), axis=1, kind="stable")
        return [
            "|".join(self.classes[k] for k in best if own[k]) for best, own in zip(order, inside, strict=True)
        ]

    def _typical(self, vectors: np.ndarray, populations: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
        """Say how typical units are, and which recordings are unlike those learned from, and why."""
        if "typical" not in self.record:
            return np.full(len(vectors), np.nan), {}
        return typicality(vectors, populations, self.tensors, self.record["typical"])

    def _can_be_centred(self, populations: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Say which units are of a population with enough others to know its mean, if that is needed."""
        if not self.is_centred:
            return np.ones(len(active), bool)
        names, index = np.unique(populations, return_inverse=True)
        enough = np.bincount(index, weights=active, minlength=len(names)) >= FEWEST_TO_CENTRE
        return np.asarray(enough[index])


def named(record: Mapping[str, Any]) -> str:
    """Name a probe by its kind: ``linear``, or ``linear, centred``."""
    return str(record.get("kind", "linear")) + (", centred" if record.get("centred") else "")


def score_of(probe: SavedProbe, model: str) -> dict[str, Any]:
    """Say what a probe scored on units that it had not learned from: a row of its model's card.

    Parameters
    ----------
    probe
        Of :func:`load_probe`.
    model
        Hash of the model.

    Raises
    ------
    ModelError
        If the probe reads embeddings of another model.
    """
    probe.check_model(model)
    return {
        "task": probe.record["task"],
        "protocol": probe.record["scores"]["measured_on"],
        "units": probe.record["learned_from"]["units"],
        "test_animals": len(probe.record["learned_from"]["animals"]),
        **{name: probe.record["scores"].get(name, np.nan) for name in ("macro_f1", "low", "high")},
        "chance": probe.record["scores"]["chance"],
    }


def save_probe(path: Path, probe: SavedProbe) -> None:
    """Write ``path`` (``.safetensors``) and the ``.json`` beside it, each whole or not at all."""
    write_tensors(
        path, probe.tensors, {**probe.record, "classes": list(probe.classes), "versions": versions()}
    )


def load_probe(path: Path | str) -> SavedProbe:
    """Read a probe written by :func:`save_probe`.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the two do not belong together.
    """
    path, remedy = Path(path), "train it again with `nuclr train-probe`"
    tensors, record = read_tensors(path, "probe", remedy)
    try:
        classes = tuple(map(str, record.pop("classes")))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: its record is not that of a probe ({error}); {remedy}") from None
    probe = SavedProbe(classes, tensors, record=record)
    answers = record.get("answers", [{}])
    if (
        not are_whole(probe.kind, tensors, len(classes))
        or not {"model", "temperature"} <= set(record)
        or ("typical" in record and not is_reference(tensors, record["typical"]))
        or ("conformal" in record and not is_conformal(record["conformal"], classes))
        or not all("at_least" in row for row in answers)
    ):
        raise ModelError(f"{path}: the probe is incomplete or damaged; {remedy}")
    return probe
