"""The scaling analysis on disk: probes of all runs to table, fit and figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nuclr.errors import DataError
from nuclr.evaluation.law import LAW, fit_power_law
from nuclr.evaluation.probe import chance, read_predictions
from nuclr.evaluation.scaling import Scored, animal_deviations, scaling_table
from nuclr.files import whole, write_json
from nuclr.provenance import versions
from nuclr.report.figures import save_figure, scaling_figure


def write_scaling(
    probes: Sequence[Path], task: str, protocol: str, stem: Path, *, resamples: int
) -> list[Path]:
    """Write ``stem.csv`` (curve), ``stem.runs.csv``, ``stem.json`` (fit), ``stem.png`` and ``stem.svg``.

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
        The files, figure first.

    Raises
    ------
    DataError
        If no run was pretrained, or runs are of different splits.
    """
    scored, records = [], {}
    for folder in probes:
        predictions, record = read_predictions(folder / f"{task}.{protocol}.parquet")
        records[folder.parent.name] = record
        scored.append(Scored(record["representation"], record["animals"], record["seed"], predictions))
    if not any(s.representation == "nuclr" for s in scored):
        raise DataError(f"scaling: none of {len(scored)} runs was pretrained; nothing to draw a curve of")
    split, *others = sorted({record.get("split", "") for record in records.values()})
    if others:
        raise DataError(f"scaling: some probes are of another split ({split or others[0]}); probe them again")
    table, curve = scaling_table(scored, resamples)
    largest = max(scored, key=lambda s: (s.representation == "nuclr", s.animals))
    guess = chance(largest.predictions["label"].to_numpy(object))
    mine = table[table["representation"] == "nuclr"]
    # In the order of the table, which is not that of the folders.
    runs = sorted((s for s in scored if s.representation == "nuclr"), key=lambda s: (s.animals, s.seed))
    fit = fit_power_law(
        mine["animals"].to_numpy(), mine["macro_f1"].to_numpy(), animal_deviations(runs, resamples)
    )

    title = "\n".join([title_of(task, protocol), *([split] if split else [])])
    paths = save_figure(scaling_figure(table, curve, fit, guess, title), stem)
    for name, content in ((".csv", curve), (".runs.csv", table)):
        path = stem.with_name(stem.name + name)
        with whole(path) as partial:
            content.to_csv(partial, index=False, float_format="%.6g")
        paths.append(path)
    path = stem.with_name(stem.name + ".json")
    write_json(
        path,
        {
            "task": task,
            "protocol": protocol,
            "split": split,
            "law": LAW,
            "fit": fit,
            "chance": guess,
            "resamples": resamples,
            "runs": records,
            "versions": versions(),
        },
    )
    return [*paths, path]


def title_of(task: str, protocol: str) -> str:
    """Say in words what a figure shows."""
    names = {
        "inductive_zero_shot": "new animals (inductive zero-shot)",
        "transductive": "new units (transductive)",
        "transductive_zero_shot": "other animals' labels (transductive zero-shot)",
    }
    return f"{task.replace('_', ' ').capitalize()}, {names.get(protocol, protocol)}"
