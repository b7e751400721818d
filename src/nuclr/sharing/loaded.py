"""A model in use: what ``nuclr.load_model`` gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclr.config import Precision
from nuclr.data.own import read
from nuclr.data.population import Population
from nuclr.errors import ModelError
from nuclr.model.saved import SavedModel, read_model
from nuclr.model.tensor_files import MODEL
from nuclr.representation.embed import embed_with_model
from nuclr.representation.embeddings import Embeddings
from nuclr.sharing.layout import probes_in, reference_file
from nuclr.sharing.source import locate

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.evaluation.answers.saved_probe import SavedProbe
    from nuclr.sharing.identify import Identified


@dataclass(frozen=True)
class Model:
    """A trained encoder and the probes that lie with it.

    Attributes
    ----------
    saved
        The encoder and its record.
    folder
        Where its probes are; None where it is a file by itself.
    origin
        Where it was downloaded from: ``address``, and the ``commit`` or the ``sha256``.
    """

    saved: SavedModel
    folder: Path | None = None
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def modality(self) -> str:
        """What it reads: ``spikes`` or ``calcium``."""
        return str(self.saved.record["modality"])

    @property
    def bin_s(self) -> float:
        """Length of the bins or frames that it reads (s)."""
        return float(self.saved.record["bin_s"])

    @property
    def min_rate_hz(self) -> float:
        """Least firing rate of the units that it learned from (Hz)."""
        return float(self.saved.record.get("min_rate_hz", 0.0))

    @property
    def sha256(self) -> str:
        """Hash of its weights: its name wherever it is used."""
        return self.saved.sha256

    def probes(self, instead: Iterable[Path | str] | None = None) -> dict[str, SavedProbe]:
        """Read the probes of its folder, or some that lie elsewhere, by what they tell.

        Parameters
        ----------
        instead
            Probes to take in place of those of the folder.

        Raises
        ------
        ModelError
            If one is damaged or reads embeddings of another model, or two tell the same.
        """
        from nuclr.sharing.folder import load_probes

        own = probes_in(self.folder) if self.folder else []
        return load_probes(own if instead is None else map(Path, instead), self.sha256)

    def checked_probes(self, instead: Iterable[Path | str] | None = None) -> dict[str, SavedProbe]:
        """Read its probes (:meth:`probes`) where it is to say what units are.

        Raises
        ------
        ModelError
            Also if there is none.
        """
        found = self.probes(instead)
        if not found:
            raise ModelError(
                f"{self.folder or 'the model'}: the model has no probe, so it cannot decode units; train one "
                "on labels (`nuclr train-probe embeddings.parquet --column brain_region -o FOLDER`), or give "
                "one with --probe"
            )
        return found

    def rates(self) -> dict[str, pd.DataFrame]:
        """Read how fast the units fired that its probes learned from (Hz): quantiles by class, by task."""
        from nuclr.sharing.reference import rates_of

        own = probes_in(self.folder) if self.folder else []
        found = (rates_of(reference_file(probe)) for probe in own)
        return {task: rates for named in found if named is not None for task, rates in [named]}

    def read(self, recording: Any, **options: Any) -> Iterator[Population]:
        """Yield the populations of a recording, binned as it reads them: ``nuclr.read`` with this model.

        Parameters
        ----------
        recording
            A file, a folder, or an object in memory.
        options
            Of :func:`nuclr.data.own.read`.
        """
        return read(recording, model=self, **options)

    def embed(
        self, populations: Population | Iterable[Population], precision: Precision = "auto"
    ) -> Embeddings:
        """Embed the units of a population, or of one after the other; on a GPU where there is one.

        Parameters
        ----------
        populations
            What to embed.
        precision
            ``auto``: bf16 on GPUs that have it. ``fp32``: single, everywhere.

        Raises
        ------
        DataError
            If there is no population, or no window of the model fits into one.
        ModelError
            If one is of another modality or bin than the model reads.
        """
        if isinstance(populations, Population):
            populations = [populations]
        return embed_with_model(self.saved, populations, precision=precision)

    def identify(
        self,
        populations: Population | Iterable[Population],
        *,
        sure: float = 0.8,
        coverage: float | None = None,
        depth: str = "depth_um",
        probes: Iterable[Path | str] | None = None,
    ) -> Identified:
        """Say what the units of some populations are, by every probe that lies with the model.

        Parameters
        ----------
        populations
            What to identify: one, or one after the other.
        sure
            How often an answer shall be right.
        coverage
            How often the set of classes that a unit may be of shall hold the true one; None: 0.9, or what
            the probe's animals can promise.
        depth
            Column with depths on the probe (um): where it is there, neighbours help to tell regions.
        probes
            Probes to take in place of those of the model's folder.

        Raises
        ------
        DataError
            If there is no population, or no window of the model fits into one.
        ModelError
            If the model has no probe, one is of another model, two tell the same, or a population is of
            another modality or bin than the model reads.

        Examples
        --------
        >>> model = nuclr.load_model("hf://owner/name")  # doctest: +SKIP
        >>> found = model.identify(model.read("my_session.nwb"))  # doctest: +SKIP
        >>> found.units[["unit_id", "brain_region_predicted"]]  # doctest: +SKIP
        """
        from nuclr.sharing.identify import identify, warnings_kept

        loaded = self.checked_probes(probes)
        with warnings_kept() as warnings:
            return identify(
                self.embed(populations), loaded, warnings, sure=sure, coverage=coverage, depth=depth
            )


def load_model(model: Path | str) -> Model:
    """Read a model, and download it first if it is not here yet.

    Parameters
    ----------
    model
        A model's folder or its ``model.safetensors``; ``hf://owner/name`` or ``hf://owner/name@revision`` on
        the Hugging Face Hub (needs ``nuclr[hub]``); or ``https://...`` of a zip or tar file of its folder, or
        of its ``model.safetensors``. What was downloaded is kept and checked by its hash.

    Raises
    ------
    ModelError
        If there is no model, a file is missing or damaged, or two do not belong together.
    DownloadError
        If it cannot be downloaded.
    """
    source = locate(model)
    saved = read_model(source.path)
    folder = source.path if source.path.is_dir() else source.path.parent
    alone = source.path.suffix == ".safetensors" and source.path.name != MODEL
    return Model(saved, None if alone else folder, source.origin)
