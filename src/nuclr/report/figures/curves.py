"""Write the scaling analysis: tables, fitted law and figures from the probes of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nuclr.config import TRANSDUCTIVE
from nuclr.errors import DataError
from nuclr.evaluation.law import LAW, fit_power_law
from nuclr.evaluation.metrics import FEWEST_ANIMALS, by_class, chance
from nuclr.evaluation.predictions import read_chosen, read_predictions
from nuclr.evaluation.scaling import (
    NUCLR,
    Scored,
    ablation_table,
    animal_deviations,
    by_animal,
    confusion_table,
    doublings,
    label_grid,
    scaling_table,
)
from nuclr.files import write_json
from nuclr.provenance import versions
from nuclr.report.figures.scores import (
    ablation_figure,
    animals_figure,
    confusion_figure,
    label_figure,
    save_figure,
    scaling_figure,
)
from nuclr.representation.embeddings import write_csv
from nuclr.words import counted


def write_scaling(
    probes: Sequence[Path], task: str, protocol: str, stem: Path, *, resamples: int
) -> list[Path]:
    """Write the results of one task and protocol to files whose names begin with ``stem``.

    The tables are ``.csv`` (curve), ``.runs.csv`` and ``.classes.csv`` (classes in the largest runs). The
    file ``.json`` contains the fit, the gains of a doubling, the transductive scores on all pretraining
    animals, and the provenance. The figures, each as png and svg with its table as csv, are the scaling curve
    (no infix), ``.labels``, ``.confusion``, ``.animals``, and ``.ablations`` if there are ablations.

    If there are several probes, each run and baseline is scored with the one that held-out labels choose
    (:func:`nuclr.evaluation.predictions.read_chosen`). The scores for shares of the labels, for shuffled
    labels and for all pretraining animals are those of the plain probe.

    Parameters
    ----------
    probes
        Folders that contain ``{task}.{protocol}.parquet``, each in the folder of its run.
    task, protocol
        Task and protocol of the results.
    stem
        Path prefix of the files.
    resamples
        Number of bootstrap resamples.

    Returns
    -------
    list of Path
        Paths of the files, the scaling curve first.

    Raises
    ------
    DataError
        If no run was pretrained, or the runs use different splits.
    """
    paths = {folder.parent.name: folder / f"{task}.{protocol}.parquet" for folder in probes}
    scored, records, own = _scored(paths)
    split = _one_split(records)
    if not any(s.representation == NUCLR for s in scored):
        raise DataError(
            f"scaling: none of {len(paths)} runs was pretrained and tested in {task}, {protocol}, "
            "so there is no curve to draw; add a pretrained run"
        )
    table, curve = scaling_table(scored, resamples)
    # Sorted as the table is; the order of the folders differs.
    runs = sorted((s for s in scored if s.representation == NUCLR), key=lambda s: (s.animals, s.seed))
    most = runs[-1].animals
    controls = _controls(runs, own, most)
    fit = _law(runs, table[table["representation"] == NUCLR], resamples)
    grid = _label_grid(runs, own, records, resamples)
    gains = doublings(grid)

    transductive = protocol in TRANSDUCTIVE
    panel = next(iter(records.values())).get("panel") if transductive else None
    tested = _who_is_tested(runs, the_same=panel is not None)
    title = "\n".join([title_of(task, protocol), tested, *([split] if split else [])])
    drawn = {
        "": (scaling_figure(table, curve, fit, controls, title), curve),
        ".labels": (label_figure(grid, gains, title), grid),
        **_of_largest(scored, runs, title, resamples),
    }
    written = []
    for infix, (figure, content) in drawn.items():
        written += save_figure(figure, stem.with_name(stem.name + infix))
        written.append(write_csv(stem.with_name(f"{stem.name}{infix}.csv"), content))
    written.append(write_csv(stem.with_name(f"{stem.name}.runs.csv"), table))
    classes = pd.concat([by_class(s.predictions) for s in runs if s.animals == most])
    means = classes.groupby("class", as_index=False)[["units", "precision", "recall", "f1"]].mean()
    written.append(write_csv(stem.with_name(f"{stem.name}.classes.csv"), means))
    path = stem.with_name(stem.name + ".json")
    of_all = {"all_pretraining": _all_pretraining(paths, records, most, resamples)} if transductive else {}
    write_json(
        path,
        {
            "task": task,
            "protocol": protocol,
            "split": split,
            "law": LAW,
            "fit": fit,
            **controls,
            "doublings": gains,
            "panel": panel,
            **of_all,
            "resamples": resamples,
            "runs": records,
            "versions": versions(),
        },
    )
    return [*written, path]


def _one_split(records: Mapping[str, dict[str, Any]]) -> str:
    """Return the name of the split that all runs share; raise DataError if they do not."""
    split, *others = sorted({record.get("split", "") for record in records.values()})
    if others:
        raise DataError(
            f"scaling: some probes used another split of the animals ({split or others[0]}); "
            "run `nuclr probe` again for all runs"
        )
    return split


def _controls(runs: Sequence[Scored], own: Sequence[Path], most: int) -> dict[str, float]:
    """Return the scores of chance and of shuffled labels (plain probe) for the runs with the most animals."""
    largest = next(s for s in runs if s.animals == most)
    controls = {"chance": chance(largest.predictions["label"].to_numpy(str))}
    shuffled = [s for s in _that_differ(own, shuffled=True) if s.animals == most]
    if shuffled:
        controls["shuffled"] = float(scaling_table(shuffled, 1)[0]["macro_f1"].mean())
    return controls


def _label_grid(
    runs: Sequence[Scored], own: Sequence[Path], records: Mapping[str, dict[str, Any]], resamples: int
) -> pd.DataFrame:
    """Return the scores of all runs with each share of the labels that was probed; plain probe."""
    shares = sorted({share for record in records.values() for share in record.get("label_shares", [])})
    halved = {share: _that_differ(own, label_share=share) for share in shares}
    return label_grid({1.0: [run.plain for run in runs], **halved}, resamples)


def _of_largest(
    scored: Sequence[Scored], runs: Sequence[Scored], title: str, resamples: int
) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Draw the confusion matrix, the scores of single animals, and the ablations of the largest runs."""
    most = runs[-1].animals
    count = f"{counted(most, 'animal')} in pretraining"
    confusion = confusion_table([s for s in runs if s.animals == most], resamples)
    animals = by_animal(scored)
    drawn = {
        ".confusion": (confusion_figure(confusion, f"{title}\nNuCLR, {count}"), confusion),
        ".animals": (animals_figure(animals, f"{title}; NuCLR with {count}"), animals),
    }
    ablations = ablation_table(scored, resamples)
    if len(ablations):
        drawn[".ablations"] = ablation_figure(ablations, f"{title}\n{count}"), ablations
    return drawn


def _scored(paths: Mapping[str, Path]) -> tuple[list[Scored], dict[str, dict[str, Any]], list[Path]]:
    """Return the runs as scored by the chosen probe, their records, and the files of pretrained runs."""
    scored, records, own = [], {}, []
    for name, path in paths.items():
        predictions, records[name] = read_chosen(path)
        scored += _by_seed(predictions, records[name])
        if len(predictions) and records[name]["representation"] == NUCLR:
            own.append(path)
    return scored, records, own


def _law(runs: Sequence[Scored], table: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """Fit the law to some runs; refuse if they have too few test animals for intervals."""
    tested = len(set().union(*(s.predictions["animal"] for s in runs)))
    if tested < FEWEST_ANIMALS:
        return {
            "refused": f"there are too few test animals ({tested}); intervals need at least {FEWEST_ANIMALS}"
        }
    animals, scores = table["animals"].to_numpy(), table["macro_f1"].to_numpy()
    return fit_power_law(animals, scores, animal_deviations(runs, resamples))


def _who_is_tested(runs: Sequence[Scored], the_same: bool) -> str:
    """State the numbers of test animals and seeds.

    ``the_same`` means that all runs of a seed are tested on the same animals.
    """
    seeds = counted(len({s.seed for s in runs}), "seed")
    if not the_same:
        animals = len(set().union(*(s.predictions["animal"] for s in runs)))
        return f"{counted(animals, 'test animal')}, {seeds}"
    most = max(s.predictions["animal"].nunique() for s in runs)
    of_a_seed = "" if seeds == counted(1, "seed") else " of a seed"
    return f"the same {counted(most, 'test animal')} in all runs{of_a_seed}, {seeds}"


def _by_seed(predictions: pd.DataFrame, record: Mapping[str, Any]) -> list[Scored]:
    """Split predictions by seed; a baseline is tested on the animals of every seed."""
    learned = record.get("pretraining", {})
    return [
        Scored(
            record["representation"],
            record["animals"],
            int(str(seed)),
            own.reset_index(drop=True),
            learned.get("units", 0),
            learned.get("hours", 0.0),
        )
        for seed, own in predictions.groupby("seed")
    ]


def _that_differ(paths: Sequence[Path], **differs: Any) -> list[Scored]:
    """Read the predictions of a variant that differs from the plain probe in some settings."""
    return [s for path in paths for s in _by_seed(*read_predictions(path, **differs))]


def _all_pretraining(
    paths: Mapping[str, Path], records: Mapping[str, dict[str, Any]], largest: int, resamples: int
) -> list[dict[str, Any]]:
    """Score the largest runs and the baselines on all pretraining animals, one row each.

    This is how the paper tests; the probe is also that of the paper, the plain probe.
    """
    scored = []
    for name, path in paths.items():
        record = records[name]
        if record["animals"] in (0, largest):
            try:
                predictions, _ = read_predictions(path, tested_on="all_pretraining")
            except DataError:
                continue  # the panel of this run is already all pretraining animals
            scored += _by_seed(predictions, record)
    rows = scaling_table(scored, resamples)[1].to_dict("records") if scored else []
    return [{str(name): value for name, value in row.items()} for row in rows]


PROTOCOLS = {
    "inductive_zero_shot": "new animals (inductive zero-shot)",
    "transductive": "new units (transductive)",
    "transductive_zero_shot": "other animals' labels (transductive zero-shot)",
}


def title_of(task: str, protocol: str) -> str:
    """Return the title of a task and protocol."""
    return f"{task.replace('_', ' ').capitalize()}, {PROTOCOLS.get(protocol, protocol)}"
