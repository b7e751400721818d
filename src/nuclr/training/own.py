"""Pretrain a model on your own recordings: ``nuclr.pretrain``, and ``nuclr pretrain`` without splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nuclr.cluster import computing
from nuclr.config import Config, load_config
from nuclr.data.access.remote import on_disk
from nuclr.data.own import find
from nuclr.data.own_stores import store_found
from nuclr.data.store import open_population
from nuclr.model.card import CARD, write_card
from nuclr.model.tensor_files import read_record, weights_at
from nuclr.training.devices import gpus
from nuclr.training.run import Cohort, pretrain_run


def pretrain(
    recordings: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    config: Path | str | dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Pretrain an encoder on all animals of some recordings (``nuclr.pretrain``).

    Population stores of the recordings are written to ``populations`` beside the model. After an
    interruption, the same call resumes from the last checkpoint.

    Parameters
    ----------
    recordings
        Recordings (NWB, Kilosort, phy, SpikeInterface, ALF, Suite2p, CaImAn), population stores, or folders
        of these; one or several.
    output
        The folder of the model: ``model.safetensors``, ``config.json``, the card ``README.md`` and
        ``metrics.csv``; or the file of the weights, beside which the other files are written.
    config
        Settings that differ from the default configuration: a dictionary, or the path of a YAML file.
    seed
        Seed of weights, views and dropout.

    Returns
    -------
    Path
        The file of the weights, for ``nuclr.load_model``.

    Raises
    ------
    NuclrError
        If a recording cannot be read, there is too little to learn from, or the configuration is wrong.
    """
    several = [recordings] if isinstance(recordings, str | Path) else recordings
    options, output = load_config(*([] if config is None else [config])), weights_at(Path(output))
    machine = options.machine
    with gpus(machine.devices, machine.accelerator, machine.share_gpus):
        wrote = pretrain_own(
            [Path(path) for path in several],
            options,
            seed,
            output=output,
            checkpoints=output.parent / "checkpoints",
        )
    if wrote:
        write_card(output.with_name(CARD), read_record(output, "model", "train it again"))
    return output


def pretrain_own(
    recordings: Sequence[Path],
    config: Config,
    seed: int,
    *,
    output: Path,
    checkpoints: Path,
    about: Mapping[str, Any] | None = None,
) -> bool:
    """Write population stores of recordings beside a model, and pretrain it on all their animals.

    Parameters, return value and errors are those of :func:`nuclr.training.run.pretrain_run`.
    """
    here = [on_disk(place) for place in recordings]
    with computing("threads", config.machine.dask_workers):
        stores = store_found(find(here), output.parent / "populations", config.reading, config.chunk)
    cohort = Cohort(stores, sorted({open_population(store).animal for store in stores}))
    return pretrain_run(cohort, config, seed, output=output, checkpoints=checkpoints, about=about)
