"""Where a result comes from: versions, and fingerprints of what went in."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from typing import Any

PACKAGES = ("nuclr", "torch", "lightning", "numpy", "scikit-learn", "zarr", "xarray", "dask", "pynwb")


def versions() -> dict[str, str]:
    """Return versions of Python and of the packages that move numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def fingerprint(content: Any) -> str:
    """Hash anything that can be written as JSON; the same content gives the same 16 digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
