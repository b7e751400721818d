"""One pretraining run: from population stores to a saved model."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from nuclr.config import Config, Modality
from nuclr.data.inputs import absent_members, check_apart, common_bin_s, of_members, scaled
from nuclr.data.population import Population
from nuclr.data.splits import Member
from nuclr.data.store import open_population
from nuclr.errors import DataError
from nuclr.files import whole
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.saved import save_model
from nuclr.provenance import fingerprint, versions
from nuclr.rank import rank_told
from nuclr.training.devices import use_gpu
from nuclr.training.replacing import check_replacing
from nuclr.training.windows import view_spec

if TYPE_CHECKING:
    from nuclr.training.selection import Score

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cohort:
    """The recordings that a run is trained on.

    Attributes
    ----------
    stores
        Population stores. Only stores in this list are used; those of other members are ignored.
    members
        Animals to train on; if empty, an untrained encoder is written.
    member
        Whether the members are animals or, in a published split, recordings.
    left_out
        Members with a recording that is not available; they may have no store.
    """

    stores: Sequence[Path]
    members: Sequence[str]
    member: Member = "animal"
    left_out: Collection[str] = ()


@dataclass(frozen=True)
class _Learned:
    """A cohort with opened stores.

    Attributes
    ----------
    members, absent
        Members to train on, and members that are not available.
    populations
        Populations of the members.
    readable
        The same populations; for an untrained encoder, all populations that it shall read.
    bin_s
        Length of the bins or frames, common to all (s).
    """

    members: list[str]
    absent: list[str]
    populations: list[Population]
    readable: list[Population]
    bin_s: float

    @property
    def modality(self) -> Modality:
        """Modality of all populations: spikes or calcium."""
        return self.readable[0].modality


def pretrain_run(
    cohort: Cohort,
    config: Config,
    seed: int,
    *,
    output: Path,
    checkpoints: Path,
    score: Score | None = None,
    about: Mapping[str, Any] | None = None,
) -> bool:
    """Pretrain on the populations of some animals and save the model and its metrics.

    Writes ``output`` (model.safetensors), and config.json and metrics.csv beside it. Checkpoints are in a
    subfolder of ``checkpoints`` that is named after the output folder and a fingerprint of everything that
    the run depends on, so that a run with other settings never resumes from them. They are deleted when the
    model is written.

    Parameters
    ----------
    cohort
        The recordings to train on.
    config
        Configuration, of which ``model``, ``views``, ``pretrain`` and ``machine`` are used; ``probe`` is
        recorded if there is a ``score``.
    seed
        Seed of weights, views and dropout.
    output, checkpoints
        File of the model, and folder of checkpoints.
    score
        Function that scores an encoder during training (``pretrain.probe_every``).
    about
        Further entries for the model's record; empty ones are left out.

    Returns
    -------
    bool
        Whether this process wrote the model; of several processes, one does.

    Raises
    ------
    DataError, TrainingError
        If a member has no store, there is too little data, or ``output`` is the model of another training
        and there are probes of it.
    """
    # Checked first, so that a missing GPU is reported before any data is read.
    on_gpu = bool(cohort.members) and use_gpu(config.machine.accelerator)
    learned = _opened(cohort)
    config = config.model_copy(update={"views": config.views.of(learned.modality)})
    views = view_spec(config.views, learned.bin_s)
    spec = EncoderSpec(patch=views.patch, tokens=views.tokens, **config.model.model_dump())
    depends_on = _depends_on(learned, cohort.member, config, seed, probed=score is not None)
    depends_on |= {key: value for key, value in (about or {}).items() if value}
    check_replacing(output, depends_on)
    folder = None
    if learned.members:
        # Imported here, because an untrained encoder does not need Lightning, which is slow to import.
        from lightning.pytorch.utilities import rank_zero_only

        from nuclr.training.pretrain import pretrain

        folder = checkpoints / f"{output.parent.name}-{fingerprint(depends_on)}"
        encoder, metrics = pretrain(
            [scaled(population) for population in learned.populations],
            (spec, views),
            config.pretrain,
            config.machine,
            seed,
            checkpoints=folder,
            logs=output.parent,
            score=score,
        )
        rank = getattr(rank_zero_only, "rank", 0)
    else:
        torch.manual_seed(seed)
        rank = rank_told()
        encoder, metrics = Encoder(spec).eval(), pd.DataFrame({"step": []})
    if rank:
        return False
    with whole(output.with_name("metrics.csv")) as partial:
        metrics.to_csv(partial, index=False)
    devices = config.machine.devices * config.machine.num_nodes if learned.members else 0
    machine = {"accelerator": "gpu" if on_gpu else "cpu", "devices": devices}
    save_model(output, encoder, {**depends_on, **_reads(learned), "machine": machine, "versions": versions()})
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _opened(cohort: Cohort) -> _Learned:
    """Open the stores of a cohort, and check that they are complete, unique and of one modality and bin."""
    opened = [open_population(path) for path in dict.fromkeys(cohort.stores)]
    absent = absent_members(cohort.members, opened, cohort.left_out, cohort.member)
    if absent and len(absent) == len(cohort.members):
        raise DataError(
            f"pretrain: the recordings of {', '.join(absent)} are left out, so there is nothing to train on; "
            "download them again, or raise the smallest of scaling.animal_counts"
        )
    if not opened:
        raise DataError("pretrain: no population stores found; run `nuclr chunk` on the recordings first")
    members = [member for member in cohort.members if member not in absent]
    chosen = of_members(opened, members, f"pretrain: no population store of {cohort.member}", cohort.member)
    check_apart(chosen)
    return _Learned(members, absent, chosen, chosen or opened, common_bin_s(chosen or opened))


def _depends_on(
    learned: _Learned, member: Member, config: Config, seed: int, *, probed: bool
) -> dict[str, Any]:
    """Return everything that a model's weights depend on."""
    sections = {"model", "views", "pretrain"} | ({"probe"} if probed else set())
    animals = sorted({population.animal for population in learned.populations})
    return {
        "config": config.model_dump(mode="json", include=sections),
        "seed": seed,
        "animals": learned.members if member == "animal" else animals,
        **({"recordings": learned.members} if member == "recording" else {}),
        **({"left_out": learned.absent} if learned.absent else {}),
        "inputs": {population.population: population.source for population in learned.populations},
    }


def _reads(learned: _Learned) -> dict[str, object]:
    """Return which recordings a model can read, and the amount of its training data."""
    return {
        "modality": learned.modality,
        "bin_s": learned.bin_s,
        "min_rate_hz": min(population.min_rate_hz for population in learned.readable),
        "datasets": sorted({population.dataset for population in learned.readable}),
        "units": sum(len(population.units) for population in learned.populations),
        "hours": sum(population.valid_minutes for population in learned.populations) / 60,
    }
