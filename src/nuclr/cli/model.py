"""Subcommands of the model room: import-checkpoint, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import OutputOption


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (import_checkpoint, card):
        app.command()(command)


def card(
    model: Annotated[Path, typer.Argument(help="model.safetensors")],
    output: OutputOption,
    probes: Annotated[
        Path | None, typer.Option(help="the workflow's folder of its probes, for scores")
    ] = None,
    probe: Annotated[
        list[Path] | None, typer.Option(help="probe.safetensors of `nuclr train-probe`, for its score")
    ] = None,
) -> None:
    """Write a model's card: data, animals, steps, scores, licence of the data, intended use."""
    from nuclr.model.card import write_card
    from nuclr.model.tensor_files import read_record

    record = read_record(model, "model", "train or import it again")
    scores = []
    if probes is not None:
        from nuclr.evaluation.score_tables import card_scores

        scores = card_scores(probes)
    if probe:
        from nuclr.evaluation.answers.saved_probe import load_probe, score_of

        scores += [score_of(load_probe(path), record["sha256"]) for path in probe]
    write_card(output, record, scores)
    print(output)


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="a published .pt file")],
    output: OutputOption,
) -> None:
    """Turn a published checkpoint into a model that `nuclr embed` reads; nothing in the file is run."""
    from nuclr.config import Views
    from nuclr.files import sha256_of
    from nuclr.model.card import CARD, write_card
    from nuclr.model.published import read_published
    from nuclr.model.saved import save_model
    from nuclr.model.tensor_files import read_record
    from nuclr.provenance import versions

    published = read_published(checkpoint)
    spec = published.encoder.spec
    views = Views(window_s=published.window_s, patch=spec.patch)
    record = {
        "modality": published.modality,
        "bin_s": published.bin_s,
        "config": {"views": views.of(published.modality).model_dump(mode="json")},
        "source": {"file": checkpoint.name, "sha256": sha256_of(checkpoint)},
        "versions": versions(),
    }
    save_model(output, published.encoder, record)
    write_card(output.with_name(CARD), read_record(output, "model", "import it again"))
    size = sum(parameter.numel() for parameter in published.encoder.parameters())
    print(
        f"{output}: {size / 1e6:.1f} million parameters, dim {spec.dim}, reads {published.modality} "
        f"at {published.bin_s:.4g} s in windows of {published.window_s:g} s"
    )
