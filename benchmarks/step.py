"""One training step at the paper's size, ours beside a plain one: loss, backward, clip, AdamW, dropout on.

python benchmarks/step.py                 # two CPU threads
python benchmarks/step.py --profile       # where the time goes
python benchmarks/step.py --compile       # with torch.compile beside them
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from plain import PlainEncoder, plain_loss
from torch import Tensor

from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.loss import Projector, contrastive_loss

SIZES = [40, 80, 120, 160]


def main() -> None:
    """Time both, alternating, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    spec = EncoderSpec(patch=50, tokens=10, dropout=options.dropout)
    sizes = torch.tensor(SIZES)
    views = [torch.poisson(torch.full((sum(SIZES), 10, 50), 0.1)) for _ in range(2)]
    match = torch.arange(sum(SIZES)).repeat(2, 1)

    ours, compiled, plain = Encoder(spec), Encoder(spec), PlainEncoder(spec)
    plain.load_state_dict(ours.state_dict())
    compiled.compile(dynamic=True)
    projector = Projector(spec.dim)
    largest = (max(SIZES), max(SIZES))

    def our_loss(encoder: Encoder = ours) -> Tensor:
        z = projector(encoder(torch.cat(views), sizes.repeat(2), max(SIZES)))
        half = len(z) // 2
        return contrastive_loss(z[:half], z[half:], sizes, sizes, match, largest=largest).total

    def their_loss() -> Tensor:
        parts = zip(*(view.split(SIZES) for view in views), strict=True)
        rows = [torch.arange(size).repeat(2, 1) for size in SIZES]
        return plain_loss(
            [(projector(plain(a)), projector(plain(b)), m) for (a, b), m in zip(parts, rows, strict=True)]
        )

    for module in (ours, plain):
        module.eval()
    with torch.no_grad():
        print(f"same loss in evaluation mode: {our_loss():.6f} and {their_loss():.6f}")
    for module in (ours, plain):
        module.train()

    ways = {"plain": step_of(plain, projector, their_loss), "ours": step_of(ours, projector, our_loss)}
    if options.compile:
        ways["compiled"] = step_of(compiled, projector, lambda: our_loss(compiled))
    if options.profile:
        ways["ours"]()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            ways["ours"]()
        print(
            profile.key_averages().table(
                sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45
            )
        )
        return
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds + 1):
        for name, step in ways.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    for name, times in seconds.items():
        print(
            f"{name:8s} {median[name]:.3f} s (from {min(times[1:]):.3f} to {max(times[1:]):.3f}), "
            f"{median[name] / median['plain']:.2f} of plain"
        )


def step_of(
    encoder: torch.nn.Module, projector: torch.nn.Module, loss: Callable[[], Tensor]
) -> Callable[[], None]:
    """Make a whole optimiser step of a loss."""
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=isinstance(encoder, Encoder))

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
