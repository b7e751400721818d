"""Write and read model cards: what a model is, its training data, its scores, and its intended use.

A card is the ``README.md`` of a model folder: markdown after a YAML header that model hubs read. It may be
edited by hand; new scores replace only the section of scores.

Source: Mitchell et al., Model cards for model reporting, 2019 (arXiv 1810.03993); for the head, the
metadata of model cards on the Hugging Face Hub.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

import yaml

from nuclr.errors import ModelError
from nuclr.files import whole
from nuclr.words import counted

CARD = "README.md"
SCORES, USED_FOR = "## Scores", "## Intended use"
# Name that `nuclr pretrain` gives to recordings that are not from a public data set.
UNNAMED = "own"
UNKNOWN = "not known to nuclr: ask whoever recorded them before you publish this model"
NO_LICENCE = "none needed: the recordings are simulated"
# The data set of simulated recordings, and their origin as stated in the files.
SIMULATED = "simulated"
NOT_MEASURED = """\
Not measured. `nuclr train-probe embeddings.parquet --column brain_region -o MODEL` (this folder as MODEL)
trains a probe on your labels and writes its score here.
"""
PROTOCOLS = """\
Only an inductive zero-shot score is the score to expect for a new animal. In the transductive zero-shot
protocol, test animals were in pretraining, without labels; in the transductive protocol, other units of the
same animals are labelled."""
USE = """\
For: research. The model embeds sorted units or imaged ROIs from the activity of their population, and probes
decode brain regions or cell types from the embeddings. The embedding of a unit depends on the units that were
recorded with it.

Not for: clinical or other decisions about living beings; recordings with another modality or bin than stated
above (the software refuses them); regions or cell types that the probe was not trained on. Embeddings contain
much information about the recording that they come from: scores within recordings, and in new animals, show
what generalises.
"""


def write_card(path: Path, record: dict[str, Any], scores: Sequence[dict[str, Any]] = ()) -> None:
    """Write the card of a model.

    Parameters
    ----------
    path
        The markdown file to write.
    record
        Record of the model: :attr:`nuclr.model.saved.SavedModel.record`.
    scores
        Scores of probes, one row each: ``task``, ``protocol``, ``units``, ``macro_f1``, ``chance`` and, if
        they were measured, ``low``, ``high``, ``test_animals``, ``within_recordings``.
    """
    with whole(path) as partial:
        partial.write_text(card(record, scores))


def put_scores(path: Path, record: dict[str, Any], scores: Sequence[dict[str, Any]]) -> None:
    """Replace the scores of a card and keep the rest; a card is written if there is none.

    Raises
    ------
    ModelError
        If the header of the card is not YAML.
    """
    if not path.exists():
        write_card(path, record, scores)
        return
    head, body = read_card(path)
    parts = re.split(r"(?m)^(?=## )", body)
    own = "\n".join(_scores(scores)) + "\n"
    placed = [f"{own}\n" if part.startswith(SCORES) else part for part in parts]
    if placed == parts and own not in body:
        placed.append(f"\n{own}")
    with whole(path) as partial:
        partial.write_text(_headed(head | _measured(record, scores), "".join(placed)))


def read_card(path: Path) -> tuple[dict[str, Any], str]:
    """Return the header of a card, empty if it has none, and the text below it.

    Raises
    ------
    ModelError
        If there is no card, or its header is not YAML.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ModelError(
            f"{path}: the model card cannot be read ({reason}); write one with `nuclr card`"
        ) from None
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if found is None:
        return {}, text
    try:
        head = yaml.safe_load(found[1]) or {}
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: the header between the --- lines is not YAML ({reason}); correct it"
        ) from None
    if not isinstance(head, dict):
        raise ModelError(
            f"{path}: the header between the --- lines must be YAML keys with values (key: value)"
        )
    return head, text[found.end() :]


def set_licence(path: Path, licence: str) -> None:
    """Write the licence of a model to the header of its card."""
    head, body = read_card(path)
    with whole(path) as partial:
        partial.write_text(_headed(head | {"license": licence}, body))


def lacks(path: Path) -> list[str]:
    """Return what a card lacks before the model can be published; an empty list if it is complete.

    Raises
    ------
    ModelError
        If there is no card, or its header is not YAML.
    """
    head, body = read_card(path)
    used_for = body.partition(USED_FOR)[2].split("\n## ")[0].strip()
    wanted = [
        ("the licence (`license: cc-by-4.0` in the header, or --licence cc-by-4.0)", head.get("license")),
        ("the data sets (`datasets: [...]` in the header: names, or DOIs)", head.get("datasets")),
        (f"the intended use (a section `{USED_FOR}`)", used_for),
    ]
    return [what for what, there in wanted if not there]


def _headed(head: Mapping[str, Any], body: str) -> str:
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)}---\n{body}"


def _head(record: dict[str, Any], scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the header of a card in the format of model hubs; the licence is added by the user."""
    kind = {"spikes": "electrophysiology", "calcium": "calcium-imaging"}[record["modality"]]
    datasets = [name for name in record.get("datasets", []) if name != UNNAMED]
    return {
        "library_name": "nuclr",
        "tags": ["nuclr", "neuroscience", kind],
        **({"datasets": datasets} if datasets else {}),
        **_measured(record, scores),
    }


def _measured(record: dict[str, Any], scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return scores in the format of model hubs."""
    if not scores:
        return {}
    data = ", ".join(name for name in record.get("datasets", []) if name != UNNAMED) or "own recordings"
    results = [
        {
            "task": {"type": "tabular-classification", "name": f"{row['task']}, {row['protocol']}"},
            "dataset": {"type": data, "name": data},
            "metrics": [{"type": "f1", "name": "macro-F1", "value": round(float(row["macro_f1"]), 4)}],
        }
        for row in scores
    ]
    return {"metrics": ["f1"], "model-index": [{"name": "nuclr", "results": results}]}


def card(record: dict[str, Any], scores: Sequence[dict[str, Any]] = ()) -> str:
    """Return the text of a model's card; see :func:`write_card`."""
    config, encoder = record.get("config", {}), record["encoder"]
    window_s = encoder["tokens"] * encoder["patch"] * record["bin_s"]
    animals, datasets = record.get("animals", []), record.get("datasets", [])
    least = f", units of at least {rate:g} Hz" if (rate := record.get("min_rate_hz")) else ""
    units = counted(record.get("units", 0), "unit")
    facts = {
        "Weights": f"sha256 `{record.get('sha256', '')}`",
        "Input": f"{record['modality']} in bins of {record['bin_s']:.4g} s, windows of {window_s:g} s{least}",
        "Encoder": ", ".join(f"{name} {value}" for name, value in encoder.items()),
        "Data sets": (", ".join(datasets) or "not stated in the checkpoint")
        + (" (simulated)" if is_simulated(record) and SIMULATED not in datasets else ""),
        "Animals": f"{len(animals)}: {', '.join(animals)}" if animals else _source(record),
        "Recorded": f"{units}, {record.get('hours', 0):.1f} hours" if animals else "",
        "Animals left out": ", ".join(record.get("left_out", [])),
        "Ablation": record.get("ablation", ""),
        "Epoch chosen by": ", ".join(record.get("chosen_by", [])),
        "Steps": _steps(config.get("pretrain", {})) if animals else "",
        "Seed": str(record.get("seed", "")),
        "Hardware": _machine(record.get("machine", {})) if animals else "",
        "Versions": ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items()),
    }
    lines = [
        "# Model card",
        "",
        "A NuCLR encoder of neural population activity (arXiv 2512.01199), in the format of nuclr.",
        "",
    ]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in facts.items() if text)]
    lines += ["", "The configuration and the hash of every input are in `config.json`.", "", *_scores(scores)]
    lines += ["", "## Licence of the data", ""]
    stated = Counter(map(_licence, record.get("inputs", {}).values()))
    lines += [f"- {licence} ({counted(number, 'population')})" for licence, number in sorted(stated.items())]
    if not stated:  # of an imported model only the file is known
        lines += [
            f"- {UNKNOWN if record.get('source') else 'none needed: the model was not trained on recordings'}"
        ]
    return _headed(_head(record, scores), "\n".join([*lines, "", USED_FOR, "", USE]))


def is_simulated(record: Mapping[str, Any]) -> bool:
    """Return whether a model was trained on simulated recordings only, from its record."""
    inputs = record.get("inputs", {}).values()
    own = bool(inputs) and all(source.get("origin") == SIMULATED for source in inputs)
    return own or list(record.get("datasets", [])) == [SIMULATED]


def _licence(source: Mapping[str, str]) -> str:
    not_stated = NO_LICENCE if source.get("origin") == SIMULATED else UNKNOWN
    return source.get("licence") or not_stated


def _scores(scores: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the section of scores."""
    if not scores:
        return [SCORES, "", NOT_MEASURED]
    columns = ["task", "protocol", "units", "macro-F1 (95 %)", "within recordings", "chance"]
    return [
        *(SCORES, "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *map(_score, scores)),
        "",
        "Scores of probes trained on all labels. Intervals are over test animals, unless stated otherwise.",
        "Those over units or recordings of one or two animals are too narrow for other animals.",
        *("", PROTOCOLS),
    ]


def _score(row: dict[str, Any]) -> str:
    tested = f"; {counted(row['test_animals'], 'animal')}" if "test_animals" in row else ""
    if (over := row.get("interval_over", "animals")) != "animals":
        tested = f" over {over}{tested}"
    known = isfinite(row.get("low", nan))
    interval = f" ({row['low']:.3f} to {row['high']:.3f}{tested})" if known else ""
    within = f"{row['within_recordings']:.3f}" if "within_recordings" in row else ""
    cells = [row["task"], row["protocol"], str(row["units"]), f"{row['macro_f1']:.3f}{interval}", within]
    return f"| {' | '.join([*cells, format(row['chance'], '.3f')])} |"


def _machine(machine: dict[str, Any]) -> str:
    return (
        counted(machine["devices"], {"gpu": "GPU"}.get(machine["accelerator"], "CPU process"))
        if machine
        else ""
    )


def _source(record: dict[str, Any]) -> str:
    source = record.get("source")
    return (
        f"not stated; imported from {source['file']}, sha256 `{source['sha256']}`"
        if source
        else "none (an untrained encoder)"
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
