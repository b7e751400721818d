"""The command line, the only part that prints. Each step of the workflow is one subcommand."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a subcommand in this process, or in a fork of a process that has already imported the libraries."""
    if place := os.environ.get("NUCLR_WARM"):
        from nuclr.cli.warm import ask

        if (code := ask(place)) is not None:
            sys.exit(code)
    from nuclr.cli.app import run

    run()
