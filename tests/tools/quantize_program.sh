#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `layerskip quantize` as its user meets it, over a small synthetic checkpoint. usage: LSK_PROGRAM=PROGRAM quantize_program.sh (arguments are not used)
set -u
program=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" NO_COLOR
export LAYERSKIP_DEVICE=cpu
failures=0 checks=0

check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" && return
    failures=$((failures + 1))
    printf 'FAILED: %s\n  stdout: %s\n  stderr: %s\n' "$what" "$(head -c 400 out)" "$(head -c 400 err)"
}
try() { # STATUS COMMAND [ARGUMENTS]
    local want=$1 status
    shift
    timeout 60 "$program" "$@" >out 2>err </dev/null
    status=$?
    check "status $want expected, not $status: $*" [ "$status" = "$want" ]
}
says() { check "$1 shall say: $2" grep -qF -- "$2" "$1"; }
refuse() { # STATUS TEXT ARGUMENTS...
    local status=$1 text=$2
    shift 2
    try "$status" quantize "$@"
    says err "$text"
    check "one line on stderr expected" [ "$(wc -l <err)" = 1 ]
    check "nothing on stdout expected" [ ! -s out ]
}
text_of() { "$program" run "$1" -p "Hello, wörld" -n 24 --temp 0 "${@:2}" 2>err; }

try 0 synth --shape tiny-llama3 model
try 0 quantize model 16.gguf bf16
says err "wrote 16.gguf"
says out "total "
check "the text is the folder's" [ "$(text_of model)" = "$(text_of 16.gguf)" ]

# llama-quantize's order and spellings, and our own.
try 0 quantize --token-embedding-type q4_1 --output-tensor-type F16 16.gguf 4.gguf Q4_0 2
says out "Q4_1"
try 0 quantize --leave-output-tensor --type q8_0 model -o 8.gguf --json
check "the report is not JSON" python3 -c 'import json; r = json.load(open("out")); assert r["kinds"][-1]["kind"] == "total" and r["kinds"][0]["to"] == "Q8_0"'
check "the head keeps its type" python3 -c 'import json; r = json.load(open("out")); assert [k["to"] for k in r["kinds"] if k["kind"] == "head"] == ["BF16"]'
try 0 quantize model 8.gguf q8_0 --force
check "the text is that of weights q8" [ "$(text_of model --weights q8)" = "$(text_of 8.gguf)" ]
try 0 quantize model large.gguf f32 --split-max-size 1M
says err "in parts"
check "a split model runs" [ "$(text_of model --compute f32)" = "$(text_of large-00001-of-00004.gguf --compute f32)" ]
try 0 quantize 8.gguf profile.gguf copy --exit-layer 2 --num-speculations 5
try 0 info profile.gguf
says out "drafts leave after layer 2 of"
check "a profile changes no text" [ "$(text_of profile.gguf)" = "$(text_of 8.gguf)" ]
rm profile.gguf

# Frequent tokens for drafts: counted in a text, used where they are, no text changed.
printf '{"prompt": "zzzzz", "response": "Hello, aaaa bbb cc d"}\n{"text": "abcdefghijklmnop <|im_end|>"}\n' >words.jsonl
for n in 12 ""; do
    try 0 quantize 8.gguf drafts.gguf copy --exit-layer 2 --num-speculations 5 --draft-tokens "words.jsonl${n:+:$n}" --force
    check "what is covered" grep -Eq "note: drafts are chosen among ${n:-[0-9]+} of [0-9]+ tokens: they are [0-9.]+ % of the [0-9]+ that were counted" err
done
try 0 info drafts.gguf
says out "frequent tokens are listed; a draft reads their head of"
try 0 info drafts.gguf --draft-head off
says out "a draft reads the whole head"
check "the head of drafts changes no text" [ "$(text_of drafts.gguf)" = "$(text_of 8.gguf)" ]
check "nor its size" [ "$(text_of drafts.gguf --draft-head 5 --num-speculations 7)" = "$(text_of 8.gguf)" ]
try 0 run drafts.gguf -p "Hello" -n 8 --draft-head 6
says err "exit layer 2, among 6 tokens, "
try 0 verify drafts.gguf -p "Hello, w" -p "ab" --temp 0,0.8 --draft-head 7 -n 24
says out "every drafted reply equals plain decoding"
try 0 bench drafts.gguf -n 8 -p 0 -r 1 --read-gib 0 --exit-layer 1 --num-speculations 2 --draft-head 7
says out "drafts among 7 tokens"
try 0 quantize drafts.gguf again.gguf copy
check "a copy keeps the list" cmp -s drafts.gguf again.gguf
rm again.gguf
try 0 quantize model --type q4_0 --dry-run
check "nothing is written" [ ! -s err ]
try 0 synth --shape tiny odd
try 0 quantize odd odd.gguf q8_0
says err "note: blk.0.ffn_down.weight and its like: rows of 176 values make no blocks of 32 for Q8_0: they get F16"
try 0 quantize odd odd.gguf q4_k --force
says err "note: blk.0.attn_q.weight and its like: rows of 64 values make no blocks of 256 for Q4_K: they get Q4_1"

# Super-blocks: by llama-quantize's names; drafts change no text, a copy no byte.
try 0 synth --shape tiny-256 k
for type in Q4_K Q6_K Q4_K_S Q4_K_M; do
    try 0 quantize k k.gguf $type --force
    try 0 verify k.gguf -p "Hello, w" -p "ab" --temp 0,0.8 --exit-layer 1 --num-speculations 3 -n 24
    says out "every drafted reply equals plain decoding"
    for kernels in plain avx2; do
        "$program" info --kernels $kernels k.gguf >out 2>err && check "the text of kernels $kernels" cmp -s <(text_of k.gguf) <(text_of k.gguf --kernels $kernels)
    done
done
try 0 quantize --token-embedding-type q6_k --output-tensor-type q4_k k k.gguf q8_0 --force --json
check "types of embedding and head" python3 -c 'import json; t = {k["kind"]: k["to"] for k in json.load(open("out"))["kinds"]}; assert (t["embed"], t["head"], t["q"]) == ("Q6_K", "Q4_K", "Q8_0")'
rm -r k k.gguf

refuse 64 "no type given" model x.gguf
refuse 64 "no output given" model
refuse 64 "exit layer 9: this model has" model x.gguf q8_0 --exit-layer 9
refuse 64 "no exit layer to draft from" model x.gguf q8_0 --num-speculations 3
refuse 64 "--draft-tokens: \"words.jsonl:0\": give a file of text" model x.gguf q8_0 --draft-tokens words.jsonl:0
refuse 66 "none.txt: cannot open" model x.gguf q8_0 --draft-tokens none.txt
printf '{"prompt": "a", "response": 1}\n' >bad.jsonl
refuse 65 "bad.jsonl: line 1: " model x.gguf q8_0 --draft-tokens bad.jsonl
try 64 run drafts.gguf -p x --draft-head 1000
says err "frequent tokens: give at most that"
try 64 run 8.gguf -p x --draft-head 5
says err "lists no frequent tokens: \`layerskip quantize"
try 64 run 8.gguf -p x --draft-head some
says err "--draft-head: \"some\": must be auto, off or a number"
rm drafts.gguf words.jsonl bad.jsonl
refuse 64 "must be one of f32" model x.gguf q9
refuse 64 "--split-max-size: \"50\": give a number and M or G" model x.gguf q8_0 --split-max-size 50
refuse 64 "--allow-requantize" 8.gguf x.gguf q4_0
refuse 64 "input and output are one file" 8.gguf ./8.gguf f32 --force
refuse 73 "exists already" model 8.gguf q8_0
refuse 73 "cannot create" model no/x.gguf q8_0
refuse 66 "none" none x.gguf q8_0
check "nothing but what was written" [ "$(ls | tr '\n' ' ')" = "16.gguf 4.gguf 8.gguf err large-00001-of-00004.gguf large-00002-of-00004.gguf large-00003-of-00004.gguf large-00004-of-00004.gguf model odd odd.gguf out " ]

# Interrupted in the middle: nothing is left.
try 0 synth --shape tinyllama-1.1b --layers 4 big
for signal in INT TERM; do
    (trap - INT; exec "$program" quantize big big.gguf f32 --threads 1 >out 2>err) &
    child=$!
    for _ in $(seq 3000); do
        compgen -G 'big.gguf.tmp-*' >/dev/null && break
        sleep 0.01
    done
    check "quantize writes" [ -n "$(compgen -G 'big.gguf.tmp-*')" ]
    kill "-$signal" "$child"
    wait "$child"
    check "status of SIG$signal" [ $? = $((128 + $(kill -l "$signal"))) ]
    check "nothing is left by SIG$signal" [ -z "$(compgen -G 'big.gguf*')" ]
done

echo "$checks checks, $failures failures"
[ "$failures" = 0 ]
