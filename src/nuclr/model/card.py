"""The model card: what a model is, what it was made of, how good it is, and what it is for.

Source: Mitchell et al., Model cards for model reporting, 2019 (arXiv 1810.03993).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

from nuclr.files import whole
from nuclr.words import counted

CARD = "model_card.md"
UNKNOWN = "not known to nuclr: ask whoever recorded them before you publish this model"
NOT_MEASURED = """\
Not measured. `nuclr train-probe` measures a probe on your labels; `nuclr card --probe` puts its score here.
"""
USE = """\
For: embeddings of sorted units or imaged ROIs from their population's activity, and probes of brain region or
cell type on them, in research. A unit's embedding depends on the units that were recorded with it.

Not for: clinical or any other decision about a living being; recordings of another modality or bin than is
stated above (refused by the software); regions or types that the probe was not trained on. Embeddings hold
much of the recording they come from: scores within recordings, and in new animals, say what carries over.
"""


def write_card(path: Path, record: dict[str, Any], scores: Sequence[dict[str, Any]] = ()) -> None:
    """Write a model's card.

    Parameters
    ----------
    path
        The file, markdown.
    record
        Of the model: :attr:`nuclr.model.saved.SavedModel.record`.
    scores
        ``task``, ``protocol``, ``units``, ``macro_f1``, ``chance`` and, where they were measured, ``low``,
        ``high``, ``test_animals``, ``within_recordings``: of probes on its embeddings, a row each.
    """
    with whole(path) as partial:
        partial.write_text(card(record, scores))


def card(record: dict[str, Any], scores: Sequence[dict[str, Any]] = ()) -> str:
    """Write out a model's card as markdown; see :func:`write_card`."""
    config, encoder = record.get("config", {}), record["encoder"]
    window_s = encoder["tokens"] * encoder["patch"] * record["bin_s"]
    animals, datasets = record.get("animals", []), record.get("datasets", [])
    least = f", of units of {rate:g} Hz or more" if (rate := record.get("min_rate_hz")) else ""
    units = counted(record.get("units", 0), "unit")
    facts = {
        "Weights": f"sha256 `{record.get('sha256', '')}`",
        "Reads": f"{record['modality']}, {record['bin_s']:.4g} s a bin, windows of {window_s:g} s{least}",
        "Encoder": ", ".join(f"{name} {value}" for name, value in encoder.items()),
        "Data sets": ", ".join(datasets) or "see its source",
        "Animals": f"{len(animals)}: {', '.join(animals)}" if animals else _source(record),
        "Recorded": f"{units}, {record.get('hours', 0):.1f} hours" if animals else "",
        "Left out": ", ".join(record.get("left_out", [])),
        "Ablation": record.get("ablation", ""),
        "Epoch chosen by": ", ".join(record.get("chosen_by", [])),
        "Steps": _steps(config.get("pretrain", {})) if animals else "",
        "Seed": str(record.get("seed", "")),
        "Trained on": _machine(record.get("machine", {})) if animals else "",
        "Versions": ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items()),
    }
    lines = ["# Model card", "", "An encoder of neural populations (NuCLR, arXiv 2512.01199), by nuclr.", ""]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in facts.items() if text)]
    lines += ["", "Configuration and the hash of every input are in `model.json`.", "", "## Scores", ""]
    if scores:
        columns = ["task", "protocol", "units", "macro-F1 (95 %)", "within recordings", "chance"]
        lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *map(_score, scores)]
        lines += ["", "Linear probes, all labels. Intervals, where there are any, are over test animals."]
    else:
        lines += [NOT_MEASURED]
    lines += ["", "## Licence of the data", ""]
    stated = Counter(source.get("licence") or UNKNOWN for source in record.get("inputs", {}).values())
    lines += [f"- {licence} ({counted(number, 'population')})" for licence, number in sorted(stated.items())]
    if not stated:  # of a model from elsewhere no more is known than its file
        lines += [f"- {UNKNOWN if record.get('source') else 'none: it learned from no recording'}"]
    return "\n".join([*lines, "", "## Intended use", "", USE])


def _score(row: dict[str, Any]) -> str:
    tested = f"; {counted(row['test_animals'], 'animal')}" if "test_animals" in row else ""
    known = isfinite(row.get("low", nan))
    interval = f" ({row['low']:.3f} to {row['high']:.3f}{tested})" if known else ""
    within = f"{row['within_recordings']:.3f}" if "within_recordings" in row else ""
    cells = [row["task"], row["protocol"], str(row["units"]), f"{row['macro_f1']:.3f}{interval}", within]
    return f"| {' | '.join([*cells, format(row['chance'], '.3f')])} |"


def _machine(machine: dict[str, Any]) -> str:
    return (
        counted(machine["devices"], {"gpu": "GPU"}.get(machine["accelerator"], "process")) if machine else ""
    )


def _source(record: dict[str, Any]) -> str:
    source = record.get("source")
    return (
        f"those of {source['file']}, sha256 `{source['sha256']}`" if source else "none: an untrained encoder"
    )


def _steps(pretrain: dict[str, Any]) -> str:
    if not pretrain:
        return ""
    what = "epoch" if pretrain.get("epochs") else "step"
    length = counted(pretrain[f"{what}s"], what)
    return (
        f"{length} of {pretrain['pairs_per_step']} pairs, {pretrain['loss']} loss, "
        f"peak learning rate {pretrain['learning_rate']:g}"
    )
