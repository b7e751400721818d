"""A model of one's own recordings: what ``nuclr pretrain`` does without splits, and ``nuclr.pretrain``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nuclr.cluster import computing
from nuclr.config import Config, load_config
from nuclr.data.access.remote import on_disk
from nuclr.data.own import find, store_found
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
    """Pretrain an encoder on all animals of some recordings: what ``nuclr.pretrain`` is.

    Stores of the recordings are made in ``populations`` beside the model. Killed and started again, it goes
    on from its last checkpoint.

    Parameters
    ----------
    recordings
        NWB files, Kilosort, phy or SpikeInterface folders, population stores, or folders of these; one or
        several.
    output
        The folder to write the model to: ``model.safetensors``, ``config.json``, its card ``README.md`` and
        ``metrics.csv``; or the weights' file, and the others lie beside it.
    config
        What differs from the default configuration: a dictionary, or the path of a YAML file.
    seed
        Of weights, views and dropout.

    Returns
    -------
    Path
        The weights' file, for ``nuclr.load_model``.

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
    """Make stores of recordings beside a model, and pretrain it on all their animals.

    Parameters, return value and errors are those of :func:`nuclr.training.run.pretrain_run`.
    """
    here = [on_disk(place) for place in recordings]
    with computing("threads", config.machine.dask_workers):
        stores = store_found(find(here), output.parent / "populations", config.reading, config.chunk)
    cohort = Cohort(stores, sorted({open_population(store).animal for store in stores}))
    return pretrain_run(cohort, config, seed, output=output, checkpoints=checkpoints, about=about)
