"""Add probes to a model folder and read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nuclr.errors import ModelError
from nuclr.evaluation.answers.saved_probe import SavedProbe, load_probe, save_probe, score_of
from nuclr.model.card import CARD, put_scores
from nuclr.model.tensor_files import MODEL, read_record, write_tensors
from nuclr.representation.embeddings import Embeddings
from nuclr.sharing.layout import probe_file, probes_in, reference_file
from nuclr.sharing.reference import reference


def load_probes(paths: Iterable[Path], model: str) -> dict[str, SavedProbe]:
    """Read the probes of a model, as a dictionary by task.

    Parameters
    ----------
    paths
        The ``.safetensors`` files of the probes.
    model
        Hash of the model.

    Raises
    ------
    ModelError
        If a probe is damaged or reads embeddings of another model, or two probes have the same task.
    """
    probes: dict[str, SavedProbe] = {}
    of: dict[str, Path] = {}
    for path in paths:
        probe = load_probe(path)
        try:
            probe.check_model(model)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        task = str(probe.record["task"])
        if task in probes:
            raise ModelError(
                f"{of[task]} and {path} are both probes for {task}; delete one, or choose one with --probe"
            )
        probes[task], of[task] = probe, path
    return probes


def check_model_of(folder: Path, embeddings: Embeddings) -> None:
    """Check that embeddings come from the model in a folder, before a probe trained on them is added.

    Raises
    ------
    ModelError
        If the folder has no model, or the embeddings come from another model.
    """
    if not (folder / MODEL).exists():
        raise ModelError(
            f"{folder}: it contains no model; give a model folder, or a file such as probe.safetensors"
        )
    record = read_record(folder / MODEL, "model", "train or import it again")
    if record["sha256"] != embeddings.model:
        raise ModelError(
            f"{folder}: the embeddings come from another model ({embeddings.model[:12] or 'none'}, but this "
            f"is {record['sha256'][:12]}); embed with this model, or give a file such as probe.safetensors"
        )


def add_probe(folder: Path, probe: SavedProbe, embeddings: Embeddings) -> Path:
    """Add a probe to a model folder: the probe, reference statistics of its units, and its score on the card.

    Parameters
    ----------
    folder
        The model folder.
    probe
        The probe; it replaces an existing probe of the same task.
    embeddings
        The labelled embeddings that the probe was trained on.

    Returns
    -------
    Path
        The file of the probe.
    """
    path = probe_file(folder, probe.record["task"])
    save_probe(path, probe)
    tensors, record = reference(embeddings, probe.record["task"], probe.classes)
    write_tensors(reference_file(path), tensors, record | {"task": probe.record["task"]})
    put_card_scores(folder)
    return path


def put_card_scores(folder: Path) -> None:
    """Write the scores of all probes in a model folder to its model card."""
    record = read_record(folder / MODEL, "model", "train or import it again")
    probes = load_probes(probes_in(folder), record["sha256"])
    put_scores(folder / CARD, record, [score_of(probe, record) for probe in probes.values()])
