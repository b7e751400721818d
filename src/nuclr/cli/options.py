"""Options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd


def share(value: float | None) -> float | None:
    """Check an option that is a share.

    Raises
    ------
    BadParameter
        If it is not between 0 and 1; for a percentage, the message states the share.
    """
    if value is None or 0 <= value <= 1:
        return value
    remedy = f"; for {value:g} % write {value / 100:g}" if 1 < value <= 100 else ""
    raise typer.BadParameter(f"{value:g} is not a share between 0 and 1{remedy}")


def coverage_share(value: float | None) -> float | None:
    """Check the option --coverage, a share of at least one half."""
    if (checked := share(value)) is not None and checked < 0.5:
        raise typer.BadParameter(f"{checked:g} is below 0.5")
    return value


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
    typer.Option(
        callback=share,
        help="accuracy requested of answers, between 0 and 1; units that are less certain get none",
    ),
]
CoverageOption = Annotated[
    float | None,
    typer.Option(
        callback=coverage_share,
        help="share of units whose prediction set (one_of) contains the true class, from 0.5 to 1; by "
        "default 0.9, or the highest share that can be guaranteed",
    ),
]
DEPTH = "depth_um"
DepthOption = Annotated[str, typer.Option(help="column with depths on the probe (um)")]


def check_depth(depth: str, units: pd.DataFrame) -> None:
    """Check that a column of depths exists and has numbers, unless it is the default, which units may lack.

    Raises
    ------
    DataError
        If it does not; the message names the columns with numbers.
    """
    if depth == DEPTH:
        return
    import pandas as pd

    from nuclr.errors import DataError
    from nuclr.words import did_you_mean

    own = ("unit_id", "population", "recording", "animal", "windows")
    numbers = [
        str(name)
        for name in units
        if name not in own and pd.to_numeric(units[name], errors="coerce").notna().any()
    ]
    if depth not in numbers:
        near = did_you_mean(depth, numbers)
        lacking = f"column {depth} has no numbers" if depth in units else f"the units have no column {depth}"
        raise DataError(
            f"--depth: {lacking}; {near + ' ' if near else ''}columns with numbers: "
            f"{', '.join(numbers) or 'none'}"
        )
