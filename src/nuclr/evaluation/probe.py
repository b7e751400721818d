"""Probes of one representation: every task, protocol, kind of probe and share of the labels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.exceptions import ConvergenceWarning

from nuclr.config import Probe
from nuclr.data.splits import Splits
from nuclr.errors import DataError, SplitError
from nuclr.evaluation.classifiers import fit_classifier
from nuclr.evaluation.metrics import by_class, confusions, macro_f1, summary
from nuclr.evaluation.protocols import Fold, class_labels, folds, label_order, label_share
from nuclr.evaluation.representations import read_embeddings, read_recorded, write_csv, write_recorded
from nuclr.evaluation.score_tables import CLASSES, SCORES
from nuclr.files import sha256_of, whole_folder
from nuclr.provenance import versions

logger = logging.getLogger(__name__)
# Probes that use validation units, to know when to stop.
CHOOSING = ("mlp", "lolcat")


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
    """

    probe: str = "linear"
    centred: bool = False
    label_share: float = 1.0
    shuffled: bool = False


def variants(options: Probe, representation: str) -> list[Variant]:
    """List the ways to probe a representation; the first is the main one, which figures show.

    LOLCAT's features are for its own classifier, which takes long: no shares of the labels.
    """
    if representation == "lolcat":
        return [Variant("lolcat")]
    ways = [Variant(probe, centred) for probe, centred in product(options.kinds, options.centred)]
    main = ways[0]
    shares = [Variant(main.probe, main.centred, 0.5**i) for i in range(1, options.label_halvings + 1)]
    return [*ways, *shares, Variant(main.probe, main.centred, shuffled=True)]


def centred(features: np.ndarray, populations: np.ndarray) -> np.ndarray:
    """Take the mean of each population from its units' features; NaN rows stay, and count for nothing."""
    table = pd.DataFrame(features)
    return (table - table.groupby(populations).transform("mean")).to_numpy(features.dtype)


def predict(
    features: np.ndarray, labels: np.ndarray, parts: Iterable[Fold], variant: Variant, seed: int = 0
) -> tuple[pd.DataFrame, float]:
    """Fit a probe on each fold's training units and predict its test units.

    A unit without features (it was never active) counts: it is predicted as the most frequent
    training class, since leaving it out would flatter the representation.

    Parameters
    ----------
    features
        ``(unit, feature)``, centred already where the variant says so.
    labels
        ``(unit,)``, "" where there is none.
    parts
        Folds of a protocol.
    variant
        How to probe.
    seed
        Of what is drawn: shares of labels, shuffled labels, the perceptron's weights.

    Returns
    -------
    predictions
        ``row``, ``fold``, ``label``, ``predicted``, ``confidence`` (probability of the predicted class):
        one row a tested unit.
    validation
        Macro-F1 on the validation units of all folds, by probes of the training units; NaN without any.

    Raises
    ------
    DataError
        If a fold has nothing to learn from.
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
                f"probe: the units to learn from have {len(classes)} class(es) "
                f"({', '.join(classes) or 'no label'}); "
                "a probe needs two. Look at probe.tasks and the label animals"
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
        judge = len(validation) and variant.label_share == 1 and not variant.shuffled
        # What chooses its epoch by validation units is one probe for both.
        both = np.concatenate([fold.test, validation]) if variant.probe in CHOOSING else fold.test
        made = _fitted(features, (labels, given), Fold(train, validation, both), variant, seed)
        tables.append(made.iloc[: len(fold.test)].assign(fold=number))
        if judge and variant.probe in CHOOSING:
            judged.append(made.iloc[len(fold.test) :])
        elif judge:
            # The others learn from validation units in the end, but are judged without.
            apart = Fold(train, validation[:0], validation)
            judged.append(_fitted(features, (labels, given), apart, variant, seed))
    score = float("nan")
    if judged:
        together = pd.concat(judged).assign(animal="")
        score = float(macro_f1(confusions([together])[0].sum(axis=0)))
    return pd.concat(tables, ignore_index=True), score


def _fitted(
    features: np.ndarray,
    labels: tuple[np.ndarray, np.ndarray],
    fold: Fold,
    variant: Variant,
    seed: int,
) -> pd.DataFrame:
    """Fit one probe and predict the test units; ``labels`` are the true ones, and those to learn."""
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
    path: Path, splits: Splits, animals: int, seed: int, options: Probe, folder: Path
) -> pd.DataFrame:
    """Probe one representation in every task, protocol and variant.

    Writes ``{task}.{protocol}.parquet`` (predictions), ``scores.csv`` and ``classes.csv`` to ``folder``,
    all or none. A protocol that needs more animals than the run had is left out.

    Parameters
    ----------
    path
        embeddings.parquet of a run or a baseline.
    splits
        Who is tested.
    animals, seed
        Name the pretraining animals. What was not pretrained is probed on the same ones.
    options
        Tasks, protocols, folds and kinds of probes.
    folder
        Where the predictions go.

    Returns
    -------
    DataFrame
        The scores: ``task, protocol, representation, animals, seed``, the variant, ``validation_macro_f1``
        and what :func:`nuclr.evaluation.metrics.summary` returns.

    Raises
    ------
    DataError, SplitError
        If labels are missing, or an animal is where it must not be.
    """
    units, features, record = read_embeddings(path)
    pretraining = splits.pretraining(animals, seed)
    _check_record(path, record, splits, pretraining)
    trained_on = _trained_on(record, splits)
    source: dict[str, Any] = {
        "representation": record.get("baseline")
        or record.get("ablation")
        or ("nuclr" if trained_on else "untrained"),
        "animals": animals if trained_on else 0,
        "split": splits.note,
        "seed": record.get("seed", 0),
        "pretraining": {name: record.get(name, 0) for name in ("units", "hours")},
        "embeddings": sha256_of(path),
        "model": record.get("model", ""),
        "config": {**record.get("config", {}), "probe": options.model_dump(mode="json")},
        "versions": versions(),
    }
    ways = variants(options, str(source["representation"]))
    source["main"] = asdict(ways[0])
    source["label_shares"] = [way.label_share for way in ways if way.label_share < 1]
    named = {name: source[name] for name in ("representation", "animals", "seed")}
    as_is = {False: features, True: centred(features, units["population"].to_numpy(str))}
    rows, classes = [], []
    with whole_folder(folder) as partial:
        for task, protocol in product(options.tasks, options.protocols):
            if protocol == "transductive_zero_shot" and len(pretraining) < 2:
                logger.info("%s: %s needs two animals: left out", path, protocol)
                continue
            labels = class_labels(units, task, options.min_units)
            parts = list(folds(protocol, units, labels, splits, pretraining, options.folds))
            tables, judged = [], []
            for variant in ways:
                made, validation = predict(as_is[variant.centred], labels, parts, variant, seed)
                identity = units[["unit_id", "population", "animal"]].iloc[made.pop("row")]
                made = pd.concat([identity.reset_index(drop=True), made], axis=1)
                tables.append(made.assign(**asdict(variant)))
                if not np.isnan(validation):
                    judged.append([asdict(variant), validation])
                about = {"task": task.name, "protocol": protocol, **named, **asdict(variant)}
                rows.append({**about, "validation_macro_f1": validation, **summary(made, options.bootstrap)})
                classes.append(by_class(made).assign(**about))
            write_recorded(
                partial / f"{task.name}.{protocol}.parquet",
                pa.Table.from_pandas(pd.concat(tables), preserve_index=False),
                {**source, "task": task.name, "protocol": protocol, "validation": judged},
            )
        table = pd.DataFrame(rows)
        write_csv(partial / SCORES, table)
        write_csv(partial / CLASSES, pd.concat(classes))
    return table


def _trained_on(record: dict[str, Any], splits: Splits) -> list[str]:
    # What could not be had counts as asked for: runs of one size stay one point of the curve.
    return [*record.get(f"{splits.of}s", []), *record.get("left_out", [])]


def _check_record(path: Path, record: dict[str, Any], splits: Splits, pretraining: Sequence[str]) -> None:
    """Compare the run's own record of who it learned from with splits.json."""
    trained_on = _trained_on(record, splits)
    if trained_on and sorted(trained_on) != sorted(pretraining):
        raise SplitError(
            f"{path}: the model was pretrained on {len(trained_on)} other {splits.of}s than splits.json "
            f"gives for {len(pretraining)}; pretrain it again"
        )
    # Labels of some animals may have chosen the epoch.
    if seen := sorted(set(record.get("chosen_by", [])) & set(splits.test)):
        raise SplitError(
            f"{path}: labels of test {splits.of} {seen[0]} chose the epoch of this model; pretrain it again"
        )


def read_predictions(path: Path, variant: Variant | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read tested units' predictions, one row each, and the record of what they come from.

    Parameters
    ----------
    path
        A ``{task}.{protocol}.parquet``.
    variant
        Which of the probes; None: the main one, which is the first.

    Raises
    ------
    DataError
        If the file is not there or not whole, or has no such probe.
    """
    table, record = read_recorded(path, "probe")
    frame = table.to_pandas()
    names = list(asdict(Variant()))
    wanted = asdict(variant) if variant is not None else frame[names].iloc[0].to_dict()
    chosen = frame[(frame[names] == pd.Series(wanted)).all(axis=1)]
    if chosen.empty:
        raise DataError(f"{path}: no {variant} in it; make it again with `nuclr probe`")
    return chosen.reset_index(drop=True), record
