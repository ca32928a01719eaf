#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that must hold before a change is taken, step by step, with a summary.  scripts/check.sh [STEP ...]
# The output of a step goes to build/check/STEP.log and is shown when the step fails; all steps run in any case.
set -u
cd "$(dirname "$0")/.." || exit
jobs=$(nproc)
logs=build/check
export UBSAN_OPTIONS=print_stacktrace=1 CTEST_OUTPUT_ON_FAILURE=1

build() { cmake --preset "$1" && ninja -C "$2" -j "$jobs" "${@:3}"; }
run_tests() {
    ctest --test-dir "$1" -j "$jobs" --no-tests=error "${@:2}"
    local status=$?
    list_skipped "$1/Testing/Temporary/LastTest.log"
    return $status
}
list_skipped() { # "skipped: PROGRAM: CASE", or "PROGRAM" alone, with the reason where the program gives one in a line that begins with that word
    awk '/^[0-9]+\/[0-9]+ Test: / { program = $3; reason = ""; named = 0 }
        /^skipped: / { reason = " (" substr($0, 10) ")" }
        /^\[  SKIPPED \] [A-Za-z0-9_]+$/ { named = 1; if (!seen[program $4]++) print "skipped: " program ": " $4 reason }
        /^Test time/ && reason && !named { print "skipped: " program reason }' "$1"
}
each() { # runs COMMAND... NAME for every test program of FOLDER that is named
    local folder=$1 command=$2 name
    for name in "${@:3}"; do
        echo "== $name" && $command "$folder/tests/$name" || return 1
    done
}

step_build() { build check build all bench; } # benches too: nothing else compiles them
step_model() { scripts/smollm2.sh; }
step_gates() { python3 scripts/gates.py; }
step_tests() { run_tests build; }
step_sanitizers() { build san build-san && run_tests build-san -LE slow; } # the second compiler too: clang
step_fuzz() { scripts/fuzz.sh 30; }
# Without address randomisation, which old thread sanitizers do not get along with on new kernels.
step_threads() {
    local names=(test_pool test_cpu test_cpu_load test_backend test_quantize test_train)
    build tsan build-tsan "${names[@]}" && each build-tsan "setarch -R" "${names[@]}"
}
step_valgrind() { each build "valgrind -q --error-exitcode=1 --leak-check=full" test_matmul; }

steps=("$@")
[[ $# -gt 0 ]] || steps=(build model gates tests sanitizers fuzz threads valgrind)
mkdir -p "$logs"
passed=0 failed=0 skipped=0 summary=
for step in "${steps[@]}"; do
    printf '%-11s' "$step"
    start=$SECONDS
    if "step_$step" >"$logs/$step.log" 2>&1; then
        result=ok passed=$((passed + 1))
    else
        result=FAILED failed=$((failed + 1))
    fi
    line=$(printf '%-7s %4d s  %s' "$result" $((SECONDS - start)) "$(grep -E '^[0-9]+% tests passed' "$logs/$step.log" || true)")
    echo "$line"
    grep '^skipped: ' "$logs/$step.log" | sed 's/^/    /'
    skipped=$((skipped + $(grep -c '^skipped: ' "$logs/$step.log")))
    [[ $result == ok ]] || { tail -n 60 "$logs/$step.log" | sed 's/^/    /'; summary+="$step failed: see $logs/$step.log"$'\n'; }
done
printf '%s' "$summary"
echo "$((SECONDS)) s in all"
echo "check: $passed passed, $failed failed; $skipped test cases skipped"
[[ $failed == 0 ]]
