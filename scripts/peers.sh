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

model=$(scripts/smollm2.sh)
export LSK_PROGRAM=$PWD/build/layerskip LSK_SMOLLM2=$model
names=("$@")
[[ $# -gt 0 ]] || names=(test_gguf_package test_hub_package test_llama_cpp test_metrics_package test_train_torch test_acceptance test_perplexity)
mkdir -p "$logs"
passed=0 failed=0
for name in "${names[@]}"; do
    script=$(find tests -name "$name.py")
    [[ $script ]] || { echo "scripts/peers.sh: there is no test $name" >&2; exit 64; }
    start=$SECONDS
    status=0
    "$venv/bin/python" "$script" >"$logs/$name.log" 2>&1 || status=$?
    if [[ $status == 0 ]] && ! grep -q skipped "$logs/$name.log"; then
        result=ok passed=$((passed + 1))
    else
        result=FAILED failed=$((failed + 1))
    fi
    printf '%-22s%-7s%4d s  %s\n' "$name" "$result" $((SECONDS - start)) "$(tail -n 1 "$logs/$name.log")"
    [[ $result == ok ]] || tail -n 30 "$logs/$name.log" | sed 's/^/    /'
done
echo "peers: $passed passed, $failed failed; see $logs"
[[ $failed == 0 ]]
