"""Subcommands of the data room: simulate, download, chunk, catalog, split."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import ConfigOption, OutputOption
from nuclr.words import counted

logger = logging.getLogger(__name__)


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (simulate, download, chunk, catalog, split):
        app.command()(command)


def simulate(output: OutputOption, config: ConfigOption = None) -> None:
    """Simulate recordings with known regions and cell types, one NWB file each, in a folder."""
    from nuclr.cli.progress import bar
    from nuclr.config import load_config
    from nuclr.data.archives import simulated

    options = load_config(*(config or ())).simulated
    spec = simulated.SimulationSpec(units=options.units, duration_s=options.duration_s)
    files = simulated.simulate(spec, options.animals, options.seed, output)
    with bar("simulating") as shown:
        for _ in shown(files, total=options.animals):
            pass
    print(f"{counted(options.animals, 'recording')} in {output}")


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECORDING]...", help="names of recordings; by default all"),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Download recordings of a public data set and verify them; an interrupted download is resumed."""
    from nuclr.cli.progress import transfers
    from nuclr.config import load_config
    from nuclr.data.archives import download_recordings
    from nuclr.data.archives.download import Fetcher

    options = load_config(*(config or ()))
    with transfers() as progress:
        fetcher = Fetcher(tries=options.download.tries, progress=progress)
        left_out = download_recordings(options, names or [], fetcher)
    print(f"{', '.join(names) if names else 'all recordings'} in {options.raw}", end="")
    print(f"; {len(left_out)} left out" if left_out else "")


def chunk(
    recording: Annotated[
        Path,
        typer.Argument(help="recording in any format, or folder of a downloaded recording"),
    ],
    output: OutputOption,
    config: ConfigOption = None,
) -> None:
    """Bin a recording's spikes (or copy its dF/F) into a folder with one Zarr store for each population.

    Without --config, the recording belongs to the data set "nwb".
    """
    from nuclr.cluster import computing
    from nuclr.config import load_config
    from nuclr.data.archives import licence_of, read_recording, recording_at
    from nuclr.data.archives.left_out import leave_out, reason_left_out
    from nuclr.data.chunk import chunk_recording
    from nuclr.errors import DataError, NothingToLearn

    plain = {"dataset": "nwb", "nwb": {"folder": str(recording.parent)}}
    options = load_config(*config) if config else load_config(plain)
    which = recording_at(options, recording)
    if reason := reason_left_out(recording):
        leave_out(output, which.recording, which.animal, reason)
        print(f"{recording}: left out ({reason})")
        return
    try:
        with computing(options.machine.dask, options.machine.dask_workers):
            names = chunk_recording(
                read_recording(options, which),
                output,
                dataset=options.dataset,
                animal=which.animal,
                recording=which.recording,
                options=options.chunk,
                licence=licence_of(options, which),
            )
    except DataError as error:
        # In the workflow, a recording without usable units is left out; on its own it is an error.
        nothing = isinstance(error, NothingToLearn) and config
        if not nothing and options.nwb.on_damaged == "stop":
            raise
        logger.warning("%s; the recording is left out", error)
        leave_out(output, which.recording, which.animal, str(error))
        return
    print(f"{recording}: {', '.join(names)}")


def catalog(
    populations: Annotated[list[Path], typer.Argument(help="folders with population stores")],
    units: Annotated[Path, typer.Option(help="units.parquet to write")],
    table: Annotated[Path, typer.Option("--populations", help="populations.parquet to write")],
    splits: Annotated[
        Path | None, typer.Option(help="splits.json: tabulate only the recordings that it names")
    ] = None,
    animals: Annotated[
        int | None, typer.Option(help="with --splits: number of pretraining animals; without it, all")
    ] = None,
    seeds: Annotated[int, typer.Option(help="with --animals: number of seeds (0, 1, ...)")] = 1,
    config: ConfigOption = None,
) -> None:
    """Tabulate all units and populations; check that ids are unique and that every task has labels."""
    import pandas as pd

    from nuclr.config import Probe, load_config
    from nuclr.data.catalog import catalog as tabulate
    from nuclr.data.catalog import totals
    from nuclr.data.defaults import completed_probe
    from nuclr.data.splits import read_splits
    from nuclr.data.store import stores
    from nuclr.evaluation.protocols import class_labels
    from nuclr.files import whole

    folders = populations
    if splits is not None:
        groups = read_splits(splits)
        most = animals if animals is not None else groups.counts[-1]
        named = {member: None for seed in range(seeds) for member in groups.probed(most, seed)}
        folders = groups.folders(populations, list(named))
    unit_table, population_table = tabulate([store for folder in folders for store in stores(folder)])
    probe = completed_probe(load_config(*config).probe, unit_table, apart=True) if config else Probe(tasks=[])
    for task in probe.tasks or ():
        counts = pd.Series(class_labels(unit_table, task)).value_counts().drop("", errors="ignore")
        print(f"{task.name}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for path, content in ((units, unit_table), (table, population_table)):
        with whole(path) as partial:
            content.to_parquet(partial, index=False)
    print(totals(population_table))


def split(output: OutputOption, config: ConfigOption = None) -> None:
    """Draw test animals, label animals, and the order in which the rest join pretraining."""
    from nuclr.config import load_config
    from nuclr.data.archives import recordings, splits_of
    from nuclr.data.splits import write_splits

    options = load_config(*(config or ()))
    splits = splits_of(options, recordings(options))
    write_splits(output, splits)
    sizes = f"{len(splits.test)} test, {len(splits.label)} label, {len(splits.orders[0])} pretraining"
    print(f"{sizes} {splits.member}s")
    if splits.note:
        logger.warning("%s", splits.note)
