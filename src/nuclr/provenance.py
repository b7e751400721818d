"""Provenance of results: versions of packages, and fingerprints of inputs."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from typing import Any

PACKAGES = ("nuclr", "torch", "lightning", "numpy", "scikit-learn", "zarr", "xarray", "dask", "pynwb")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that influence results."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def fingerprint(content: Any) -> str:
    """Return a hash of 16 digits of anything that can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
