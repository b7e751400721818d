"""The lock names a version of everything that is installed, and pyproject.toml allows it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]


def locked() -> dict[str, list[Requirement]]:
    """Read the lock: a package may have one version for each Python or platform."""
    versions: dict[str, list[Requirement]] = {}
    for line in (REPOSITORY / "envs" / "lock.txt").read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            versions.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return versions


def wanted() -> list[Requirement]:
    """Read what pyproject.toml asks for, with every extra."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in requirements if requirement.name != project["name"]]


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_the_lock_has_a_version_that_pyproject_allows(requirement: Requirement) -> None:
    versions = locked().get(canonicalize_name(requirement.name), [])
    assert versions, f"envs/lock.txt has no {requirement.name}; make it anew with: bash envs/lock.sh"
    for version in versions:
        (pin,) = version.specifier
        assert pin.operator == "=="
        assert pin.version in requirement.specifier


def test_one_lock_serves_the_cpu_build_and_the_cuda_build_of_torch() -> None:
    versions = locked()
    assert all("+" not in str(version.specifier) for pins in versions.values() for version in pins)
    assert not [name for name in versions if name.startswith(("nvidia-", "cuda-", "triton"))]
