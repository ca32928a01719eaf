#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A small instruct model answers a question twice, plainly and by self-speculation, and both texts are compared. It is the LayerSkip model of models/, where that is there;
# else SmolLM2-135M-Instruct as PyPI has it, which shows the exactness and no gain.
set -eu -o pipefail
cd "$(dirname "$0")/.."
question=${1:-Explain in three sentences why the sky is blue.}
shipped=$(compgen -G 'models/*.gguf' | head -n 1 || true)
model=${shipped:-$(scripts/smollm2.sh)}
prompt='<|im_start|>user\n'$question'<|im_end|>\n<|im_start|>assistant\n'
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

answer() { # NAME, then what tells this run from the other
    local name=$1
    shift
    echo
    echo "\$ build/layerskip run -m ${model/#"$HOME"/\~} --special -p '${prompt//\'/\'\\\'\'}' -n 160 $*"
    build/layerskip run -m "$model" --special -p "$prompt" -n 160 "$@" 2>"$out/$name.stats" >"$out/$name" || { cat "$out/$name.stats" >&2; exit 1; }
    [[ $shipped ]] || { cat "$out/$name"; echo; }
    cat "$out/$name.stats"
}
rate() { sed -n 's|^reply .* \([0-9.]*\) tokens/s.*|\1|p' "$out/$1.stats"; }
speed() {
    awk -v plain="$(rate plain)" -v drafted="$(rate drafted)" 'BEGIN {
        if (plain > 0) printf "ran at %.2f times the speed of plain decoding", drafted / plain
        else printf "cannot be compared: the reply is too short to have a speed" }'
}
compare() {
    cmp -s "$out/plain" "$out/drafted" && return
    echo "THE TWO TEXTS DIFFER: this must never happen, please report it." >&2
    exit 1
}
columns() { # both texts beside one another
    local width=$((($(tput cols 2>/dev/null || echo 120) - 3) / 2))
    paste -d '\t' <(printf 'plain, %s tokens/s\n\n' "$(rate plain)"; fold -s -w "$width" "$out/plain") <(printf 'self-speculative, %s tokens/s\n\n' "$(rate drafted)"; fold -s -w "$width" "$out/drafted") |
        awk -F '\t' -v width="$width" '{ printf "%-" width "s | %s\n", $1, $2 }'
}

if [[ $shipped ]]; then
    answer plain --num-speculations 0
    answer drafted --drafter ngram+exit+recycle
    echo
    columns
    echo
    compare
    drafts=$(sed -n 's|^drafts .*acceptance rate \([0-9.]*\).*mean accepted length \([0-9.]*\).*|\1 of the drafts were accepted, which makes \2 tokens a round|p' "$out/drafted.stats")
    echo "Both texts are equal, byte for byte.${drafts:+ $drafts.}"
    echo "Self-speculation $(speed)."
    exit
fi

exit_layer=${EXIT_LAYER:-24} drafts=${DRAFTS:-2}
answer plain --num-speculations 0
answer drafted --exit-layer "$exit_layer" --num-speculations "$drafts"
echo
compare
echo "Both texts are equal, byte for byte."
echo "Self-speculation (first $exit_layer of 30 layers draft, $drafts tokens a round) $(speed)."
echo "Expect no gain here: SmolLM2 is not trained for early exit, so its early layers rarely agree with the full model. With LayerSkip"
echo "checkpoints, which are, the same two commands show what it is for; synth and bench show it without them."
