"""Subcommands of the report room: inspect, scaling, overview, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import ConfigOption, OutputOption, SplitsOption


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (inspect, scaling, overview, report):
        app.command()(command)


def inspect(
    path: Annotated[Path, typer.Argument(help="NWB file, sorter's folder, store, or folder of such")],
    picture: Annotated[
        Path | None,
        typer.Option(help="also draw the first population; files that begin so", show_default=False),
    ] = None,
    population: Annotated[str | None, typer.Option(help="draw this one instead", show_default=False)] = None,
    start: Annotated[
        float | None, typer.Option(help="where the picture begins (s); else the first valid second")
    ] = None,
    seconds: Annotated[float, typer.Option(help="length of the picture (s)")] = 30.0,
    config: ConfigOption = None,
) -> None:
    """Look at recordings: animals, populations, units, minutes, activity, labels; and a picture of them."""
    from rich.console import Console
    from rich.table import Table

    from nuclr.config import load_config
    from nuclr.data.catalog import totals
    from nuclr.data.own import find, open_found
    from nuclr.errors import DataError
    from nuclr.report.figures import save_figure
    from nuclr.report.inspect import count_labels, describe
    from nuclr.report.overview import activity_figure

    options = load_config({"dataset": "nwb", "nwb": {"folder": str(path)}}, *(config or ()))
    opened = list(open_found(find([path]), options.reading, options.chunk))
    if not opened:
        raise DataError(f"{path}: nothing to show: no unit is left")
    found = describe(opened)
    table = Table(
        "population", "animal", "kind", "units", "minutes", "bin (ms)", "activity, median (5 to 95 %)"
    )
    for row in found.to_dict("records"):
        unit = "Hz" if row["modality"] == "spikes" else "dF/F"
        table.add_row(
            row["population"],
            row["animal"],
            row["modality"],
            f"{row['units']}",
            f"{row['minutes']:.1f}",
            f"{1000 * row['bin_s']:.4g}",
            f"{row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f}) {unit}",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    print(totals(found))
    for name, counts in count_labels(opened).items():
        known = counts.drop("", errors="ignore")
        shown = ", ".join(f"{value} {count}" for value, count in known.head(12).items())
        rest = f", and {len(known) - 12} more" if len(known) > 12 else ""
        print(f"{name}: {shown or 'nothing'}{rest}; {counts.get('', 0)} units without")
    if picture is not None:
        chosen = [found for found in opened if population in (None, found.population)]
        if not chosen:
            raise DataError(f"{path}: no population {population}; there are {', '.join(found['population'])}")
        first = chosen[0]
        begin = start if start is not None else float(first.valid_spans[0, 0])
        for written in save_figure(activity_figure(first, begin, seconds), picture):
            print(written)


def scaling(
    probes: Annotated[list[Path], typer.Argument(help="probes folders of runs and baselines")],
    task: Annotated[str, typer.Option(help="one of probe.tasks")],
    protocol: Annotated[str, typer.Option(help="one of probe.protocols")],
    output: OutputOption,
    config: ConfigOption = None,
) -> None:
    """Gather the probes of all runs; write table, fit and figure to files that begin with OUTPUT."""
    from nuclr.config import load_config
    from nuclr.report.curves import write_scaling

    options = load_config(*(config or ()))
    for path in write_scaling(probes, task, protocol, output, resamples=options.probe.bootstrap):
        print(path)


def overview(
    folder: Annotated[Path, typer.Argument(help="results of a data set: units.parquet, runs/")],
    output: OutputOption,
    runs: Annotated[
        list[str], typer.Option("--run", help="a run, for its training curve; the last is mapped")
    ],
    config: ConfigOption = None,
) -> None:
    """Draw what was recorded, how training went and where units lie, to a folder."""
    from nuclr.config import load_config
    from nuclr.report.overview import write_overview

    for path in write_overview(folder, runs, load_config(*(config or ())).probe, output):
        print(path)


def report(
    folder: Annotated[Path, typer.Argument(help="results of a data set: scaling/, figures/, probes.parquet")],
    splits: SplitsOption,
    output: OutputOption,
    config: ConfigOption = None,
) -> None:
    """Write report.html: every number and figure, and where they come from, in one file."""
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.report.page import write_page

    write_page(load_config(*(config or ())), read_splits(splits), folder, output)
    print(f"{output}: open it in a browser")
