"""The model object that ``nuclr.load_model`` returns."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclr.config import Precision
from nuclr.data.kinds import Kind
from nuclr.data.own import read
from nuclr.data.population import Population
from nuclr.errors import ModelError
from nuclr.model.card import SIMULATED, is_simulated
from nuclr.model.saved import SavedModel, read_model
from nuclr.model.tensor_files import MODEL
from nuclr.representation.embed import embed_with_model
from nuclr.representation.embeddings import Embeddings
from nuclr.sharing.layout import probes_in, reference_file
from nuclr.sharing.source import locate
from nuclr.words import counted

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.evaluation.answers.saved_probe import SavedProbe
    from nuclr.sharing.identify import Identified


@dataclass(frozen=True)
class Model:
    """A trained encoder and the probes in its folder.

    Attributes
    ----------
    saved
        The encoder and its record.
    folder
        The model folder, with the probes; None for a single file.
    origin
        Where the model was downloaded from: ``address``, and the ``commit`` or the ``sha256``.
    """

    saved: SavedModel
    folder: Path | None = None
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def modality(self) -> str:
        """Modality that the model reads: ``spikes`` or ``calcium``."""
        return str(self.saved.record["modality"])

    @property
    def bin_s(self) -> float:
        """Length of the bins or frames that the model reads (s)."""
        return float(self.saved.record["bin_s"])

    @property
    def kind(self) -> Kind:
        """Kind of recordings that the model reads."""
        return Kind(self.saved.record["modality"], self.bin_s)

    @property
    def min_rate_hz(self) -> float:
        """Lowest firing rate of the units that the model was trained on (Hz)."""
        return float(self.saved.record.get("min_rate_hz", 0.0))

    @property
    def trained_on(self) -> str:
        """Recordings of the pretraining in words; "" for a model that does not state them."""
        record = self.saved.record
        animals, datasets = record.get("animals", []), record.get("datasets", [])
        if not animals:
            return ""
        named = ", ".join(datasets) or "unnamed recordings"
        simulated = ", simulated" if self.is_simulated and SIMULATED not in datasets else ""
        return f"{counted(len(animals), 'animal')} ({named}{simulated})"

    @property
    def is_simulated(self) -> bool:
        """Whether the model was trained on simulated recordings only."""
        return is_simulated(self.saved.record)

    def warn_if_simulated(self) -> None:
        """Warn that answers have no meaning if the model was trained on simulated recordings only."""
        if self.is_simulated:
            logger.warning(
                "the model was trained on simulated recordings only, so its answers about other recordings "
                "have no meaning; use a model that was trained on real recordings"
            )

    @property
    def sha256(self) -> str:
        """Hash of the weights, which identifies the model."""
        return self.saved.sha256

    def probes(self, instead: Iterable[Path | str] | None = None) -> dict[str, SavedProbe]:
        """Read the probes of the model folder, or other probes, as a dictionary by task.

        Parameters
        ----------
        instead
            Probe files to read instead of those in the folder.

        Raises
        ------
        ModelError
            If a probe is damaged or reads embeddings of another model, or two probes have the same task.
        """
        from nuclr.sharing.folder import load_probes

        own = probes_in(self.folder) if self.folder else []
        return load_probes(own if instead is None else map(Path, instead), self.sha256)

    def checked_probes(self, instead: Iterable[Path | str] | None = None) -> dict[str, SavedProbe]:
        """Read the probes like :meth:`probes`, and require at least one.

        Raises
        ------
        ModelError
            As for :meth:`probes`, and if there is no probe.
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
        """Read the firing rates (Hz) of the probes' training units: quantiles by class, for each task."""
        from nuclr.sharing.reference import rates_of

        own = probes_in(self.folder) if self.folder else []
        found = (rates_of(reference_file(probe)) for probe in own)
        return {task: rates for named in found if named is not None for task, rates in [named]}

    def read(self, recording: Any, **options: Any) -> Iterator[Population]:
        """Yield the populations of a recording, binned for this model: ``nuclr.read`` with ``model=self``.

        Parameters
        ----------
        recording
            A file, a folder, or an object in memory.
        options
            Further arguments of :func:`nuclr.data.own.read`.
        """
        return read(recording, model=self, **options)

    def embed(
        self, populations: Population | Iterable[Population], precision: Precision = "auto"
    ) -> Embeddings:
        """Embed the units of one or several populations, on a GPU if there is one.

        Parameters
        ----------
        populations
            A population, or several, which are embedded one after another.
        precision
            ``auto``: bf16 on GPUs that support it. ``fp32``: single precision everywhere.

        Raises
        ------
        DataError
            If there is no population, or all are shorter than the model's window.
        ModelError
            If a population has another modality or bin than the model reads.
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
        """Decode the units of one or several populations with every probe of the model.

        Parameters
        ----------
        populations
            A population, or several, which are embedded one after another.
        sure
            Accuracy requested of the answers.
        coverage
            How often the set of possible classes of a unit shall contain the true one; None: 0.9, or what
            the probe's number of animals allows.
        depth
            Column with depths on the recording probe (um). If units have it, neighbours help to decode
            regions.
        probes
            Probe files to use instead of those in the model folder.

        Raises
        ------
        DataError
            If there is no population, or all are shorter than the model's window.
        ModelError
            If the model has no probe, a probe reads embeddings of another model, two probes have the same
            task, or a population has another modality or bin than the model reads.

        Examples
        --------
        >>> model = nuclr.load_model("hf://owner/name")  # doctest: +SKIP
        >>> found = model.identify(model.read("my_session.nwb"))  # doctest: +SKIP
        >>> found.units[["unit_id", "brain_region_predicted"]]  # doctest: +SKIP
        """
        from nuclr.sharing.identify import identify, warnings_kept

        loaded = self.checked_probes(probes)
        with warnings_kept() as warnings:
            self.warn_if_simulated()
            return identify(
                self.embed(populations), loaded, warnings, sure=sure, coverage=coverage, depth=depth
            )


def load_model(model: Path | str) -> Model:
    """Load a model; it is downloaded first if necessary.

    Parameters
    ----------
    model
        A model folder or its ``model.safetensors``; ``hf://owner/name`` or ``hf://owner/name@revision`` on
        the Hugging Face Hub (needs ``nuclr[hub]``); or the ``https://...`` address of a zip or tar file of a
        model folder, or of its ``model.safetensors``. Downloads are cached and checked by their hash.

    Raises
    ------
    ModelError
        If there is no model, a file is missing or damaged, or two files do not belong together.
    DownloadError
        If the model cannot be downloaded.
    """
    source = locate(model)
    saved = read_model(source.path)
    folder = source.path if source.path.is_dir() else source.path.parent
    alone = source.path.suffix == ".safetensors" and source.path.name != MODEL
    return Model(saved, None if alone else folder, source.origin)
