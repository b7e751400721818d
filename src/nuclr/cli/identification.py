"""Subcommands that decode the units of a recording in one step: identify, demo."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nuclr.cli.options import (
    DEPTH,
    ConfigOption,
    CoverageOption,
    DepthOption,
    ModelOption,
    RecordingsArgument,
    SureOption,
    check_depth,
)
from nuclr.words import counted

if TYPE_CHECKING:
    from nuclr.config import Config
    from nuclr.data.own import Found
    from nuclr.evaluation.answers.saved_probe import SavedProbe
    from nuclr.representation.embeddings import Embeddings
    from nuclr.sharing.identify import Identified
    from nuclr.sharing.loaded import Model

logger = logging.getLogger(__name__)

FolderOption = Annotated[Path, typer.Option("--output", "-o", help="folder for the results")]


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    app.command()(identify)
    app.command()(demo)


def identify(
    recordings: RecordingsArgument,
    model: ModelOption,
    output: FolderOption,
    probe: Annotated[
        list[Path] | None,
        typer.Option(help="probe.safetensors to use instead of those in the model folder; can be repeated"),
    ] = None,
    sure: SureOption = 0.8,
    coverage: CoverageOption = None,
    depth: DepthOption = "depth_um",
    config: ConfigOption = None,
) -> None:
    """Decode the units of a recording with every probe of a model.

    Writes units.csv (the answer for each unit, its probability, or why there is no answer),
    embeddings.parquet, and report.html, a page that shows the results.
    """
    from nuclr.config import load_config
    from nuclr.data.access.remote import place_of
    from nuclr.data.own import find
    from nuclr.sharing.identify import warnings_kept
    from nuclr.sharing.loaded import load_model

    options = load_config(*(config or ()))
    with warnings_kept() as warnings:
        loaded = load_model(model)
        probes = loaded.checked_probes(probe)
        loaded.warn_if_simulated()
        found = find([place_of(text) for text in recordings], options.download)
        _identify(found, loaded, probes, warnings, output, options, sure=sure, coverage=coverage, depth=depth)


def demo(
    output: FolderOption = Path("nuclr_demo"),
    animal: Annotated[int, typer.Option(min=0, help="number of the simulated animal")] = 0,
) -> None:
    """Simulate a recording and decode its units with a model that is part of nuclr.

    Nothing is downloaded. The model has never seen the simulated animal. The recording is stored with the
    results (recording.nwb) and contains the true regions and cell types.
    """
    from nuclr.config import Config
    from nuclr.data.archives.simulated import simulate_along_probe
    from nuclr.data.own import find
    from nuclr.sharing.identify import warnings_kept
    from nuclr.sharing.layout import MODEL_IN_THE_BOX
    from nuclr.sharing.loaded import load_model

    recording = simulate_along_probe(output / "recording.nwb", animal)
    with warnings_kept() as warnings:
        loaded = load_model(MODEL_IN_THE_BOX)
        _identify(find([recording]), loaded, loaded.checked_probes(), warnings, output, Config())


def _identify(
    found: Sequence[Found],
    model: Model,
    probes: Mapping[str, SavedProbe],
    warnings: Sequence[str],
    output: Path,
    options: Config,
    **asked: Any,
) -> None:
    """Embed and decode recordings, and write the results to a folder."""
    from nuclr.cli.embedding import embed_recordings
    from nuclr.files import check_writable
    from nuclr.report.pages.identified import write_identified
    from nuclr.representation.embeddings import write_csv, write_embeddings
    from nuclr.sharing.identify import identify, summary

    check_writable(output)
    embeddings, record = embed_recordings(found, model, options)
    check_depth(asked.get("depth", DEPTH), embeddings.units)
    identified = identify(embeddings, probes, warnings, **asked)
    units, vectors, windows = identified.embeddings
    write_embeddings(output / "embeddings.parquet", units, vectors, windows, record)
    write_csv(output / "units.csv", identified.units)
    page = output / "report.html"
    write_identified(
        identified,
        page,
        title=found[0].called if len(found) == 1 else counted(len(found), "recording"),
        rates=model.rates(),
        trained_on=model.trained_on,
        provenance=_provenance(found, embeddings, model, probes, str(record["precision"])),
    )
    _show(identified)
    for line in summary(identified):
        print(line)
    print(f"{page}: open it in a browser; all units are in {output / 'units.csv'}")


def _provenance(
    found: Sequence[Found],
    embeddings: Embeddings,
    model: Model,
    probes: Mapping[str, SavedProbe],
    precision: str,
) -> list[tuple[str, str]]:
    """Return the provenance of the results on the page, as names and values."""
    from nuclr.provenance import versions
    from nuclr.representation.training_recordings import recordings_in

    hashes = {one.recording: one.sha256 for one in recordings_in(embeddings.units, embeddings.hashes)}
    rows = [
        ("recording", f"{one.called}{_hash_of(one, hashes.get(one.recording, ''))}") for one in found[:20]
    ]
    if len(found) > len(rows):
        rows.append(("recording", f"and {len(found) - len(rows)} more"))
    origin = "".join(f", {name} {value}" for name, value in model.origin.items())
    rows.append(("model", f"sha256 {model.sha256}{origin}"))
    rows += [(f"probe of {task}", f"sha256 {probe.record['sha256']}") for task, probe in probes.items()]
    rows.append(("precision", precision))
    return [*rows, ("versions", ", ".join(f"{name} {value}" for name, value in versions().items()))]


def _hash_of(recording: Found, known: str) -> str:
    """Return the hash of a recording's file, which may be ``known``; "" if large, a folder or remote."""
    from nuclr.data.own import HASHED_BYTES
    from nuclr.files import sha256_of

    path = recording.path
    small = isinstance(path, Path) and path.is_file() and path.stat().st_size <= HASHED_BYTES
    return f", sha256 {known or sha256_of(recording.local)}" if small else ""


def _show(identified: Identified) -> None:
    """Print a table of each probe's classes and their numbers of units."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("", "class", "units", "sum of probabilities")
    for task, answers in identified.answers.items():
        table = answers.table
        for name in answers.probe.classes:
            count, expected = (table["predicted"] == name).sum(), table[f"p_{name}"].sum()
            shown.add_row(task.replace("_", " "), name, str(count), f"{expected:.1f}")
        shown.add_row(task.replace("_", " "), "don't know", str((table["predicted"] == "").sum()), "")
        shown.add_section()
    Console().print(shown)
