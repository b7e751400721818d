"""Subcommand of the report room: scaling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import ConfigOption, OutputOption


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    app.command()(scaling)


def scaling(
    probes: Annotated[list[Path], typer.Argument(help="probes folders of runs and baselines")],
    task: Annotated[str, typer.Option(help="one of probe.tasks")],
    protocol: Annotated[str, typer.Option(help="one of probe.protocols")],
    output: OutputOption,
    config: ConfigOption = None,
) -> None:
    """Gather the probes of all runs; write table, fit and figure to files that begin with OUTPUT."""
    from nuclr.config import load_config
    from nuclr.report.scaling import write_scaling

    options = load_config(*(config or ()))
    for path in write_scaling(probes, task, protocol, output, resamples=options.probe.bootstrap):
        print(path)
