"""Probe one representation in every task, protocol, kind of classifier and share of the labels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.exceptions import ConvergenceWarning

from nuclr.config import TRANSDUCTIVE, Probe
from nuclr.data.defaults import completed_probe
from nuclr.data.splits import Splits
from nuclr.errors import DataError, SplitError
from nuclr.evaluation.classifiers import fit_classifier
from nuclr.evaluation.metrics import by_class, confusions, macro_f1, summary
from nuclr.evaluation.protocols import (
    Fold,
    can_be_probed,
    class_labels,
    folds,
    label_order,
    label_share,
)
from nuclr.evaluation.score_tables import CLASSES, SCORES
from nuclr.evaluation.variants import Variant, variants
from nuclr.files import sha256_of, whole_folder
from nuclr.provenance import versions
from nuclr.representation.centring import centred
from nuclr.representation.embeddings import read_embeddings, write_csv, write_recorded

logger = logging.getLogger(__name__)
# Probes that use validation units for early stopping.
CHOOSING = ("mlp", "lolcat")


def predict(
    features: np.ndarray, labels: np.ndarray, parts: Iterable[Fold], variant: Variant, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """Fit a probe on the training units of each fold, and return its predictions for the test units.

    A unit without features, because it was never active, is predicted as the most frequent training class:
    leaving it out would make the score too good.

    Parameters
    ----------
    features
        ``(unit, feature)``, already centred if the variant is.
    labels
        ``(unit,)``, "" for units without a label.
    parts
        Folds of a protocol.
    variant
        The variant of the probe.
    seed
        Seed of the shares of labels, shuffled labels, and the weights of the perceptron.

    Returns
    -------
    predictions
        ``row``, ``fold``, ``label``, ``predicted``, ``confidence`` (probability of the predicted class):
        one row per tested unit.
    validation
        Macro-F1 on the validation units of each fold, by a probe that was fitted without them, ``(fold,)``;
        NaN for a fold without validation units.

    Raises
    ------
    DataError
        If the training units of a fold have fewer than two classes.
    """
    tables, judged = [], []
    for number, fold in enumerate(parts):
        rng = np.random.default_rng([seed, number])
        train, validation = (
            rows[~np.isnan(features[rows]).any(axis=1)] for rows in (fold.train, fold.validation)
        )
        classes = np.unique(labels[np.concatenate([train, validation])].astype(str))
        if len(classes) < 2:
            raise DataError(
                f"probe: the training units have {len(classes)} class(es) "
                f"({', '.join(classes) or 'no label'}), but a probe needs two; "
                "check probe.tasks and the labels of the training animals"
            )
        if len(np.unique(labels[train].astype(str))) < 2:
            train, validation = np.concatenate([train, validation]), validation[:0]
        given = labels.copy()
        if variant.label_share < 1:
            train, validation = (
                label_share(label_order(rows, labels, int(rng.integers(2**31))), variant.label_share)
                if len(rows)
                else rows
                for rows in (train, validation)
            )
        if variant.shuffled:
            rows = np.concatenate([train, validation])
            given[rows] = labels[rng.permutation(rows)]
        made = _fitted(features, (labels, given), Fold(train, validation, fold.test), variant, seed)
        tables.append(made.assign(fold=number))
        judged.append(np.nan)
        if len(validation) and variant.label_share == 1 and not variant.shuffled:
            # The final probe is trained on validation units, or stops by them, so another one is scored.
            stops = np.isin(train, fold.stopping) & (variant.probe in CHOOSING)
            if len(np.unique(given[train[~stops]].astype(str))) < 2:
                stops[:] = False
            apart = Fold(train[~stops], train[stops], validation)
            by_another = _fitted(features, (labels, given), apart, variant, seed).assign(animal="")
            judged[-1] = float(macro_f1(confusions([by_another])[0, 0]))
    return pd.concat(tables, ignore_index=True), np.array(judged)


def _fitted(
    features: np.ndarray,
    labels: tuple[np.ndarray, np.ndarray],
    fold: Fold,
    variant: Variant,
    seed: int,
) -> pd.DataFrame:
    """Fit one probe and predict the test units; ``labels`` are the true and the training labels."""
    truth, given = labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = fit_classifier(
            variant.probe,
            (features[fold.train], given[fold.train].astype(str)),
            (features[fold.validation], given[fold.validation].astype(str)),
            seed,
        )
    classes, counts = np.unique(given[fold.learned].astype(str), return_counts=True)
    predicted = np.full(len(fold.test), classes[counts.argmax()], object)
    confidence = np.full(len(fold.test), counts.max() / counts.sum())
    active = ~np.isnan(features[fold.test]).any(axis=1)
    if active.any():
        probability = probe.predict_proba(features[fold.test[active]])
        predicted[active] = probe.classes_[probability.argmax(axis=1)]
        confidence[active] = probability.max(axis=1)
    return pd.DataFrame(
        {"row": fold.test, "label": truth[fold.test], "predicted": predicted, "confidence": confidence}
    )


def probe_all(
    path: Path,
    splits: Splits,
    animals: int,
    seed: int,
    options: Probe,
    folder: Path,
    *,
    panel: int | None = None,
    seeds: int = 1,
) -> pd.DataFrame:
    """Probe one representation in every task, protocol and variant, and return the scores.

    Writes ``{task}.{protocol}.parquet`` (predictions), ``scores.csv`` and ``classes.csv`` to ``folder``,
    all or none. A protocol that needs more animals than the run had is left out. In every run the
    transductive protocols test the same animals, the first ``panel`` of the seed's order; otherwise, runs
    with more pretraining animals would also have more labels. The plain probe is additionally tested on all
    pretraining animals.

    Parameters
    ----------
    path
        embeddings.parquet of a run or a baseline.
    splits
        The test, label and pretraining animals.
    animals, seed
        Number of pretraining animals and seed of the run, which determine the pretraining animals.
        Representations without pretraining are probed on the same animals.
    options
        Tasks, protocols, folds and kinds of probes.
    folder
        Folder for the predictions.
    panel
        Number of animals that the transductive protocols test (at least two where a protocol needs two);
        None: all pretraining animals.
    seeds
        For a baseline, whose features have no seed: number of seeds whose panels are tested.

    Returns
    -------
    DataFrame
        The scores: ``task, protocol, representation, animals, seed``, the variant, ``validation_macro_f1``
        and what :func:`nuclr.evaluation.metrics.summary` returns.

    Raises
    ------
    DataError, SplitError
        If labels are missing, a protocol has nothing to test, or an animal is in two groups of the split.
    """
    units, features, record = read_embeddings(path)
    options = completed_probe(options, units, splits.sets_apart)
    pretraining = splits.pretraining(animals, seed)
    _check_record(path, record, splits, pretraining)
    trained_on = _trained_on(record, splits)
    source = _source(path, record, options, animals if trained_on else 0)
    source |= {"split": splits.note, "panel": panel}
    chosen = variants(options, str(source["representation"]))
    source |= {
        "main": asdict(chosen[0]),
        "label_shares": [variant.label_share for variant in chosen if variant.label_share < 1],
    }
    named = {name: source[name] for name in ("representation", "animals")}
    # Centred features need as much memory as the features, so they are computed only if a probe uses them.
    as_is = {False: features}
    if any(variant.centred for variant in chosen):
        as_is[True] = centred(features, units["population"].to_numpy(str))
    probed_seeds = [seed] if "seed" in record else list(range(seed, seed + seeds))
    probed: list[_Probed] = []
    with whole_folder(folder) as partial:
        for task, protocol in product(options.tasks or (), options.protocols or ()):
            if len(pretraining) < TRANSDUCTIVE.get(protocol, 0):
                logger.info("%s: %s is skipped, because it needs two pretraining animals", path, protocol)
                continue
            labels = class_labels(units, task, options.min_units)
            own = _Probed({"task": task.name, "protocol": protocol, **named})
            for tested in _tested(protocol, splits, (animals, trained_on), panel, probed_seeds):
                parts = list(folds(protocol, units, labels, splits, tested.members, options.folds))
                if not can_be_probed(parts, labels):
                    logger.warning(
                        "%s: %s, %s: the animals %s are not tested, because they have too few classes with "
                        "two units or more",
                        path,
                        task.name,
                        protocol,
                        ", ".join(tested.members),
                    )
                    continue
                of_all = replace(chosen[0], tested_on="all_pretraining")
                for variant in chosen if tested.panel else [of_all]:
                    made, validation = predict(as_is[variant.centred], labels, parts, variant, tested.seed)
                    identity = units[["unit_id", "population", "animal"]].iloc[made.pop("row")]
                    made = pd.concat([identity.reset_index(drop=True), made], axis=1)
                    own.add(made, validation, variant, tested.seed, options.bootstrap)
            if not own.predictions:
                raise DataError(
                    f"{path}: {task.name}, {protocol}: no test animals have units of two classes; "
                    "check probe.tasks, or raise the smallest of scaling.animal_counts"
                )
            write_recorded(
                partial / f"{task.name}.{protocol}.parquet",
                pa.Table.from_pandas(pd.concat(own.predictions), preserve_index=False),
                {**source, "task": task.name, "protocol": protocol, "validation": own.validation},
            )
            probed.append(own)
        table = pd.DataFrame([row for own in probed for row in own.scores])
        write_csv(partial / SCORES, table)
        write_csv(partial / CLASSES, pd.concat([rows for own in probed for rows in own.classes]))
    return table


def _source(path: Path, record: dict[str, Any], options: Probe, animals: int) -> dict[str, Any]:
    """Return a description of the probed representation; ``animals`` is the number in its pretraining."""
    return {
        "representation": record.get("baseline")
        or record.get("ablation")
        or ("nuclr" if animals else "untrained"),
        "animals": animals,
        "seed": record.get("seed", 0),
        "pretraining": {name: record.get(name, 0) for name in ("units", "hours")},
        "embeddings": sha256_of(path),
        "model": record.get("model", ""),
        "config": {**record.get("config", {}), "probe": options.model_dump(mode="json")},
        "versions": versions(),
    }


@dataclass
class _Probed:
    """Predictions and scores of one task and protocol, collected over variants and seeds.

    Attributes
    ----------
    identity
        Task, protocol and representation, which are written with every score.
    predictions, validation, scores, classes
        One entry for each variant and seed.
    """

    identity: dict[str, Any]
    predictions: list[pd.DataFrame] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    classes: list[pd.DataFrame] = field(default_factory=list)

    def add(
        self, made: pd.DataFrame, validation: np.ndarray, variant: Variant, seed: int, resamples: int
    ) -> None:
        """Add the result of :func:`predict` and its scores."""
        keys = asdict(variant)
        made = made.assign(seed=seed, **keys)
        self.predictions.append(made)
        self.validation += [
            {"variant": keys, "seed": seed, "fold": fold, "macro_f1": score}
            for fold, score in enumerate(validation.tolist())
            if not np.isnan(score)
        ]
        known = validation[~np.isnan(validation)]
        about = {**self.identity, "seed": seed, **keys}
        score = float(known.mean()) if len(known) else float("nan")
        self.scores.append({**about, "validation_macro_f1": score, **summary(made, resamples)})
        self.classes.append(by_class(made).assign(**about))


@dataclass(frozen=True)
class _Tested:
    """Animals or recordings that a protocol tests, and whether every run of the seed is tested on them."""

    members: Sequence[str]
    seed: int
    panel: bool


def _tested(
    protocol: str,
    splits: Splits,
    pretrained: tuple[int, Sequence[str]],
    panel: int | None,
    seeds: Sequence[int],
) -> Iterator[_Tested]:
    """Yield the animals to test on; ``pretrained`` is the number and the names of pretraining animals."""
    animals, trained_on = pretrained
    pretraining = splits.pretraining(animals, seeds[0])
    if protocol not in TRANSDUCTIVE:
        yield _Tested(pretraining, seeds[0], panel=True)
        return
    if panel is None:
        yield _Tested(pretraining, seeds[0], panel=True)
        return
    for seed in seeds:
        members = splits.panel(max(panel, TRANSDUCTIVE[protocol]), seed)
        # A baseline that is trained on some animals can be tested on these animals only.
        if not trained_on or set(members) <= set(trained_on):
            yield _Tested(members, seed, panel=True)
    if len(pretraining) > max(panel, TRANSDUCTIVE[protocol]):
        yield _Tested(pretraining, seeds[0], panel=False)


def _trained_on(record: dict[str, Any], splits: Splits) -> list[str]:
    # Missing recordings count as included, so that runs of one size stay one point of the curve.
    return [*record.get(f"{splits.member}s", []), *record.get("left_out", [])]


def _check_record(path: Path, record: dict[str, Any], splits: Splits, pretraining: Sequence[str]) -> None:
    """Check that the training animals in the run's record agree with splits.json."""
    trained_on = _trained_on(record, splits)
    if trained_on and sorted(trained_on) != sorted(pretraining):
        raise SplitError(
            f"{path}: the model was pretrained on {len(trained_on)} {splits.member}s that are not the "
            f"{len(pretraining)} pretraining {splits.member}s of splits.json; pretrain the model again"
        )
    # The epoch may have been chosen with labels of some animals.
    if seen := sorted(set(record.get("chosen_by", [])) & set(splits.test)):
        raise SplitError(
            f"{path}: the epoch of this model was chosen with labels of test {splits.member} {seen[0]}; "
            "pretrain the model again"
        )
