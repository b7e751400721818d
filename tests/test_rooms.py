"""Imports point down only, and `import nuclr` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "nuclr"
# Ground floor first; a file may import from its own room and from rooms before it.
ROOMS = ["ground", "data", "model", "training", "representation", "evaluation", "sharing", "report", "cli"]


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "ground"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_imports_from_a_room_above(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0] if relative.parts[0] in ROOMS else "ground"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative}: a relative import"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            if module.split(".")[0] == "nuclr":
                above = ROOMS.index(room_of(module)) > ROOMS.index(own)
                assert not above, f"{relative} imports {module} from above"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_needs_what_windows_lacks(path: Path) -> None:
    lacking = {"fcntl", "grp", "pwd", "resource", "termios"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not lacking & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in lacking


def test_the_network_knows_no_recordings() -> None:
    for path in (PACKAGE / "model").glob("*.py"):
        assert "nuclr.data" not in path.read_text(), path.name


@pytest.mark.parametrize("module", ["nuclr", "nuclr.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "pandas", "zarr", "sklearn")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        "evaluation.probe",
        "evaluation.answers.saved_probe",
        "representation.baselines",
        "model.card",
        "data.own",
    ],
)
def test_what_needs_no_network_does_not_wait_for_torch(module: str) -> None:
    code = f"import sys, nuclr.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
