"""The runs of a scaling analysis, and the recordings that each of them needs.

The plan follows from the configuration and the names of the recordings alone, before any work is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nuclr.config import JOINED, Config
from nuclr.data.archives import data_set, every_recording, splits_of
from nuclr.data.defaults import can_be_tested, completed
from nuclr.data.recording import Recording, say_left_out
from nuclr.data.splits import Splits

# Where Linux keeps files in memory.
SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Plan:
    """The runs of a scaling analysis.

    Attributes
    ----------
    recordings
        Recordings by name; of a data set that is downloaded, only those that a run needs.
    splits
        Animals for pretraining, for labels and for testing.
    animal_counts, seeds
        There is one run for each number of animals and seed; runs with 0 animals are the untrained encoder.
    largest_seeds
        Number of runs at the largest count, and of each ablation.
    baselines
        Representations that need no pretraining.
    probes_in_training
        Whether a run also needs the label animals.
    ablations
        Ablations of which the largest runs are repeated.
    config
        The configuration, in which null values are filled in.
    said
        The choices for null values, and the recordings that are left out, one line each.
    """

    recordings: dict[str, Recording]
    splits: Splits
    animal_counts: Sequence[int]
    seeds: int
    largest_seeds: int
    baselines: Sequence[str]
    probes_in_training: bool = False
    ablations: Sequence[str] = ()
    config: Config = field(default_factory=Config)
    said: Sequence[str] = ()

    def of_members(self, members: Sequence[str]) -> list[str]:
        """Return the names of the recordings of some members (animals; in a published split recordings)."""
        wanted = set(members)
        member = self.splits.member
        return [name for name, recording in self.recordings.items() if getattr(recording, member) in wanted]

    def to_pretrain(self, animals: int, seed: int) -> list[str]:
        """Return the names of a run's recordings; for an untrained encoder, those that define its bins."""
        own = self.splits.pretraining(animals, seed) if animals else self.splits.first(seed)
        return self.of_members([*own, *(self.splits.label if self.probes_in_training else [])])

    def to_embed(self, animals: int, seed: int) -> list[str]:
        """Return the names of the recordings that a run's probes need, including label and test members."""
        return self.of_members(self.splits.probed(self.probed_with(animals), seed))

    @property
    def panel(self) -> int:
        """Number of animals that all runs of a seed were pretrained on: that of the smallest runs."""
        return min(self.animal_counts)

    @property
    def to_compare(self) -> list[str]:
        """Names of the recordings that a baseline needs: those that the probes of any run use."""
        tested = [name for seed in range(self.most_seeds) for name in self.splits.panel(self.panel, seed)]
        return self.of_members([*self.splits.probed(self.probed_with(0), 0), *tested])

    def computed_before(self, baseline: str) -> list[str]:
        """Return the other baselines whose features are a part of this one's, and are computed before it."""
        own = set(JOINED.get(baseline, ()))
        return [other for other in self.baselines if own > {*JOINED.get(other, (other,))}]

    def unseen(self, animals: int, seed: int) -> list[str]:
        """Return the names of the recordings that a run is embedded on and was not pretrained on."""
        trained = set(self.to_pretrain(animals, seed))
        return [name for name in self.to_embed(animals, seed) if name not in trained]

    @property
    def most_seeds(self) -> int:
        """Largest number of seeds at any count."""
        return max(self.seeds, self.largest_seeds)

    def seeds_at(self, animals: int) -> int:
        """Return the number of runs with a number of animals."""
        return self.largest_seeds if animals == max(self.animal_counts) else self.seeds

    def probed_with(self, animals: int) -> int:
        """Return the number of animals whose units a run is probed on.

        The untrained encoder and the baselines are compared with the largest runs.
        """
        return animals or max(self.animal_counts)

    def encoders(self, protocol: str) -> list[str]:
        """Return the names of the runs that can be probed under a protocol.

        A name is ``n{animals}-s{seed}``, with the prefix ``{ablation}-`` for an ablation.
        """
        fewest = 2 if protocol == "transductive_zero_shot" else 1
        largest = max(self.animal_counts)
        runs = [("", animals) for animals in [0, *self.animal_counts]]
        runs += [(f"{ablation}-", largest) for ablation in self.ablations]
        return [
            f"{ablation}n{animals}-s{seed}"
            for ablation, animals in runs
            for seed in range(self.seeds_at(animals))
            if self.probed_with(animals) >= fewest
        ]

    @property
    def pretrained(self) -> list[str]:
        """Names of the runs of the scaling curve."""
        return [
            f"n{animals}-s{seed}" for animals in self.animal_counts for seed in range(self.seeds_at(animals))
        ]

    @property
    def mapped(self) -> str:
        """Name of the run whose embeddings are drawn: the first of the largest."""
        return f"n{max(self.animal_counts)}-s0"

    def representations(self, protocol: str) -> list[str]:
        """Return the names of all runs and baselines that can be probed under a protocol.

        The which-recording control is left out where test animals are new, because their recordings are
        unknown.
        """
        known = protocol != "inductive_zero_shot"
        return self.encoders(protocol) + [b for b in self.baselines if known or b != "which_recording"]


def pretraining_memory_gb(config: Config, on_gpu: bool) -> float:
    """Return the memory that a run may need on one machine (GB).

    Each process that makes batches keeps its own decoded activity, or all of them share ``machine.scratch``,
    which may be in memory too. Everything else needs 12 GB.
    """
    machine = config.machine
    if machine.scratch is None:
        return 12 + machine.devices * max(1, machine.most_workers(on_gpu)) * config.pretrain.cache_gb
    return 12 + (machine.scratch_gb if machine.scratch.is_relative_to(SHARED_MEMORY) else 0)


def _counts(config: Config, splits: Splits, found: Sequence[Recording]) -> list[int]:
    """Return the numbers of animals of the splits with which runs can be tested."""
    if splits.published or not any(recording.labels for recording in found):
        return splits.counts
    can = [
        animals
        for animals in splits.counts
        if all(can_be_tested(task, found, splits, animals, config) for task in config.probe.tasks or ())
    ]
    return can or splits.counts[-1:]


def make_plan(config: Config) -> Plan:
    """Return the plan of the scaling analysis of a configuration.

    Raises
    ------
    NuclrError
        If recordings cannot be found, or more animals or seeds are requested than there are.
    """
    every = every_recording(config)
    found = {recording.recording: recording for recording in every if not recording.left_out}
    config, said = completed(config, list(found.values()), data_set(config).labels)
    if left_out := say_left_out(every):
        said.append(left_out)
    splits = splits_of(config, list(found.values()))
    counts = config.scaling.animal_counts or _counts(config, splits, list(found.values()))
    plan = Plan(
        config=config,
        said=said,
        recordings=found,
        splits=splits,
        animal_counts=sorted(set(counts)),
        seeds=config.scaling.seeds,
        largest_seeds=config.scaling.largest_seeds or config.scaling.seeds,
        baselines=config.probe.baselines,
        probes_in_training=config.pretrain.probe_every is not None,
        ablations=config.scaling.ablations,
    )
    for animals in plan.animal_counts:
        for seed in range(plan.seeds_at(animals)):
            splits.pretraining(animals, seed)
    if not config.downloads:
        return plan
    # Recordings that no run needs are not downloaded.
    needed = {name for seed in range(plan.most_seeds) for name in plan.to_embed(0, seed)}
    return replace(plan, recordings={name: recording for name, recording in found.items() if name in needed})
