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
        help="settings that differ from the defaults: key=value such as imaging.rate_hz=10, YAML file, or "
        "inline JSON; can be repeated; later ones take precedence",
        show_default=False,
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="file or folder to write")]
SplitsOption = Annotated[Path, typer.Option("--splits", help="splits.json")]
RecordingsArgument = Annotated[
    list[str],
    typer.Argument(
        help="recordings (NWB, Kilosort, phy, SpikeInterface, ALF, Suite2p, CaImAn), stores, or folders of "
        "these; or addresses of NWB files (https://, s3://, dandi://)"
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        help="model folder or its model.safetensors; hf://owner/name@revision; or the https:// address of "
        "model.safetensors, or of a zip or tar file of the folder"
    ),
]
EmbeddingsArgument = Annotated[
    list[Path], typer.Argument(help="one or several embeddings.parquet, of one model")
]
SureOption = Annotated[
    float,
    typer.Option(min=0, max=1, help="accuracy requested of answers; units that are less certain get none"),
]
CoverageOption = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        max=1,
        help="share of units whose prediction set (one_of) contains the true class; by default 0.9, or the "
        "highest share that can be guaranteed",
    ),
]
DepthOption = Annotated[str, typer.Option(help="column with depths on the probe (um)")]
