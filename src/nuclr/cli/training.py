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
    ablation: Annotated[
        str,
        typer.Option(
            help="no_population_context, no_unit_dropout, same_window or shuffled_units: leave that out",
            show_default=False,
        ),
    ] = "",
    devices: Annotated[int | None, typer.Option(help="GPUs or CPU processes; else machine.devices")] = None,
    num_nodes: Annotated[int | None, typer.Option(help="machines; else machine.num_nodes")] = None,
    config: ConfigOption = None,
) -> None:
    """Pretrain an encoder; killed and started again, it goes on from its last checkpoint."""
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.evaluation.label_score import label_score
    from nuclr.training.devices import gpus
    from nuclr.training.run import pretrain_run

    given = {"devices": devices, "num_nodes": num_nodes}
    machine = {name: value for name, value in given.items() if value is not None}
    options = load_config(*(config or ()), {"machine": machine}).ablated(ablation)
    who = read_splits(splits)
    probed = options.pretrain.probe_every is not None and animals > 0
    members = who.pretraining(animals, seed)
    # An untrained encoder takes its bin from some.
    read = members or who.orders[min(seed, len(who.orders) - 1)][:3]
    labelled = who.folders(populations, who.label)
    wanted = options.machine
    with gpus(wanted.devices if members else 0, wanted.accelerator, wanted.share_gpus):
        wrote = pretrain_run(
            who.folders(populations, read),
            members,
            options,
            seed,
            output=output,
            checkpoints=checkpoints,
            score=label_score(labelled, who, options.views, options.probe.tasks) if probed else None,
            of=who.of,
            about={"chosen_by": who.label if probed else [], "ablation": ablation},
        )
    if wrote:
        print(f"{output}: {animals} animals, seed {seed}")
