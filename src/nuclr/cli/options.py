"""Options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        "-c",
        help="config.yaml, or any part of one as inline JSON; given again, a later one goes before",
        show_default=False,
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="what to write")]
SplitsOption = Annotated[Path, typer.Option("--splits", help="splits.json")]
RecordingsArgument = Annotated[
    list[str],
    typer.Argument(
        help="NWB files, Kilosort, phy or SpikeInterface folders, stores, folders of these; or addresses "
        "of NWB files (https://, s3://, dandi://)"
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(help="a model's folder or file, hf://owner/name@revision, or https:// of a zip of one"),
]
SureOption = Annotated[
    float, typer.Option(min=0, max=1, help="how often an answer shall be right; else there is none")
]
CoverageOption = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        max=1,
        help="how often one_of shall hold the true class; else 0.9, or what the probe's animals promise",
    ),
]
DepthOption = Annotated[str, typer.Option(help="column with depths on the probe (um)")]
