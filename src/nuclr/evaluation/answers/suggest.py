"""Which units to label first: those that stand for many others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nuclr.errors import DataError
from nuclr.representation.centring import centred, populations_of

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.representation.embeddings import Embeddings


def suggest(embeddings: Embeddings, number: int) -> pd.DataFrame:
    """Choose the units whose labels would tell most, when there are none yet.

    Embeddings, without the mean of their population, are divided into as many groups by k-means; the unit
    nearest to the middle of each is chosen. A probe that learns from these is better than one that learns
    from as many units drawn at random, and than from units that lie as far apart as can be, which are
    outliers (``docs/own_recordings.md`` has the figures).

    Parameters
    ----------
    embeddings
        Units that were never active are passed over.
    number
        How many units to choose.

    Returns
    -------
    DataFrame
        ``unit_id, population, recording, animal`` and ``stands_for``, how many units its group has; the
        largest first.

    Raises
    ------
    DataError
        If there are not as many active units.
    """
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import StandardScaler

    rows = np.flatnonzero(~np.isnan(embeddings.vectors).any(axis=1))
    if not 0 < number <= len(rows):
        raise DataError(
            f"suggest: {number} units are requested, but {len(rows)} units are active; lower --number"
        )
    vectors = centred(embeddings.vectors, populations_of(embeddings.units))[rows]
    scaled = StandardScaler().fit_transform(vectors)
    groups = KMeans(number, n_init=1, random_state=0).fit(scaled)
    distance = np.linalg.norm(scaled - groups.cluster_centers_[groups.labels_], axis=1)
    # The nearest of each group, the first of equals.
    order = np.lexsort((distance, groups.labels_))
    found, first = np.unique(groups.labels_[order], return_index=True)
    chosen = order[first]
    sizes = np.bincount(groups.labels_, minlength=number)[found]
    from nuclr.representation.embeddings import who

    table = who(embeddings.units.iloc[rows[chosen]])
    return table.assign(stands_for=sizes).sort_values("stands_for", ascending=False, kind="stable")
