"""Embed recordings with a progress bar: code that the subcommands embed and identify share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuclr.config import Config
    from nuclr.data.own import Found
    from nuclr.data.population import Population
    from nuclr.representation.embeddings import Embeddings
    from nuclr.sharing.loaded import Model

logger = logging.getLogger(__name__)


def embed_recordings(
    found: Sequence[Found], model: Model, options: Config
) -> tuple[Embeddings, dict[str, Any]]:
    """Embed every unit of several recordings, binned for the model.

    Parameters
    ----------
    found
        Recordings from :func:`nuclr.data.own.find`.
    model
        The model.
    options
        The configuration.

    Returns
    -------
    embeddings
        Embeddings of all units.
    record
        Provenance of the embeddings.
    """
    from nuclr.cli.progress import bar
    from nuclr.cluster import computing
    from nuclr.data.own import HASHED_BYTES, open_found
    from nuclr.representation.embed import embed_with_model, precision_used
    from nuclr.training.devices import gpus

    machine, precision = options.machine, options.embed.precision
    chunk = options.chunk.model_copy(update={"bin_s": model.bin_s})
    if "min_rate_hz" not in chunk.model_fields_set and (least := model.min_rate_hz):
        chunk = chunk.model_copy(update={"min_rate_hz": least})
        if any(recording.form for recording in found):  # units of a store are never filtered again
            logger.info(
                "the model was trained on units of at least %g Hz; units with lower rates are left out", least
            )
    files: dict[str, str] = {}

    def opened(shown: Callable[..., Iterable[Any]]) -> Iterator[Population]:
        for population in open_found(found, options.reading, chunk, shown, model.kind, HASHED_BYTES):
            files[population.population] = population.source.get("file", "")
            yield population

    with (
        gpus(machine.devices, machine.accelerator, machine.share_gpus),
        computing("threads", machine.dask_workers),
    ):
        with bar("embedding") as shown:
            embeddings = embed_with_model(model.saved, opened(shown), machine, precision)
        used = precision_used(machine, precision)
    record = {
        "model": model.sha256,
        "embedded": files,
        "hashes": dict(embeddings.hashes),
        "precision": used,
        **model.saved.record,
    }
    return embeddings, record
