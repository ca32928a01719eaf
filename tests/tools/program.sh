#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The real program with its engine over a small synthetic checkpoint. usage: LSK_PROGRAM=PROGRAM program.sh (arguments are not used)
set -u
program=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" NO_COLOR
failures=0 checks=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  stdout: %s\n  stderr: %s\n' "$1" "$(head -c 400 out)" "$(head -c 400 err)"
}
check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" || fail "$what"
}
# try STATUS COMMAND [ARGUMENTS]: runs the program, keeps out and err.
try() {
    local want=$1 status
    shift
    timeout 60 "$program" "$@" >out 2>err </dev/null
    status=$?
    check "status $want expected, not $status: $*" [ "$status" = "$want" ]
}
says() { check "$1 shall say: $2" grep -qF -- "$2" "$1"; }
json() { check "the output is not JSON" python3 -c 'import json; json.load(open("out"))'; }
same() { check "$2: other bytes than $1" cmp -s "$1" out; }
refuse() { # STATUS TEXT COMMAND...
    local status=$1 text=$2
    shift 2
    try "$status" "$@"
    says err "$text"
    check "one line on stderr expected" [ "$(wc -l <err)" = 1 ]
    check "nothing on stdout expected" [ ! -s out ]
}

# A checkpoint, and what is known of it.
try 0 synth --shape tiny-gqa model
try 0 info model
says out "shape          5 layers, hidden 96"
try 0 info model --json
json
says out '"n_layers": 5'
try 0 info model --tensors --check
says out "norm BF16 96"
says out "every stored value is a number"
try 0 info model --tensors --json
check "a line for every tensor" [ "$(grep -c '^{"tensor": ' out)" -gt 40 ]

# Text to tokens and back: the pieces joined are the text.
text='Hello, wörld 12345!'
try 0 tokenize model --no-bos -p "$text" --ids
ids=$(cat out)
try 0 tokenize model --no-bos -p "$text" --json
json
check "ids with and without pieces" python3 -c 'import json, sys
sys.exit([t["id"] for t in json.load(open("out"))] != [int(i) for i in sys.argv[1].split()])' "$ids"
try 0 tokenize model --no-bos -p "Hello, 12345!" --json
check "pieces make the text" python3 -c 'import json, sys
sys.exit("".join(t["piece"] for t in json.load(open("out"))) != "Hello, 12345!")'

# The same bytes, whatever drafted them; and for the same seed.
run=(run model -p "Once upon" -n 60 --ignore-eos)
try 0 "${run[@]}" --generation-strategy autoregressive
cp out plain
check "a text" [ -s plain ]
for drafts in "1 1" "2 4" "4 12"; do
    try 0 "${run[@]}" --exit-layer "${drafts% *}" --num-speculations "${drafts#* }"
    same plain "drafts $drafts"
    says err "acceptance rate"
done
try 0 "${run[@]}" --threads 1 --kernels plain
same plain "one thread, plain kernels"
try 0 "${run[@]}" --temp 0.8 --seed 7
cp out sampled
check "sampling changes the text" eval '! cmp -s plain sampled'
try 0 "${run[@]}" --temp 0.8 --seed 7
same sampled "the same seed again"
try 0 "${run[@]}" --temp 0.8 --seed 7 --exit-layer 2 --num-speculations 4
same sampled "the same seed, drafted"
try 0 "${run[@]}" --depth 1
check "one layer of five writes another text" eval '! cmp -s plain out'
try 0 "${run[@]}" --stats json
same plain "statistics in JSON"
cp err out
json
try 0 verify model -p one -p two --temp 0,0.7 --seed 3 -n 40
says out "every drafted reply equals plain decoding"
try 0 bench model -p 16 -n 8 -r 1 --exit-layer 2 --read-gib 0 -o json
json
says out '"test": "tg8 E2 d4"'

# Weights that are no numbers: a norm becomes NaN.
cp -r model nan
python3 - <<'END'
import json, struct
with open("nan/model.safetensors", "r+b") as f:
    n, = struct.unpack("<Q", f.read(8))
    first, end = json.loads(f.read(n))["model.norm.weight"]["data_offsets"]
    f.seek(8 + n + first)
    f.write(b"\xc0\x7f" * ((end - first) // 2))
END
refuse 65 "logits are not finite (NaN or infinity) at token 1 of the reply" run nan -p x -n 4
refuse 65 "logits are not finite" verify nan -p x -n 4
try 0 info nan --check
says err "layerskip: warning: "

# What is wrong, by its exit code.
refuse 64 "--exit-layer: 5: this model has 5 layers" run model -p x --exit-layer 5
refuse 64 "unknown option" run model -p x --no-such-option
refuse 64 "did you mean tiny-gqa?" synth --shape tiny-gqq new
refuse 66 "missing" run missing -p x
refuse 66 "missing.txt" run model -f missing.txt
cp -r model cut
truncate -s 100000 cut/model.safetensors
refuse 65 "model.safetensors" run cut -p x
cp -r model torn
printf '{' >torn/config.json
refuse 65 "torn/config.json" info torn
refuse 73 "model" synth --shape tiny-gqa model

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
