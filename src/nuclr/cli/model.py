"""Subcommands that convert, describe and publish models: import-checkpoint, card, bundle, publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nuclr.cli.options import ConfigOption, OutputOption, SplitsOption


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    for command in (import_checkpoint, card, bundle, publish):
        app.command()(command)


def card(
    model: Annotated[Path, typer.Argument(help="a model's folder or its model.safetensors")],
    output: OutputOption,
    probes: Annotated[
        Path | None,
        typer.Option(help="folder with the workflow's probes of this model; adds their scores"),
    ] = None,
    probe: Annotated[
        list[Path] | None, typer.Option(help="probe.safetensors of `nuclr train-probe`; adds its score")
    ] = None,
) -> None:
    """Write a model card: data, animals, training, scores, licence of the data, intended use."""
    from nuclr.model.card import write_card
    from nuclr.model.tensor_files import read_record

    record = read_record(model, "model", "train or import it again")
    scores = []
    if probes is not None:
        from nuclr.evaluation.score_tables import card_scores

        scores = card_scores(probes)
    if probe:
        from nuclr.evaluation.answers.saved_probe import load_probe, score_of

        scores += [score_of(load_probe(path), record) for path in probe]
    write_card(output, record, scores)
    print(output)


def import_checkpoint(
    checkpoint: Annotated[
        str,
        typer.Argument(help="a published .pt file: a path, https://..., or hf://owner/name/file.pt@revision"),
    ],
    output: OutputOption,
) -> None:
    """Convert a published checkpoint to a model folder; no code in the file is executed."""
    from nuclr.config import Views
    from nuclr.files import sha256_of
    from nuclr.model.card import CARD, write_card
    from nuclr.model.published import read_published
    from nuclr.model.saved import save_model
    from nuclr.model.tensor_files import read_record, weights_at
    from nuclr.provenance import versions
    from nuclr.sharing.source import locate_file

    found, output = locate_file(checkpoint), weights_at(output)
    published = read_published(found.path)
    spec = published.encoder.spec
    views = Views(window_s=published.window_s, patch=spec.patch)
    record = {
        "modality": published.modality,
        "bin_s": published.bin_s,
        "config": {"views": views.of(published.modality).model_dump(mode="json")},
        "source": {**found.origin, "file": found.path.name, "sha256": sha256_of(found.path)},
        "versions": versions(),
    }
    save_model(output, published.encoder, record)
    write_card(output.with_name(CARD), read_record(output, "model", "import it again"))
    size = sum(parameter.numel() for parameter in published.encoder.parameters())
    print(
        f"{output}: {size / 1e6:.1f} million parameters, dim {spec.dim}, reads {published.modality} "
        f"at {published.bin_s:.4g} s in windows of {published.window_s:g} s"
    )


def bundle(
    run: Annotated[Path, typer.Argument(help="folder of a run, with model, card and embeddings.parquet")],
    splits: SplitsOption,
    output: OutputOption,
    config: ConfigOption = None,
) -> None:
    """Make a model folder from a run of the workflow: the model, its card, and a probe for each task.

    The probes are trained on the test and label animals, which were not in pretraining.
    """
    from nuclr.config import load_config
    from nuclr.data.splits import read_splits
    from nuclr.sharing.bundle import bundle

    made = bundle(run, load_config(*(config or ())).probe, read_splits(splits), output)
    print(f"{output}: {', '.join(path.stem for path in made) or 'no probe'}")


def publish(
    folder: Annotated[Path, typer.Argument(help="a model folder")],
    address: Annotated[str, typer.Argument(help="hf://owner/name, or hf://owner/name@branch")],
    licence: Annotated[
        str | None, typer.Option(help="licence of the model, written into its card: cc-by-4.0, mit, ...")
    ] = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="make the model visible to everybody; by default only you can see it"),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="list what would be uploaded, without uploading")
    ] = False,
) -> None:
    """Upload a model to the Hugging Face Hub: weights, probes and the model card.

    The card must state a licence, the data sets and the intended use. Log in first with `hf auth login`, or
    set HF_TOKEN.
    """
    from nuclr.files import sha256_of
    from nuclr.model.card import CARD, set_licence
    from nuclr.sharing import hub
    from nuclr.sharing.publishing import check

    if licence is not None:
        set_licence(folder / CARD, licence)
    where = hub.parse(address)
    files = check(folder)
    for name in files:
        size = (folder / name).stat().st_size
        print(f"{name}: {size / 1e6:.3f} MB, sha256 {sha256_of(folder / name)[:12]}")
    seen_by = "everybody" if public else "you alone"
    if dry_run:
        print(f"{where}: {len(files)} files would be uploaded, for {seen_by} to see; nothing was uploaded")
        return
    there = hub.publish(folder, where, files, private=not public)
    print(f"{there}: {len(files)} files, for {seen_by} to see")
