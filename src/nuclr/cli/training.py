"""Subcommand of the training room: pretrain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nuclr.cli.options import ConfigOption, OutputOption
from nuclr.words import counted

if TYPE_CHECKING:
    from nuclr.config import Config
    from nuclr.data.splits import Splits
    from nuclr.training.run import Cohort
    from nuclr.training.selection import Score


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    app.command()(pretrain)


def pretrain(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            help="recordings (NWB, Kilosort, phy, SpikeInterface, ALF, Suite2p, CaImAn), stores, or folders "
            "of these"
        ),
    ],
    output: OutputOption,
    splits: Annotated[
        Path | None,
        typer.Option(
            "--splits", help="splits.json: the animals of each group; without it, all animals train"
        ),
    ] = None,
    animals: Annotated[
        int | None,
        typer.Option(help="with --splits: number of pretraining animals; 0 writes an untrained encoder"),
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="folder for checkpoints; by default beside the model")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the order of animals, weights, views and dropout")] = 0,
    ablation: Annotated[
        str,
        typer.Option(
            help="omit a part: no_population_context, no_unit_dropout, same_window or shuffled_units",
            show_default=False,
        ),
    ] = "",
    devices: Annotated[
        int | None, typer.Option(help="number of GPUs or CPU processes; by default machine.devices")
    ] = None,
    num_nodes: Annotated[
        int | None, typer.Option(help="number of machines; by default machine.num_nodes")
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            help="write the model's card (README.md) beside it; the workflow does it later, with scores"
        ),
    ] = True,
    config: ConfigOption = None,
) -> None:
    """Pretrain an encoder; after an interruption, the same command resumes from the last checkpoint."""
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.errors import ConfigError
    from nuclr.model.card import CARD, write_card
    from nuclr.model.tensor_files import read_record, weights_at
    from nuclr.training.devices import gpus
    from nuclr.training.own import pretrain_own
    from nuclr.training.run import pretrain_run

    output = weights_at(output)
    given = {"devices": devices, "num_nodes": num_nodes}
    named = {name: value for name, value in given.items() if value is not None}
    options = load_config(*(config or ()), {"machine": named}).ablated(ablation)
    if (splits is None) != (animals is None):
        raise ConfigError("pretrain: give both --splits and --animals, or neither to train on all animals")
    machine = options.machine
    folder = checkpoints or output.parent / "checkpoints"
    with gpus(0 if animals == 0 else machine.devices, machine.accelerator, machine.share_gpus):
        if splits is None:
            about = {"ablation": ablation}
            wrote = pretrain_own(recordings, options, seed, output=output, checkpoints=folder, about=about)
        else:
            run = _of_splits(recordings, read_splits(splits), animals or 0, seed, options)
            wrote = pretrain_run(
                run.cohort,
                options,
                seed,
                output=output,
                checkpoints=folder,
                score=run.score,
                about={"chosen_by": run.chosen_by, "ablation": ablation},
            )
    if wrote:
        if card:
            write_card(output.with_name(CARD), read_record(output, "model", "train it again"))
        print(f"{output}: {'all animals' if animals is None else counted(animals, 'animal')}, seed {seed}")


class _Run(NamedTuple):
    """Training recordings of a run of the scaling analysis, and the scores of its encoder in training."""

    cohort: Cohort
    score: Score | None
    chosen_by: Sequence[str]


def _of_splits(populations: list[Path], groups: Splits, animals: int, seed: int, options: Config) -> _Run:
    """Return a run on the first animals in the order of splits.json."""
    from nuclr.data.access.remote import on_disk
    from nuclr.data.archives.left_out import members_left_out
    from nuclr.data.store import stores
    from nuclr.training.run import Cohort

    populations = [on_disk(path) for path in populations]
    members = groups.pretraining(animals, seed)
    folders = groups.folders(populations, members or groups.first(seed))
    cohort = Cohort(
        [store for folder in folders for store in stores(folder)],
        members,
        groups.member,
        members_left_out(folders, groups.member),
    )
    if options.pretrain.probe_every is None or not animals:
        return _Run(cohort, None, [])
    from nuclr.evaluation.label_score import label_score

    labelled = groups.folders(populations, groups.label)
    score = label_score(
        [store for folder in labelled for store in stores(folder)],
        groups,
        options.views,
        options.probe.tasks,
        members_left_out(labelled, "animal"),
    )
    return _Run(cohort, score, groups.label)
