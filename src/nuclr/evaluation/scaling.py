"""The scaling analysis: scores against the number of pretraining animals, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

import numpy as np
import pandas as pd

from nuclr.config import Ablation
from nuclr.evaluation.metrics import (
    among_other_animals,
    animals_tested,
    balanced_accuracy,
    confusions,
    gain_over,
    interval,
    macro_f1,
    resampled_scores,
    shares_of_classes,
    widening,
    within_recordings,
)
from nuclr.evaluation.variants import Variant

# The control that every transductive score is compared with.
CONTROL = "which_recording"
NUCLR = "nuclr"


@dataclass(frozen=True)
class Scored:
    """Predictions from one representation in one task and protocol.

    Attributes
    ----------
    representation
        ``nuclr``, ``untrained``, or the name of a baseline.
    animals
        Number of pretraining animals; 0 without pretraining.
    seed
        Seed of the run.
    predictions
        ``population``, ``animal``, ``label``, ``predicted``: one row per tested unit. If held-out labels
        chose among several probes, also ``plain`` (the prediction of the first probe), and the probe that was
        used in each ``fold``: ``probe``, ``centred``.
    units, hours
        Number of units and hours in pretraining.
    """

    representation: str
    animals: int
    seed: int
    predictions: pd.DataFrame
    units: int = 0
    hours: float = 0.0

    @property
    def chosen(self) -> bool:
        """Whether the probe was chosen among several."""
        return "plain" in self.predictions

    @property
    def plain(self) -> Scored:
        """The same representation with the predictions of the plain probe."""
        if not self.chosen:
            return self
        predictions = self.predictions.assign(predicted=self.predictions["plain"])
        return replace(self, predictions=predictions.drop(columns="plain"))


def animal_deviations(runs: Sequence[Scored], resamples: int, seed: int = 0) -> np.ndarray:
    """Return the change of each run's macro-F1 over resampled test animals, ``(resample, run)``.

    The changes are widened for few test animals; see :func:`nuclr.evaluation.metrics.widening`.
    """
    confusion = confusions([run.predictions for run in runs])
    resampled = among_other_animals(confusion, resamples, np.random.default_rng(seed))
    animals = confusion.any(axis=(2, 3)).sum(axis=1)
    return np.nan_to_num((resampled - np.nanmean(resampled, axis=0)) * widening(animals))


def scaling_table(scored: Sequence[Scored], resamples: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of each run, and of each representation and animal count with a 95 % interval.

    Returns
    -------
    runs
        One row per run: ``representation, animals, seed, macro_f1, balanced_accuracy,
        within_recordings, units`` (tested), ``pretraining_units, pretraining_hours``; and if any run chose
        among several probes, ``plain_macro_f1``.
    curve
        One row per representation and animal count: the mean of the runs' ``macro_f1``, ``balanced_accuracy``
        and ``within_recordings``, ``low`` and ``high`` (95 %, over seeds and test animals; NaN with fewer
        than 3 animals), ``units`` (tested in a run, mean over runs), ``seeds``, ``test_animals``; if the
        which-recording control is included, ``gain``, ``gain_low`` and ``gain_high`` over it; if there are
        pretrained runs, ``behind``, ``behind_low`` and ``behind_high``, how much higher the runs of the most
        animals score on the same test animals (NaN for themselves); and if any run chose among several
        probes, ``plain_macro_f1`` and ``probes``, the chosen probes in words.
    """
    rows, confusion_of = [], {}
    for s, confusion in zip(scored, confusions([s.predictions for s in scored]), strict=True):
        confusion_of[s.representation, s.animals, s.seed] = confusion
        total = confusion.sum(0)
        rows.append(
            {
                "representation": s.representation,
                "animals": s.animals,
                "seed": s.seed,
                "macro_f1": float(macro_f1(total)),
                "balanced_accuracy": balanced_accuracy(total),
                "within_recordings": within_recordings(s.predictions),
                "units": int(total.sum()),
                "pretraining_units": s.units,
                "pretraining_hours": s.hours,
            }
        )
    runs = pd.DataFrame(rows)
    if chosen := any(s.chosen for s in scored):
        plain = confusions([s.plain.predictions for s in scored])
        runs["plain_macro_f1"] = macro_f1(plain.sum(axis=1))
    runs = runs.sort_values(["representation", "animals", "seed"], ignore_index=True)
    # If the test animals differ between seeds, the scores of the control do, too.
    controls = {seed: confusion for (name, _, seed), confusion in confusion_of.items() if name == CONTROL}
    most = max((animals for name, animals, _ in confusion_of if name == NUCLR), default=0)
    largest = {seed: own for (*run, seed), own in confusion_of.items() if run == [NUCLR, most]}
    summary = []
    for key, group in runs.groupby(["representation", "animals"]):
        representation, count = cast("tuple[str, int]", key)
        stack = np.stack([confusion_of[representation, count, seed] for seed in group["seed"]])
        tested = animals_tested(stack)
        score, animals = float(group["macro_f1"].mean()), int(tested.sum())
        low, high = interval(resampled_scores(stack[:, tested], resamples), score, animals)
        row = {
            "representation": representation,
            "animals": count,
            "macro_f1": score,
            "low": low,
            "high": high,
            "balanced_accuracy": group["balanced_accuracy"].mean(),
            "within_recordings": group["within_recordings"].mean(),
            "units": group["units"].mean(),
            "seeds": len(group),
            "test_animals": animals,
        }
        own = dict(zip(group["seed"], stack, strict=True))
        if controls:
            row |= _gain("gain", own, controls, resamples)
        if largest and key != (NUCLR, most):
            row |= _gain("behind", largest, own, resamples)
        if chosen:
            used = [s.predictions for s in scored if (s.representation, s.animals) == key]
            row |= {"plain_macro_f1": group["plain_macro_f1"].mean(), "probes": probes_in_words(used)}
        summary.append(row)
    return runs, pd.DataFrame(summary)


def _gain(
    name: str, runs: Mapping[int, np.ndarray], others: Mapping[int, np.ndarray], resamples: int
) -> dict[str, float]:
    """Return the gain of runs over others with the same seeds and its interval; empty if no seed is common.

    A single other run, such as that of a baseline whose test animals are the same for all seeds, is compared
    with all runs.
    """
    shared = next(iter(others.values())) if len(others) == 1 else None
    both = [
        (own, other) for seed, own in sorted(runs.items()) if (other := others.get(seed, shared)) is not None
    ]
    if not both:
        return {}
    mine, theirs = (np.stack(part) for part in zip(*both, strict=True))
    columns = (name, f"{name}_low", f"{name}_high")
    return dict(zip(columns, gain_over(mine, theirs, resamples), strict=True))


def probes_in_words(predictions: Sequence[pd.DataFrame]) -> str:
    """Return the names of the probes that were used, the most frequent first, and in how many folds."""
    folds = pd.concat([table.drop_duplicates(["seed", "fold"]) for table in predictions])
    names = Counter(Variant(*probe).name for probe in folds[["probe", "centred"]].itertuples(index=False))
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{name} {count} of {len(folds)}" for name, count in names.most_common())


def label_grid(by_share: Mapping[float, Sequence[Scored]], resamples: int) -> pd.DataFrame:
    """Return the scores for each number of pretraining animals and each share of the labels.

    Parameters
    ----------
    by_share
        Pretrained runs, probed with each share of the labels.
    resamples
        Number of resamples of the bootstrap over seeds and test animals.

    Returns
    -------
    DataFrame
        ``animals, label_share, macro_f1, low, high, units, seeds, test_animals``.
    """
    shown = ["animals", "macro_f1", "low", "high", "units", "seeds", "test_animals"]
    rows = []
    for share, scored in sorted(by_share.items()):
        _, curve = scaling_table(scored, resamples)
        rows.append(curve[shown].assign(label_share=share))
    return pd.concat(rows, ignore_index=True).sort_values(["animals", "label_share"], ignore_index=True)


def confusion_table(runs: Sequence[Scored], resamples: int) -> pd.DataFrame:
    """Return the confusion matrix of some runs, with intervals, as a table.

    Parameters
    ----------
    runs
        Runs that differ only in their seed.
    resamples
        Number of bootstrap resamples of the test animals.

    Returns
    -------
    DataFrame
        One row per pair of classes: ``label``, ``predicted``; ``units`` (mean over runs); ``share`` of the
        label's units with ``low`` and ``high`` (95 %, over test animals; NaN if fewer than 3 animals have
        the label); ``test_animals`` that have it.
    """
    together = pd.concat([s.predictions for s in runs])
    classes = sorted(set(together["label"]) | set(together["predicted"]))
    counts = confusions([together])[0]
    shares, low, high = shares_of_classes(counts, resamples)
    label, predicted = (place.ravel() for place in np.indices(shares.shape))
    names = np.array(classes, object)
    return pd.DataFrame(
        {
            "label": names[label],
            "predicted": names[predicted],
            "units": counts.sum(axis=0).ravel() / len(runs),
            "share": shares.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "test_animals": counts.any(axis=2).sum(axis=0)[label],
        }
    )


def doublings(grid: pd.DataFrame) -> dict[str, float]:
    """Return the gain in macro-F1 from the last doubling of animals, and of labels, in a label grid.

    Each gain is taken at the largest value of the other quantity. Steps of another size are scaled to one
    doubling by their logarithm. A gain needs two counts, or two shares; otherwise it is left out.
    """
    table = grid.pivot_table(index="animals", columns="label_share", values="macro_f1")
    found = {}
    for name, line in (("animals", table.iloc[:, -1]), ("labels", table.iloc[-1])):
        if len(line) > 1:
            (n0, n1), (y0, y1) = line.index[-2:], line.to_numpy()[-2:]
            found[name] = float((y1 - y0) / np.log2(n1 / n0))
    return found


def ablation_table(scored: Sequence[Scored], resamples: int) -> pd.DataFrame:
    """Return the scores of ablations beside the full model, at the largest number of pretraining animals.

    The table is empty without ablations.

    Parameters
    ----------
    scored
        Runs and baselines; the representation of an ablated run is the name of the ablation.
    resamples
        Number of resamples of the bootstrap over seeds and test animals, which are the same for both sides
        of a difference.

    Returns
    -------
    DataFrame
        ``representation, seeds, test_animals, macro_f1, low, high``, and ``difference`` to the full
        model with ``difference_low`` and ``difference_high`` (95 %; NaN with fewer than 3 test animals).
    """
    runs = [s for s in scored if s.animals]
    largest = max((s.animals for s in runs if s.representation == NUCLR), default=0)
    names = [NUCLR, *sorted({s.representation for s in runs} & set(get_args(Ablation)))]
    runs = sorted(
        (s for s in runs if s.animals == largest and s.representation in names), key=lambda s: s.seed
    )
    if len(names) == 1:
        return pd.DataFrame()
    every = confusions([s.predictions for s in runs])
    stacks = {name: every[[s.representation == name for s in runs]] for name in names}
    mine, full = resampled_scores(stacks[NUCLR], resamples), macro_f1(stacks[NUCLR].sum(axis=1)).mean()
    rows = []
    for name, stack in stacks.items():
        drawn, score = resampled_scores(stack, resamples), macro_f1(stack.sum(axis=1)).mean()
        animals = int(animals_tested(stack).sum())
        low, high = interval(drawn, float(score), animals)
        less, more = interval(drawn - mine, float(score - full), animals, bounds=(-1.0, 1.0))
        rows.append(
            {
                "representation": name,
                "seeds": len(stack),
                "test_animals": animals,
                "macro_f1": score,
                "low": low,
                "high": high,
                "difference": score - full,
                "difference_low": less,
                "difference_high": more,
            }
        )
    return pd.DataFrame(rows)


def by_animal(scored: Sequence[Scored]) -> pd.DataFrame:
    """Return the score of each test animal: ``representation, animal, units, macro_f1``, a mean over runs.

    Only runs with the largest number of pretraining animals, or without pretraining, are included.
    """
    largest = max((s.animals for s in scored), default=0)
    chosen = [s for s in scored if s.animals in (0, largest)]
    animals = sorted(set(pd.concat([s.predictions["animal"] for s in chosen])))
    rows = []
    for s, confusion in zip(chosen, confusions([s.predictions for s in chosen]), strict=True):
        for animal, counts in zip(animals, confusion, strict=True):
            if counts.any():
                row = {"representation": s.representation, "animal": animal, "units": int(counts.sum())}
                rows.append({**row, "macro_f1": float(macro_f1(counts))})
    return pd.DataFrame(rows).groupby(["representation", "animal"], as_index=False).mean()
