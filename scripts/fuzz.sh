#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs all fuzz targets at once, each for the given seconds, from the seeds in tests/fuzz/seeds and what earlier runs have found in build-san/fuzz/corpus.
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
cmake --preset san
ninja -C build-san -j "$(nproc)" "${targets[@]}"
folder=build-san/fuzz
mkdir -p $folder/found
pids=()
for target in "${targets[@]}"; do
    corpus=$folder/corpus/${target#fuzz_}
    mkdir -p "$corpus"
    "$folder/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$folder/found/$target-" \
        "$corpus" tests/fuzz/seeds/"${target#fuzz_}" >"$folder/$target.log" 2>&1 &
    pids+=($!)
done
status=0
for i in "${!targets[@]}"; do
    target=${targets[i]}
    if wait "${pids[i]}"; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/$target.log") inputs, nothing found"
    else
        status=1
        echo "$target: FAILED, see $folder/$target.log"
        grep -E "^(==|SUMMARY|Test unit|artifact)|runtime error" "$folder/$target.log" | head -20
    fi
done
exit $status
