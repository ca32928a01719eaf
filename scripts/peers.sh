#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests that compare with packages from PyPI, which `make check` skips where these are not installed. The packages (2.3 GB) go to a virtual environment in the user's cache, once;
# a test that is skipped even so counts as failed.  scripts/peers.sh [TEST ...]
set -eu
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/layerskip
venv=$cache/peers
logs=build/peers
# Without its dependencies, which would be 3 GB of CUDA for tests on the CPU, torch is imported with these four of them.
torch=(torch==2.15.0 nvidia-cufile==1.17.1.22 nvidia-cusparselt-cu13==0.8.1 nvidia-nccl-cu13==2.30.7 nvidia-nvshmem-cu13==3.7.2)

if ! cmp -s tests/peers.txt "$venv/complete"; then
    echo "packages from PyPI go to $venv"
    rm -f "$venv/complete"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r tests/peers.txt
    "$venv/bin/pip" install -q --disable-pip-version-check --no-deps "${torch[@]}"
    "$venv/bin/python" -c 'import torch, transformers, xllamacpp'
    cp tests/peers.txt "$venv/complete"
fi
