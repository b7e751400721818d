"""Subcommands of the evaluation room: embed, baseline, probe, collect."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import ConfigOption, ModelOption, OutputOption, RecordingsArgument, SplitsOption
from nuclr.words import counted

logger = logging.getLogger(__name__)

Populations = Annotated[list[Path], typer.Argument(help="folders with population stores")]
ProbedOption = Annotated[
    Path | None,
    typer.Option("--splits", help="splits.json: read only its test, label and pretraining animals"),
]


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (embed, baseline, probe, collect):
        app.command()(command)


def embed(
    recordings: RecordingsArgument,
    model: ModelOption,
    output: OutputOption,
    splits: ProbedOption = None,
    animals: Annotated[int, typer.Option(help="with --splits: number of pretraining animals")] = 0,
    seed: Annotated[
        int, typer.Option(help="with --splits: seed of the run, which determines its pretraining animals")
    ] = 0,
    config: ConfigOption = None,
) -> None:
    """Compute the embedding of every unit of some recordings with a trained encoder.

    Spikes are binned as the model requires. Units with a lower firing rate than those that the model learned
    from are left out; chunk.min_rate_hz changes this limit. Labels in the recordings are written beside the
    embeddings. From files on a server, only the necessary bytes are read.
    """
    from nuclr.cli.embedding import embed_recordings
    from nuclr.config import load_config
    from nuclr.data.access.remote import on_disk, place_of
    from nuclr.data.own import find
    from nuclr.data.splits import read_splits
    from nuclr.representation.embeddings import write_embeddings
    from nuclr.sharing.loaded import load_model

    options = load_config(*(config or ()))
    loaded = load_model(model)
    if splits is not None:
        groups = read_splits(splits)
        stores = groups.folders([on_disk(path) for path in recordings], groups.probed(animals, seed))
        found = find(stores)
    else:
        found = find([place_of(text) for text in recordings], options.download)
    embeddings, record = embed_recordings(found, loaded, options)
    units, vectors, windows = embeddings
    write_embeddings(output, units, vectors, windows, record)
    print(f"{output}: {counted(len(units), 'unit')}, {(windows == 0).sum()} of them never active")


def baseline(
    populations: Populations,
    name: Annotated[
        str,
        typer.Option(
            help="rate_regularity, isi_histogram, autocorrelogram, single_neuron (these three), "
            "population_correlation, population (all of these), nemo, lolcat, or which_recording"
        ),
    ],
    output: OutputOption,
    splits: ProbedOption = None,
    animals: Annotated[int, typer.Option(help="number of pretraining animals, in the order of seed 0")] = 0,
    panel: Annotated[
        int,
        typer.Option(
            help="number of animals, the first in the order of each seed, on which probes are tested"
        ),
    ] = 0,
    seeds: Annotated[int, typer.Option(help="with --panel: number of seeds (0, 1, ...)")] = 1,
    features: Annotated[
        Path | None,
        typer.Option(
            help="folder that caches the features of each recording, to resume from and to share between "
            "baselines; by default beside the output, and removed at the end",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a baseline's features of every unit, in the format of embeddings.

    After an interruption, the same command resumes after the last finished recording.
    """
    from nuclr.cli.progress import bar
    from nuclr.cluster import computing
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.data.store import open_population, stores
    from nuclr.files import partial_of
    from nuclr.provenance import versions
    from nuclr.representation.baselines import baseline_table
    from nuclr.representation.embeddings import write_embeddings

    machine = load_config(*(config or ())).machine
    groups = read_splits(splits) if splits is not None else None
    folders = populations
    if groups is not None:
        tested = [name for other in range(seeds) for name in groups.panel(panel, other)] if panel else []
        folders = groups.folders(populations, list(dict.fromkeys([*groups.probed(animals, 0), *tested])))
    opened = [open_population(path) for folder in folders for path in stores(folder)]
    learned = groups.pretraining(animals, 0) if groups is not None and name == "nemo" else []
    member = groups.member if groups is not None else "animal"
    learn_from = {p.population for p in opened if getattr(p, member) in learned}
    kept = features or partial_of(output.with_suffix(".features"))
    with computing(machine.dask, machine.dask_workers), bar(name) as shown:
        units, table, windows = baseline_table(name, opened, learn_from, kept=kept, shown=shown)
    record = {"baseline": name, "inputs": {p.population: p.source for p in opened}, "versions": versions()}
    if learned:
        record[f"{member}s"] = learned
    write_embeddings(output, units, table, windows, record)
    if features is None:
        shutil.rmtree(kept, ignore_errors=True)
    print(f"{output}: {counted(len(units), 'unit')}, {counted(table.shape[1], 'feature')}")


def probe(
    embeddings: Annotated[Path, typer.Argument(help="embeddings.parquet")],
    splits: SplitsOption,
    animals: Annotated[int, typer.Option(help="number of pretraining animals of the run")],
    output: OutputOption,
    seed: Annotated[int, typer.Option(help="seed of the run, which determines its pretraining animals")] = 0,
    panel: Annotated[
        int | None,
        typer.Option(
            help="number of pretraining animals, the first in the order of the seed, that the transductive "
            "protocols test in every run; by default all",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="for a baseline: number of seeds, each with a --panel")] = 1,
    config: ConfigOption = None,
) -> None:
    """Train probes for every task and protocol; write predictions of all test units, and scores."""
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.evaluation.probe import probe_all

    table = probe_all(
        embeddings,
        read_splits(splits),
        animals,
        seed,
        load_config(*(config or ())).probe,
        output,
        panel=panel,
        seeds=seeds,
    )
    shown = ["task", "protocol", "seed", "tested_on", "probe", "centred", "label_share", "shuffled", "units"]
    shown += ["test_animals", "macro_f1", "low", "high", "within_recordings", "p_within", "calibration_error"]
    print(table[shown].to_string(index=False, float_format="{:.3f}".format))


def collect(
    probes: Annotated[list[Path], typer.Argument(help="probes folders of runs and baselines")],
    output: OutputOption,
) -> None:
    """Collect the scores of all probes in one table (parquet and csv)."""
    from nuclr.evaluation.score_tables import gather_scores

    print(f"{output}: {len(gather_scores(probes, output))} probes of {len(probes)} representations")
