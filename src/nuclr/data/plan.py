"""What there is to do: the runs of a scaling analysis, and the recordings that each of them needs.

Known from the configuration and the recordings' names alone, before any work is done.
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
        By name; of a data set that is downloaded, those that a run needs.
    splits
        Who trains, who is labelled, who is tested.
    animal_counts, seeds
        One run for each pair; runs of 0 animals are the untrained encoder.
    largest_seeds
        Runs at the largest count, and of each ablation.
    baselines
        Representations without a run.
    probes_in_training
        Whether a run also needs the label animals.
    ablations
        The largest runs are done again without each of these parts.
    config
        The configuration, with what it left open.
    said
        What was chosen where it was left open, and which recordings are left out, a line each.
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
        """Name the recordings of some animals, or some recordings where the splits are of these."""
        wanted = set(members)
        member = self.splits.member
        return [name for name, recording in self.recordings.items() if getattr(recording, member) in wanted]

    def to_pretrain(self, animals: int, seed: int) -> list[str]:
        """Name the recordings of a run; of an untrained encoder, those that it takes its bin from."""
        own = self.splits.pretraining(animals, seed) if animals else self.splits.first(seed)
        return self.of_members([*own, *(self.splits.label if self.probes_in_training else [])])

    def to_embed(self, animals: int, seed: int) -> list[str]:
        """Name the recordings that the probes of a run need: its own, and those of label and test members."""
        return self.of_members(self.splits.probed(self.probed_with(animals), seed))

    @property
    def panel(self) -> int:
        """Count of animals that every run of a seed was pretrained on: those of the smallest runs."""
        return min(self.animal_counts)

    @property
    def to_compare(self) -> list[str]:
        """Name the recordings that a baseline needs: those that the probes of the runs of any seed test."""
        tested = [name for seed in range(self.most_seeds) for name in self.splits.panel(self.panel, seed)]
        return self.of_members([*self.splits.probed(self.probed_with(0), 0), *tested])

    def computed_before(self, baseline: str) -> list[str]:
        """Name the baselines whose features are a part of another's, which then finds them computed."""
        own = set(JOINED.get(baseline, ()))
        return [other for other in self.baselines if own > {*JOINED.get(other, (other,))}]

    def unseen(self, animals: int, seed: int) -> list[str]:
        """Name the recordings that a run is embedded on beside those that its model stands for."""
        trained = set(self.to_pretrain(animals, seed))
        return [name for name in self.to_embed(animals, seed) if name not in trained]

    @property
    def most_seeds(self) -> int:
        """Count of seeds that any run has."""
        return max(self.seeds, self.largest_seeds)

    def seeds_at(self, animals: int) -> int:
        """Count of runs with so many animals."""
        return self.largest_seeds if animals == max(self.animal_counts) else self.seeds

    def probed_with(self, animals: int) -> int:
        """Count of animals whose units a run is probed on.

        What was not pretrained stands beside the largest runs.
        """
        return animals or max(self.animal_counts)

    def encoders(self, protocol: str) -> list[str]:
        """Names of the runs that can be probed under a protocol.

        ``n{animals}-s{seed}``, and before it ``{ablation}-`` of an ablation.
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
        """Names of all that can be probed under a protocol: runs and baselines.

        Which recording a unit is from says nothing about the units of other animals, where no
        recording is known.
        """
        known = protocol != "inductive_zero_shot"
        return self.encoders(protocol) + [b for b in self.baselines if known or b != "which_recording"]


def pretraining_memory_gb(config: Config, on_gpu: bool) -> float:
    """Return the memory that a run may take on one machine (GB).

    Each process that makes batches decodes and keeps activity of its own, or all share what lies in
    ``machine.scratch``, which may be memory too; 12 GB are for the rest.
    """
    machine = config.machine
    if machine.scratch is None:
        return 12 + machine.devices * max(1, machine.most_workers(on_gpu)) * config.pretrain.cache_gb
    return 12 + (machine.scratch_gb if machine.scratch.is_relative_to(SHARED_MEMORY) else 0)


def _counts(config: Config, splits: Splits, found: Sequence[Recording]) -> list[int]:
    """Take the counts of the splits from the least whose runs can be tested."""
    if splits.published or not any(recording.labels for recording in found):
        return splits.counts
    can = [
        animals
        for animals in splits.counts
        if all(can_be_tested(task, found, splits, animals, config) for task in config.probe.tasks or ())
    ]
    return can or splits.counts[-1:]


def make_plan(config: Config) -> Plan:
    """Plan the scaling analysis of a configuration.

    Raises
    ------
    NuclrError
        If recordings cannot be found, or more animals or seeds are asked for than there are.
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
    # What no run needs is not fetched.
    needed = {name for seed in range(plan.most_seeds) for name in plan.to_embed(0, seed)}
    return replace(plan, recordings={name: recording for name, recording in found.items() if name in needed})
