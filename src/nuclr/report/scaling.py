"""The scaling analysis on disk: probes of all runs to tables, fit and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nuclr.errors import DataError
from nuclr.evaluation.law import LAW, fit_power_law
from nuclr.evaluation.metrics import chance
from nuclr.evaluation.probe import Variant, read_predictions
from nuclr.evaluation.representations import write_csv
from nuclr.evaluation.scaling import (
    NUCLR,
    Scored,
    ablation_table,
    animal_deviations,
    best_variant,
    by_animal,
    doublings,
    label_grid,
    scaling_table,
)
from nuclr.files import write_json
from nuclr.provenance import versions
from nuclr.report.figures import (
    ablation_figure,
    animals_figure,
    axes_figure,
    confusion_figure,
    label_figure,
    save_figure,
    scaling_figure,
)
from nuclr.words import counted


def write_scaling(
    probes: Sequence[Path], task: str, protocol: str, stem: Path, *, resamples: int
) -> list[Path]:
    """Write all that one task and protocol show, to files that begin with ``stem``.

    ``.csv`` (curve), ``.runs.csv``, ``.chosen.csv`` (each representation with the probe that its validation
    units choose) and ``.json`` (fit, gains of a doubling, where all comes from); and as picture (png, svg)
    with the table behind it (csv): the scaling curve (no infix), ``.axes`` (in units and hours), ``.labels``,
    ``.confusion``, ``.animals``, and with ablations ``.ablations``.

    Parameters
    ----------
    probes
        Folders with a ``{task}.{protocol}.parquet`` each, in the folders of their runs.
    task, protocol
        What to gather.
    stem
        Beginning of the files' names.
    resamples
        Of the bootstrap.

    Returns
    -------
    list of Path
        The files, the scaling curve first.

    Raises
    ------
    DataError
        If no run was pretrained, or runs are of different splits.
    """
    paths = {folder.parent.name: folder / f"{task}.{protocol}.parquet" for folder in probes}
    scored, records = _scored(paths)
    if not any(s.representation == NUCLR for s in scored):
        raise DataError(f"scaling: none of {len(scored)} runs was pretrained; nothing to draw a curve of")
    split, *others = sorted({record.get("split", "") for record in records.values()})
    if others:
        raise DataError(f"scaling: some probes are of another split ({split or others[0]}); probe them again")
    table, curve = scaling_table(scored, resamples)
    # In the order of the table, which is not that of the folders.
    runs = sorted((s for s in scored if s.representation == NUCLR), key=lambda s: (s.animals, s.seed))
    largest = [s for s in runs if s.animals == runs[-1].animals]
    controls = {"chance": chance(largest[0].predictions["label"].to_numpy(str))}
    mine = {name: path for name, path in paths.items() if records[name]["representation"] == NUCLR}
    shuffled = _of_variant(mine, records, shuffled=True)
    if shuffled:
        of_largest = [s for s in shuffled if s.animals == runs[-1].animals]
        controls["shuffled"] = float(scaling_table(of_largest, 1)[0]["macro_f1"].mean())
    own = table[table["representation"] == NUCLR]
    fit = fit_power_law(
        own["animals"].to_numpy(), own["macro_f1"].to_numpy(), animal_deviations(runs, resamples)
    )
    shares = sorted({share for record in records.values() for share in record.get("label_shares", [])})
    grid = label_grid(
        {1.0: runs, **{share: _of_variant(mine, records, label_share=share) for share in shares}}, resamples
    )
    gains = doublings(grid)
    confusion = _confusion(largest)
    animals = by_animal(scored)
    ablations = ablation_table(scored, resamples)

    title = "\n".join([title_of(task, protocol), *([split] if split else [])])
    count = f"{counted(runs[-1].animals, 'animal')} in pretraining"
    drawn: dict[str, tuple[Figure, pd.DataFrame]] = {
        "": (scaling_figure(table, curve, fit, controls, title), curve),
        ".axes": (axes_figure(table, title), own),
        ".labels": (label_figure(grid, gains, title), grid),
        ".confusion": (confusion_figure(confusion, f"{title}\nNuCLR, {count}"), confusion.reset_index()),
        ".animals": (animals_figure(animals, f"{title}; NuCLR with {count}"), animals),
    }
    if len(ablations):
        drawn[".ablations"] = ablation_figure(ablations, f"{title}\n{count}"), ablations
    written = []
    for infix, (figure, content) in drawn.items():
        written += save_figure(figure, stem.with_name(stem.name + infix))
        written.append(write_csv(stem.with_name(f"{stem.name}{infix}.csv"), content))
    written.append(write_csv(stem.with_name(f"{stem.name}.runs.csv"), table))
    chosen = _chosen(paths, records, runs[-1].animals, resamples)
    written.append(write_csv(stem.with_name(f"{stem.name}.chosen.csv"), chosen))
    path = stem.with_name(stem.name + ".json")
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
            "resamples": resamples,
            "runs": records,
            "versions": versions(),
        },
    )
    return [*written, path]


def _scored(
    paths: Mapping[str, Path], variant: Variant | None = None
) -> tuple[list[Scored], dict[str, dict[str, Any]]]:
    """Read one variant of the probes of some runs (None: the main one), and their records."""
    scored, records = [], {}
    for name, path in paths.items():
        predictions, record = read_predictions(path, variant)
        records[name] = record
        learned = record.get("pretraining", {})
        identity = record["representation"], record["animals"], record["seed"]
        scored.append(Scored(*identity, predictions, learned.get("units", 0), learned.get("hours", 0.0)))
    return scored, records


def _of_variant(
    paths: Mapping[str, Path], records: Mapping[str, dict[str, Any]], **differs: Any
) -> list[Scored]:
    """Read what differs so from the main probe, of runs that have it."""
    found = []
    for name, path in paths.items():
        main = records[name].get("main")
        if main is not None:
            found += _scored({name: path}, replace(Variant(**main), **differs))[0]
    return found


def _chosen(
    paths: Mapping[str, Path], records: Mapping[str, dict[str, Any]], largest: int, resamples: int
) -> pd.DataFrame:
    """Score each representation, the largest runs of it, with the probe that its validation units choose."""
    groups: dict[str, list[str]] = {}
    for name, record in records.items():
        if record["animals"] in (0, largest):
            groups.setdefault(record["representation"], []).append(name)
    scored, ways = [], []
    for representation, names in groups.items():
        way = best_variant([records[name].get("validation", []) for name in names])
        variant = Variant(**way) if way is not None else None
        of_group, _ = _scored({name: paths[name] for name in names}, variant)
        scored += of_group
        shown = {"probe": "", "centred": ""} if variant is None else asdict(variant)
        validation = [
            score for name in names for other, score in records[name].get("validation", []) if other == way
        ]
        ways.append(
            {
                "representation": representation,
                "probe": shown["probe"],
                "centred": shown["centred"],
                "validation_macro_f1": sum(validation) / len(validation) if validation else None,
            }
        )
    _, curve = scaling_table(scored, resamples)
    return pd.DataFrame(ways).merge(curve, on="representation").sort_values("macro_f1", ascending=False)


def _confusion(runs: Sequence[Scored]) -> pd.DataFrame:
    """Count labels (rows) against predictions (columns), a mean over some runs."""
    together = pd.concat([s.predictions for s in runs])
    counts = pd.crosstab(together["label"], together["predicted"])
    classes = sorted(set(counts.index) | set(counts.columns))
    return counts.reindex(index=classes, columns=classes, fill_value=0) / len(runs)


PROTOCOLS = {
    "inductive_zero_shot": "new animals (inductive zero-shot)",
    "transductive": "new units (transductive)",
    "transductive_zero_shot": "other animals' labels (transductive zero-shot)",
}


def title_of(task: str, protocol: str) -> str:
    """Say in words what a figure shows."""
    return f"{task.replace('_', ' ').capitalize()}, {PROTOCOLS.get(protocol, protocol)}"
