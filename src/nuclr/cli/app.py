"""The app with all subcommands, and the handling of their errors."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Annotated

import typer

from nuclr import __version__
from nuclr.cli import data, evaluation, identification, model, prediction, report, training
from nuclr.errors import NuclrError
from nuclr.usage import say_usage

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Joins the lines of a paragraph and wraps them to the width of the terminal.
    rich_markup_mode="markdown",
)
for room in (identification, data, model, training, evaluation, prediction, report):
    room.add_to(app)


@app.callback(invoke_without_command=True)
def before_all(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="show the version")] = False,
    usage: Annotated[bool, typer.Option("--usage", help="report time and memory at the end")] = False,
) -> None:
    """Learn one embedding per neuron from population activity, and decode regions and cell types."""
    if version:
        print(f"nuclr {__version__}")
        raise typer.Exit
    if usage:
        context.call_on_close(lambda: say_usage(context.obj))


def run() -> None:
    """Run a subcommand; errors that a user can correct are printed in one line."""
    # The workflow looks for "nuclr: warning: ..." in its logs.
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.INFO, "info")
    logging.basicConfig(level=logging.WARNING, format="nuclr: %(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("nuclr").setLevel(logging.INFO)
    try:
        app(prog_name="nuclr", obj=time.monotonic())
    except NuclrError as error:
        print(f"nuclr: error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        print(f"nuclr: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
