"""Compile every kernel for two kinds of GPU, without one: in a process of its own, since tests interpret.

Ends with 77 where Triton has no compiler for NVIDIA's GPUs here, and says why.
"""

from __future__ import annotations

import sys
from typing import Any

from nuclr.model import kernels

SINGLE = {
    "cos_ptr",
    "sin_ptr",
    "mean_ptr",
    "rstd_ptr",
    "scale_ptr",
    "shift_ptr",
    "to_bias_ptr",
    "to_norm_ptr",
}
WHOLE = {"units", "count", "width", "least"}
# At the paper's size.
TIME = {"tokens": 10, "heads": 4, "width": 64, "rows": kernels.ROWS, "columns": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "_time_forward": {**TIME, "precision": "ieee"},
    "_time_backward": {**TIME, "precision": "ieee"},
    "_gate_forward": {"drops": True, "rows": 4, "columns": 256, "draws": kernels.DRAWS},
    "_gate_backward": {"drops": True, "rows": 4, "columns": 256, "draws": kernels.DRAWS},
    "_add_forward": {"drops": True, "width": 256, "rows": 4, "columns": 256, "draws": kernels.DRAWS},
    "_add_backward": {"drops": True, "width": 256, "rows": 4, "columns": 256, "draws": kernels.DRAWS},
}


def type_of(name: str) -> str:
    """Triton's name for the type of an argument, where tokens are bf16."""
    if name == "seed_ptr":
        return "*i64"
    if name in SINGLE:
        return "*fp32"
    if name.endswith("_ptr"):
        return "*bf16"
    return "i32" if name in WHOLE else "fp32"


def main() -> None:
    """Compile all of them, and print what each takes of a GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if "nvidia" not in triton.backends.backends:
        sys.stdout.write("Triton has no compiler for NVIDIA's GPUs here")
        sys.exit(77)
    for capability in (80, 90):
        for name, constants in SHAPES.items():
            function = getattr(kernels, name)
            signature = {
                argument: "constexpr" if argument in constants else type_of(argument)
                for argument in function.arg_names
            }
            # Memory of torch begins at multiples of 16 bytes.
            aligned = {
                (index,): [["tt.divisibility", 16]]
                for index, argument in enumerate(function.arg_names)
                if argument.endswith("_ptr") or (argument == "width" and argument not in constants)
            }
            compiled = triton.compile(
                ASTSource(function, signature, constants, aligned),
                target=GPUTarget("cuda", capability, 32),
                options={"num_warps": 4},
            )
            print(f"sm_{capability} {name}: {len(compiled.asm['cubin'])} bytes")


if __name__ == "__main__":
    main()
