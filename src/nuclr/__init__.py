"""One embedding per neuron, from population activity alone (NuCLR, arXiv 2512.01199)."""

from __future__ import annotations

__version__ = "0.1.0"
