#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs all fuzz targets at once, each for the given seconds, from the seeds in tests/fuzz/seeds and what earlier runs have found in build-fuzz/corpus.
#   scripts/fuzz.sh SECONDS [TARGET ...]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?how many seconds?}
shift
targets=("$@")
shopt -s nullglob
if [[ $# == 0 ]]; then
    for source in tests/fuzz/fuzz_*.c; do
        targets+=("$(basename "$source" .c)")
    done
fi
[[ ${#targets[@]} -gt 0 ]] || { echo "there are no fuzz targets in tests/fuzz" >&2; exit 1; }
cmake --preset fuzz
ninja -C build-fuzz -j "$(nproc)" "${targets[@]}"
mkdir -p build-fuzz/found
pids=()
for target in "${targets[@]}"; do
    corpus=build-fuzz/corpus/${target#fuzz_}
    mkdir -p "$corpus"
    build-fuzz/fuzz/"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="build-fuzz/found/$target-" \
        "$corpus" tests/fuzz/seeds/"${target#fuzz_}" >"build-fuzz/$target.log" 2>&1 &
    pids+=($!)
done
status=0
for i in "${!targets[@]}"; do
    target=${targets[i]}
    if wait "${pids[i]}"; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$target.log") inputs, nothing found"
    else
        status=1
        echo "$target: FAILED, see build-fuzz/$target.log"
        grep -E "^(==|SUMMARY|Test unit|artifact)|runtime error" "build-fuzz/$target.log" | head -20
    fi
done
exit $status
