"""Measure training, embedding and each kernel on a GPU, beside the limits of memory and matrix products.

    python benchmarks/gpu.py                  # all tables, in under three minutes; writes gpu.csv
    python benchmarks/gpu.py --only kernels   # or step, trainer, embedding, devices
    python benchmarks/gpu.py --devices 8      # also the speed-up of several GPUs
    python benchmarks/gpu.py --tiny           # the same code at a size for any machine, as a test

At the paper's size: 128 pairs of populations of 40 to 160 units, ten tokens of width 256, dropout 0.2, bf16.
A step consists of encoder, loss, backward, gradient clipping and AdamW. Needs torch and this package.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nuclr.config import Machine, Pretrain
from nuclr.data.population import Population
from nuclr.model.attention import attend_in_time
from nuclr.model.encoder import Encoder, EncoderSpec
from nuclr.model.fused import can_fuse
from nuclr.model.fused import embed as fused_embed
from nuclr.model.loss import Projector, contrastive_loss
from nuclr.representation.embed import TOKENS_AT_ONCE, embed_population
from nuclr.training.windows import ViewSpec

TABLES = ("step", "kernels", "trainer", "embedding")
# The paper's size, or a size small enough for Triton's interpreter on a CPU.
PAPER = EncoderSpec(patch=50, tokens=10)
TINY = EncoderSpec(patch=5, tokens=4, dim=16, heads=2, dim_head=8)


@dataclass
class Bench:
    """A device, a problem size, and the measurements so far.

    Attributes
    ----------
    device
        The device.
    spec
        Shape of the encoder.
    units
        Number of units in each population, the same in both views.
    rounds
        Number of measurements of each variant; the median is reported.
    rows
        Measurements, one dictionary per line.
    """

    device: torch.device
    spec: EncoderSpec
    units: Sequence[int]
    rounds: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Number of tokens in a batch."""
        return 2 * sum(self.units) * self.spec.tokens

    @property
    def half(self) -> torch.dtype:
        """Type of tokens; not bf16 for Triton's interpreter, which cannot multiply it."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def milliseconds(self, work: Callable[[], Any], repeats: int = 1) -> float:
        """Return the median time of a function over all rounds; short functions are repeated in each."""
        repeats = repeats if self.device.type == "cuda" else 1
        for _ in range(3 if self.device.type == "cuda" else 1):
            work()
        times = []
        for _ in range(self.rounds):
            self.wait()
            start = time.perf_counter()
            for _ in range(repeats):
                work()
            self.wait()
            times.append(1e3 * (time.perf_counter() - start) / repeats)
        return statistics.median(times)

    def wait(self) -> None:
        """Wait until the device has finished all work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def add(self, table: str, name: str, **numbers: float) -> None:
        """Print a line and keep it."""
        self.rows.append({"table": table, "name": name, **numbers})
        said = "  ".join(f"{key} {value:,.4g}" for key, value in numbers.items())
        print(f"{table:10s} {name:44s} {said}", flush=True)


@dataclass(frozen=True)
class Batch:
    """Two views of each population, in the form of the loader."""

    patches: Tensor
    sizes: Tensor
    match: Tensor
    largest: int


def batch_of(bench: Bench) -> Batch:
    """Return a random batch of views."""
    total, spec = sum(bench.units), bench.spec
    counts = torch.poisson(torch.full((2 * total, spec.tokens, spec.patch), 0.1)).to(torch.uint8)
    return Batch(
        patches=counts.to(bench.device),
        sizes=torch.tensor(bench.units, device=bench.device),
        match=torch.arange(total, device=bench.device).repeat(2, 1),
        largest=max(bench.units),
    )


def step_of(bench: Bench, batch: Batch, encoder: nn.Module, half: bool = True) -> Callable[[], None]:
    """Return a function that runs a whole training step."""
    projector = Projector(bench.spec.dim).to(bench.device)
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    total = batch.match.shape[1]

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=half and bench.device.type == "cuda"):
            z = projector(encoder(batch.patches, batch.sizes.repeat(2), batch.largest)).float()
        largest = (batch.largest, batch.largest)
        loss = contrastive_loss(
            z[:total], z[total:], batch.sizes, batch.sizes, batch.match, largest=largest
        ).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def measure_steps(bench: Bench) -> None:
    """Measure a step in every variant, and its matrix products alone."""
    batch = batch_of(bench)

    def encoder() -> Encoder:
        torch.manual_seed(0)
        return Encoder(bench.spec).to(bench.device)

    products = bench.milliseconds(products_of(bench, encoder()))
    bench.add("step", "matrix products alone", ms=products)
    for name, fused, compiled, half in (
        ("own kernels (the default)", True, False, True),
        ("eager (machine.kernels: torch)", False, False, True),
        ("compiled (machine.compile: true)", False, True, True),
        ("eager, fp32 with TF32", False, False, False),
    ):
        if fused and not can_run_kernels(bench):
            print(f"step       {name}: not here (no Triton, or no NVIDIA GPU from A100 on)")
            continue
        own = encoder()
        own.fused = fused_embed if fused else None
        graphs = 0
        if compiled:
            if bench.device.type != "cuda":
                continue

            from torch._inductor import compile as compile_graph

            def count(graph: Any, inputs: Any) -> Any:
                nonlocal graphs
                graphs += 1
                return compile_graph(graph, inputs)

            own.compile(dynamic=True, backend=count)
        torch.set_float32_matmul_precision("high")
        step = step_of(bench, batch, own, half)
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(bench.device)
        numbers = {"ms": bench.milliseconds(step)}
        numbers["of_products"] = numbers["ms"] / products
        if bench.device.type == "cuda":
            numbers["gb"] = torch.cuda.max_memory_allocated(bench.device) / 1e9
        if compiled:
            numbers["graphs"] = graphs
        bench.add("step", name, **numbers)
        torch.set_float32_matmul_precision("highest")


def products_of(bench: Bench, encoder: Encoder) -> Callable[[], None]:
    """Return a function that runs only the matrix products of all linear layers, forward and backward."""
    shapes = [tuple(m.weight.shape) for m in encoder.modules() if isinstance(m, nn.Linear)]
    made: dict[int, Tensor] = {}

    def tokens(width: int) -> Tensor:
        if width not in made:
            made[width] = torch.randn(bench.tokens, width, device=bench.device, dtype=bench.half)
        return made[width]

    weights = [torch.randn(shape, device=bench.device, dtype=bench.half) for shape in shapes]

    def work() -> None:
        for weight in weights:
            out, into = weight.shape
            torch.mm(tokens(into), weight.T)
            torch.mm(tokens(out), weight)
            torch.mm(tokens(out).T, tokens(into))

    return work


def can_run_kernels(bench: Bench) -> bool:
    """Return whether the package's kernels run here: on a GPU, or with Triton's interpreter."""
    if bench.device.type == "cuda":
        return can_fuse(bench.spec, bench.device)
    return "TRITON_INTERPRET" in os.environ


def bandwidth(bench: Bench) -> float:
    """Return the bytes per second that a large copy reads and writes."""
    values = 2**30 if bench.device.type == "cuda" else 2**22
    one = torch.empty(values, dtype=torch.uint8, device=bench.device)
    other = torch.empty_like(one)
    return 2 * values / (bench.milliseconds(lambda: other.copy_(one)) / 1e3)


def measure_kernels(bench: Bench) -> None:
    """Measure each kernel, torch's compiler, and a copy of the same amount of memory."""
    speed = bandwidth(bench)
    bench.add("kernels", "copy", gb_per_s=speed / 1e9)
    if not can_run_kernels(bench):
        print("kernels    not here: no Triton, or no NVIDIA GPU from A100 on")
        return
    from nuclr.model import kernels

    spec, rows, kind = bench.spec, bench.tokens, bench.half
    inner, wide, p = spec.heads * spec.dim_head, 4 * spec.dim, 0.2
    seed = torch.tensor(1, device=bench.device)

    def draw(*shape: int, kind: torch.dtype = kind) -> Tensor:
        return torch.randn(*shape, device=bench.device, dtype=kind, requires_grad=True)

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, dynamic=True) if bench.device.type == "cuda" else function

    units = rows // spec.tokens
    cos, sin = Encoder(spec).to(bench.device).rotary_emb.angles(spec.tokens)
    qkv = draw(units, spec.tokens, 3 * inner)
    of_torch = compiled(lambda qkv: attend_in_time(qkv, spec.heads, cos, sin))
    compare(
        bench,
        "attention along time",
        lambda: kernels.attend_in_time(qkv, spec.heads, cos, sin),
        lambda: of_torch(qkv),
        [qkv],
        (4 * inner * rows, 7 * inner * rows, speed),
    )

    x, change = draw(units, spec.tokens, spec.dim), draw(units, spec.tokens, spec.dim)
    scale, shift = draw(spec.dim, kind=torch.float32), draw(spec.dim, kind=torch.float32)

    def plain(x: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        summed = x + F.dropout(change, p)
        return summed, F.layer_norm(summed.float(), (spec.dim,), scale, shift).to(kind)

    of_torch_add = compiled(plain)
    compare(
        bench,
        "residual, dropout, LayerNorm",
        lambda: kernels.add_norm(x, change, scale, shift, 1e-5, p, seed),
        lambda: of_torch_add(x, change),
        [x, change],
        (4 * spec.dim * rows, 5 * spec.dim * rows, speed),
    )

    hidden = draw(rows, 2 * wide)

    def gate(hidden: Tensor) -> Tensor:
        value, gate = hidden.chunk(2, -1)
        return F.dropout(value * F.gelu(gate), p)

    of_torch_gate = compiled(gate)
    out, grad, to_hidden = (
        torch.empty(rows, n, device=bench.device, dtype=kind) for n in (wide, wide, 2 * wide)
    )
    programs = -(-rows // (kernels._tile(wide)[0] * kernels.DRAWS))
    to_bias = torch.empty(programs, 2 * wide, device=bench.device)
    grad.normal_()

    def launch(*both: bool) -> None:
        with torch.no_grad():
            kernels._launch_gate(kernels._gate_forward, hidden, p, seed, out)
            if both:
                kernels._launch_gate(kernels._gate_backward, hidden, p, seed, grad, to_hidden, out, to_bias)

    def torch_both() -> None:
        torch.autograd.grad(of_torch_gate(hidden), hidden, grad)

    limits = 1e3 * np.array([3, 9]) * wide * rows * hidden.element_size() / speed
    for name, ours, theirs, limit in (
        ("gate, GELU, dropout: forward", launch, lambda: of_torch_gate(hidden), limits[0]),
        ("gate, GELU, dropout: both ways", lambda: launch(True), torch_both, limits[1]),
    ):
        times = bench.milliseconds(ours, 10), bench.milliseconds(theirs, 10)
        bench.add("kernels", name, ms=times[0], compiled_ms=times[1], memory_ms=float(limit))


def compare(
    bench: Bench,
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    inputs: list[Tensor],
    moved: tuple[int, int, float],
) -> None:
    """Add the lines of a kernel; ``moved``: values moved forward and backward, and bytes per second."""
    forward, backward, speed = moved
    width = inputs[0].element_size()

    def both(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            out = work()
            out = out if isinstance(out, tuple) else (out,)
            torch.autograd.grad(out, inputs, [o.detach() for o in out])

        return run

    for way, one, other, numbers in (
        ("forward", ours, theirs, forward),
        ("both ways", both(ours), both(theirs), forward + backward),
    ):
        times = bench.milliseconds(one, 10), bench.milliseconds(other, 10)
        limit = 1e3 * numbers * width / speed
        bench.add("kernels", f"{name}: {way}", ms=times[0], compiled_ms=times[1], memory_ms=limit)


def recording(units: int, window: int, windows: int, seed: int = 0) -> Population:
    """Return a random recording with a number of windows."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.1, (units, windows * window)).astype(np.uint8)
    return Population(
        activity=counts,
        units=pd.DataFrame({"unit_id": [f"{seed}_{unit}" for unit in range(units)]}),
        valid_spans=np.array([[0.0, counts.shape[1] * 0.02]]),
        dataset="benchmark",
        animal=str(seed),
        recording=str(seed),
        population=str(seed),
        modality="spikes",
        bin_s=0.02,
    )


def measure_trainer(bench: Bench) -> None:
    """Measure steps of the whole trainer with its loader, with the defaults of ``machine``."""
    from nuclr.training.pretrain import pretrain

    on_gpu = bench.device.type == "cuda"
    steps, pairs = (60, len(bench.units)) if on_gpu else (10, 2)
    views = ViewSpec(patch=bench.spec.patch, tokens=bench.spec.tokens, distance=1500, min_units=2)
    made = [
        recording(2 * units, views.window, 4 * pairs, seed)
        for seed, units in enumerate(bench.units[:: max(1, len(bench.units) // 8)])
    ]
    options = Pretrain(steps=steps, pairs_per_step=pairs)
    for name, machine in (
        ("defaults", Machine(accelerator="auto" if on_gpu else "cpu")),
        ("machine.workers: 0", Machine(workers=0, accelerator="auto" if on_gpu else "cpu")),
    ):
        with TemporaryDirectory() as folder:
            _, metrics = pretrain(
                made, (bench.spec, views), options, machine, 0, checkpoints=Path(folder), logs=Path(folder)
            )
        last = metrics.iloc[-1]
        bench.add(
            "trainer", name, unit_views_per_s=float(last["units_per_s"]), waited=float(last["data_wait"])
        )


def measure_embedding(bench: Bench) -> None:
    """Measure the embedding of a recording, and the encoder alone on a batch of it."""
    window = bench.spec.patch * bench.spec.tokens
    spec = ViewSpec(patch=bench.spec.patch, tokens=bench.spec.tokens, distance=0)
    on_gpu = bench.device.type == "cuda"
    made = recording(*((400, window, 720) if on_gpu else (12, window, 3)))
    encoder = Encoder(bench.spec).to(bench.device).eval()
    tokens = TOKENS_AT_ONCE["cuda"] if on_gpu else 1
    together = max(1, tokens // bench.spec.tokens // len(made.units))
    counts = torch.from_numpy(np.asarray(made.activity[:, :window])).to(bench.device)
    patches = counts.unflatten(1, (bench.spec.tokens, bench.spec.patch)).repeat(together, 1, 1)
    sizes = torch.full((together,), len(made.units), device=bench.device)
    for precision in ("auto", "fp32") if on_gpu else ("auto",):
        encoder.fused = fused_embed if precision == "auto" and can_run_kernels(bench) else None

        @torch.no_grad()
        def alone(half: bool = precision == "auto" and on_gpu) -> None:
            with torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
                encoder(patches, sizes, len(made.units))

        forward = len(patches) / (bench.milliseconds(alone) / 1e3)
        units = len(made.units) * (made.activity.shape[1] // window)
        embedded = units / (
            bench.milliseconds(lambda p=precision: embed_population(encoder, made, spec, p)) / 1e3
        )
        bench.add(
            "embedding",
            f"embed.precision: {precision}",
            unit_windows_per_s=embedded,
            forward_alone=forward,
            slower_by=forward / embedded,
        )


def _step_in_a_process(rank: int, world: int, rendezvous: str, bench: Bench, told: Any) -> None:
    from torch.nn.parallel import DistributedDataParallel

    on_gpu = bench.device.type == "cuda"
    device = torch.device("cuda", rank) if on_gpu else bench.device
    if on_gpu:
        torch.cuda.set_device(device)
    bench = replace(bench, device=device, rows=[])
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=rendezvous, rank=rank, world_size=world
    )
    encoder = Encoder(bench.spec).to(device)
    encoder.fused = fused_embed if can_run_kernels(bench) else None
    shared = DistributedDataParallel(
        encoder,
        device_ids=[rank] if on_gpu else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=True,
    )
    spent = bench.milliseconds(step_of(bench, batch_of(bench), shared))
    if rank == 0:
        told.put(spent)
    torch.distributed.destroy_process_group()


def measure_devices(bench: Bench, devices: int) -> None:
    """Measure the cost of synchronising gradients: a step on one device and on several, one batch each."""
    times = []
    for world in (1, devices):
        with TemporaryDirectory() as folder:
            told = torch.multiprocessing.get_context("spawn").SimpleQueue()
            torch.multiprocessing.spawn(
                _step_in_a_process, (world, f"file://{folder}/rendezvous", bench, told), nprocs=world
            )
            times.append(told.get())
        bench.add("devices", f"{world}", ms=times[-1], efficiency=times[0] / times[-1])


def main() -> None:
    """Run the requested measurements, print them and write them to a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=(*TABLES, "devices"), action="append")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu.csv"))
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no GPU that torch could use; --tiny shows that the script runs")
    device = (
        torch.device("cuda", 0) if torch.cuda.is_available() and not options.tiny else torch.device("cpu")
    )
    units = [3, 5] if options.tiny else torch.linspace(40, 160, 128).int().tolist()
    bench = Bench(
        device, TINY if options.tiny else PAPER, units, options.rounds or (1 if options.tiny else 10)
    )
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, {2 * sum(units):,} views of units, {bench.tokens:,} tokens")
    tables = options.only or [*TABLES, *(["devices"] if options.devices > 1 else [])]
    measures = {
        "step": measure_steps,
        "kernels": measure_kernels,
        "trainer": measure_trainer,
        "embedding": measure_embedding,
        "devices": lambda bench: measure_devices(bench, options.devices),
    }
    began = time.perf_counter()
    for table in tables:
        measures[table](bench)
    columns = list(dict.fromkeys(key for row in bench.rows for key in row))
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(bench.rows)
    print(f"{time.perf_counter() - began:.0f} s; written to {options.output}")


if __name__ == "__main__":
    main()
