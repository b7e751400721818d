"""The one description of ``config.yaml``: it validates, documents and completes.

A configuration may hold any part of the keys; the rest have the defaults given here.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from nuclr.errors import ConfigError
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
# Baselines that put the features of others beside each other.
JOINED: dict[str, tuple[Baseline, ...]] = {
    "single_neuron": SINGLE_NEURON,
    "population": (*SINGLE_NEURON, "population_correlation"),
}
Ablation = Literal["no_population_context", "no_unit_dropout", "same_window", "shuffled_units"]
ProbeKind = Literal["linear", "knn", "mlp"]
Protocol = Literal["transductive", "transductive_zero_shot", "inductive_zero_shot"]
# Protocols whose test animals were pretrained on, and the animals that each needs at least.
TRANSDUCTIVE = {"transductive": 1, "transductive_zero_shot": 2}
Modality = Literal["spikes", "calcium"]
Precision = Literal["auto", "fp32"]
# Source: NuCLR (arXiv 2512.01199), section 4: a token is 1 s of spikes, or 4 frames.
PAPER: dict[Modality, dict[str, float]] = {
    "spikes": {"window_s": 10.0, "patch": 50, "distance_s": 30.0},
    "calcium": {"window_s": 30.0, "patch": 4, "distance_s": 240.0},
}
# Batches for one GPU are made by so many processes; each keeps ``pretrain.cache_gb`` of activity.
ENOUGH_WORKERS = 4


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Simulated(Section):
    """The simulated data set."""

    animals: Count = Field(56, description="animals, one recording each")
    units: Count = Field(25, description="units in a recording")
    duration_s: Positive = Field(60.0, description="length of a recording (s)")
    seed: int = Field(0, description="another seed draws other animals")


class Nwb(Section):
    """Recordings of one's own: a folder of them, or dandisets; and how NWB files are read."""

    folder: Path | None = Field(
        None, description="where the recordings are, in any form that is read (searched to any depth)"
    )
    dandi: list[str] = Field([], description="or dandisets to download, as 000006 or 000006/0.220126.1855")
    unit_columns: list[str] | None = Field(
        None,
        description="columns of the unit table to keep; null: those of text or truth values",
    )
    region_column: str | None = Field(
        None, description="unit column with the brain region; null: the electrodes' location"
    )
    region_key: str | None = Field(
        None, description="where the location is a dictionary: its key with the region; null: by its name"
    )
    units_table: str | None = Field(
        None, description="where in the file the Units table is; null: units, or the first elsewhere"
    )
    series: list[str] = Field(
        [], description="RoiResponseSeries to read, by name or path; none: dF/F, else fluorescence"
    )
    planes: Literal["together", "apart"] = Field(
        "together", description="imaging planes recorded together: one population, or each its own (apart)"
    )
    animal_pattern: str | None = Field(
        None,
        description="regular expression that finds the animal in a file's path; null: its subject_id",
    )
    on_damaged: Literal["stop", "leave_out"] = Field(
        "stop", description="a file that cannot be read stops the analysis, or is left out"
    )
    licence: str = Field("", description="of the recordings, for model cards; empty: as DANDI states it")

    @field_validator("animal_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return pattern


class Sorter(Section):
    """Folders of spike sorters."""

    sample_rate_hz: Positive | None = Field(None, description="samples in a second; null: as params.py says")
    keep: list[str] | None = Field(
        None, min_length=1, description="kinds of clusters to keep, as [good]; null: all but noise"
    )


class Imaging(Section):
    """Calcium imaging."""

    rate_hz: Positive | None = Field(None, description="frames in a second; null: as the file says")
    keep_all: bool = Field(False, description="true: ROIs that are not called cells are kept too")
    dff: bool = Field(True, description="make dF/F of raw fluorescence; false: take it as it is")
    neuropil_share: float | None = Field(
        None, ge=0, le=1, description="neuropil taken off fluorescence; null: as ops.npy says, else 0.7"
    )


class Reading(Section):
    """How recordings are read: the parts of the configuration that formats take."""

    nwb: Nwb = Nwb()
    sorter: Sorter = Sorter()
    imaging: Imaging = Imaging()


class IblBrainWideMap(Section):
    """The IBL Brain-Wide Map."""

    collection: str = Field("pykilosort", description="spike sorting to take, a folder below the probe's")
    drop_last_s: float = Field(300.0, ge=0, description="end of each recording that is not used (s)")


class AllenVisualCoding(Section):
    """Allen Visual Coding, Neuropixels."""

    archive: Literal["allensdk", "dandi"] = Field("allensdk", description="where the NWB files come from")
    regions: str = Field("VIS", description="units are kept whose region begins so; empty: all")
    labels: Path | None = Field(
        None, description="csv with unit_id and cell_type; null: cell types by response to light"
    )
    light_ratio: Positive = Field(2.0, description="tagged units fire so many times their baseline in light")
    light_latency_ms: Positive = Field(8.0, description="and fire first within this of its onset (ms)")
    light_p: float = Field(0.01, gt=0, le=1, description="and differ from baseline at this p (Wilcoxon)")


class Download(Section):
    """How public data sets are fetched."""

    keep_raw: bool = Field(True, description="false: raw files are deleted once chunked")
    go_on_without: bool = Field(False, description="true: a session that cannot be fetched is left out")
    tries: Count = Field(8, description="times that a file is asked for, ever longer apart")
    figshare: str = Field("https://api.figshare.com/v2", description="server, or a mirror of it")
    alyx: str = Field("https://openalyx.internationalbrainlab.org", description="IBL's database")
    dandi: str = Field("https://api.dandiarchive.org/api", description="DANDI's server")


class Chunk(Section):
    """From spike times to the store."""

    bin_s: Positive = Field(0.02, description="bin of spike counts (s); calcium keeps its frames")
    chunk_s: Positive = Field(60.0, description="length of a chunk (s)")
    shard_s: Positive = Field(600.0, description="length of a shard, the file of many chunks (s)")
    min_rate_hz: float = Field(
        0.0, ge=0, description="units that fire less over the valid spans are left out"
    )
    waveforms: bool = Field(False, description="keep mean waveforms of NWB units, which nemo needs")


class Split(Section):
    """Who trains, who is labelled, who is tested: always whole animals, unless a published split is named."""

    by: Literal["animal", "paper"] = Field(
        "animal", description="paper: the published split of the IBL sessions, which shares animals"
    )
    test_animals: int | None = Field(
        None, ge=0, description="animals that nothing is ever learned from; null: what suits their number"
    )
    label_animals: int | None = Field(
        None,
        ge=0,
        description="animals whose labels the probe learns, never in pretraining; null: what suits",
    )
    seed: int = Field(0, description="draws the test and label animals")
    leave_out: list[str] = Field([], description="recordings that are not used, by name")


class Model(Section):
    """Size of the encoder."""

    dim: Count = Field(32, description="width of a token and of the embedding (paper: 256)")
    heads: Count = Field(4, description="attention heads")
    dim_head: Count = Field(8, description="width of a head, a multiple of 4 (paper: 64)")
    temporal_blocks: int = Field(2, ge=0, description="blocks that see each unit alone")
    spatiotemporal_blocks: int = Field(2, ge=0, description="blocks in which units see each other")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of values dropped in training (paper: 0.2)")
    across_units: bool = Field(True, description="false: units do not see each other (an ablation)")


class Views(Section):
    """How windows are cut."""

    window_s: Positive | None = Field(
        None, description="length of a window (s); null: 10 of spikes, 30 of calcium"
    )
    patch: Count | None = Field(
        None, description="bins or frames in a token; null: 50 bins of spikes, 4 frames of calcium"
    )
    distance_s: float | None = Field(
        None,
        ge=0,
        description="the second window starts within this of the first (s); null: 30 or, of calcium, 240",
    )
    grid_s: Positive | None = Field(
        None, description="windows start at multiples of this (s); null: anywhere"
    )
    unit_dropout: float = Field(0.5, gt=0, le=1, description="smallest share of units that a view keeps")
    shuffle_units: bool = Field(
        False, description="true: each unit is turned in time by a lag of its own (an ablation)"
    )
    max_units: Count | None = Field(None, description="at most so many units in a pair of views, sampled")
    min_units: Count = Field(11, description="pairs with fewer units in a view are skipped in training")

    def of(self, modality: Modality) -> Views:
        """Fill in what is null, as the paper has it for a modality."""
        unset = {name: value for name, value in PAPER[modality].items() if getattr(self, name) is None}
        return self.model_copy(update=unset)


class Pretrain(Section):
    """The optimisation."""

    steps: Count = Field(1500, description="optimiser steps (paper: about 50,000)")
    epochs: Count | None = Field(
        None, description="passes over the recordings, in place of steps; null: steps, alike for all runs"
    )
    pairs_per_step: Count = Field(2, description="pairs of windows in a step, over all devices (paper: 128)")
    learning_rate: Positive = Field(2e-3, description="peak learning rate (paper: 5e-4 at 128 pairs)")
    weight_decay: float = Field(0.01, ge=0, description="on matrices only")
    warmup_steps: int | None = Field(None, ge=0, description="linear warm-up; null: one epoch")
    loss: Literal["contrastive", "vicreg"] = Field("contrastive", description="what is minimised")
    temperature: Positive = Field(0.2, description="of the contrastive loss")
    same_view_temperature: Positive = Field(
        1.0, description="of similarities inside a view (authors' code: 1)"
    )
    clip: Positive = Field(1.0, description="largest norm of the gradient")
    cache_gb: Positive = Field(
        4.0, description="decoded activity that a process keeps (GB); of more, parts are visited in turn"
    )
    probe_every: Count | None = Field(
        None, description="epochs between probes of the label animals while training; null: none"
    )
    keep: Literal["last", "best"] = Field(
        "last", description="the model of the end, or of the best probe of the label animals"
    )

    @model_validator(mode="after")
    def _check(self) -> Pretrain:
        if self.keep == "best" and self.probe_every is None:
            raise ValueError("keep: best needs probe_every, the epochs between probes of the label animals")
        return self


class Machine(Section):
    """How a run is carried out: changing it trains nothing again.

    What is learned is the same beyond rounding, but for dropout: each process draws its own masks, and a
    GPU other ones than a CPU. With ``model.dropout`` above 0, a run on other devices is one more draw, like
    a run of another seed; ``machine`` in config.json says which devices a model comes from.
    """

    devices: Count = Field(1, description="GPUs, or CPU processes where there is no GPU")
    num_nodes: Count = Field(1, description="machines")
    accelerator: Literal["auto", "gpu", "cpu"] = Field(
        "auto", description="gpu: an error where there is none; auto: a GPU where there is one"
    )
    share_gpus: bool = Field(
        False, description="true: runs may use a GPU that another uses; false: they wait until one is free"
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="processes that make batches, of each device; auto: for a GPU, as cores allow"
    )
    scratch: Path | None = Field(
        None,
        description="local folder for decoded activity that processes share, as /dev/shm; null: none",
    )
    scratch_gb: Positive = Field(100.0, description="at most so much in it; the oldest makes room (GB)")
    warm: bool = Field(True, description="a workflow's jobs on this machine share the loading of libraries")
    kernels: Literal["auto", "torch"] = Field(
        "auto", description="auto: own kernels on NVIDIA GPUs; torch: none but those of PyTorch"
    )
    compile: Literal["auto"] | bool = Field(
        "auto", description="torch.compile, without own kernels; auto: in long runs on GPUs that have none"
    )
    checkpoint_every: Count = Field(200, description="steps between checkpoints")
    checkpoint_minutes: Positive = Field(10.0, description="and at most so long between them")
    dask: DaskOn = Field("threads", description="chunking in threads, in processes, or in slurm jobs")
    dask_workers: Count | None = Field(
        None, description="how many of them; null: as many as cores, or 4 jobs"
    )
    logger: Literal["tensorboard", "wandb"] | None = Field(
        None, description="tensorboard or wandb, beside metrics.csv"
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _is_a_number(cls, workers: Any) -> Any:
        # Snakemake's --config hands numbers and truth values inside a section over as text.
        if isinstance(workers, str) and workers.isdecimal():
            return int(workers)
        if workers == "auto" or (type(workers) is int and workers >= 0):
            return workers
        raise ValueError("must be auto, or a number of processes from 0 on")

    @field_validator("compile", mode="before")
    @classmethod
    def _is_a_choice(cls, chosen: Any) -> Any:
        chosen = {"true": True, "false": False}.get(chosen, chosen) if isinstance(chosen, str) else chosen
        if chosen == "auto" or isinstance(chosen, bool):
            return chosen
        raise ValueError("must be auto, true or false")

    def most_workers(self, on_gpu: bool) -> int:
        """Count the processes that make batches for a device, where there are cores enough."""
        if self.workers == "auto":
            return ENOUGH_WORKERS if on_gpu else 0
        return self.workers


class Embed(Section):
    """From windows to embeddings."""

    precision: Precision = Field("auto", description="auto: bf16 on GPUs that have it; fp32")


class Scaling(Section):
    """The scaling analysis."""

    animal_counts: list[Count] | None = Field(
        None, min_length=1, description="pretraining animals of the runs; null: 1, 2, 4, ... and all"
    )
    seeds: Count = Field(5, description="runs at each count: seeds 0, 1, ...")
    largest_seeds: Count | None = Field(
        None, description="runs at the largest count, and of each ablation; null: as many as at the others"
    )
    ablations: list[Ablation] = Field(
        [],
        description="the largest runs again with a part left out; see nuclr pretrain --help",
    )


class Task(Section):
    """What a probe predicts. Where each value of a column is a class, its name alone will do."""

    name: str = Field(pattern=NAME, description="names the task's results")
    column: str = Field("", description="column of the unit table; the task's name where it is not given")
    classes: dict[str, list[str]] | None = Field(
        None, description="values of the column that make up each class; null: each value is a class"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, task: Any) -> Any:
        task = {"name": task} if isinstance(task, str) else task
        return {"column": task.get("name", ""), **task} if isinstance(task, dict) else task

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Let the schema take a name alone, as :meth:`_complete` does."""
        return {"anyOf": [{"type": "string", "pattern": NAME}, handler(core)]}


class Probe(Section):
    """What is decoded from the embeddings, and how."""

    tasks: list[Task] | None = Field(
        None, description="what to predict; null: the columns of labels that the recordings have"
    )
    protocols: list[Protocol] | None = Field(
        None, description="which units a probe may learn from; null: what suits the split"
    )
    baselines: list[Baseline] = Field(
        ["single_neuron", "population", "which_recording"],
        description="what a user would try first; see nuclr baseline --help",
    )
    kinds: list[ProbeKind] = Field(
        ["linear"],
        min_length=1,
        description="linear, knn, mlp; of several, held-out labels choose, and the first stands beside",
    )
    centred: list[bool] = Field(
        [False, True],
        min_length=1,
        description="true: features lose the mean of their recording first; [false, true]: likewise",
    )
    label_halvings: int = Field(6, ge=0, le=12, description="labels are halved so often: 1, 1/2, ... 1/64")
    min_units: Count = Field(10, description="classes with fewer units are dropped, and the log says so")
    folds: int = Field(5, ge=2, description="folds over units in the transductive protocol")
    bootstrap: Count = Field(1000, description="resamples for the 95 % intervals, and permutations of labels")


class Config(Section):
    """All of ``config.yaml``."""

    dataset: str = Field(
        "simulated",
        pattern=NAME,
        description="name; results go to results/{dataset}",
    )
    source: Source | None = Field(
        None, description="where recordings come from; null: named by the data set, else nwb"
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
            raise ValueError("probe.baselines: nemo reads waveforms; set chunk.waveforms: true to keep them")
        if self.source_kind == "nwb" and (self.nwb.folder is None) == (not self.nwb.dandi):
            raise ValueError(
                f"nwb.folder: data set {self.dataset} needs the folder of its NWB files, or nwb.dandi "
                "(one of the two)"
            )
        processes = self.machine.devices * self.machine.num_nodes
        if self.pretrain.pairs_per_step < processes:
            raise ValueError(
                f"pretrain.pairs_per_step: {self.pretrain.pairs_per_step} pairs in a step leave some of the "
                f"{processes} processes (machine.devices times machine.num_nodes) without work; raise it, or "
                "use fewer"
            )
        if self.split.by == "paper" and self.source_kind != "ibl_brain_wide_map":
            raise ValueError("split.by: a published split is known of ibl_brain_wide_map alone")
        return self

    @property
    def source_kind(self) -> Source:
        """Where recordings come from."""
        return self.source or cast(Source, self.dataset if self.dataset in get_args(Source) else "nwb")

    @property
    def reading(self) -> Reading:
        """How recordings are read."""
        return Reading(nwb=self.nwb, sorter=self.sorter, imaging=self.imaging)

    @property
    def downloads(self) -> bool:
        """Whether recordings are downloaded."""
        return self.source_kind in get_args(PublicDataSet) or bool(
            self.source_kind == "nwb" and self.nwb.dandi
        )

    @property
    def raw(self) -> Path:
        """Folder of what is simulated or downloaded."""
        return self.results / self.dataset / "raw"

    def ablated(self, name: str) -> Config:
        """Return the configuration of an ablation's runs: one key differs; of none, this one.

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
            raise ConfigError(f"scaling.ablations: no {name}; there are {', '.join(keys)}")
        return load_config(self.model_dump(mode="json"), keys.get(name, {}))

    def sections(self, *names: str) -> str:
        """Return the named sections as JSON on one line: what a rule hands to a subcommand."""
        return self.model_dump_json(include=set(names))


def load_config(*sources: str | Path | dict[str, Any]) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    *sources
        Paths to YAML files, the same as inline JSON (a string that begins with ``{``), or
        dictionaries; a later one replaces the keys that it holds. None gives the defaults.

    Raises
    ------
    ConfigError
        Naming the key, what is wrong with it, and the nearest right key.
    """
    values: dict[str, Any] = {}
    where = "config"
    for source in sources:
        if not isinstance(source, dict) and not str(source).lstrip().startswith("{"):
            where = str(source)
        _merge(values, _read(source, where))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(e) for e in error.errors()[:3])) from None


def _read(source: str | Path | dict[str, Any], where: str) -> dict[str, Any]:
    values: Any = source
    if not isinstance(source, dict):
        try:
            inline = str(source).lstrip().startswith("{")
            values = json.loads(str(source)) if inline else yaml.safe_load(Path(source).read_text()) or {}
        except json.JSONDecodeError as error:
            raise ConfigError(f"config: not JSON ({error})") from None
        except OSError as error:
            raise ConfigError(
                f"{where}: cannot be read ({error.strerror}); give the path of a YAML file"
            ) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{where}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: must hold keys and values, as in config.yaml")
    return values


def _merge(values: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            # Copied, so that merging does not reach into what the caller gave.
            values[key] = copy.deepcopy(value)


def _explain(error: Any) -> str:
    """One pydantic error in the user's words."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        remedy = did_you_mean(path[-1], known, f"known keys: {', '.join(sorted(known))}")
        return f"unknown key {key}; {remedy}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {error['input']!r})" if key else message


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
