"""Suggest which units to label first: those that represent many others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nuclr.errors import DataError
from nuclr.representation.centring import centred, populations_of

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.representation.embeddings import Embeddings


def suggest(embeddings: Embeddings, number: int) -> pd.DataFrame:
    """Choose the units whose labels are most informative, when no labels exist yet.

    The embeddings, without the mean of their population, are clustered with k-means, and the unit nearest to
    the centre of each cluster is chosen. A probe trained on these units is better than one trained on as many
    random units, or on units that are as far apart as possible, which are outliers
    (``docs/own_recordings.md`` has the figures).

    Parameters
    ----------
    embeddings
        The embeddings; units that were never active are ignored.
    number
        Number of units to choose.

    Returns
    -------
    DataFrame
        ``unit_id, population, recording, animal`` and ``stands_for``, the number of units in the cluster;
        the largest first.

    Raises
    ------
    DataError
        If there are fewer active units than requested.
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
    # The nearest unit of each cluster; of equally near ones the first.
    order = np.lexsort((distance, groups.labels_))
    found, first = np.unique(groups.labels_[order], return_index=True)
    chosen = order[first]
    sizes = np.bincount(groups.labels_, minlength=number)[found]
    from nuclr.representation.embeddings import who

    table = who(embeddings.units.iloc[rows[chosen]])
    return table.assign(stands_for=sizes).sort_values("stands_for", ascending=False, kind="stable")
