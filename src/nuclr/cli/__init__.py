"""The command line: the only room that prints. Every step of the workflow is one subcommand."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from nuclr import __version__
from nuclr.cli import data, evaluation, model, prediction, report, training
from nuclr.errors import NuclrError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for room in (data, model, training, evaluation, prediction, report):
    room.add_to(app)


@app.callback(invoke_without_command=True)
def say_version(
    version: Annotated[bool, typer.Option("--version", help="say which nuclr this is, and end")] = False,
) -> None:
    """One embedding per neuron from population activity alone."""
    if version:
        print(f"nuclr {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a subcommand; say in one line what a user can put right."""
    # "nuclr: warning: ..." is what the workflow looks for in its logs.
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.INFO, "info")
    logging.basicConfig(level=logging.WARNING, format="nuclr: %(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("nuclr").setLevel(logging.INFO)
    try:
        app()
    except NuclrError as error:
        print(f"nuclr: error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        print(f"nuclr: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
