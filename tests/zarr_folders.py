"""NWB files as Zarr folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr


def to_zarr(path: Path, folder: Path, *, consolidated: bool) -> Path:
    """Write an NWB file as hdmf-zarr does: format 2, references as attributes, those to groups pickled."""
    root = zarr.create_group(folder, zarr_format=2)

    def attributes(item: h5py.HLObject) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in item.attrs.items():
            if isinstance(value, h5py.Reference):
                target = {"source": ".", "path": item.file[value].name, "object_id": None}
                found[name] = {"zarr_dtype": "object", "value": target}
            elif isinstance(value, np.ndarray):
                found[name] = [v.decode() if isinstance(v, bytes) else v for v in value.tolist()]
            else:
                found[name] = value.item() if isinstance(value, np.generic) else value
        return found

    def copy(name: str, item: h5py.HLObject) -> None:
        if name.startswith("specifications"):
            return
        if isinstance(item, h5py.Group):
            root.require_group(name).attrs.update(attributes(item))
            return
        values = np.atleast_1d(item[()])
        if item.dtype.kind == "O" and item.size and isinstance(values.flat[0], h5py.Reference):
            (folder / name).mkdir()
            pickled = {"shape": [len(values)], "chunks": [len(values)], "dtype": "|O", "fill_value": 0}
            pickled |= {"order": "C", "zarr_format": 2, "compressor": None, "filters": [{"id": "pickle"}]}
            (folder / name / ".zarray").write_text(json.dumps(pickled))
            return
        if item.dtype.kind == "O":
            values = np.array([v.decode() for v in values.ravel()], dtype=np.dtypes.StringDType())
        made = root.create_array(name, data=values)
        made.attrs.update(attributes(item))
        if item.dtype.kind == "O":
            metadata = folder / name / ".zarray"
            metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "fill_value": 0}))

    with h5py.File(path) as file:
        root.attrs.update(attributes(file))
        file.visititems(copy)
    if consolidated:
        keys = [*folder.rglob(".z*")]
        listed = {key.relative_to(folder).as_posix(): json.loads(key.read_text()) for key in keys}
        content = {"zarr_consolidated_format": 1, "metadata": listed}
        (folder / ".zmetadata").write_text(json.dumps(content))
    return folder
