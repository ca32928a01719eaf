#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What self-speculation gains on a real model: plain decoding, the exit chain alone and all drafters together, on the prompts of prompts30.jsonl, taking turns within one run.
# Texts must be equal. Prints a Markdown table of medians by class.  bench/speculation.sh MODEL [RUN OPTIONS, such as --threads 2]
#   PROGRAM   build/layerskip
#   PROMPTS   bench/prompts30.jsonl: {"class", "prompt"} in every line
#   TOKENS    256: most tokens of a reply
#   REPS      3: how often every prompt is answered in each way
#   CHAIN     what the exit chain is run with; empty: the model's profile, and as many drafts as are worth their time ("--exit-layer 10 --num-speculations 3")
#   ROWS      a file for the single measurements; a temporary one without it
set -eu -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
program=${PROGRAM:-$root/build/layerskip} prompts=${PROMPTS:-$root/bench/prompts30.jsonl} reps=${REPS:-3} chain=${CHAIN-}
[[ $# -gt 0 ]] || { echo "usage: bench/speculation.sh MODEL [RUN OPTIONS]" >&2; exit 64; }
model=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows=${ROWS:-$work/rows}
: >"$rows"

answer() { # WAY OPTIONS...: text to $work/WAY, a row to $rows
    local way=$1
    shift
    "$program" run -m "$model" --special -p "$prompt" -n "${TOKENS:-256}" --temp 0 --stats json --no-progress "$@" >"$work/$way" 2>"$work/stats" || { cat "$work/stats" >&2; exit 1; }
    printf '%s\t%s\t%s\t%s\t%s\n' "$class" "$number" "$rep" "$way" "$(tail -n 1 "$work/stats")" >>"$rows"
    cmp -s "$work/plain" "$work/$way" || { echo "prompt $number: the text of $way differs from plain decoding: this must never happen" >&2; exit 1; }
}

# A warm-up, then every way for every prompt; the order turns, so that none is always the first.
# shellcheck disable=SC2086 # options
for rep in $(seq "$reps"); do
    number=0
    while IFS=$'\t' read -r class prompt; do
        number=$((number + 1))
        [[ $rep$number != 11 ]] || { answer plain "$@" --num-speculations 0; : >"$rows"; }
        answer plain "$@" --num-speculations 0
        if (((rep + number) % 2)); then
            answer exit "$@" --drafter exit $chain
            answer all "$@" --drafter ngram+exit+recycle
        else
            answer all "$@" --drafter ngram+exit+recycle
            answer exit "$@" --drafter exit $chain
        fi
        [[ ! -t 2 ]] || printf '\rround %d of %d, prompt %d ' "$rep" "$reps" "$number" >&2
    done < <(python3 "$root/scripts/model_prompts.py" --chat "$prompts")
done
[[ ! -t 2 ]] || printf '\r\033[K' >&2

python3 - "$rows" <<'END'
import json, sys
from statistics import median
runs = {}
for line in open(sys.argv[1]):
    kind, number, rep, way, stats = line.rstrip("\n").split("\t")
    runs.setdefault((kind, number), {}).setdefault(way, []).append(json.loads(stats))
speed = lambda r: r["tokens_per_second"] or 0.0 # null: of a reply of one token
ratio = lambda a, b: speed(a) / speed(b) if speed(a) and speed(b) else 1.0
# Each prompt counts once: the median over the rounds of drafted against the plain run beside it.
gain = {key: {way: median(ratio(a, b) for a, b in zip(r[way], r["plain"])) for way in ("exit", "all")} for key, r in runs.items()}
share = lambda rows: sum(r["accepted"] for r in rows) / max(1, sum(r["drafted"] for r in rows))
classes = list(dict.fromkeys(kind for kind, _ in runs))
print("| class | prompts | tokens | plain tokens/s | exit | all drafters | slowest prompt: exit | all | accepted: exit | all |")
print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
for name in classes + ["every class"]:
    keys = [k for k in runs if name in (k[0], "every class")]
    rows = {way: [r for k in keys for r in runs[k][way]] for way in ("plain", "exit", "all")}
    of = lambda way, f: f(gain[k][way] for k in keys)
    print(f"| {name} | {len(keys)} | {sum(runs[k]['plain'][0]['reply_tokens'] for k in keys)} | {median(map(speed, rows['plain'])):.1f} "
          f"| {of('exit', median):.3f} | {of('all', median):.3f} | {of('exit', min):.3f} | {of('all', min):.3f} | {share(rows['exit']):.3f} | {share(rows['all']):.3f} |")
some = next(iter(runs.values()))
about = some["exit"][0]
print(f"\nMedians over prompts of the speed against plain decoding in the same run, {len(some['plain'])} rounds; greedy; exit layer {about['exit_layer']} of {about['n_layers']}; "
      f"device {about['device']}. All texts are equal.")
END
