"""Allen Visual Coding, Neuropixels (Siegle et al. 2021, Nature 592:86): 58 sessions of 58 mice.

Each session is one NWB file, from the Allen Institute's warehouse (allensdk, in a separate environment in
``envs/``, finds the address of each file) or from DANDI (dandisets 000021 and 000022). The column
``peak_channel_id`` names the electrode of a unit; the light pulses are in
processing/optotagging/optogenetic_stimulation.

Cell types come from optotagging. In Pvalb, Sst and Vip mice, only the neurons of that type express a channel
that light opens. A unit is classified as such a neuron if, after the onset of short pulses,

- it fires at least ``light_ratio`` times as often 1 to 9 ms after the onset as in the 8 ms that end 2 ms
before it
  (the first millisecond may contain the artefact of the onset, the tenth that of the end),
- its first response, the first of three millisecond bins that exceed the baseline by three standard
  deviations, is within ``light_latency_ms``, because later responses may be synaptic,
- and the two counts differ over pulses with a p-value below ``light_p`` (Wilcoxon signed-rank test,
one-sided).

The three numbers are stored for every unit (``light_ratio, light_latency_ms, light_p``), so that other
thresholds can be applied without reading the data again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nuclr.config import AllenVisualCoding, Nwb, Reading
from nuclr.data.archives.manifests import manifest
from nuclr.data.recording import Recording, SpikeTrains, intersect_spans
from nuclr.data.text import match_ids, read_table
from nuclr.errors import DataError, DownloadError

if TYPE_CHECKING:
    import pandas as pd

    from nuclr.data.archives.download import Fetcher
    from nuclr.data.formats.nwb.file import Node

LINKS = "links.tsv"
LICENCE = "Allen Institute's terms of use, https://alleninstitute.org/legal/terms-use"
# Columns of allensdk's default filter of units (allensdk.brain_observatory.ecephys.UNIT_FILTER_DEFAULTS).
QUALITY = ("amplitude_cutoff", "presence_ratio", "isi_violations")
CELL_TYPES = ("Pvalb", "Sst", "Vip")
BEFORE_LIGHT_S = 300.0
LONGEST_PULSE_S = 0.02
EVOKED_S, BASELINE_S = (0.001, 0.009), (-0.010, -0.002)


def recordings(raw: Path) -> list[Recording]:
    """Return all sessions; each becomes a folder below ``raw`` when it is downloaded."""
    return [
        # The manifest lacks the numbers of some animals; each session is of a different animal.
        Recording(
            raw / row["session"],
            row["session"],
            row["animal"] or f"of-{row['session']}",
            origin=row["dandiset"],
        )
        for row in manifest("allen_visual_coding")
    ]


def download(recording: Recording, folder: Path, where: str | Path, fetcher: Fetcher) -> None:
    """Download a session to ``folder / recording / recording.nwb``.

    Parameters
    ----------
    recording, folder, fetcher
        The session, the target folder, and how files are downloaded.
    where
        Address of DANDI's server, or a table of ``session`` and ``url`` from ``envs/allen_links.py``.

    Raises
    ------
    DownloadError
        If the file cannot be downloaded.
    """
    from nuclr.data.archives import dandi
    from nuclr.data.archives.download import Remote

    session = recording.recording
    name = f"{session}.nwb"
    if isinstance(where, Path):
        remote = Remote(_link(where, session), name)
    else:
        remote = dandi.remote(recording.origin, f"*_ses-{session}.nwb", name, where, fetcher)
    fetcher.fetch(remote, folder / session)


def licence(recording: Recording, server: str, fetcher: Fetcher) -> str:
    """Return the licence of a session on DANDI.

    Raises
    ------
    DownloadError
        If the server states none.
    """
    from nuclr.data.archives import dandi

    return dandi.licence_of(recording.origin, server, fetcher)


def _link(links: Path, session: str) -> str:
    import pandas as pd

    try:
        table = pd.read_csv(links, sep="\t", dtype=str)
        return str(table.set_index("session")["url"][session])
    except (OSError, KeyError, ValueError):
        raise DownloadError(
            f"{links}: no address for session {session}; delete this file, so that the workflow makes it "
            "again "
            "with allensdk, or set allen_visual_coding.archive: dandi"
        ) from None


def read(recording: Recording, options: AllenVisualCoding) -> list[SpikeTrains]:
    """Read the populations of a session, one for each probe.

    Units are those that pass allensdk's quality criteria and are in the regions of the configuration. Invalid
    times are removed, as well as everything from five minutes before the first light pulse onwards. The
    labels are ``brain_region`` and ``cell_type``, "" if unknown.

    Raises
    ------
    DataError
        If the file is missing, damaged or not a session of this data set, or no unit is left.
    """
    from nuclr.data.formats import nwb
    from nuclr.data.formats.nwb.units import REGION

    path = recording.path / f"{recording.recording}.nwb"
    columns = Reading(nwb=Nwb(unit_columns=["quality", *QUALITY]))
    with nwb.opened(path) as root:
        described = root.get("general/subject/genotype")
        pulses, genotype = light_pulses(root), described.text() if described is not None else ""
        populations = nwb.populations_of(root, columns)
    found = []
    for trains in populations:
        if not isinstance(trains, SpikeTrains) or REGION not in trains.units:
            raise DataError(
                f"{path}: no units with brain regions; check that it is a session of Visual Coding"
            )
        units = trains.units
        good = (
            (units["quality"] == "good")
            & (units["amplitude_cutoff"] <= 0.1)
            & (units["presence_ratio"] >= 0.95)
            & (units["isi_violations"] <= 0.5)
            & (units[REGION] != "")
            & units[REGION].str.startswith(options.regions)
        ).to_numpy()
        if not good.any():
            continue
        chosen = trains.only(good)
        spans = chosen.valid_spans
        if len(pulses):
            spans = intersect_spans(spans, np.array([[-np.inf, pulses[:, 0].min() - BEFORE_LIGHT_S]]))
        if not len(spans):
            raise DataError(
                f"{path}: no valid time is left, because only the time until {BEFORE_LIGHT_S:g} s before the "
                "first light pulse is used; leave it out with split.leave_out"
            )
        labelled = chosen.units.drop(columns="quality").join(_cell_types(chosen, pulses, genotype, options))
        found.append(replace(chosen, path=recording.path, units=labelled, valid_spans=spans, cut=True))
    if not found:
        raise DataError(
            f"{path}: no good unit in a region that begins with {options.regions}; "
            "change allen_visual_coding.regions"
        )
    return found


def light_pulses(root: Node) -> np.ndarray:
    """Return start and stop (s) of all light pulses, ``(pulse, 2)``; empty for sessions without them."""
    from nuclr.data.formats.nwb.tables import Table, intervals

    table = root.get("processing/optotagging/optogenetic_stimulation")
    return np.zeros((0, 2)) if table is None else intervals(Table(table))


def light_response(trains: Sequence[np.ndarray], onsets: np.ndarray) -> pd.DataFrame:
    """Return the responses of units to short light pulses; see the docstring of the module.

    Parameters
    ----------
    trains
        Spike times of each unit (s), ascending.
    onsets
        Onsets of the pulses (s).

    Returns
    -------
    DataFrame
        ``light_ratio`` (evoked to baseline), ``light_latency_ms`` (NaN: no response) and ``light_p``, one row
        for each unit.
    """
    import pandas as pd
    from scipy.stats import wilcoxon

    rows = []
    edges = np.arange(BASELINE_S[0], EVOKED_S[1] + 1e-9, 0.001)
    for train in trains:
        evoked, baseline = (
            np.diff(np.searchsorted(train, onsets[:, None] + np.array(window)), axis=1)[:, 0]
            for window in (EVOKED_S, BASELINE_S)
        )
        by_ms = np.diff(np.searchsorted(train, onsets[:, None] + edges), axis=1).sum(axis=0)
        before, after = by_ms[: round(-BASELINE_S[0] * 1000) - 2], by_ms[round(-BASELINE_S[0] * 1000) + 1 :]
        threshold = before.mean() + 3 * max(before.std(), 1.0)
        # Three bins wide, so that a single bin by chance is not a response.
        above = np.convolve(after, np.ones(3), "valid") > 3 * threshold
        differs = (evoked != baseline).any()
        rows.append(
            {
                # Half a spike is added to both counts, so that silent units have a ratio, near 1.
                "light_ratio": (evoked.sum() + 0.5) / (baseline.sum() + 0.5),
                "light_latency_ms": 1.0 + above.argmax() if above.any() else np.nan,
                "light_p": wilcoxon(evoked, baseline, alternative="greater").pvalue if differs else 1.0,
            }
        )
    return pd.DataFrame(rows, columns=["light_ratio", "light_latency_ms", "light_p"])


def _cell_types(
    trains: SpikeTrains, pulses: np.ndarray, genotype: str, options: AllenVisualCoding
) -> pd.DataFrame:
    """Return the cell type of every unit, and its response to light if the session has pulses."""
    import pandas as pd

    from nuclr.data.spikes import SpikesByUnit

    assert isinstance(trains.spikes, SpikesByUnit)  # NWB
    onsets = pulses[np.diff(pulses, axis=1)[:, 0] < LONGEST_PULSE_S, 0]
    if len(onsets):
        response = light_response(list(trains.spikes.trains()), onsets)
    else:
        response = pd.DataFrame(
            np.nan, range(len(trains.units)), ["light_ratio", "light_latency_ms", "light_p"]
        )
    if options.labels is not None:
        return response.assign(cell_type=_from_table(options.labels, trains.units["unit_id"]))
    kind = next((kind for kind in CELL_TYPES if genotype.startswith(kind)), "")
    tagged = (
        (response["light_ratio"] >= options.light_ratio)
        & (response["light_latency_ms"] <= options.light_latency_ms)
        & (response["light_p"] < options.light_p)
    )
    return response.assign(cell_type=np.where(tagged, kind, ""))


def _from_table(labels: Path, unit_ids: pd.Series) -> np.ndarray:
    """Return cell types from a table of ``unit_id`` and ``cell_type``; ids may be the archive's numbers."""
    named = f"allen_visual_coding.labels: {labels}"
    table = read_table(labels, named)
    if lacking := {"unit_id", "cell_type"} - set(table):
        raise DataError(f"{named}: no column {min(lacking)}; the columns are {', '.join(table)}")
    found = np.full(len(unit_ids), "", object)
    seen: set[int] = set()
    for name, row, kind in zip(
        table["unit_id"],
        match_ids(table["unit_id"], list(unit_ids), named),
        table["cell_type"],
        strict=True,
    ):
        if row is None:
            continue
        if row in seen:
            raise DataError(f"{named}: unit_id {name} occurs twice; remove one of the rows")
        seen.add(row)
        found[row] = kind
    return found
