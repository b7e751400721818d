"""The command line: the only room that prints. Every step of the workflow is one subcommand."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a subcommand: in this process, or in the copy of one that has loaded its libraries already."""
    if place := os.environ.get("NUCLR_WARM"):
        from nuclr.cli.warm import ask

        if (code := ask(place)) is not None:
            sys.exit(code)
    from nuclr.cli.app import run

    run()
