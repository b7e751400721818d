"""Score an encoder on the label animals, to choose the best epoch without the test animals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from nuclr.config import Probe, Task, Views
from nuclr.data.catalog import unit_table
from nuclr.data.defaults import completed_probe
from nuclr.data.inputs import absent_members, common_bin_s, in_memory, of_members
from nuclr.data.splits import Splits
from nuclr.data.store import open_population
from nuclr.errors import SplitError
from nuclr.evaluation.metrics import confusions, macro_f1
from nuclr.evaluation.probe import predict
from nuclr.evaluation.protocols import Fold, class_labels, folds
from nuclr.evaluation.variants import Variant
from nuclr.model.encoder import Encoder
from nuclr.representation.embed import embed_population
from nuclr.representation.embeddings import concatenate
from nuclr.training.windows import view_spec


def label_score(
    stores: Sequence[Path],
    splits: Splits,
    views: Views,
    tasks: Sequence[Task] | None,
    left_out: Collection[str] = (),
) -> Callable[[Encoder], float]:
    """Return a function that scores an encoder with probes, leaving each label animal out in turn.

    In a run of several processes, each embeds a part of the populations. All processes must call the
    function, and all get the same score.

    Parameters
    ----------
    stores
        Population stores of the label animals; stores of other animals are ignored.
    splits
        Splits with the label animals.
    views
        How windows are cut.
    tasks
        Tasks to decode; None: the label columns.
    left_out
        Animals with a recording that is not available.

    Returns
    -------
    Callable
        Returns the macro-F1 of an encoder in evaluation mode, averaged over tasks.

    Raises
    ------
    SplitError
        If there are fewer than two label animals.
    TrainingError
        If a label animal has no store.
    """
    animals = list(splits.label)
    if len(animals) < 2:
        raise SplitError(
            "pretrain.probe_every needs at least two label animals (each is left out in turn), but there "
            f"are {len(animals)}; raise split.label_animals"
        )
    opened = [open_population(path) for path in stores]
    absent = absent_members(animals, opened, left_out)
    animals = [animal for animal in animals if animal not in absent]
    populations = of_members(opened, animals, "pretrain.probe_every: no store of label animal")
    spec = view_spec(views, common_bin_s(populations), populations[0].modality)
    tables = [unit_table(population) for population in populations]
    units = concatenate(tables)
    chosen = (
        completed_probe(Probe(tasks=None if tasks is None else list(tasks)), units, apart=True).tasks or []
    )
    labels = {task.name: class_labels(units, task) for task in chosen}

    # Each population is read once, and by one process only.
    held = cache(lambda index: in_memory(populations[index]))

    def embedded(encoder: Encoder) -> np.ndarray:
        several = distributed.is_initialized()
        rank, processes = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
        parts = [
            embed_population(encoder, held(index), spec)[0]
            if index % processes == rank
            else np.zeros((len(table), encoder.spec.dim), np.float32)
            for index, table in enumerate(tables)
        ]
        features = torch.from_numpy(np.concatenate(parts)).to(next(encoder.parameters()).device)
        if several:
            # A row is nonzero in one process only, so the sum collects all rows.
            distributed.all_reduce(features)
        return features.cpu().numpy()

    def score(encoder: Encoder) -> float:
        features = embedded(encoder)
        found = []
        for own in labels.values():
            parts = folds("transductive_zero_shot", units, own, splits, animals, n_folds=0)
            # Nothing is chosen here, so the probe is also trained on the validation units.
            merged = (Fold(part.learned, part.learned[:0], part.test) for part in parts)
            predictions, _ = predict(features, own, merged, Variant())
            found.append(macro_f1(confusions([predictions.assign(animal="")])[0, 0]))
        return float(np.mean(found))

    return score
