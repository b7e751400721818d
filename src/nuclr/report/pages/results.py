"""Page of the scaling analysis, report.html: one file with all scores, figures and their provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from nuclr.config import Ablation, Config
from nuclr.data.archives.left_out import NOTE
from nuclr.data.splits import Splits
from nuclr.errors import DataError
from nuclr.evaluation.metrics import FEWEST_ANIMALS
from nuclr.evaluation.scaling import CONTROL, NUCLR
from nuclr.evaluation.variants import Variant
from nuclr.files import whole
from nuclr.model.tensor_files import CONFIG
from nuclr.provenance import versions
from nuclr.report.figures.curves import title_of
from nuclr.report.figures.scores import name_of
from nuclr.report.pages.embedded import Embedded, embedded, pictured
from nuclr.report.pages.templates import template
from nuclr.usage import TOOK
from nuclr.words import counted

# Published macro-F1 by data set, task and protocol: Arora et al. 2025 (arXiv 2512.01199), and its baselines.
PUBLISHED: dict[tuple[str, str, str], str] = {
    ("ibl_brain_wide_map", "brain_region", "inductive_zero_shot"): "0.530 (NEMO 0.379)",
    ("allen_visual_coding", "cell_type", "inductive_zero_shot"): "0.720 (NEMO 0.419, LOLCAT 0.412)",
    ("steinmetz_2019", "brain_region", "transductive"): "0.959 (NEMO 0.699)",
    ("bugeon_2022", "ei", "transductive"): "0.811 (NeuPRINT 0.666)",
    ("bugeon_2022", "subclass", "transductive"): "0.610 (NeuPRINT 0.495)",
    (
        "bugeon_2022",
        "subclass",
        "transductive_zero_shot",
    ): "0.39, inductive: the animal was not pretrained on",
}
FIGURES = {
    "": "Scaling curve. Small dots are runs, large dots are their means with 95 % intervals over seeds and "
    "test animals, and the curve is the fitted law. Horizontal lines are controls and baselines.",
    ".labels": "Macro-F1 for each number of pretraining animals and each share of the labels.",
    ".confusion": "Confusion matrix: the share of each true class that was predicted as each class. Counts "
    "are means over seeds.",
    ".ablations": "Ablations: the largest runs without a part of the method, with 95 % intervals.",
    ".animals": "Macro-F1 of each test animal.",
}
# Added to the captions if held-out labels chose among several probes.
OF_PLAIN = {
    "": " Open circles are scores of the plain probe.",
    ".labels": " All scores are of the plain probe.",
}
# Smallest difference in AIC that favours a description (Burnham and Anderson 2002).
AS_GOOD = 2.0
OVERVIEW = {
    "data": "Units and minutes of each animal, and units of each class.",
    "training": "Training loss and effective rank of the embeddings of all runs.",
    "embedding": "Units of one of the largest runs (seed 0) along the first two principal components (PC).",
}
TABLE = [
    *("macro_f1", "low", "high", "balanced_accuracy", "within_recordings"),
    *("gain", "gain_low", "gain_high", "behind", "behind_low", "behind_high"),
]
TABLE += ["test_animals", "plain_macro_f1", "probes"]


def write_page(config: Config, splits: Splits, folder: Path, output: Path, notes: Sequence[str] = ()) -> None:
    """Write the page of a data set.

    Parameters
    ----------
    config
        The whole configuration.
    splits
        Animals for pretraining, labels and tests, with a note about the split, if there is one.
    folder
        ``results/{dataset}``: scaling/, figures/, tables, logs/ and the records of the runs are read.
    output
        Path of the page. It links to ``explore.html`` if that exists in the same folder.
    notes
        Settings that were chosen automatically, and data that were left out.

    Raises
    ------
    DataError
        If a result is missing.
    """
    protocols = config.probe.protocols or ()
    sections = []
    if config.probe.tasks:
        scores = pd.read_parquet(folder / "probes.parquet")
        sections = [
            _section(config, folder, task.name, protocol, scores)
            for task in config.probe.tasks
            for protocol in protocols
        ]
    costs = cost_table(folder)
    page = template("results.html.j2").render(
        dataset=config.dataset,
        split=splits.note,
        fewest=FEWEST_ANIMALS,
        notes=[*notes, *_left_out(folder)],
        transductive=[p for p in protocols if p != "inductive_zero_shot"],
        new_animals="inductive_zero_shot" in protocols,
        sections=sections,
        published=any(section["published"] for section in sections),
        simulated=config.source_kind == "simulated",
        overview=_overview(folder / "figures"),
        plain=Variant(config.probe.kinds[0], config.probe.centred[0]).name,
        chosen=any(section["chosen"] for section in sections),
        explore=(output.parent / "explore.html").exists(),
        costs=costs,
        config=json.dumps(config.model_dump(mode="json"), indent=2),
        versions=versions(),
        inputs=_inputs(folder),
        splits=splits,
    )
    with whole(output) as partial:
        partial.write_text(page)


def _overview(folder: Path) -> list[Embedded]:
    """Embed the figures of the data set, of training and of embeddings, if they exist."""
    shown = []
    for name, words in OVERVIEW.items():
        if not (folder / f"{name}.png").exists():
            continue
        try:
            table = pd.read_csv(folder / f"{name}.csv")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder}/{name}.csv: cannot be read ({error}); draw the figure again with `nuclr overview`"
            ) from None
        if name == "data":
            n = f"{counted(table['animal'].nunique(), 'animal')}, {table['units'].sum()} units"
        else:
            n = counted(table["run"].nunique(), "run") if name == "training" else counted(len(table), "unit")
        shown.append(pictured(folder / f"{name}.png", f"{words} n = {n}."))
    return shown


def _left_out(folder: Path) -> list[str]:
    """List the recordings that were left out during chunking or download, with the reasons."""
    notes = [json.loads(path.read_text()) for path in sorted((folder / "populations").glob(f"*/{NOTE}"))]
    return [f"left out: recording {note['recording']} ({note['reason']})" for note in notes]


def _section(config: Config, folder: Path, task: str, protocol: str, scores: pd.DataFrame) -> dict[str, Any]:
    """Collect the content of the section of one task and protocol; ``scores`` are those of all probes."""
    own = scores[(scores["task"] == task) & (scores["protocol"] == protocol)]
    stem = folder / "scaling" / f"{task}.{protocol}"
    try:
        curve, content = pd.read_csv(f"{stem}.csv"), json.loads(Path(f"{stem}.json").read_text())
        # keep_default_na, because a class may be called NA.
        classes = pd.read_csv(f"{stem}.classes.csv", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{stem}: cannot be read ({error}); write it again with `nuclr scaling`") from None
    if lacking := {"representation", "animals", "macro_f1", "units", "seeds", "test_animals"} - set(curve):
        raise DataError(
            f"{stem}.csv: has no column {min(lacking)}, as an earlier version wrote it; write it again with "
            "`nuclr scaling`"
        )
    # First the curve, then the other representations, the highest score first.
    trained = curve[curve["representation"] == NUCLR].sort_values("animals")
    rest = curve[~curve["representation"].isin([NUCLR, *get_args(Ablation)])]
    ordered = pd.concat([trained, rest.sort_values("macro_f1", ascending=False)])
    rows = [_row(row) for row in ordered.to_dict("records")]
    chosen = "probes" in curve
    headline, others = rows[len(trained) - 1], rows[len(trained) :]
    tables = {}
    ablations = Path(f"{stem}.ablations.csv")
    if config.scaling.ablations and ablations.exists():
        tables["Ablations"] = _frame(pd.read_csv(ablations))
    tables["All probes of the largest runs and of the baselines"] = _frame(_other_probes(own))
    tables["Precision, recall and F1 of each class"] = _frame(classes)
    everything = [_row(row) for row in content.get("all_pretraining", [])]
    return {
        "title": title_of(task, protocol),
        "id": f"{task}-{protocol}",
        "headline": headline,
        "chosen": chosen,
        "others": others,
        "above": [row for row in others if row["macro_f1"] > headline["macro_f1"]],
        "panel": content.get("panel"),
        "all_pretraining": everything,
        "headline_of_all": next((row for row in everything if row["name"] == name_of(NUCLR)), None),
        "published": PUBLISHED.get((config.dataset, task, protocol), ""),
        "chance": content["chance"],
        "control_below_chance": any(
            row["name"] == name_of(CONTROL) and row["macro_f1"] < content["chance"] for row in others
        ),
        "shuffled": content.get("shuffled"),
        "fit": content["fit"],
        "best": _best_description(content["fit"].get("aic", {})),
        "law": content["law"],
        "doublings": content["doublings"],
        "rows": rows,
        "figures": _figures(stem, chosen, trained.iloc[-1].to_dict()),
        "tables": tables,
    }


def _best_description(aic: dict[str, float]) -> str:
    """Say which description of the curve has the lowest AIC; below a difference of 2, none is better."""
    names = {"power_law": "the law", "line_in_log_n": "a line in log n", "constant": "a constant"}
    if not aic:
        return ""
    best = min(aic.values())
    equal = [name for key, name in names.items() if aic[key] < best + AS_GOOD]
    if len(equal) > 1:
        found = f"{', '.join(equal[:-1])} and {equal[-1]} describe the curve equally well"
    else:
        found = f"{equal[0]} describes the curve best"
    if "a constant" in equal:
        found += ", so the curve does not show that more animals help"
    return found


def _figures(stem: Path, chosen: bool, largest: dict[Any, Any]) -> list[Embedded]:
    """Embed the figures of one task and protocol; each caption states the number of test animals."""
    tested = counted(int(largest["test_animals"]), "test animal")
    units, seeds = f"{largest['units']:.0f} units", counted(int(largest["seeds"]), "seed")
    shown = []
    for infix, words in FIGURES.items():
        own = stem.with_name(stem.name + infix)
        if infix == ".ablations" and not own.with_name(f"{own.name}.svg").exists():
            continue
        plain = OF_PLAIN.get(infix, "") if chosen else ""
        caption = f"{words}{plain} n = {tested}, {units} in each run, {seeds}."
        shown.append(embedded(own, caption, name=own.name.replace(".", "-")))
    return shown


def _row(row: dict[Any, Any]) -> dict[str, Any]:
    known = {name: row.get(name) for name in TABLE if name in row and pd.notna(row[name])}
    return {"name": name_of(row["representation"]), "animals": int(row["animals"]), **known}


def _other_probes(scores: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the scores of all probes (means over seeds), for the largest runs and the baselines.

    Only probes that used all labels are included.
    """
    full = scores[(scores["label_share"] == 1) & ~scores["shuffled"] & (scores["tested_on"] == "panel")]
    largest = full["animals"].where(full["representation"] == NUCLR, 0).max()
    chosen = full[full["animals"].isin([0, largest])]
    columns = ["macro_f1", "validation_macro_f1", "p_within", "calibration_error"]
    table = chosen.groupby(["representation", "probe", "centred"], as_index=False)[columns].mean()
    return table.rename(columns={"validation_macro_f1": "on validation units"})


def _frame(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return column names and rows of a table as text."""
    shown = [str(name).replace("_", " ") for name in table.columns]
    return shown, [
        [_text(str(name), value) for name, value in zip(table, row, strict=True)] for row in table.values
    ]


def _text(column: str, value: Any) -> str:
    if column == "representation":
        return name_of(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return (
            ""
            if pd.isna(value)
            else (f"{value:.0f}" if column in ("units", "seeds", "test_animals") else f"{value:.3f}")
        )
    return str(value)


def cost_table(folder: Path) -> list[dict[str, Any]]:
    """Add up the costs in the logs of the jobs: wall hours, core hours, GPU hours, largest memory by step.

    GPU hours are the wall hours of a job times its number of GPUs. Steps without costs in their logs are left
    out.

    Parameters
    ----------
    folder
        ``results/{dataset}``: logs/ and the records of the runs are read.
    """
    jobs: dict[str, list[dict[str, float]]] = {}
    for path in sorted((folder / "logs").rglob("*.log")):
        if took := TOOK.findall(path.read_text(errors="replace")):
            wall, cpu, memory = map(float, took[-1])
            step = path.relative_to(folder / "logs").with_suffix("").parts[0]
            gpus = _gpus(folder / "runs" / path.stem / CONFIG) if step == "pretrain" else 0
            job = {"wall": wall, "cpu": cpu, "gpu": wall * gpus, "memory": memory}
            jobs.setdefault(step, []).append(job)
    table = [
        {
            "step": step,
            "jobs": len(own),
            "wall_hours": sum(job["wall"] for job in own) / 3600,
            "core_hours": sum(job["cpu"] for job in own) / 3600,
            "gpu_hours": sum(job["gpu"] for job in own) / 3600,
            "largest_gb": max(job["memory"] for job in own),
        }
        for step, own in jobs.items()
    ]
    return sorted(table, key=lambda row: -row["core_hours"])


def _gpus(path: Path) -> int:
    """Return the number of GPUs in the record of a run."""
    machine = json.loads(path.read_text()).get("machine", {}) if path.exists() else {}
    return machine.get("devices", 0) if machine.get("accelerator") == "gpu" else 0


def _inputs(folder: Path) -> list[tuple[str, str]]:
    """Return the file and the SHA-256 hash of each recording, as recorded in the stores."""
    table = pd.read_parquet(folder / "populations.parquet")
    if "sha256" not in table:
        return []
    return list(table[["file", "sha256"]].drop_duplicates().itertuples(index=False, name=None))
