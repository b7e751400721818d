"""Saved probes: decode the class of a unit from its embedding, with a probability or a "don't know".

``probe.safetensors`` contains the standardisation and the classifier. ``probe.json`` beside it describes
them: the classes, the model whose embeddings the probe reads, the training data, and the scores.

A probe reads only embeddings of the model that it was trained on: dimensions of two models have nothing in
common, even if their number is equal.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.special import log_softmax

from nuclr.errors import DataError, ModelError
from nuclr.evaluation.answers.conformal import is_conformal, most_coverage, prediction_sets
from nuclr.evaluation.answers.kinds import Kind, are_whole, log_probability
from nuclr.evaluation.answers.score_protocol import interval_over, protocol_of
from nuclr.evaluation.answers.typicality import is_reference, typicality
from nuclr.model.tensor_files import MODEL, read_tensors, write_tensors
from nuclr.provenance import versions
from nuclr.representation.centring import FEWEST_TO_CENTRE, centred, populations_of
from nuclr.representation.training_recordings import TrainingRecordings, pretraining_of

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.representation.embeddings import Embeddings

logger = logging.getLogger(__name__)
# Default coverage of the prediction sets.
COVERAGE = 0.9
# Reasons why a unit gets no answer; the first that applies is given.
NEVER_ACTIVE, UNLIKE, TOO_FEW, UNSHOWN, UNSURE = (
    "never active",
    "in a recording unlike the training recordings",
    "in a population of too few units",
    "probe not shown to be correct often enough",
    "probe not sure enough",
)
# Reasons with which a unit has probabilities that can be used.
UNANSWERED = (UNSHOWN, UNSURE)


@dataclass(frozen=True)
class SavedProbe:
    """A classifier of embeddings, as :func:`nuclr.train_probe` makes it.

    Attributes
    ----------
    classes
        Names of the classes.
    tensors
        Parameters of the classifier; see :mod:`nuclr.evaluation.answers.kinds`.
    record
        ``task``, ``model`` (hash), ``kind``, ``centred``, ``temperature``, ``answers``, ``scores``, and the
        provenance of these.
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
        """Whether the mean of each population is subtracted from the embeddings first."""
        return bool(self.record.get("centred", False))

    def probabilities(self, embeddings: np.ndarray, populations: np.ndarray | None = None) -> np.ndarray:
        """Return the calibrated probability of each class, ``(unit, class)``; NaN where the embedding is NaN.

        Parameters
        ----------
        embeddings
            ``(unit, dim)``.
        populations
            Population of each unit, ``(unit,)``; None: all units are of one population. A probe of centred
            embeddings subtracts the mean of each population.
        """
        if self.is_centred:
            names = populations if populations is not None else np.zeros(len(embeddings), int)
            embeddings = centred(embeddings, names)
        log_odds = log_probability(self.kind, self.tensors, embeddings)
        return np.exp(log_softmax(log_odds / self.record["temperature"], axis=1))

    @property
    def learned_from(self) -> TrainingRecordings:
        """The animals and recordings whose labels trained the probe."""
        learned = self.record.get("learned_from", {})
        return TrainingRecordings(frozenset(learned.get("animals", [])), learned.get("recordings", {}))

    def threshold(self, sure: float) -> float:
        """Return the lowest probability from which answers for new units have the accuracy ``sure``.

        The accuracy holds with 95 % confidence, over animals that the probe was not trained on; the observed
        accuracy would be too optimistic, because it is the best of many. The threshold is above 1 if the
        probe is not shown to reach this accuracy.
        """
        enough = [row["probability"] for row in self.record["answers"] if row["at_least"] >= sure]
        return min(enough, default=np.inf)

    def check_model(self, model: str) -> None:
        """Check that embeddings come from the model that the probe was trained on.

        Raises
        ------
        ModelError
            If they come from another model.
        """
        if model != self.record["model"]:
            raise ModelError(
                f"the probe reads embeddings of model {self.record['model'][:12]}, but these come from "
                f"{model[:12] or 'no model'}; embed with that model, or train a probe on these embeddings"
            )

    def predict(
        self, embeddings: Embeddings, sure: float = 0.8, coverage: float | None = None
    ) -> pd.DataFrame:
        """Decode units: an answer for those of which the probe is sure enough, probabilities for all.

        Parameters
        ----------
        embeddings
            Embeddings by the model that the probe was trained on, as ``nuclr.load_model(...).embed`` returns.
        sure
            Accuracy requested of the answers.
        coverage
            How often ``one_of`` shall contain the true class; None: 0.9, or what the probe's number of
            animals allows.

        Returns
        -------
        DataFrame
            ``unit_id, population, recording, animal, predicted`` ("" for "don't know"), ``probability`` of
            the likeliest class, ``why_not`` (the reason if there is no answer, else ""), ``one_of``
            (possible classes of the unit, likeliest first, joined by "|"), ``typical`` (share of units in
            held-out recordings that were at least as far from the mean of the training units; NaN if
            unknown), and the probability ``p_{class}`` of each class; NaN for a unit that was never active.
            A recording that is unlike those that the probe was trained on gets no answers and a warning.

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
        threshold = self.threshold(sure)
        sure_enough = np.nan_to_num(highest) >= threshold
        # If no probability is high enough, the reason is not the unit.
        unsure = UNSHOWN if threshold > 1 else UNSURE
        why_not = np.select(
            [~active, ~alike, ~enough, ~sure_enough], [NEVER_ACTIVE, UNLIKE, TOO_FEW, unsure], ""
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
        """Whether neighbours in depth help to decode: for regions, and where held-out units showed it."""
        if "region" in str(self.record["task"]).lower():
            return True
        learned = self.record.get("along_probe")
        return learned is not None and bool(learned["after"]["log_loss"] < learned["before"]["log_loss"])

    def along_probe(
        self, embeddings: Embeddings, depth: str = "depth_um", length_um: float | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Decode units given their neighbours in depth, which often share a region.

        Parameters
        ----------
        embeddings
            Embeddings by the model that the probe was trained on; the unit table has ``population`` and the
            depths.
        depth
            Column with depths (um).
        length_um
            Typical extent of a class along the recording probe (um); None: as learned from the training
            recordings, else 400.

        Returns
        -------
        units
            ``unit_id, along_probe`` (the likeliest class) and ``along_probe_probability``, one row per unit.
        boundaries
            ``population, depth_um, low_um, high_um`` (the units between which 90 % of the posterior lie),
            ``above, below``.

        Raises
        ------
        DataError
            If there is no such column, or it contains no depth.
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
        """Return how often ``one_of`` contains the true class: as requested, or 0.9 if that is possible."""
        return min(COVERAGE, most_coverage(self.record["conformal"])) if coverage is None else coverage

    def unkept(self, sure: float, coverage: float | None = None) -> list[str]:
        """Return a sentence for each of ``sure`` and ``coverage`` that the probe cannot guarantee."""
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
        """Return each unit's set of classes, the likeliest first; all classes for a probe without sets."""
        inside = ~np.isnan(probability)
        if "conformal" in self.record:
            promise = self.promise(coverage)
            inside = prediction_sets(probability, self.record["conformal"], self.classes, promise)
        order = np.argsort(-np.nan_to_num(probability), axis=1, kind="stable")
        return [
            "|".join(self.classes[k] for k in best if own[k]) for best, own in zip(order, inside, strict=True)
        ]

    def _typical(self, vectors: np.ndarray, populations: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
        """Return how typical units are, and which recordings are unlike the training recordings, and why."""
        if "typical" not in self.record:
            return np.full(len(vectors), np.nan), {}
        return typicality(vectors, populations, self.tensors, self.record["typical"])

    def _can_be_centred(self, populations: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Return which units have a population large enough to estimate its mean, if the probe is centred."""
        if not self.is_centred:
            return np.ones(len(active), bool)
        names, index = np.unique(populations, return_inverse=True)
        enough = np.bincount(index, weights=active, minlength=len(names)) >= FEWEST_TO_CENTRE
        return np.asarray(enough[index])


def named(record: Mapping[str, Any]) -> str:
    """Return the name of a probe's kind: ``linear, not centred``, or ``linear, centred``."""
    return f"{record.get('kind', 'linear')}, {'' if record.get('centred') else 'not '}centred"


def score_of(probe: SavedProbe, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a probe on held-out units, as a row of the model card.

    Parameters
    ----------
    probe
        The probe.
    model
        Record of the model.

    Raises
    ------
    ModelError
        If the probe reads embeddings of another model.
    """
    probe.check_model(model["sha256"])
    protocol = protocol_of(probe.record, pretraining_of(model))
    return {
        "task": probe.record["task"],
        "protocol": f"{protocol.called}; {probe.record['scores']['measured_on']}",
        "units": probe.record["learned_from"]["units"],
        "test_animals": len(probe.record["learned_from"]["animals"]),
        **{name: probe.record["scores"].get(name, np.nan) for name in ("macro_f1", "low", "high")},
        "chance": probe.record["scores"]["chance"],
        "interval_over": interval_over(probe.record),
    }


def likeliest(answers: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return the likeliest class of each unit, also of those without an answer, ``(unit,)``.

    Parameters
    ----------
    answers
        Table from :meth:`SavedProbe.predict`.
    classes
        Classes of the probe.

    Returns
    -------
    ndarray
        Classes, object; "" for units without probabilities.
    """
    probability = answers[[f"p_{name}" for name in classes]].to_numpy(float)
    known = ~np.isnan(probability).any(axis=1)
    return np.where(known, np.array(classes, object)[np.nan_to_num(probability).argmax(axis=1)], "")


def save_probe(path: Path, probe: SavedProbe) -> None:
    """Write ``path`` (``.safetensors``) and the ``.json`` file beside it, each completely or not at all."""
    write_tensors(
        path, probe.tensors, {**probe.record, "classes": list(probe.classes), "versions": versions()}
    )


def load_probe(path: Path | str) -> SavedProbe:
    """Read a probe written by :func:`save_probe`.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or the two files do not belong together.
    """
    path, remedy = Path(path), "train it again with `nuclr train-probe`"
    if path.is_dir() and not (path / "probe.safetensors").exists():
        # A model folder, or the folder of its probes.
        inside = sorted([*path.glob("probes/*.safetensors"), *path.glob("*.safetensors")])
        probes = [str(one) for one in inside if one.name != MODEL]
        listed = f"give a probe in it: {', '.join(probes)}" if probes else "give a probe.safetensors file"
        raise ModelError(f"{path}: a folder, but a probe is a file; {listed}")
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
