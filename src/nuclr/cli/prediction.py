"""Subcommands that decode units from embeddings: suggest, train-probe, predict, export-bwb."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from nuclr.cli.options import (
    CoverageOption,
    DepthOption,
    EmbeddingsArgument,
    OutputOption,
    SureOption,
    check_depth,
)
from nuclr.words import counted, share_of

logger = logging.getLogger(__name__)

ProbeOption = Annotated[Path, typer.Option(help="probe.safetensors")]


def add_to(app: typer.Typer) -> None:
    """Add the subcommands to the app."""
    app.command()(suggest)
    app.command("train-probe")(train)
    app.command()(predict)
    app.command()(export_bwb)


def suggest(
    embeddings: EmbeddingsArgument,
    output: OutputOption,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="number of units")] = 20,
) -> None:
    """Suggest which units to label first: those that represent many others."""
    from nuclr.evaluation.answers.suggest import suggest
    from nuclr.representation.embeddings import read_all, write_csv

    embedded, _ = read_all(embeddings)
    table = suggest(embedded, number)
    write_csv(output, table)
    print(f"{output}: {counted(len(table), 'unit')} of {len(embedded.units)}; add a column with their labels")


def train(
    embeddings: EmbeddingsArgument,
    column: Annotated[str, typer.Option(help="column with the label, for example brain_region")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="probe.safetensors; or a model folder, to which the probe is added"
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="table with the columns unit_id, that of --column and optionally animal; by default, labels "
            "are read from the embeddings"
        ),
    ] = None,
    min_units: Annotated[
        int | None,
        typer.Option(
            help="omit classes with fewer units; by default 10, or 3 if fewer than 100 units are labelled"
        ),
    ] = None,
    centred: Annotated[
        str,
        typer.Option(help="subtract the mean of the recording: yes, no, or choose (by held-out animals)"),
    ] = "choose",
    kinds: Annotated[
        str, typer.Option(help="kinds of probe to compare on held-out animals")
    ] = "linear,knn,mlp",
    depth: Annotated[
        str, typer.Option(help="column with depths on the probe (um), for `nuclr predict --along-probe`")
    ] = "depth_um",
) -> None:
    """Train a probe on your labels, to decode other units with `nuclr predict` or `nuclr identify`.

    The kind of probe, and whether the mean of the recording is subtracted from the embeddings, are chosen on
    held-out animals. The scores are measured on other animals, which took no part in this choice.
    """
    from nuclr.errors import ConfigError
    from nuclr.evaluation.answers.kinds import KINDS, Kind
    from nuclr.evaluation.answers.probe_training import Centring, train_probe
    from nuclr.evaluation.answers.saved_probe import named, save_probe
    from nuclr.evaluation.answers.score_protocol import cautions, protocol_of
    from nuclr.evaluation.labels import label_units
    from nuclr.files import sha256_of
    from nuclr.representation.embeddings import read_all
    from nuclr.sharing.folder import add_probe, check_model_of

    embedded, record = read_all(embeddings)
    check_depth(depth, embedded.units)
    if labels is not None:
        embedded = replace(embedded, units=label_units(labels, column, embedded.units))
    inputs = {path.name: sha256_of(path) for path in [*embeddings, *([labels] if labels else [])]}
    about = {"datasets": record.get("datasets", []), "inputs": inputs}
    wanted = [name.strip() for name in kinds.split(",")]
    if unknown := set(wanted) - set(KINDS):
        raise ConfigError(
            f"--kinds: unknown kind {', '.join(sorted(unknown))}; choose from {', '.join(KINDS)}"
        )
    if centred not in get_args(Centring):
        raise ConfigError(f"--centred: {centred} is not one of {', '.join(get_args(Centring))}")
    alone = output.suffix == ".safetensors"
    if not alone:
        check_model_of(output, embedded)
    probe = train_probe(
        embedded,
        column,
        min_units=min_units,
        centred=cast(Centring, centred),
        kinds=cast(list[Kind], wanted),
        depth=depth,
        about=about,
    )
    if alone:
        save_probe(output, probe)
    else:
        output = add_probe(output, probe, embedded)
    scores = probe.record["scores"]
    for name, count in probe.record["learned_from"]["units_of_class"].items():
        print(f"{name}: {counted(count, 'unit')}, F1 {scores['f1'][name]:.3f}")
    animals, labelled = embedded.units["animal"].nunique(), len(probe.record["learned_from"]["animals"])
    if labelled < animals:
        share = share_of(labelled, animals, "animal", "has", "have")
        print(f"{share} labels; no others train and test the probe")
    if len(compared := scores["compared"]) > 1:
        plain, best = compared[0], next(row for row in compared if named(row) == named(probe.record))
        print(
            f"chosen on {scores['measured_on'].split(',')[0]}: {named(best)} (macro-F1 there "
            f"{best['macro_f1']:.3f}; {named(plain)} {plain['macro_f1']:.3f})"
        )
    print(
        f"{output}: macro-F1 {scores['macro_f1']:.3f} (95 % {scores['low']:.3f} to {scores['high']:.3f}), "
        f"chance {scores['chance']:.3f}, accuracy {scores['accuracy']:.3f}, "
        f"calibration error {scores['calibration_error']:.3f}, "
        f"measured on {scores['measured_on']}"
    )
    protocol = protocol_of(probe.record, embedded.pretraining)
    print(f"{protocol.called}: {protocol.meaning}")
    for sentence in cautions(probe.record):
        print(sentence)


def predict(
    embeddings: EmbeddingsArgument,
    probe: ProbeOption,
    output: OutputOption,
    sure: SureOption = 0.8,
    coverage: CoverageOption = None,
    along_probe: Annotated[
        bool,
        typer.Option(
            "--along-probe",
            help="also decode units given their neighbours in depth",
        ),
    ] = False,
    depth: DepthOption = "depth_um",
    length_um: Annotated[
        float | None,
        typer.Option(min=1, help="typical length of a region (um); by default as learned with the probe"),
    ] = None,
) -> None:
    """Decode units with a probe: an answer where it is sure enough, and the probability of each class."""
    from nuclr.evaluation.answers.conformal import most_coverage
    from nuclr.evaluation.answers.saved_probe import load_probe
    from nuclr.files import whole
    from nuclr.representation.embeddings import read_all, write_csv

    loaded = load_probe(probe)
    embedded, _ = read_all(embeddings)
    check_depth(depth, embedded.units)
    table = loaded.predict(embedded, sure, coverage)
    if along_probe:
        smoothed, boundaries = loaded.along_probe(embedded, depth, length_um)
        table = table.join(smoothed.drop(columns="unit_id"))
        where = write_csv(output.with_name(f"{output.stem}.boundaries.csv"), boundaries)
        print(f"{where}: {counted(len(boundaries), 'boundary', 'boundaries')} along the probes")
    if output.suffix == ".parquet":
        with whole(output) as partial:
            table.to_parquet(partial, index=False)
    else:
        write_csv(output, table)
    answered = table["predicted"] != ""
    for name, count in table["predicted"][answered].value_counts().items():
        print(f"{name}: {count}")
    for sentence in loaded.unkept(sure, coverage):
        logger.warning("%s: %s", probe, sentence)
    if "conformal" in loaded.record:
        promise = loaded.promise(coverage)
        if 0 < promise <= most_coverage(loaded.record["conformal"]):
            print(f"one_of contains the true class {100 * promise:.0f} % of the time")
    print(f"{output}: {answered.sum()} of {len(table)} units answered")


def export_bwb(
    embeddings: EmbeddingsArgument,
    probe: ProbeOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of submissions")],
    label: Annotated[str, typer.Option(help="name of the submission")] = "nuclr",
    seed: Annotated[int, typer.Option(help="seed in the file's name; the benchmark expects 43 to 47")] = 43,
    ids: Annotated[str, typer.Option(help="column with the benchmark's unit ids")] = "unit_id",
    depth: Annotated[
        str, typer.Option(help="column with depths on the probe (um); empty to omit the multi-unit variant")
    ] = "depth_um",
) -> None:
    """Write a submission to task suite TS3 (unit_cosmos) of BrainWideBench, single- and multi-unit."""
    from nuclr.evaluation.answers.brain_wide_bench import write_submission
    from nuclr.evaluation.answers.saved_probe import load_probe
    from nuclr.representation.embeddings import read_all

    embedded, _ = read_all(embeddings)
    table = load_probe(probe).predict(embedded)
    own = embedded.units.join(table.filter(regex="^p_"))
    for path in write_submission(output, label, seed, own, ids=ids, depth=depth or None):
        print(path)
