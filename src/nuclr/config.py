"""The configuration: every key of ``config.yaml`` with its type, default and description.

The validation, the published schema and the documentation are made from it. A configuration file may contain
any subset of the keys; the others have the defaults given here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from nuclr.errors import ConfigError
from nuclr.settings import merge, name_of_source, read_source
from nuclr.words import did_you_mean

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
PublicDataSet = Literal["steinmetz_2019", "ibl_brain_wide_map", "allen_visual_coding", "bugeon_2022"]
Source = Literal["simulated", "nwb", PublicDataSet]
DaskOn = Literal["threads", "processes", "slurm"]
# Names become parts of paths.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
Baseline = Literal[
    "rate_regularity",
    "isi_histogram",
    "autocorrelogram",
    "single_neuron",
    "population_correlation",
    "population",
    "nemo",
    "lolcat",
    "which_recording",
]
SINGLE_NEURON: tuple[Baseline, ...] = ("rate_regularity", "isi_histogram", "autocorrelogram")
# Baselines that concatenate the features of other baselines.
JOINED: dict[str, tuple[Baseline, ...]] = {
    "single_neuron": SINGLE_NEURON,
    "population": (*SINGLE_NEURON, "population_correlation"),
}
Ablation = Literal["no_population_context", "no_unit_dropout", "same_window", "shuffled_units"]
ProbeKind = Literal["linear", "knn", "mlp"]
Protocol = Literal["transductive", "transductive_zero_shot", "inductive_zero_shot"]
# Protocols whose test animals are in pretraining, and the smallest number of animals that each needs.
TRANSDUCTIVE = {"transductive": 1, "transductive_zero_shot": 2}
Modality = Literal["spikes", "calcium"]
Precision = Literal["auto", "fp32"]
# Source: NuCLR (arXiv 2512.01199), section 4: a token is 1 s of spikes, or 4 frames.
PAPER: dict[Modality, dict[str, float]] = {
    "spikes": {"window_s": 10.0, "patch": 50, "distance_s": 30.0},
    "calcium": {"window_s": 30.0, "patch": 4, "distance_s": 240.0},
}
# Number of processes that make batches for one GPU; each keeps ``pretrain.cache_gb`` of activity.
ENOUGH_WORKERS = 4


class _OneOrSeveral:
    """Lets a value alone stand for a list of it, in the configuration and in its schema."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    @staticmethod
    def __get_pydantic_json_schema__(core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(core)
        return {"anyOf": [several, several["items"]]}


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple | set) else [value]


Item = TypeVar("Item")
Several = Annotated[list[Item], _OneOrSeveral]


class Section(BaseModel):
    """A section of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Simulated(Section):
    """The simulated data set."""

    animals: Count = Field(56, description="animals, one recording each")
    units: Count = Field(25, description="units in a recording")
    duration_s: Positive = Field(60.0, description="length of a recording (s)")
    seed: int = Field(0, description="seed of the simulation; another seed simulates other animals")


class Nwb(Section):
    """Your own recordings (a folder, or dandisets), and how NWB files are read."""

    folder: Path | None = Field(
        None, description="folder of recordings, in any format that nuclr reads (searched to any depth)"
    )
    dandi: Several[str] = Field(
        [], description="dandisets to download instead of a folder, such as 000006 or 000006/0.220126.1855"
    )
    unit_columns: Several[str] | None = Field(
        None,
        description="columns of the unit table to keep as labels; null: columns of text or booleans",
    )
    region_column: str | None = Field(
        None, description="column of the unit table with the brain region; null: the electrodes' location"
    )
    region_key: str | None = Field(
        None,
        description="if the location is a dictionary, its key for the region; null: a key with a usual name",
    )
    units_table: str | None = Field(
        None, description="path of the Units table in the file; null: units, or else the first one found"
    )
    series: Several[str] = Field(
        [], description="RoiResponseSeries to read, by name or path; empty: dF/F, or else fluorescence"
    )
    planes: Literal["together", "apart"] = Field(
        "together",
        description="imaging planes recorded together are one population (together) or several (apart)",
    )
    animal_pattern: str | None = Field(
        None,
        description="regular expression that finds the animal in a file's path; null: use subject_id",
    )
    on_damaged: Literal["stop", "leave_out"] = Field(
        "stop", description="a file that cannot be read stops the analysis (stop) or is left out (leave_out)"
    )
    licence: str = Field(
        "", description="licence of the recordings, for model cards; empty: as DANDI states it"
    )

    @field_validator("animal_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return pattern


class Sorter(Section):
    """How folders of spike sorters are read."""

    sample_rate_hz: Positive | None = Field(
        None, description="sampling rate of spike times (Hz); null: from params.py"
    )
    keep: Several[str] | None = Field(
        None,
        min_length=1,
        description="quality labels of the clusters to keep, such as [good]; null: all but noise",
    )


class Imaging(Section):
    """How calcium imaging is read."""

    rate_hz: Positive | None = Field(None, description="frame rate (Hz); null: from the file")
    keep_all: bool = Field(False, description="true: also keep ROIs that are not classified as cells")
    dff: bool = Field(
        True, description="compute dF/F from raw fluorescence; false: use the fluorescence as it is"
    )
    neuropil_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the neuropil subtracted from fluorescence; null: from ops.npy, else 0.7",
    )


class Reading(Section):
    """How recordings are read: the sections of the configuration that the formats use."""

    nwb: Nwb = Nwb()
    sorter: Sorter = Sorter()
    imaging: Imaging = Imaging()


class IblBrainWideMap(Section):
    """The IBL Brain-Wide Map."""

    collection: str = Field(
        "pykilosort", description="spike sorting to use: the name of a folder in the folder of the probe"
    )
    drop_last_s: float = Field(
        300.0, ge=0, description="time at the end of each recording that is not used (s)"
    )


class AllenVisualCoding(Section):
    """Allen Visual Coding, Neuropixels."""

    archive: Literal["allensdk", "dandi"] = Field("allensdk", description="where the NWB files come from")
    regions: str = Field("VIS", description="prefix of the regions whose units are kept; empty: all")
    labels: Path | None = Field(
        None, description="csv file with unit_id and cell_type; null: cell types from the response to light"
    )
    light_ratio: Positive = Field(
        2.0, description="smallest ratio of a tagged unit's rate in light to its baseline"
    )
    light_latency_ms: Positive = Field(
        8.0, description="longest latency of a tagged unit's response to light (ms)"
    )
    light_p: float = Field(
        0.01, gt=0, le=1, description="largest p-value of a tagged unit's response to light (Wilcoxon)"
    )


class Download(Section):
    """How public data sets are downloaded."""

    keep_raw: bool = Field(True, description="false: delete raw files after chunking")
    go_on_without: bool = Field(
        False, description="true: leave out a session that cannot be downloaded, instead of stopping"
    )
    tries: Count = Field(8, description="attempts to download a file, with growing pauses")
    figshare: str = Field("https://api.figshare.com/v2", description="figshare's server, or a mirror")
    alyx: str = Field("https://openalyx.internationalbrainlab.org", description="IBL's database")
    dandi: str = Field("https://api.dandiarchive.org/api", description="DANDI's server")


class Chunk(Section):
    """How recordings are binned and stored."""

    bin_s: Positive = Field(0.02, description="bin width of spike counts (s); calcium keeps its frames")
    chunk_s: Positive = Field(60.0, description="length of a chunk (s)")
    shard_s: Positive = Field(600.0, description="length of a shard, a file with many chunks (s)")
    min_rate_hz: float = Field(
        0.0, ge=0, description="units with a lower mean rate over the valid spans are left out (Hz)"
    )
    waveforms: bool = Field(
        False, description="store mean waveforms of NWB units, which the baseline nemo needs"
    )


class Split(Section):
    """Which animals are used for pretraining, for labels and for testing.

    No animal is in two of these groups, except in a published split of sessions.
    """

    by: Literal["animal", "paper"] = Field(
        "animal", description="paper: the published split of the IBL sessions, whose groups share animals"
    )
    test_animals: int | None = Field(
        None,
        ge=0,
        description="number of test animals; null: chosen by the number of animals",
    )
    label_animals: int | None = Field(
        None,
        ge=0,
        description="number of animals whose labels train probes; null: chosen by the number of animals",
    )
    seed: int = Field(0, description="seed of the draw of test and label animals")
    leave_out: Several[str] = Field([], description="names of recordings that are not used")


class Model(Section):
    """Size of the encoder."""

    dim: Count = Field(32, description="width of a token and of the embedding (paper: 256)")
    heads: Count = Field(4, description="attention heads")
    dim_head: Count = Field(8, description="width of a head, a multiple of 4 (paper: 64)")
    temporal_blocks: int = Field(
        2, ge=0, description="blocks that attend along time, for each unit separately"
    )
    spatiotemporal_blocks: int = Field(2, ge=0, description="blocks that attend across units and along time")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout probability in training (paper: 0.2)")
    across_units: bool = Field(True, description="false: no attention across units (an ablation)")


class Views(Section):
    """How windows and views are drawn."""

    window_s: Positive | None = Field(
        None, description="length of a window (s); null: 10 for spikes, 30 for calcium"
    )
    patch: Count | None = Field(
        None, description="bins or frames in a token; null: 50 bins for spikes, 4 frames for calcium"
    )
    distance_s: float | None = Field(
        None,
        ge=0,
        description="largest distance between two windows (s); null: 30 for spikes, 240 for calcium",
    )
    grid_s: Positive | None = Field(
        None, description="windows start at multiples of this (s); null: anywhere"
    )
    unit_dropout: float = Field(0.5, gt=0, le=1, description="smallest share of units that a view keeps")
    shuffle_units: bool = Field(
        False, description="true: shift each unit circularly in time by a random lag (an ablation)"
    )
    max_units: Count | None = Field(
        None, description="largest number of units in a pair of views, drawn at random; null: all units"
    )
    min_units: Count = Field(11, description="pairs with fewer units in a view are skipped in training")

    def of(self, modality: Modality) -> Views:
        """Return a copy in which keys that are null have the paper's values for a modality."""
        unset = {name: value for name, value in PAPER[modality].items() if getattr(self, name) is None}
        return self.model_copy(update=unset)


class Pretrain(Section):
    """Pretraining: optimiser, loss and length."""

    steps: Count = Field(1500, description="optimiser steps (paper: about 50,000)")
    epochs: Count | None = Field(
        None,
        description="passes over the recordings, instead of steps; null: steps, the same number for all runs",
    )
    pairs_per_step: Count = Field(2, description="pairs of windows in a step, over all devices (paper: 128)")
    learning_rate: Positive = Field(2e-3, description="peak learning rate (paper: 5e-4 at 128 pairs)")
    weight_decay: float = Field(0.01, ge=0, description="weight decay, on matrices only")
    warmup_steps: int | None = Field(None, ge=0, description="steps of linear warm-up; null: one epoch")
    loss: Literal["contrastive", "vicreg"] = Field(
        "contrastive", description="loss function, contrastive or vicreg"
    )
    temperature: Positive = Field(0.2, description="temperature of the contrastive loss")
    same_view_temperature: Positive = Field(
        1.0, description="temperature of similarities inside a view (authors' code: 1)"
    )
    clip: Positive = Field(1.0, description="largest norm of the gradient")
    cache_gb: Positive = Field(
        4.0,
        description="decoded activity that a process keeps in memory (GB); larger data are loaded in parts",
    )
    probe_every: Count | None = Field(
        None, description="epochs between probes of the label animals during training; null: none"
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="saved model: the last one, or the one with the best probe score on the label animals",
    )

    @model_validator(mode="after")
    def _check(self) -> Pretrain:
        if self.keep == "best" and self.probe_every is None:
            raise ValueError(
                "keep: best needs probe_every, the number of epochs between probes of the label animals"
            )
        return self


class Machine(Section):
    """How and on which devices jobs run. Changing this section does not repeat any training.

    Up to rounding, the trained model does not depend on this section, except for dropout: each process draws
    its own masks, and a GPU draws other masks than a CPU. With ``model.dropout`` above 0, a run on other
    devices is therefore like a run with another seed; ``machine`` in config.json records the devices.
    """

    devices: Count = Field(1, description="number of GPUs, or of CPU processes if there is no GPU")
    num_nodes: Count = Field(1, description="number of machines")
    accelerator: Literal["auto", "gpu", "cpu"] = Field(
        "auto", description="gpu: stop with an error if there is no GPU; auto: use a GPU if there is one"
    )
    share_gpus: bool = Field(
        False, description="true: runs may share a GPU; false: they wait until one is free"
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="processes for each device that make batches; auto: up to 4 for a GPU, none for a CPU",
    )
    scratch: Path | None = Field(
        None,
        description="local folder, such as /dev/shm, for decoded activity that processes share; null: none",
    )
    scratch_gb: Positive = Field(
        100.0,
        description="largest size of machine.scratch (GB); the least recently used activity is deleted first",
    )
    warm: bool = Field(True, description="true: load libraries once for all jobs of a workflow on a machine")
    kernels: Literal["auto", "torch"] = Field(
        "auto", description="auto: this package's kernels on NVIDIA GPUs; torch: only those of PyTorch"
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="torch.compile, if this package's kernels are not used; auto: in long runs on GPUs",
    )
    checkpoint_every: Count = Field(200, description="steps between checkpoints")
    checkpoint_minutes: Positive = Field(10.0, description="longest time between checkpoints (minutes)")
    dask: DaskOn = Field(
        "threads", description="run chunking in threads, in processes, or in SLURM jobs (slurm)"
    )
    dask_workers: Count | None = Field(
        None, description="number of Dask workers; null: as many as cores, or 4 SLURM jobs"
    )
    logger: Literal["tensorboard", "wandb"] | None = Field(
        None, description="log to tensorboard or wandb, in addition to metrics.csv"
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _is_a_number(cls, workers: Any) -> Any:
        # Snakemake's --config passes numbers and booleans inside a section as text.
        if isinstance(workers, str) and workers.isdecimal():
            return int(workers)
        if workers == "auto" or (type(workers) is int and workers >= 0):
            return workers
        raise ValueError("must be auto, or a number of processes (0 or more)")

    @field_validator("compile", mode="before")
    @classmethod
    def _is_a_choice(cls, chosen: Any) -> Any:
        chosen = {"true": True, "false": False}.get(chosen, chosen) if isinstance(chosen, str) else chosen
        if chosen == "auto" or isinstance(chosen, bool):
            return chosen
        raise ValueError("must be auto, true or false")

    def most_workers(self, on_gpu: bool) -> int:
        """Return the number of processes that make batches for a device, if there are enough cores."""
        if self.workers == "auto":
            return ENOUGH_WORKERS if on_gpu else 0
        return self.workers


class Embed(Section):
    """How embeddings are computed."""

    precision: Precision = Field(
        "auto", description="auto: bf16 on GPUs that support it, else fp32; fp32: always"
    )


class Scaling(Section):
    """The scaling analysis."""

    animal_counts: Several[Count] | None = Field(
        None, min_length=1, description="numbers of pretraining animals; null: 1, 2, 4, ... and all"
    )
    seeds: Count = Field(5, description="number of runs at each count, with seeds 0, 1, ...")
    largest_seeds: Count | None = Field(
        None,
        description="number of runs at the largest count and of each ablation; null: as many as seeds",
    )
    ablations: Several[Ablation] = Field(
        [],
        description="ablations with which the largest runs are repeated; see nuclr pretrain --help",
    )


class Task(Section):
    """A label that a probe predicts; the name of a column is enough if each of its values is a class."""

    name: str = Field(pattern=NAME, description="name of the task in the results")
    column: str = Field("", description="column of the unit table; default: the name of the task")
    classes: dict[str, Several[str]] | None = Field(
        None, description="values of the column that make up each class; null: each value is a class"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, task: Any) -> Any:
        task = {"name": task} if isinstance(task, str) else task
        return {"column": task.get("name", ""), **task} if isinstance(task, dict) else task

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return a schema that also allows a name alone, as :meth:`_complete` does."""
        return {"anyOf": [{"type": "string", "pattern": NAME}, handler(core)]}


class Probe(Section):
    """Which labels are decoded from the embeddings, and how."""

    tasks: Several[Task] | None = Field(
        None, description="labels to predict; null: the columns of labels that the recordings have"
    )
    protocols: Several[Protocol] | None = Field(
        None, description="which units a probe may learn from; null: those that fit the split"
    )
    baselines: Several[Baseline] = Field(
        ["single_neuron", "population", "which_recording"],
        description="baselines to compare with; see nuclr baseline --help",
    )
    kinds: Several[ProbeKind] = Field(
        ["linear"],
        min_length=1,
        description="linear, knn, mlp; of several, the best on held-out labels; the first is also reported",
    )
    centred: Several[bool] = Field(
        [False, True],
        min_length=1,
        description="true: without the recording's mean; [false, true]: the better one on held-out labels",
    )
    label_halvings: int = Field(
        6, ge=0, le=12, description="how often the number of labels is halved: 1, 1/2, ... 1/64"
    )
    min_units: Count = Field(10, description="classes with fewer units are left out, with a note in the log")
    folds: int = Field(5, ge=2, description="cross-validation folds over units in the transductive protocol")
    bootstrap: Count = Field(
        1000, description="bootstrap resamples for the 95 % intervals, and permutations of labels"
    )


class Config(Section):
    """The whole configuration, ``config.yaml``."""

    dataset: str = Field(
        "simulated",
        pattern=NAME,
        description="name of the data set; results go to results/{dataset}",
    )
    source: Source | None = Field(
        None, description="where recordings come from; null: by the name of the data set, nwb for other names"
    )
    results: Path = Field(Path("results"), description="folder of all results")
    simulated: Simulated = Simulated()
    nwb: Nwb = Nwb()
    sorter: Sorter = Sorter()
    imaging: Imaging = Imaging()
    ibl_brain_wide_map: IblBrainWideMap = IblBrainWideMap()
    allen_visual_coding: AllenVisualCoding = AllenVisualCoding()
    download: Download = Download()
    chunk: Chunk = Chunk()
    split: Split = Split()
    model: Model = Model()
    views: Views = Views()
    pretrain: Pretrain = Pretrain()
    machine: Machine = Machine()
    embed: Embed = Embed()
    scaling: Scaling = Scaling()
    probe: Probe = Probe()

    @model_validator(mode="after")
    def _check(self) -> Config:
        if "nemo" in self.probe.baselines and not self.chunk.waveforms:
            raise ValueError("probe.baselines: nemo needs waveforms; set chunk.waveforms: true")
        if self.source_kind == "nwb" and (self.nwb.folder is None) == (not self.nwb.dandi):
            raise ValueError(
                f"nwb.folder: data set {self.dataset} needs either a folder of recordings (nwb.folder) or "
                "dandisets (nwb.dandi); set one of the two"
            )
        processes = self.machine.devices * self.machine.num_nodes
        if self.pretrain.pairs_per_step < processes:
            raise ValueError(
                f"pretrain.pairs_per_step: {self.pretrain.pairs_per_step} pairs in a step are fewer than the "
                f"{processes} processes (machine.devices times machine.num_nodes); use more pairs or fewer "
                "processes"
            )
        if self.split.by == "paper" and self.source_kind != "ibl_brain_wide_map":
            raise ValueError(
                "split.by: only the data set ibl_brain_wide_map has a published split; set split.by: animal"
            )
        return self

    @property
    def source_kind(self) -> Source:
        """Source of the recordings: ``source`` or, if that is null, the name of the data set."""
        return self.source or cast(Source, self.dataset if self.dataset in get_args(Source) else "nwb")

    @property
    def reading(self) -> Reading:
        """The sections that say how recordings are read."""
        return Reading(nwb=self.nwb, sorter=self.sorter, imaging=self.imaging)

    @property
    def downloads(self) -> bool:
        """Whether recordings are downloaded."""
        return self.source_kind in get_args(PublicDataSet) or bool(
            self.source_kind == "nwb" and self.nwb.dandi
        )

    @property
    def raw(self) -> Path:
        """Folder of simulated or downloaded recordings."""
        return self.results / self.dataset / "raw"

    def ablated(self, name: str) -> Config:
        """Return the configuration of an ablation, in which one key differs; for "" return this one.

        Raises
        ------
        ConfigError
            If there is no such ablation.
        """
        keys: dict[str, dict[str, Any]] = {
            "no_population_context": {"model": {"across_units": False}},
            "no_unit_dropout": {"views": {"unit_dropout": 1.0}},
            "same_window": {"views": {"distance_s": 0.0}},
            "shuffled_units": {"views": {"shuffle_units": True}},
        }
        if name and name not in keys:
            raise ConfigError(f"scaling.ablations: unknown ablation {name}; use one of {', '.join(keys)}")
        return load_config(self.model_dump(mode="json"), keys.get(name, {}))

    def sections(self, *names: str) -> str:
        """Return the named sections as JSON on one line, which rules pass to subcommands."""
        return self.model_dump_json(include=set(names))


def load_config(*sources: str | Path | dict[str, Any]) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    *sources
        Paths to YAML files, inline JSON (a string that begins with ``{``), settings such as
        ``pretrain.steps=60``, or dictionaries. Keys may be dotted. Later sources override the keys that they
        contain. Without sources, the defaults are returned.

    Raises
    ------
    ConfigError
        If a key is unknown or its value is not valid; the message names the key and the nearest valid one.
    """
    values: dict[str, Any] = {}
    read: list[tuple[str, dict[str, Any]]] = []
    for source in sources:
        read.append((name_of_source(source), _read(source)))
        merge(values, read[-1][1])
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[:3]
        where = _source_with(wrong[0]["loc"], read)
        raise ConfigError(f"{where}: " + "; ".join(map(_explain, wrong))) from None


def _read(source: str | Path | dict[str, Any]) -> dict[str, Any]:
    if isinstance(source, str) and source in (keys := dotted_keys()) and not Path(source).exists():
        raise ConfigError(f"{source}: no value is given; write {source}=VALUE ({keys[source]})")
    return read_source(source)


def _source_with(path: Sequence[int | str], read: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return the name of the last source that contains a key, else of the last file."""
    if path:
        for name, values in reversed(read):
            if _contains(values, path):
                return name
    return next((name for name, _ in reversed(read) if name != "config"), "config")


def _contains(values: Any, path: Sequence[int | str]) -> bool:
    if not path or not isinstance(values, dict):  # the rest of the path is inside a list
        return True
    return path[0] in values and _contains(values[path[0]], path[1:])


def _explain(error: Any) -> str:
    """Return a pydantic error as a message that names the key."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        # A key of another section is more likely than a misspelt key of this one.
        elsewhere = " or ".join(keys_named(path[-1]))
        otherwise = did_you_mean(path[-1], known, f"known keys: {', '.join(sorted(known))}")
        return f"unknown key {key}; {f'did you mean {elsewhere}?' if elsewhere else otherwise}"
    if error["type"] == "model_type" and (
        keys := [name for name in dotted_keys() if name.startswith(key + ".")]
    ):
        return f"{key}: a section with keys of its own; set one of them, such as {keys[0]}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {error['input']!r})" if key else message


def dotted_keys() -> dict[str, str]:
    """Return all keys with their sections, such as pretrain.steps, and their descriptions."""
    keys: dict[str, str] = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            inside = field.annotation.model_fields.items()
            keys |= {f"{name}.{key}": str(one.description) for key, one in inside}
        else:
            keys[name] = str(field.description)
    return keys


def keys_named(name: str) -> list[str]:
    """Return the keys of any section with a name.

    >>> keys_named("steps"), keys_named("seed")
    (['pretrain.steps'], ['simulated.seed', 'split.seed'])
    """
    return [key for key in dotted_keys() if key.rpartition(".")[2] == name]


def _known_keys(path: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for part in path:
        field = section.model_fields.get(part)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
        elif part == "tasks":  # the items of a list have no annotation of their own
            section = Task
    return list(section.model_fields)
