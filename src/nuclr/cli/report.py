"""Subcommands of the report room: inspect, scaling, overview, explore, report."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nuclr.cli.options import (
    DEPTH,
    ConfigOption,
    DepthOption,
    EmbeddingsArgument,
    OutputOption,
    SplitsOption,
    check_depth,
)

if TYPE_CHECKING:
    from nuclr.data.population import Population
    from nuclr.report.inspect import Inspection

logger = logging.getLogger(__name__)


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (inspect, scaling, overview, explore, report):
        app.command()(command)


def inspect(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="recording (NWB, Kilosort, phy, SpikeInterface, ALF, Suite2p, CaImAn), store, or folder of "
            "these; or the address of NWB files (https://, s3://, dandi://)",
        ),
    ],
    picture: Annotated[
        Path | None,
        typer.Option(help="also draw the first population, to files with this name", show_default=False),
    ] = None,
    population: Annotated[
        str | None, typer.Option(help="population to draw instead of the first", show_default=False)
    ] = None,
    start: Annotated[
        float | None, typer.Option(help="start of the picture (s); by default the first valid second")
    ] = None,
    seconds: Annotated[float, typer.Option(help="length of the picture (s)")] = 30.0,
    html: Annotated[
        bool,
        typer.Option("--html", help="also write activity.html, an interactive page of the first population"),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="file for the interactive page, instead of activity.html",
            show_default=False,
        ),
    ] = None,
    depth: DepthOption = "depth_um",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the animals, populations, units, minutes, activity and labels of recordings.

    --picture also draws the activity of a population, and --html writes an interactive page of it. For a
    folder, files that cannot be used are listed with the reason and the remedy.
    """
    from nuclr.cluster import computing
    from nuclr.config import load_config
    from nuclr.data.access.remote import place_of
    from nuclr.data.own import find, open_what_can_be
    from nuclr.data.remarks import Remarks
    from nuclr.report.inspect import inspect as look

    path = place_of(recording)
    options = load_config({"dataset": "nwb", "nwb": {"folder": str(path)}}, *(config or ()))
    found = find([path], options.download)
    with computing("threads", options.machine.dask_workers):
        remarks = Remarks(options.views)
        opened = open_what_can_be(found, options.reading, options.chunk)
        seen = look(remarks.noting(opened), population)
        # What other programs read stands alone.
        out = sys.stderr if as_json else sys.stdout
        if as_json:
            print(seen.as_json())
        else:
            _show(seen)
        for sentence in remarks.sentences():
            print(f"note: {sentence}", file=out)
        if picture is not None:
            from nuclr.report.figures.raster import activity_figure
            from nuclr.report.figures.scores import save_figure

            first_valid = [*seen.first.valid_spans[:, 0], seen.first.start_s][0]
            begin = float(first_valid) if start is None else start
            for written in save_figure(activity_figure(seen.first, begin, seconds), picture):
                print(written, file=out)
        if html or output is not None:
            from nuclr.report.pages.activity import write_activity
            from nuclr.words import counted

            check_depth(depth, seen.first.units)
            page = output or Path("activity.html")
            said = write_activity(seen.first, page, depth=depth)
            print(f"{page}: {seen.first.population}, {said}; open it in a browser", file=out)
            if population is None and (others := len(seen.populations) - 1):
                print(f"{counted(others, 'population')} not shown; choose one with --population", file=out)


def _show(seen: Inspection) -> None:
    """Print the contents of recordings as tables."""
    from rich.console import Console
    from rich.table import Table

    from nuclr.data.catalog import totals

    # Names come from files, so [bold] in a name must not be treated as markup.
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)
    table = Table(
        "population", "animal", "kind", "units", "minutes", "bin (ms)", "activity, median (5 to 95 %)"
    )
    for row in seen.populations.to_dict("records"):
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
    console.print(table)
    print(totals(seen.populations))
    for name, counts in seen.labels.items():
        known = counts.drop("", errors="ignore")
        shown = ", ".join(f"{value} {count}" for value, count in known.head(12).items())
        rest = f", and {len(known) - 12} more" if len(known) > 12 else ""
        print(f"{name}: {shown or 'nothing'}{rest}; {counts.get('', 0)} units without a label")
    if seen.left_out:
        unusable = Table("cannot be used", "why, and what to do", show_lines=True)
        for one in seen.left_out:
            unusable.add_row(one["file"], one["reason"])
        console.print(unusable)


def scaling(
    probes: Annotated[list[Path], typer.Argument(help="probes folders of runs and baselines")],
    task: Annotated[str, typer.Option(help="one of probe.tasks")],
    protocol: Annotated[str, typer.Option(help="one of probe.protocols")],
    output: OutputOption,
    config: ConfigOption = None,
) -> None:
    """Combine the probes of all runs; write table, fitted law and figure to files that begin with OUTPUT."""
    from nuclr.config import load_config
    from nuclr.report.figures.curves import write_scaling

    options = load_config(*(config or ()))
    for path in write_scaling(probes, task, protocol, output, resamples=options.probe.bootstrap):
        print(path)


def overview(
    folder: Annotated[Path, typer.Argument(help="results of a data set: units.parquet, runs/")],
    output: OutputOption,
    runs: Annotated[
        list[str],
        typer.Option(
            "--run",
            help="run whose training curve is drawn; can be repeated; the last run's units are drawn",
        ),
    ],
    config: ConfigOption = None,
) -> None:
    """Draw the recordings, the training curves and the embeddings of units, to a folder."""
    from nuclr.config import load_config
    from nuclr.report.figures.overview import write_overview

    for path in write_overview(folder, runs, load_config(*(config or ())).probe, output):
        print(path)


def explore(
    embeddings: EmbeddingsArgument,
    output: OutputOption = Path("explore.html"),
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="other embeddings of the same units, for a second map; can be repeated"),
    ] = None,
    probe: Annotated[
        list[Path] | None,
        typer.Option(help="probe.safetensors whose predictions can be shown as colours; can be repeated"),
    ] = None,
    recordings: Annotated[
        list[str] | None,
        typer.Option(
            help="recordings or stores of the units, or a folder of these, for the activity of single units; "
            "can be repeated"
        ),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            help="pca, umap (needs umap-learn) or tsne (needs openTSNE); can be repeated",
            show_default="pca",
        ),
    ] = None,
    depth: DepthOption = "depth_um",
    title: Annotated[str, typer.Option(help="title of the page; by default the name of the first map")] = "",
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="name of the first map, then of the second; by default the name of the embeddings' file or "
            "folder",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write explore.html, a single file with a map of the units to colour, filter, search and click.

    With --beside, the page has two maps of the same units with a common selection, for example of an
    untrained and a trained model. UMAP and t-SNE are computed once and cached in a folder beside the page.
    """
    from nuclr.evaluation.answers.saved_probe import load_probe
    from nuclr.report.pages.explore import write_explore
    from nuclr.representation.embeddings import concatenate, read_embeddings
    from nuclr.representation.layouts import Layout, check_layouts

    check_layouts(layout or [])
    if depth != DEPTH:
        check_depth(depth, concatenate([read_embeddings(path)[0] for path in embeddings]))
    loaded = [load_probe(path) for path in probe or ()]
    said = write_explore(
        embeddings,
        output,
        beside=beside or (),
        probes={str(one.record["task"]): one for one in loaded},
        populations=_populations(recordings or (), config or ()),
        layouts=cast("list[Layout]", layout or ["pca"]),
        depth=depth,
        kept=output.parent / "layouts",
        title=title,
        names=names or (),
    )
    print(f"{output}: {said}; open it in a browser")


def _populations(recordings: Sequence[str], config: Sequence[str]) -> Iterator[Population]:
    """Yield the populations of recordings; recordings that cannot be used are left out with a warning."""
    if not recordings:
        return
    from nuclr.config import load_config
    from nuclr.data.access.remote import place_of
    from nuclr.data.own import find, open_what_can_be

    options = load_config(*config)
    found = find([place_of(text) for text in recordings], options.download)
    for _, populations, error in open_what_can_be(found, options.reading, options.chunk):
        if error is not None:
            logger.warning("%s; the units of this recording are shown without their activity.", error)
        yield from populations


def report(
    folder: Annotated[Path, typer.Argument(help="results of a data set: scaling/, figures/, probes.parquet")],
    splits: SplitsOption,
    output: OutputOption,
    notes: Annotated[
        list[str] | None, typer.Option("--note", help="note to show on the page; can be repeated")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write report.html, a single file with all results and their provenance."""
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.report.pages.results import write_page

    write_page(load_config(*(config or ())), read_splits(splits), folder, output, notes or [])
    print(f"{output}: open it in a browser")
