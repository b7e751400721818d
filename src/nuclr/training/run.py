"""One run: from population stores to a saved model."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.utilities import rank_zero_only

from nuclr.config import Config
from nuclr.data.inputs import absent_members, check_apart, common_bin_s, of_members, scaled
from nuclr.data.population import Population
from nuclr.data.splits import Member
from nuclr.data.store import open_population
from nuclr.errors import DataError
from nuclr.files import whole
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.saved import save_model
from nuclr.provenance import fingerprint, versions
from nuclr.training.devices import use_gpu
from nuclr.training.pretrain import pretrain
from nuclr.training.selection import Score
from nuclr.training.windows import view_spec

logger = logging.getLogger(__name__)


def pretrain_run(
    stores: Sequence[Path],
    members: Sequence[str],
    config: Config,
    seed: int,
    *,
    output: Path,
    checkpoints: Path,
    score: Score | None = None,
    of: Member = "animal",
    left_out: Collection[str] = (),
    about: Mapping[str, Any] | None = None,
) -> bool:
    """Pretrain on the populations of some animals and save the model and its metrics.

    Writes ``output`` (model.safetensors), model.json and metrics.csv beside it. Checkpoints lie in
    a folder of ``checkpoints`` named by the output's folder and a fingerprint of all that the run
    depends on, so a run with other settings never goes on from them; they go when the model is
    written.

    Parameters
    ----------
    stores
        Population stores. No folder is searched for others: what is not in this list is not learned from.
        Those of other animals are passed over.
    members
        Animals to learn from; none writes an encoder at its random weights.
    config
        Its sections ``model``, ``views``, ``pretrain`` and ``machine``; of ``probe`` what ``score`` uses.
    seed
        Of weights, views and dropout.
    output, checkpoints
        See above.
    score
        Says how good an encoder is while it is trained (``pretrain.probe_every``).
    of
        Whether the members are animals or, in a published split, recordings.
    left_out
        Members of which a recording could not be had: they may have no store.
    about
        What the model's record shall also say, where there is something to say.

    Returns
    -------
    bool
        Whether this process wrote the model: of several, one does.

    Raises
    ------
    DataError, TrainingError
        If a member has no store, or there is too little to learn from.
    """
    # Asked first: a GPU that is demanded and not there is said before anything is read.
    on_gpu = bool(members) and use_gpu(config.machine.accelerator)
    opened = [open_population(path) for path in dict.fromkeys(stores)]
    absent = absent_members(members, opened, left_out, of)
    if absent and len(absent) == len(members):
        raise DataError(
            f"pretrain: the recordings of {', '.join(absent)} are left out: nobody to learn from; download "
            "them again, or raise the smallest of scaling.animal_counts"
        )
    if not opened:
        raise DataError("pretrain: no population stores there; run `nuclr chunk` on the recordings first")
    members = [member for member in members if member not in absent]
    chosen = of_members(opened, members, f"pretrain: no population store of {of}", of)
    check_apart(chosen)
    bin_s = common_bin_s(chosen or opened)
    views = view_spec(config.views, bin_s)
    spec = EncoderSpec(patch=views.patch, tokens=views.tokens, **config.model.model_dump())
    sections = {"model", "views", "pretrain"} | ({"probe"} if score is not None else set())
    depends_on = {
        "config": config.model_dump(mode="json", include=sections),
        "seed": seed,
        "animals": members if of == "animal" else sorted({population.animal for population in chosen}),
        **({"recordings": members} if of == "recording" else {}),
        **({"left_out": absent} if absent else {}),
        **{key: value for key, value in (about or {}).items() if value},
        "inputs": {population.population: population.source for population in chosen},
    }
    if members:
        folder = checkpoints / f"{output.parent.name}-{fingerprint(depends_on)}"
        encoder, metrics = pretrain(
            [scaled(population) for population in chosen],
            (spec, views),
            config.pretrain,
            config.machine,
            seed,
            checkpoints=folder,
            logs=output.parent,
            score=score,
        )
    else:
        folder = None
        L.seed_everything(seed, verbose=False)
        encoder, metrics = Encoder(spec).eval(), pd.DataFrame({"step": []})
    if getattr(rank_zero_only, "rank", 0):
        return False
    with whole(output.with_name("metrics.csv")) as partial:
        metrics.to_csv(partial, index=False)
    learned_from: dict[str, Any] = {
        "units": sum(len(population.units) for population in chosen),
        "hours": sum(population.valid_minutes for population in chosen) / 60,
    }
    devices = config.machine.devices * config.machine.num_nodes if members else 0
    learned_from["machine"] = {"accelerator": "gpu" if on_gpu else "cpu", "devices": devices}
    reads = _reads(chosen or opened, bin_s)
    save_model(output, encoder, {**depends_on, **reads, **learned_from, "versions": versions()})
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _reads(populations: Sequence[Population], bin_s: float) -> dict[str, object]:
    """Say what recordings a model can read."""
    return {
        "modality": populations[0].modality,
        "bin_s": bin_s,
        "min_rate_hz": min(population.min_rate_hz for population in populations),
        "datasets": sorted({population.dataset for population in populations}),
    }
