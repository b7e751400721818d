"""Subcommands that say what units are: train-probe, predict, export-bwb."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nuclr.cli.options import OutputOption
from nuclr.words import counted

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

logger = logging.getLogger(__name__)

EmbeddingsArgument = Annotated[list[Path], typer.Argument(help="embeddings.parquet, of one model")]
ProbeOption = Annotated[Path, typer.Option(help="probe.safetensors")]


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (train_probe, predict, export_bwb):
        app.command()(command)


def train_probe(
    embeddings: EmbeddingsArgument,
    column: Annotated[str, typer.Option(help="column with the label, as brain_region")],
    output: OutputOption,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="csv with unit_id, this column and, if you like, animal; else the embeddings' own column"
        ),
    ] = None,
    min_units: Annotated[int, typer.Option(help="classes with fewer units are dropped")] = 10,
) -> None:
    """Train a probe on your labels: a file from which `nuclr predict` tells what other units are."""
    import numpy as np

    from nuclr.config import Task
    from nuclr.evaluation import labels as room
    from nuclr.evaluation.protocols import class_labels
    from nuclr.evaluation.saved_probe import save_probe
    from nuclr.evaluation.saved_probe import train_probe as train
    from nuclr.files import sha256_of

    units, vectors, record = _read(embeddings)
    if labels is not None:
        units = room.label_units(labels, column, units)
    room.check_column(units, column, "train-probe: the embeddings")
    # A unit that was never active has nothing to learn from, and counts for no class.
    units.loc[np.isnan(vectors).any(axis=1), column] = ""
    classes = class_labels(units, Task(name=column), min_units)
    inputs = {path.name: sha256_of(path) for path in [*embeddings, *([labels] if labels else [])]}
    about = {
        "task": column,
        "model": record["model"],
        "datasets": record.get("datasets", []),
        "inputs": inputs,
    }
    probe = train(units, vectors, classes, about)
    save_probe(output, probe)
    scores = probe.record["scores"]
    for name, count in probe.record["learned_from"]["units_of_class"].items():
        print(f"{name}: {counted(count, 'unit')}, F1 {scores['f1'][name]:.3f}")
    print(
        f"{output}: macro-F1 {scores['macro_f1']:.3f}, accuracy {scores['accuracy']:.3f}, calibration error "
        f"{scores['calibration_error']:.3f}, measured on {scores['measured_on']}"
    )


def predict(
    embeddings: EmbeddingsArgument,
    probe: ProbeOption,
    output: OutputOption,
    sure: Annotated[
        float, typer.Option(min=0, max=1, help="how often an answer shall be right; else it is left empty")
    ] = 0.8,
) -> None:
    """Say what units are, with a probability of each class; units of which it is not sure get no answer."""
    from nuclr.evaluation.representations import write_csv
    from nuclr.evaluation.saved_probe import load_probe
    from nuclr.files import whole

    loaded = load_probe(probe)
    units, vectors, record = _read(embeddings)
    table = loaded.predict(units, vectors, record["model"], sure)
    if output.suffix == ".parquet":
        with whole(output) as partial:
            table.to_parquet(partial, index=False)
    else:
        write_csv(output, table)
    answered = table["predicted"] != ""
    for name, count in table["predicted"][answered].value_counts().items():
        print(f"{name}: {count}")
    if loaded.threshold(sure) > 1:
        logger.warning(
            "%s: its answers to new units were never right %g of the time, so none is given; lower --sure, "
            "or look at the probabilities",
            probe,
            sure,
        )
    print(f"{output}: {answered.sum()} of {len(table)} units answered, don't know the others")


def export_bwb(
    embeddings: EmbeddingsArgument,
    probe: ProbeOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of submissions")],
    label: Annotated[str, typer.Option(help="names the submission")] = "nuclr",
    seed: Annotated[int, typer.Option(help="seed that names the file; the benchmark wants 43 to 47")] = 43,
    ids: Annotated[str, typer.Option(help="column with the benchmark's unit ids")] = "unit_id",
    depth: Annotated[
        str, typer.Option(help="column with depths on the probe (um); empty: no multi-unit variant")
    ] = "depth_um",
) -> None:
    """Write a submission to BrainWideBench, TS3 (unit_cosmos): single- and multi-unit."""
    from nuclr.evaluation.brain_wide_bench import write_submission
    from nuclr.evaluation.saved_probe import load_probe

    units, vectors, record = _read(embeddings)
    table = load_probe(probe).predict(units, vectors, record["model"])
    own = units.join(table.filter(regex="^p_"))
    for path in write_submission(output, label, seed, own, ids=ids, depth=depth or None):
        print(path)


def _read(paths: list[Path]) -> tuple[pd.DataFrame, np.ndarray, dict[str, Any]]:
    """Read embeddings of one model from several files."""
    import numpy as np

    from nuclr.errors import DataError, ModelError
    from nuclr.evaluation.representations import concatenate, read_embeddings

    read = [read_embeddings(path) for path in paths]
    for path, (_, _, record) in zip(paths, read, strict=True):
        if not record.get("model"):
            raise ModelError(f"{path}: not embeddings of a model; make them with `nuclr embed`")
        if record["model"] != read[0][2]["model"]:
            raise ModelError(f"{path}: of another model than {paths[0]}; embed both with one")
    units = concatenate([one for one, _, _ in read])
    if units["unit_id"].duplicated().any():
        twice = units["unit_id"][units["unit_id"].duplicated()].iloc[0]
        raise DataError(f"unit {twice} stands in two of the embeddings; give each recording once")
    return units, np.concatenate([vectors for _, vectors, _ in read]), read[0][2]
