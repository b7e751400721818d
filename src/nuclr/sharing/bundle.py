"""Make a model folder that can be shared from a run of the workflow, with a probe for each task."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from nuclr.config import Probe
from nuclr.data.defaults import completed_probe
from nuclr.data.splits import Splits
from nuclr.errors import DataError
from nuclr.evaluation.answers.probe_training import train_probe
from nuclr.evaluation.protocols import class_labels
from nuclr.files import sha256_of, whole_folder
from nuclr.representation.embeddings import Embeddings, read_all
from nuclr.sharing.folder import add_probe
from nuclr.sharing.layout import MODEL_FILES

logger = logging.getLogger(__name__)


def bundle(run: Path, options: Probe, splits: Splits, output: Path) -> list[Path]:
    """Copy a run's model to a folder and train a probe for each task.

    Probes are trained on the test and label animals, which pretraining never saw. Their scores, measured on
    held-out animals of these, are therefore those to expect for new animals. If the splits have no test or
    label animals, probes are trained on all animals that the run embedded.

    Parameters
    ----------
    run
        ``runs/{run}``: the model, its card, and ``embeddings.parquet``.
    options
        Its tasks determine the probes; without tasks, the label columns of the units do.
    splits
        The test and label animals.
    output
        The folder to write; an existing one is replaced.

    Returns
    -------
    list of Path
        The probe files. A task with too few labels is left out with a warning.

    Raises
    ------
    DataError
        If a file of the run is missing.
    """
    if missing := [name for name in MODEL_FILES if not (run / name).exists()]:
        raise DataError(
            f"{run}: missing {', '.join(missing)}; `nuclr pretrain` and `nuclr card` write these files"
        )
    embeddings, record = read_all([run / "embeddings.parquet"])
    inputs = {"embeddings.parquet": sha256_of(run / "embeddings.parquet")}
    about = {"datasets": record.get("datasets", []), "inputs": inputs}
    apart = embeddings.units[splits.member].isin([*splits.test, *splits.label]).to_numpy()
    chosen = _rows(embeddings, np.flatnonzero(apart) if apart.any() else np.arange(len(apart)))
    made = []
    with whole_folder(output) as partial:
        for name in MODEL_FILES:
            shutil.copy(run / name, partial / name)
        for task in completed_probe(options, embeddings.units, apart=True).tasks or []:
            units = chosen.units.assign(**{task.name: class_labels(chosen.units, task, 1)})
            labelled = replace(chosen, units=units)
            try:
                probe = train_probe(labelled, task.name, about=about)
            except DataError as error:
                logger.warning("%s: no probe is trained for this task: %s", task.name, error)
                continue
            made.append(output / add_probe(partial, probe, labelled).relative_to(partial))
    return made


def _rows(embeddings: Embeddings, rows: np.ndarray) -> Embeddings:
    return replace(
        embeddings,
        units=embeddings.units.iloc[rows].reset_index(drop=True),
        vectors=embeddings.vectors[rows],
        windows=embeddings.windows[rows],
    )
