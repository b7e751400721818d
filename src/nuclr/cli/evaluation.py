"""Subcommands of the evaluation room: embed, baseline, probe, scaling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import ConfigOption, OutputOption, SplitsOption

Populations = Annotated[list[Path], typer.Argument(help="folders with population stores")]


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (embed, baseline, probe):
        app.command()(command)


def embed(
    populations: Populations,
    model: Annotated[Path, typer.Option(help="model.safetensors")],
    output: OutputOption,
) -> None:
    """Embed every unit of some populations with a trained encoder."""
    from rich.progress import track

    from nuclr.data.store import open_population, stores
    from nuclr.evaluation.embed import embed_with_model, write_embeddings
    from nuclr.model.saved import load_model

    saved = load_model(model)
    paths = [store for folder in populations for store in stores(folder)]
    opened = track((open_population(path) for path in paths), total=len(paths), description="embedding")
    units, embeddings, windows = embed_with_model(saved, opened)
    write_embeddings(output, units, embeddings, windows, {"model": saved.sha256, **saved.record})
    print(f"{output}: {len(units)} units, {(windows == 0).sum()} of them never active")


def baseline(
    populations: Populations,
    name: Annotated[str, typer.Option(help="single_neuron, population_correlation or which_recording")],
    output: OutputOption,
) -> None:
    """Write a baseline's features of every unit, in the form of embeddings."""
    from nuclr.data.store import open_population, stores
    from nuclr.evaluation.baselines import baseline_table
    from nuclr.evaluation.embed import write_embeddings

    paths = [store for folder in populations for store in stores(folder)]
    units, features, windows = baseline_table(name, [open_population(path) for path in paths])
    write_embeddings(output, units, features, windows, {"baseline": name})
    print(f"{output}: {len(units)} units, {features.shape[1]} features")


def probe(
    embeddings: Annotated[Path, typer.Argument(help="embeddings.parquet")],
    splits: SplitsOption,
    animals: Annotated[int, typer.Option(help="pretraining animals of the run")],
    seed: Annotated[int, typer.Option(help="seed of the run")],
    task: Annotated[str, typer.Option(help="one of probe.tasks")],
    protocol: Annotated[str, typer.Option(help="one of probe.protocols")],
    output: OutputOption,
    config: ConfigOption = None,
) -> None:
    """Fit a linear probe and write its prediction of every tested unit."""
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.evaluation.probe import probe_embeddings, scores, write_predictions

    predictions, record = probe_embeddings(
        embeddings,
        read_splits(splits),
        animals,
        seed,
        task=task,
        protocol=protocol,
        options=load_config(config).probe,
    )
    write_predictions(output, predictions, record)
    print(f"{output}: macro-F1 {scores(predictions)['macro_f1']:.3f}, {len(predictions)} units")
