"""A unit's embedding is the mean over the windows in which it was active."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import population

from nuclr.config import Views
from nuclr.data.population import Population
from nuclr.errors import DataError, ModelError
from nuclr.model.encoder import Encoder, EncoderSpec, as_patches
from nuclr.model.saved import SavedModel
from nuclr.representation import embed as embed_module
from nuclr.representation.embed import (
    _in_half,
    _in_turn,
    _ready,
    _windows,
    embed_population,
    embed_with_model,
)
from nuclr.representation.embeddings import read_embeddings, write_embeddings
from nuclr.training.windows import ViewSpec

SPEC = ViewSpec(patch=10, tokens=5, distance=0)


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderSpec(patch=10, tokens=5, dim=16, heads=2, dim_head=8)).eval()


def saved(modality: str = "spikes", bin_s: float = 0.02) -> SavedModel:
    views = Views(window_s=1.0, patch=10).model_dump()
    return SavedModel(encoder(), {"modality": modality, "bin_s": bin_s, "config": {"views": views}}, "hash")


def test_an_embedding_is_the_mean_over_active_windows() -> None:
    made = population(units=12, bins=260, rate=0.02, spans=[(0.0, 1.5), (2.0, 5.2)])
    embeddings, windows = embed_population(encoder(), made, SPEC)
    activity = np.asarray(made.activity)
    total, times = np.zeros((12, 16)), np.zeros(12, int)
    for start in (0, 100, 150, 200):
        cut = activity[:, start : start + 50]
        active = np.flatnonzero(cut.any(1))
        with torch.no_grad():
            patches = as_patches(torch.from_numpy(cut[active]), 10)
            total[active] += encoder()(patches, torch.tensor([len(active)])).numpy()
        times[active] += 1
    np.testing.assert_array_equal(windows, times)
    np.testing.assert_allclose(embeddings, total / times[:, None], atol=1e-5)


def test_a_silent_unit_has_no_embedding_and_changes_no_other() -> None:
    made = population(units=12, bins=500)
    activity = np.asarray(made.activity).copy()
    activity[3] = 0
    silent = replace(made, activity=activity)
    embeddings, windows = embed_population(encoder(), silent, SPEC)
    assert windows[3] == 0
    assert np.isnan(embeddings[3]).all()
    rest = [i for i in range(12) if i != 3]
    without = replace(made, activity=activity[rest], units=made.units.iloc[rest].reset_index(drop=True))
    np.testing.assert_allclose(embeddings[rest], embed_population(encoder(), without, SPEC)[0], atol=1e-6)


@settings(max_examples=20)
@given(st.permutations(range(10)))
def test_the_order_of_windows_does_not_matter(order: list[int]) -> None:
    made = population(units=12, bins=500, rate=0.05)
    windows = np.split(np.asarray(made.activity), 10, axis=1)
    other = replace(made, activity=np.concatenate([windows[i] for i in order], axis=1))
    one, two = embed_population(encoder(), made, SPEC), embed_population(encoder(), other, SPEC)
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)
    np.testing.assert_array_equal(one[1], two[1])


def test_a_window_in_which_nobody_fires_is_passed_over() -> None:
    made = population(units=12, bins=500)
    activity = np.asarray(made.activity).copy()
    activity[:, 100:300] = 0
    _, windows = embed_population(encoder(), replace(made, activity=activity), SPEC)
    assert windows.max() == 6


def test_embeddings_are_read_as_written(tmp_path: Path) -> None:
    made = population(units=4)
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    vectors[2] = np.nan
    write_embeddings(tmp_path / "e.parquet", made.units, vectors, np.array([1, 2, 0, 4]), {"model": "x"})
    units, again, record = read_embeddings(tmp_path / "e.parquet")
    np.testing.assert_array_equal(again, vectors)
    assert units["windows"].tolist() == [1, 2, 0, 4]
    assert units["unit_id"].tolist() == made.units["unit_id"].tolist()
    assert record == {"model": "x"}


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"e\.parquet: cannot be read"):
        read_embeddings(tmp_path / "e.parquet")


def test_recordings_the_model_cannot_read_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"spikes in bins of 0\.05 s, but the model reads spikes in bins of 0\.02 s"
    ):
        embed_with_model(saved(), [population(bin_s=0.05)])
    with pytest.raises(ModelError, match="but the model reads calcium"):
        embed_with_model(saved("calcium"), [population()])


def test_a_small_population_is_embedded_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    units, embeddings, _ = embed_with_model(saved(), [population(units=3), population(recording="b")])
    assert len(units) == len(embeddings) == 17
    assert not np.isnan(embeddings).any()
    assert "session/probe has 3 units" in caplog.text


def test_a_population_into_which_no_window_fits_is_named(caplog: pytest.LogCaptureFixture) -> None:
    short = population(bins=40, recording="short")
    units, embeddings, windows = embed_with_model(saved(), [population(), short])
    assert (
        "population short/probe lasts 0.8 s, shorter than a window of 1 s: it is not embedded" in caplog.text
    )
    assert (windows[units["recording"] == "short"] == 0).all()
    assert np.isnan(embeddings[units["recording"] == "short"]).all()
    with pytest.raises(
        DataError, match=r"nothing to embed: .* lasts 0\.8 s, shorter than a window of 1 s; use longer"
    ):
        embed_with_model(saved(), [short])
    silent = population(recording="silent", spans=[(0.0, 0.001)])
    with pytest.raises(DataError, match="nothing to embed: population short/probe lasts"):
        embed_with_model(saved(), [silent, short])


def test_labels_that_one_recording_lacks_are_unknown() -> None:
    bare = population(units=12, recording="b")
    bare = replace(bare, units=bare.units[["unit_id"]])
    units, _, _ = embed_with_model(saved(), [population(units=12), bare])
    assert units["cell_type"].tolist()[12:] == [""] * 12


def test_an_ablation_turns_units_alike_each_time() -> None:
    made = population(units=12, bins=500)
    spec = replace(SPEC, shuffle_units=True)
    one, other = (embed_population(encoder(), made, spec)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.allclose(one, embed_population(encoder(), made, SPEC)[0])


def recordings_of(*units: int) -> list[Population]:
    """Make a recording of each number of units."""
    return [population(units=n, bins=700, seed=n, recording=str(n)) for n in units]


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_devices_that_take_turns_give_what_one_gives(devices: int) -> None:
    made = recordings_of(12, 15, 20, 13, 14)
    expected = [embed_population(encoder(), one, SPEC) for one in made]
    found = list(_in_turn([encoder() for _ in range(devices)], iter(made), SPEC, "auto"))
    assert [one.population for one, *_ in found] == [one.population for one in made]
    for (_, vectors, windows), (alone, times) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(vectors, alone)
        np.testing.assert_array_equal(windows, times)


def test_encoders_are_compiled_where_there_is_much_to_embed(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Encoder] = []
    monkeypatch.setattr(Encoder, "compile", lambda own, dynamic: compiled.append(own))
    encoders = [encoder(), encoder()]
    made = recordings_of(12, 13, 14, 15, 16)
    for least, wanted, times in ((10**9, True, 0), (60, True, 2), (60, False, 0)):
        monkeypatch.setattr(embed_module, "MANY_WINDOWS", least)
        compiled.clear()
        list(_in_turn(encoders, made, SPEC, "auto", wanted))
        assert len(compiled) == times


def test_an_error_in_one_turn_is_the_error_of_all() -> None:
    def failing() -> Iterator[Population]:
        yield from recordings_of(12, 13)
        raise DataError("the third cannot be read")

    with pytest.raises(DataError, match="the third cannot be read"):
        list(_in_turn([encoder(), encoder()], failing(), SPEC, "auto"))
    with pytest.raises(ModelError, match="patches"):
        # Embedded in another thread, with windows of another length.
        list(_in_turn([encoder(), encoder()], recordings_of(12), replace(SPEC, patch=25, tokens=2), "auto"))


def test_windows_are_made_ready_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a GPU: on the meta device."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    (made,) = recordings_of(12)
    ready = list(_ready(_windows(made, SPEC, 200), torch.device("meta")))
    cut = list(_windows(made, SPEC, 200))
    assert len(cut) == 5
    assert [one.patches.shape for one in ready] == [one.patches.shape for one in cut]
    assert {tensor.device.type for one in ready for tensor in one[:3]} == {"meta"}
    assert [one.largest for one in ready] == [int(one.sizes.max()) for one in cut]


def test_half_precision_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s)
        assert _in_half(gpu, "auto") == supported
        assert not _in_half(gpu, "fp32")
        assert not _in_half(torch.device("cpu"), "auto")
