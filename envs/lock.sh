#!/usr/bin/env bash
# Makes envs/lock.txt anew, with the newest versions that pyproject.toml allows. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."

# Of this version of torch the CPU build and the CUDA build are both tested.
torch="torch==2.13.0"
# The CUDA build names the exact versions of what it brings. A lock that held them would be wrong for the CPU build.
cuda=(cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 triton)
{
    echo "# The versions with which the figure of README.md is made, on Python 3.11 and newer, Linux and macOS:"
    echo "#    python -m pip install -c envs/lock.txt -e ."
    echo "# Made anew by:"
    echo "#    bash envs/lock.sh"
    uv pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --no-header --no-annotate \
        --constraint <(echo "$torch") --excludes <(printf '%s\n' "${cuda[@]}")
} > envs/lock.new
mv envs/lock.new envs/lock.txt
