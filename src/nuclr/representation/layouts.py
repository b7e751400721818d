"""Two-dimensional layouts of embeddings: principal components, and UMAP or t-SNE if they are installed."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from nuclr.errors import ConfigError
from nuclr.files import whole

Layout = Literal["pca", "umap", "tsne"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
# Module that computes each layout, and the name of its package.
NEEDS: dict[Layout, tuple[str, str]] = {"umap": ("umap", "umap-learn"), "tsne": ("openTSNE", "openTSNE")}


def check_layouts(layouts: Sequence[str]) -> None:
    """Check that all layouts are known and their packages are installed.

    Raises
    ------
    ConfigError
        If a layout is unknown or its package is not installed.
    """
    for name in layouts:
        if name not in LAYOUTS:
            raise ConfigError(f"--layout {name}: unknown layout; choose one of {', '.join(LAYOUTS)}")
        if name in NEEDS and importlib.util.find_spec(NEEDS[name][0]) is None:
            raise ConfigError(
                f"--layout {name}: needs the package {NEEDS[name][1]}, which is not installed; "
                f"run `pip install {NEEDS[name][1]}`"
            )


def flat(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the first two principal components of standardised features, ``(unit, 2)``.

    ``features`` is ``(unit, feature)``. Components that do not exist are 0.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    standardised = StandardScaler().fit_transform(features)
    flattened = np.zeros((len(features), 2))
    if standardised.any():  # not if all units have the same features
        components = min(2, features.shape[1])
        flattened[:, :components] = PCA(components, random_state=seed).fit_transform(standardised)
    return flattened


def lay_out(vectors: np.ndarray, layout: Layout, kept: Path | None = None, seed: int = 0) -> np.ndarray:
    """Compute a two-dimensional layout of embeddings, ``(unit, 2)``.

    Parameters
    ----------
    vectors
        Embeddings, ``(unit, dim)``, without NaN.
    layout
        ``pca`` takes seconds; ``umap`` and ``tsne`` take minutes for 60,000 units.
    kept
        Folder in which ``umap`` and ``tsne`` layouts are stored, to be reused for the same embeddings.
    seed
        Seed of the random numbers.

    Raises
    ------
    ConfigError
        If the layout is unknown or its package is not installed.
    """
    check_layouts([layout])
    if len(vectors) < 3:
        return np.column_stack([np.arange(len(vectors), dtype=float), np.zeros(len(vectors))])
    if layout == "pca":
        return flat(vectors, seed)
    file = None
    if kept is not None:
        hashed = hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()
        file = kept / f"{layout}-{hashed[:16]}-{seed}.npy"
        if file.exists():
            return np.load(file, allow_pickle=False)
    found = _umap(vectors, seed) if layout == "umap" else _tsne(vectors, seed)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as partial, partial.open("wb") as stream:
            np.save(stream, found)
    return found


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    from umap import UMAP

    neighbours = min(15, len(vectors) - 1)
    return np.asarray(UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed).fit_transform(vectors))


def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    from openTSNE import TSNE

    perplexity = min(30, max(1, (len(vectors) - 1) // 3))
    return np.asarray(TSNE(perplexity=perplexity, metric="cosine", random_state=seed).fit(vectors))
