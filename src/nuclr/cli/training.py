"""Subcommand of the training room: pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import ConfigOption, OutputOption, SplitsOption


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    app.command()(pretrain)


def pretrain(
    populations: Annotated[list[Path], typer.Argument(help="folders with population stores")],
    splits: SplitsOption,
    animals: Annotated[int, typer.Option(help="pretraining animals; 0 writes an untrained encoder")],
    output: OutputOption,
    checkpoints: Annotated[Path, typer.Option(help="folder for the checkpoints of all runs")],
    seed: Annotated[int, typer.Option(help="of the animals' order, weights, views and dropout")] = 0,
    config: ConfigOption = None,
) -> None:
    """Pretrain an encoder; killed and started again, it goes on from its last checkpoint."""
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.training.run import pretrain_run

    pretrain_run(
        populations,
        read_splits(splits).pretraining(animals, seed),
        load_config(config),
        seed,
        output=output,
        checkpoints=checkpoints,
    )
    print(f"{output}: {animals} animals, seed {seed}")
