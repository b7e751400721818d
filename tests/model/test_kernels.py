"""The kernels for GPUs compute what the plain functions say: here by Triton's interpreter, or on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("triton", reason="triton is not installed: pip install triton==3.9.0 (Linux)")

from nuclr.model import attention, fused, kernels
from nuclr.model import encoder as encoder_module
from nuclr.model.attention import RotaryTime, attend_in_time
from nuclr.model.dropout import gated_layer, kept_share
from nuclr.model.encoder import Encoder, EncoderSpec

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SPEC = EncoderSpec(patch=5, tokens=4, dim=24, heads=2, dim_head=8, dropout=0.25)


def draw(seed: int, *shape: int) -> Tensor:
    """Draw numbers that a gradient is asked for."""
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    return made.requires_grad_()


def same(
    ours: Callable[..., Tensor | tuple[Tensor, ...]],
    plain: Callable[..., Tensor | tuple[Tensor, ...]],
    *inputs: Tensor,
) -> None:
    """Compare what two functions give, and the gradients of all of their inputs, to rounding."""
    results = []
    for function in (ours, plain):
        out = function(*inputs)
        out = out if isinstance(out, tuple) else (out,)
        weights = [torch.cos(torch.arange(o.numel(), device=o.device)).view_as(o) for o in out]
        loss = sum(((o * w).sum() for o, w in zip(out, weights, strict=True)), torch.zeros((), device=DEVICE))
        results.append([*out, *torch.autograd.grad(loss, inputs)])
    for one, other in zip(*results, strict=True):
        # Sums over rows grow with their number, and their rounding too.
        torch.testing.assert_close(
            one, other, rtol=1e-5, atol=1e-5 * max(1.0, float(other.detach().abs().max()))
        )


@settings(max_examples=15)
@example(units=3, tokens=64, heads=1, width=128)
@example(units=1, tokens=1, heads=2, width=8)
@given(
    units=st.integers(1, 9),
    tokens=st.integers(1, 64),
    heads=st.integers(1, 3),
    width=st.integers(2, 16).map(lambda n: 4 * n),
)
def test_attention_in_time(units: int, tokens: int, heads: int, width: int) -> None:
    cos, sin = RotaryTime(width, tokens).to(DEVICE).angles(tokens)
    same(
        lambda qkv: kernels.attend_in_time(qkv, heads, cos, sin),
        lambda qkv: attend_in_time(qkv, heads, cos, sin),
        draw(0, units, tokens, 3 * heads * width),
    )


def layer(dim: int, width: int) -> list[Tensor]:
    """Draw weights and biases of a gated layer."""
    return [draw(1, 2 * width, dim), draw(2, 2 * width), draw(3, dim, width), draw(4, dim)]


def plain_layer(x: Tensor, *weights: Tensor) -> Tensor:
    """The gated layer of plain modules."""
    inner, inner_bias, outer, outer_bias = weights
    value, gate = F.linear(x, inner, inner_bias).chunk(2, -1)
    return F.linear(value * F.gelu(gate), outer, outer_bias)


@settings(max_examples=15)
@example(rows=70, dim=3, width=300)
@given(rows=st.integers(1, 80), dim=st.integers(1, 9), width=st.integers(1, 40))
def test_the_gated_layer(rows: int, dim: int, width: int) -> None:
    same(kernels.gated_layer, plain_layer, draw(0, rows, 1, dim), *layer(dim, width))


def test_the_plain_layer_of_these_tests_is_that_of_the_encoder() -> None:
    x, weights = draw(0, 5, 2, 6), layer(6, 8)
    inner, outer = nn.Linear(6, 16), nn.Linear(8, 6)
    for parameter, value in zip([*inner.parameters(), *outer.parameters()], weights, strict=True):
        parameter.data = value.detach().cpu()
    torch.testing.assert_close(gated_layer(x.cpu(), inner, outer, 0.0), plain_layer(x, *weights).cpu())


@settings(max_examples=15)
@example(rows=70, dim=300)
@given(rows=st.integers(1, 80), dim=st.integers(4, 40))
def test_residual_connection_and_norm(rows: int, dim: int) -> None:
    same(
        lambda x, change, scale, shift: kernels.add_norm(x, change, scale, shift, 1e-5),
        lambda x, change, scale, shift: (
            x + change,
            F.layer_norm(x + change, (dim,), scale, shift, 1e-5),
        ),
        draw(0, rows, 1, dim),
        draw(1, rows, 1, dim),
        draw(2, dim),
        draw(3, dim),
    )


P = 0.3


def dropped_changes(rows: int, dim: int, seed: int) -> Tensor:
    """Which values of a change of ones the residual connection keeps, and with what factor."""
    ones = torch.ones(rows, 1, dim, device=DEVICE)
    number = torch.tensor(seed, device=DEVICE)
    scale = torch.ones(dim, device=DEVICE)
    return kernels.add_norm(torch.zeros_like(ones), ones, scale, scale, 1e-5, P, number)[0][:, 0]


def test_dropout_keeps_its_share_independently_of_neighbours_and_of_other_seeds() -> None:
    kept = dropped_changes(1000, 200, seed=5)
    assert kept.unique().tolist() == [0.0, pytest.approx(1 / kept_share(P))]
    centred = (kept > 0).float() - kept_share(P)
    spread = kept_share(P) * (1 - kept_share(P))
    assert abs(float(centred.mean())) < 4 * (spread / centred.numel()) ** 0.5
    # The next column, the next row, the eight rows that one call draws, the next program.
    for rows, columns in ((0, 1), (1, 0), (4, 0), (8, 0), (32, 0)):
        both = centred[rows:, columns:] * centred[: len(centred) - rows, : centred.shape[1] - columns]
        assert abs(float(both.mean())) < 4 * spread / both.numel() ** 0.5
    other = (dropped_changes(1000, 200, seed=6) > 0).float() - kept_share(P)
    assert abs(float((centred * other).mean())) < 4 * spread / centred.numel() ** 0.5
    torch.testing.assert_close(dropped_changes(1000, 200, seed=5), kept)


def test_a_residual_passes_gradients_where_it_kept() -> None:
    rows, dim, seed = 70, 24, torch.tensor(7, device=DEVICE)
    kept = dropped_changes(rows, dim, seed=7)[:, None]
    same(
        lambda x, change, scale, shift: kernels.add_norm(x, change, scale, shift, 1e-5, P, seed),
        lambda x, change, scale, shift: (
            x + change * kept,
            F.layer_norm(x + change * kept, (dim,), scale, shift, 1e-5),
        ),
        draw(0, rows, 1, dim),
        draw(1, rows, 1, dim),
        draw(2, dim),
        draw(3, dim),
    )


def test_the_gated_layer_drops_the_same_forward_and_backward() -> None:
    """Of an outer layer that changes nothing the output says what was kept."""
    rows, dim, width, seed = 70, 6, 24, torch.tensor(8, device=DEVICE)
    x, (inner, inner_bias, _, _) = draw(0, rows, 1, dim), layer(dim, width)
    identity = [torch.eye(width, device=DEVICE), torch.zeros(width, device=DEVICE)]
    gated = plain_layer(x, inner, inner_bias, *identity)
    # A gate far below 0 leaves nothing to tell by, and nothing that matters.
    kept = (kernels.gated_layer(x, inner, inner_bias, *identity, P, seed) / gated).detach().nan_to_num()
    assert float((kept > 0.5).float().mean()) == pytest.approx(kept_share(P), abs=0.05)
    same(
        lambda *inputs: kernels.gated_layer(*inputs, P, seed),
        lambda x, inner, inner_bias, outer, outer_bias: F.linear(
            plain_layer(x, inner, inner_bias, *identity) * kept, outer, outer_bias
        ),
        x,
        *layer(dim, width),
    )


def gradients(encoder: Encoder, sizes: list[int]) -> list[Tensor]:
    """Embed populations of these sizes; the embeddings, and the gradients of all weights."""
    torch.manual_seed(0)
    counts = torch.poisson(torch.ones(sum(sizes), 4, 5)).to(torch.uint8).to(DEVICE)
    encoder.zero_grad()
    out = encoder(counts, torch.tensor(sizes, device=DEVICE), max(sizes))
    (out * torch.arange(out.numel(), device=DEVICE).view_as(out).cos()).sum().backward()
    return [out.detach(), *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)]


@pytest.mark.parametrize("sizes", [[3, 0, 5, 1], [4, 4], [0], [1]])
@pytest.mark.parametrize("ragged", [True, False])
def test_an_encoder_and_all_its_gradients(
    sizes: list[int], ragged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(SPEC).to(DEVICE).eval()
    plain = gradients(encoder, sizes)
    encoder.fused = fused.embed
    if ragged:
        monkeypatch.setattr(attention, "has_ragged", lambda x, dim_head: True)
        monkeypatch.setattr(attention, "attend_ragged", attend_one_by_one)
    for one, other in zip(gradients(encoder, sizes), plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def attend_one_by_one(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, largest: int) -> Tensor:
    """Stand in for torch's attention of ragged sequences, which only GPUs have."""
    sizes = ends.diff().tolist()
    assert max(sizes) == largest
    parts = zip(*(x.split(sizes) for x in (q, k, v)), strict=True)
    attended = [F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in part)) for part in parts]
    return torch.cat([part.transpose(0, 1) for part in attended])


@pytest.mark.parametrize("sizes", [[3, 0, 5, 1], [4, 4]])
def test_ragged_attention_without_own_kernels(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(SPEC).to(DEVICE).eval()
    plain = gradients(encoder, sizes)
    monkeypatch.setattr(attention, "has_ragged", lambda x, dim_head: True)
    monkeypatch.setattr(attention, "attend_ragged", attend_one_by_one)
    # Without taking a CPU's populations a few at a time.
    monkeypatch.setattr(encoder_module, "GROUP_VALUES", 2**30)
    for one, other in zip(gradients(encoder, sizes), plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_encoder_never_waits_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, which holds no number to wait for, with plain functions in place of kernels."""
    # It has no autocast.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(fused, "_kind", lambda *_: torch.float32)
    monkeypatch.setattr(kernels, "attend_in_time", attend_in_time)
    monkeypatch.setattr(kernels, "gated_layer", lambda x, *weights: plain_layer(x, *weights[:4]))
    monkeypatch.setattr(kernels, "add_norm", lambda x, change, *norm: (x + change, x + change))
    encoder = Encoder(SPEC).to("meta")
    encoder.fused = fused.embed
    sizes = torch.empty(3, dtype=torch.int64, device="meta")
    out = encoder(torch.empty(9, 4, 5, dtype=torch.uint8, device="meta"), sizes, 4)
    assert (out.shape, out.dtype) == ((9, SPEC.dim), torch.float32)
    out.sum().backward()


def test_an_encoder_in_half_precision() -> None:
    """In float16: Triton's interpreter multiplies matrices of bfloat16 wrongly."""
    encoder = Encoder(SPEC).to(DEVICE).eval()
    plain = gradients(encoder, [3, 5])
    encoder.fused = fused.embed
    with torch.autocast(DEVICE, torch.float16):
        half = gradients(encoder, [3, 5])
    for one, other in zip(half, plain, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.01 * float(other.abs().max()))


def test_an_encoder_without_layers() -> None:
    encoder = Encoder(EncoderSpec(5, 4, 24, 2, 8, temporal_blocks=0, spatiotemporal_blocks=0)).to(DEVICE)
    plain = gradients(encoder, [2, 3])
    encoder.fused = fused.embed
    for one, other in zip(gradients(encoder, [2, 3]), plain, strict=True):
        torch.testing.assert_close(one, other)


def test_torchs_seed_names_what_an_encoder_drops() -> None:
    encoder = Encoder(SPEC).to(DEVICE)
    encoder.fused = fused.embed
    one, again = gradients(encoder, [3, 2]), gradients(encoder, [3, 2])
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    x, sizes = torch.ones(5, 4, 5, device=DEVICE), torch.tensor([5], device=DEVICE)
    assert not torch.equal(encoder(x, sizes, 5), encoder(x, sizes, 5))


def test_no_kernel_is_chosen_where_it_cannot_run() -> None:
    assert not fused.can_fuse(SPEC, torch.device("cpu"))
    assert kernels.fits(64, 2048, 128)
    assert not kernels.fits(65, 256, 64)
    assert not kernels.fits(10, 4096, 64)
    assert not kernels.fits(10, 256, 132)


def test_every_kernel_compiles_for_gpus() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_kernels.py"))],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sm_80") == done.stdout.count("sm_90") == 6
