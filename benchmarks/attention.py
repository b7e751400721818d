"""Compare implementations of attention across the units of ragged populations: their results and run times.

    python benchmarks/attention.py                 # forward and backward, in milliseconds

Populations of different sizes, ten tokens, four heads of 64. For an implementation that this machine cannot
run, the reason is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nuclr.model.attention import PopulationLayout

TOKENS, HEADS, WIDTH = 10, 4, 64
BATCHES = {
    "2 views of 40, 80, 120, 160": [40, 80, 120, 160] * 2,
    "128 views of 20 to 200": torch.linspace(20, 200, 128).int().tolist(),
    "32 views of 100": [100] * 32,
}
Way = Callable[[Tensor, Tensor, Tensor, Sequence[int]], Tensor]


def one_by_one(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int]) -> Tensor:
    """Loop over populations; all tensors here are ``(unit, token, head, width)``."""
    parts = zip(*(x.split(list(sizes)) for x in (q, k, v)), strict=True)
    return torch.cat(
        [
            F.scaled_dot_product_attention(*(x.permute(1, 2, 0, 3) for x in part)).permute(2, 0, 1, 3)
            for part in parts
        ]
    )


def padded(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int]) -> Tensor:
    """Pad all populations to the largest."""
    layout = PopulationLayout.from_sizes(torch.tensor(sizes, device=q.device), max(sizes), sum(sizes))
    # (population, slot, token, head, width) -> (population * token, head, slot, width)
    parts = [layout.pad(x).permute(0, 2, 3, 1, 4).flatten(0, 1) for x in (q, k, v)]
    mask = None
    if layout.filled is not None:
        mask = layout.filled.repeat_interleave(TOKENS, dim=0)[:, None, None, :]
    out = F.scaled_dot_product_attention(*parts, attn_mask=mask)
    return layout.flatten(out.unflatten(0, (-1, TOKENS)).permute(0, 3, 1, 2, 4))


def bucketed(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int], buckets: int = 4) -> Tensor:
    """Pad populations in groups of similar size."""
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    length = -(-len(order) // buckets)
    parts = [x.split(list(sizes)) for x in (q, k, v)]
    out: list[Tensor] = [q] * len(sizes)
    for start in range(0, len(order), length):
        group = order[start : start + length]
        own = [sizes[i] for i in group]
        done = padded(*(torch.cat([part[i] for i in group]) for part in parts), own)
        for i, piece in zip(group, done.split(own), strict=True):
            out[i] = piece
    return torch.cat(out)


def nested(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int]) -> Tensor:
    """Use jagged nested tensors, one row per population, with tokens as heads."""
    offsets = torch.tensor([0, *sizes], device=q.device).cumsum(0)
    rows = [
        torch.nested.nested_tensor_from_jagged(x.flatten(1, 2), offsets, max_seqlen=max(sizes)).transpose(
            1, 2
        )
        for x in (q, k, v)
    ]
    return F.scaled_dot_product_attention(*rows).transpose(1, 2).values().unflatten(1, (TOKENS, HEADS))


def varlen(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int]) -> Tensor:
    """Use torch.nn.attention.varlen with tokens as heads; in half precision on a GPU only."""
    from torch.nn.attention.varlen import varlen_attn

    if q.device.type != "cuda":
        raise RuntimeError("needs a GPU and half precision")
    ends = torch.tensor([0, *sizes], device=q.device, dtype=torch.int32).cumsum(0, dtype=torch.int32)
    flat = (x.flatten(1, 2) for x in (q, k, v))
    return varlen_attn(*flat, ends, ends, max(sizes), max(sizes)).unflatten(1, (TOKENS, HEADS))


def flex(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int]) -> Tensor:
    """Use FlexAttention over all units at once, with each population as a separate document."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if q.device.type != "cuda" and q.requires_grad:
        raise RuntimeError("has no gradient on a CPU")
    population = torch.repeat_interleave(
        torch.arange(len(sizes), device=q.device), torch.tensor(sizes, device=q.device)
    )

    def together(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return population[i] == population[j]

    mask = create_block_mask(together, None, None, len(q), len(q), device=str(q.device))
    global compiled
    if compiled is None:
        compiled = torch.compile(flex_attention, dynamic=False)
    out = compiled(*(x.permute(1, 2, 0, 3) for x in (q, k, v)), block_mask=mask)
    return out.permute(2, 0, 1, 3)


compiled: Callable[..., Tensor] | None = None
WAYS: dict[str, Way] = {
    "one by one": one_by_one,
    "padded": padded,
    "in 4 buckets, padded": bucketed,
    "nested tensors": nested,
    "varlen": varlen,
    "FlexAttention": flex,
}


def main() -> None:
    """Compare all implementations on all batches, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    for name, sizes in BATCHES.items():
        print(f"{name}, {str(dtype)[6:]} on {device}")
        torch.manual_seed(0)
        shape = (sum(sizes), TOKENS, HEADS, WIDTH)
        inputs = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
        expected = one_by_one(*inputs, sizes)
        for way_name, way in WAYS.items():
            try:
                difference = float((way(*inputs, sizes) - expected).abs().max().detach())
                seconds = [timed(way, inputs, sizes) for _ in range(options.rounds + 1)][1:]
            except (RuntimeError, ImportError, NotImplementedError) as error:
                print(f"  {way_name:22s} {' '.join(str(error).split())[:80]}")
                continue
            print(
                f"  {way_name:22s} {1e3 * statistics.median(seconds):8.1f} ms, "
                f"differs by {difference:.0e} at most"
            )


def timed(way: Way, inputs: Sequence[Tensor], sizes: Sequence[int]) -> float:
    """Return the seconds of one forward and backward pass."""
    start = time.perf_counter()
    out = way(*inputs, sizes)
    torch.autograd.grad(out.sum(), list(inputs))
    if inputs[0].device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
