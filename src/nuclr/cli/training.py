"""Subcommand of the training room: pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nuclr.cli.options import ConfigOption, OutputOption
from nuclr.words import counted

if TYPE_CHECKING:
    from nuclr.config import Config


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    app.command()(pretrain)


def pretrain(
    recordings: Annotated[
        list[Path],
        typer.Argument(help="NWB files, Kilosort, phy or SpikeInterface folders, stores, folders of these"),
    ],
    output: OutputOption,
    splits: Annotated[
        Path | None,
        typer.Option("--splits", help="splits.json: who trains; without it, all animals"),
    ] = None,
    animals: Annotated[
        int | None, typer.Option(help="with --splits: pretraining animals; 0 writes an untrained encoder")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="folder for the checkpoints of all runs; else beside the model")
    ] = None,
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
    card: Annotated[
        bool,
        typer.Option(help="write model_card.md beside the model; the workflow does it later, with scores"),
    ] = True,
    config: ConfigOption = None,
) -> None:
    """Pretrain an encoder; killed and started again, it goes on from its last checkpoint."""
    from nuclr.config import load_config
    from nuclr.errors import ConfigError
    from nuclr.model.card import CARD, write_card
    from nuclr.model.tensor_files import read_record
    from nuclr.training.devices import gpus

    given = {"devices": devices, "num_nodes": num_nodes}
    machine = {name: value for name, value in given.items() if value is not None}
    options = load_config(*(config or ()), {"machine": machine}).ablated(ablation)
    if (splits is None) != (animals is None):
        raise ConfigError("pretrain: give both --splits and --animals, or neither: then all animals train")
    wanted = options.machine
    with gpus(0 if animals == 0 else wanted.devices, wanted.accelerator, wanted.share_gpus):
        where = checkpoints or output.parent / "checkpoints"
        if splits is None:
            wrote = _all_of(recordings, options, seed, output, where, ablation)
        else:
            wrote = _of_splits(recordings, splits, animals or 0, options, seed, output, where, ablation)
    if wrote:
        if card:
            write_card(output.with_name(CARD), read_record(output, "model", "train it again"))
        print(f"{output}: {'all animals' if animals is None else counted(animals, 'animal')}, seed {seed}")


def _of_splits(
    populations: list[Path],
    splits: Path,
    animals: int,
    options: Config,
    seed: int,
    output: Path,
    checkpoints: Path,
    ablation: str,
) -> bool:
    """Pretrain on the first of the animals that splits.json puts in order."""
    from nuclr.data.left_out import members_left_out
    from nuclr.data.splits import read_splits
    from nuclr.data.store import stores
    from nuclr.evaluation.label_score import label_score
    from nuclr.training.run import pretrain_run

    who = read_splits(splits)
    probed = options.pretrain.probe_every is not None and animals > 0
    members = who.pretraining(animals, seed)
    # An untrained encoder takes its bin from some.
    read = members or who.orders[min(seed, len(who.orders) - 1)][:3]
    folders = who.folders(populations, read)
    score = None
    if probed:
        labelled = who.folders(populations, who.label)
        score = label_score(
            [store for folder in labelled for store in stores(folder)],
            who,
            options.views,
            options.probe.tasks,
            members_left_out(labelled, "animal"),
        )
    return pretrain_run(
        [store for folder in folders for store in stores(folder)],
        members,
        options,
        seed,
        output=output,
        checkpoints=checkpoints,
        score=score,
        of=who.of,
        left_out=members_left_out(folders, who.of),
        about={"chosen_by": who.label if probed else [], "ablation": ablation},
    )


def _all_of(
    recordings: list[Path], options: Config, seed: int, output: Path, checkpoints: Path, ablation: str
) -> bool:
    """Pretrain on all animals of some recordings, whose stores are made beside the model."""
    from nuclr.data.own import find, store_found
    from nuclr.data.store import open_population
    from nuclr.training.run import pretrain_run

    stores = store_found(find(recordings), output.parent / "populations", options.nwb, options.chunk)
    animals = sorted({open_population(store).animal for store in stores})
    return pretrain_run(
        stores, animals, options, seed, output=output, checkpoints=checkpoints, about={"ablation": ablation}
    )
