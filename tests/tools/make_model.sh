#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/make_model.sh from texts to card, with a toy in the model's place; interrupted and gone on with. usage: LSK_PROGRAM=PROGRAM make_model.sh (arguments are not used)
set -u
cd "$(dirname "$0")/../.." || exit
program=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
command -v python3 dpkg-deb >/dev/null || { echo "skipped: python3 or dpkg-deb is missing"; exit 77; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
unset "${!LAYERSKIP_@}" NO_COLOR
failures=0 checks=0
check() { # WHAT COMMAND...
    checks=$((checks + 1))
    "${@:2}" && return
    failures=$((failures + 1))
    printf 'FAILED: %s\n  %s\n' "$1" "$(tail -n 5 "$temp/log")"
}

# A package as Debian has it, with one library of functions.
mkdir -p "$temp/package/DEBIAN" "$temp/package/usr/lib/python3.11" "$temp/debs"
printf 'Package: libpython3.11-stdlib\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n' >"$temp/package/DEBIAN/control"
for i in $(seq 40); do printf 'def step_%d(first, second):\n    """Adds what two numbers are, and %d more."""\n    return first + second + %d\n\n' "$i" "$i" "$i"; done >"$temp/package/usr/lib/python3.11/steps.py"
dpkg-deb -b "$temp/package" "$temp/debs/libpython3.11-stdlib_1_all.deb" >/dev/null || exit
"$program" synth --shape tiny-tied "$temp/toy" >/dev/null 2>&1 || exit

make_model() { # STEPS VARIABLES...
    # shellcheck disable=SC2086 # words
    env SIZE=tiny DEVICE=cpu MODEL="$temp/toy" WORK="$temp/made" OUT="$temp/models" DEBS="$temp/debs" PROGRAM="$program" NAME=toy TYPE=q8_0 PART=1M PHASES='400:2e-3:3 20:1e-3:9' BATCH=2 LENGTH=192 ACCUMULATE=1 \
        N_PREDICT=16 HELD_TOKENS=200 REPS=1 TRAIN_OPTIONS="--held-out 0.1" "${@:2}" scripts/make_model.sh $1 >"$temp/log" 2>&1 </dev/null
}

make_model "texts prompts generate"
check "texts, prompts and replies" [ $? = 0 ]
check "rows of the model's own" [ "$(cat "$temp"/made/own/*.jsonl | wc -l)" = 48 ]
check "no prompt of the bench among them" python3 -c 'import json, sys
test = {json.loads(line)["prompt"] for line in open("bench/prompts30.jsonl")}
own = open(sys.argv[1]).read()
assert len(test) == 30 and not any(prompt in own for prompt in test)' "$temp/made/prompts/train.txt"
first=$(sha256sum "$temp"/made/own/*.jsonl)
# shellcheck disable=SC2016 # for the shell that reads it
printf '#!/bin/sh\n[ "$1" != tokenize ] || { echo "no tokens today" >&2; exit 70; }\nexec %q "$@"\n' "$program" >"$temp/mute"
chmod +x "$temp/mute"
make_model train PROGRAM="$temp/mute"
check "a program that fails ends it" [ $? = 70 ]
check "before the training" [ ! -e "$temp/made/run-1" ]
stops=0
for _ in $(seq 50); do # a second at a time
    make_model train LIMIT=1
    status=$?
    [ "$status" = 75 ] || break
    stops=$((stops + 1))
done
check "trained in the end" [ "$status" = 0 ]
check "not in one go" [ "$stops" -gt 0 ]
check "its commit" [ "$(wc -l <"$temp/made/train-commit")" = 1 ]
echo "of the training" >"$temp/made/train-commit" # not that of the day on which the card is written
make_model ""
check "the rest" [ $? = 0 ]
check "the second phase begins where the first ended" grep -q -- "--start $temp/made/run-1/step-000400" "$temp/made/train-command-2"
check "both in the card" [ "$(grep -c -- "--recipe distill" "$temp/models/README.md")" = 2 ]
check "the card names it" grep -qF "at commit of the training, " "$temp/models/README.md"
check "what is there stays" [ "$first" = "$(sha256sum "$temp"/made/own/*.jsonl)" ]
check "a card" grep -q "The whole model's perplexity changed by" "$temp/models/README.md"
check "with the speed" grep -q "every class | 30" "$temp/models/README.md"
check "and the files" [ "$(grep -c '^| toy.*gguf | ' "$temp/models/README.md")" = "$(find "$temp/models" -name '*.gguf' | wc -l)" ]
profile=$("$program" info "$(find "$temp/models" -name 'toy*.gguf' | sort | head -n 1)" 2>/dev/null | grep -o 'drafts leave after layer [0-9]')
check "a profile in the file" [ -n "$profile" ]
check "the exits learnt" python3 -c 'import json, sys
before, after = (json.load(open(f"{sys.argv[1]}/measure/{n}-own.json"))["exits"] for n in ("original", "shipped"))
assert after[0]["acceptance"] > before[0]["acceptance"], (before, after)' "$temp/made"
make_model profile PROFILE=1,3 OUT="$temp/other"
check "a profile that is given" [ $? = 0 ]
make_model nonsense
check "no such step" [ $? = 64 ]

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
