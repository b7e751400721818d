"""Learn one embedding per neuron from population activity (NuCLR, arXiv 2512.01199).

>>> import nuclr
>>> model = nuclr.load_model(nuclr.pretrain("my_folder", "model.safetensors"))  # doctest: +SKIP
>>> embeddings = model.embed(model.read("my_session.nwb"))  # doctest: +SKIP
>>> answers = nuclr.load_probe("probe.safetensors").predict(embeddings)  # doctest: +SKIP

The names in ``__all__`` are the public interface; they change only with a major version.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "NuclrError",
    "__version__",
    "from_spike_times",
    "from_traces",
    "load_model",
    "load_probe",
    "pretrain",
    "read",
    "train_probe",
]
# Imported on first use, so that the command line starts in a tenth of the time.
_WHERE = {
    "NuclrError": "nuclr.errors",
    "from_spike_times": "nuclr.data.formats.memory",
    "from_traces": "nuclr.data.formats.memory",
    "load_model": "nuclr.sharing.loaded",
    "load_probe": "nuclr.evaluation.answers.saved_probe",
    "pretrain": "nuclr.training.own",
    "read": "nuclr.data.own",
    "train_probe": "nuclr.evaluation.answers.probe_training",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module nuclr has no attribute {name}")
    return getattr(import_module(_WHERE[name]), name)
