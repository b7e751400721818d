"""Runs where Suite2p is: take its baseline off traces, ``file`` in and out, at ``rate`` frames a second."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

file, rate = Path(sys.argv[1]), float(sys.argv[2])
# Suite2p itself imports all that it needs for registration and detection; these modules need none of it.
found = importlib.util.find_spec("suite2p")
assert found is not None
root = Path(str(found.origin)).parent
for name, folder in (("suite2p", root), ("suite2p.extraction", root / "extraction")):
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
dcnv = importlib.import_module("suite2p.extraction.dcnv")

options = {}
if "device" in inspect.signature(dcnv.preprocess).parameters:
    import torch

    options["device"] = torch.device("cpu")
without = dcnv.preprocess(
    np.load(file), baseline="maximin", win_baseline=60.0, sig_baseline=10.0, fs=rate, **options
)
np.save(file, without)
print("done")
