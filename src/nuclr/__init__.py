"""One embedding per neuron, from population activity alone (NuCLR, arXiv 2512.01199).

>>> import nuclr
>>> model = nuclr.load_model("model.safetensors")  # doctest: +SKIP
>>> reads = {"bin_s": model.bin_s, "min_rate_hz": model.min_rate_hz}  # doctest: +SKIP
>>> for population in nuclr.read("my_session.nwb", **reads):  # doctest: +SKIP
...     units, vectors, windows = model.embed(population)

``load_model``, ``read`` and ``load_probe`` are what programs may rely on: they change with a major version.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["NuclrError", "__version__", "load_model", "load_probe", "read"]
# Loaded when first asked for: the command line starts in a tenth of the time.
_WHERE = {
    "NuclrError": "nuclr.errors",
    "load_model": "nuclr.evaluation.embed",
    "load_probe": "nuclr.evaluation.saved_probe",
    "read": "nuclr.data.own",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module nuclr has no attribute {name}")
    return getattr(import_module(_WHERE[name]), name)
