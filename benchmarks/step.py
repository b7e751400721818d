"""Compare a training step (loss, backward, clip, AdamW, dropout) at the paper's size with a plain one.

python benchmarks/step.py                       # two CPU threads
python benchmarks/step.py --profile             # profile of the step
python benchmarks/step.py --compile             # also with torch.compile
python benchmarks/step.py --small --threads 1   # the default model's size, without dropout
python benchmarks/step.py --small --units 80    # larger populations, to find the limit of the small-batch
code

For small steps, CPU time is measured and compared round by round, which is robust on a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from plain import PlainEncoder, plain_loss
from torch import Tensor

from nuclr.model import small
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.loss import Projector, contrastive_loss

SIZES = [40, 80, 120, 160]
# Units in a step of the default configuration: two pairs, with half to all of 25 units in a view.
SMALL_SHARES = [0.75, 0.9]
SMALL_MODEL = {"dim": 32, "heads": 4, "dim_head": 8}


def main() -> None:
    """Measure both implementations alternately, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="else 5, or 200 of small steps")
    parser.add_argument("--dropout", type=float, help="else 0.2, or 0 in small steps")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--units", type=int, default=25, help="units of a population in small steps")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = SMALL_MODEL if options.small else {}
    dropout = options.dropout if options.dropout is not None else 0.0 if options.small else 0.2
    rounds = options.rounds or (200 if options.small else 5)
    clock = time.process_time if options.small else time.perf_counter
    spec = EncoderSpec(patch=50, tokens=10, dropout=dropout, **shape)
    populations = [round(share * options.units) for share in SMALL_SHARES] if options.small else SIZES
    sizes = torch.tensor(populations)
    views = [torch.poisson(torch.full((sum(populations), 10, 50), 0.1)) for _ in range(2)]
    match = torch.arange(sum(populations)).repeat(2, 1)

    ours, compiled, plain = Encoder(spec), Encoder(spec), PlainEncoder(spec)
    plain.load_state_dict(ours.state_dict())
    compiled.compile(dynamic=True)
    projector = Projector(spec.dim)
    largest = (max(populations), max(populations))

    def our_loss(encoder: Encoder = ours) -> Tensor:
        z = projector(encoder(torch.cat(views), sizes.repeat(2), max(populations)))
        half = len(z) // 2
        return contrastive_loss(z[:half], z[half:], sizes, sizes, match, largest=largest).total

    def their_loss() -> Tensor:
        parts = zip(*(view.split(populations) for view in views), strict=True)
        rows = [torch.arange(size).repeat(2, 1) for size in populations]
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
    if options.small:
        ways["layers"] = with_limit(0, ways["ours"])
        ways["ours"] = with_limit(2**40, ways["ours"])
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
    for _ in range(rounds + 1):
        for name, step in ways.items():
            start = clock()
            step()
            seconds[name].append(clock() - start)
    for name, (_, *times) in seconds.items():
        ratio = statistics.median(own / plain for own, plain in zip(times, seconds["plain"][1:], strict=True))
        print(
            f"{name:8s} {1e3 * statistics.median(times):.1f} ms (from {1e3 * min(times):.1f} to "
            f"{1e3 * max(times):.1f}), {ratio:.2f} of plain"
        )


def with_limit(values: int, step: Callable[[], None]) -> Callable[[], None]:
    """Set the number of values up to which a batch is treated as small."""

    def limited() -> None:
        before, small.SMALL_VALUES = small.SMALL_VALUES, values
        step()
        small.SMALL_VALUES = before

    return limited


def step_of(
    encoder: torch.nn.Module, projector: torch.nn.Module, loss: Callable[[], Tensor]
) -> Callable[[], None]:
    """Return a function that runs a whole optimiser step for a loss."""
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
