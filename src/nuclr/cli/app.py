"""The app with all subcommands, and the handling of their errors."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from nuclr import __version__
from nuclr.cli import data, evaluation, identification, model, prediction, report, training
from nuclr.errors import NuclrError
from nuclr.usage import say_usage

USAGE = 2  # exit code for options that do not exist or fit

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


def setting_of(arguments: Sequence[str]) -> str:
    """Return a hint about the first unknown option that is a key of the configuration; "" if there is none.

    >>> setting_of(["pretrain", "mine", "-o", "model", "--steps", "60"])
    '--steps is a key of the configuration; give it as -c pretrain.steps=60'
    """
    from nuclr.config import dotted_keys, keys_named

    subcommands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    named = next((subcommands[word] for word in arguments if word in subcommands), None)
    options = {option for parameter in (named.params if named else ()) for option in parameter.opts}
    if "--config" not in options:
        return ""
    for number, word in enumerate(arguments):
        option, _, value = word.partition("=")
        if not option.startswith("--") or option in options:
            continue
        value = value or next(
            (after for after in arguments[number + 1 : number + 2] if after[:1] != "-"), "VALUE"
        )
        name = option[2:].replace("-", "_")
        if keys := [name] if name in dotted_keys() else keys_named(name):
            settings = " or ".join(f"-c {key}={value}" for key in keys)
            return f"{option} is a key of the configuration; give it as {settings}"
    return ""


def run() -> None:
    """Run a subcommand; errors that a user can correct are printed in one line."""
    # The workflow looks for "nuclr: warning: ..." in its logs.
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.INFO, "info")
    logging.basicConfig(level=logging.WARNING, format="nuclr: %(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("nuclr").setLevel(logging.INFO)
    try:
        app(prog_name="nuclr", obj=time.monotonic())
    except SystemExit as ended:
        if ended.code == USAGE and (hint := setting_of(sys.argv[1:])):
            print(f"nuclr: hint: {hint}", file=sys.stderr)
        raise
    except NuclrError as error:
        print(f"nuclr: error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        print(f"nuclr: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
