#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Training from the command line: text, a model's own replies, a run, its interruption, its curves. usage: LSK_PROGRAM=PROGRAM training.sh (arguments are not used)
set -u
program=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" NO_COLOR
export LAYERSKIP_DEVICE=cpu
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
    timeout 120 "$program" "$@" >out 2>err </dev/null
    status=$?
    check "status $want expected, not $status: $*" [ "$status" = "$want" ]
}
says() { check "$1 shall say: $2" grep -qF -- "$2" "$1"; }
refuse() { # STATUS TEXT COMMAND...
    local status=$1 text=$2
    shift 2
    try "$status" "$@"
    says err "$text"
    check "one line on stderr expected" [ "$(wc -l <err)" = 1 ]
    check "nothing on stdout expected" [ ! -s out ]
}

try 0 synth --shape tiny --layers 2 model
for i in $(seq 60); do echo "Line $i of the text, and $((i * i)) more words to come."; done >words.txt
train=(train -m model --data words.txt -b 2 --length 16 --threads 1)

# What is wrong, by its exit code, before any work.
refuse 64 "no model given" train -o run --data words.txt
refuse 64 "no folder given" train -m model --data words.txt
refuse 64 "no text given" train -m model -o run
refuse 64 "recipe layerskip: must be one of distill, plain" "${train[@]}" -o run --recipe layerskip
refuse 64 "exit layer 2" "${train[@]}" -o run --exits 1,2
refuse 64 "words.txt: weight -1" train -m model --data words.txt:-1 -o run0
refuse 66 "words.txt:x" train -m model --data words.txt:x -o run0
refuse 66 "missing.txt" train -m model -o run1 --data missing.txt
: >empty.txt
refuse 65 "empty.txt: the file is empty" train -m model -o run2 --data empty.txt
printf 'a\0b' >binary.txt
refuse 65 "binary.txt: offset 0x1: a zero byte" train -m model -o run3 --data binary.txt
printf '{"tokens": [1, 2]}\n{"tokens": [1, 99999]}\n' >beyond.jsonl
refuse 65 "beyond.jsonl: line 2: token 1 is 99999" train -m model -o run4 --data beyond.jsonl
refuse 65 "too few for one block" train -m model -o run5 --data words.txt --length 4000

# A run, and what it leaves.
try 0 "${train[@]}" -o run --steps 6 --look-every 3 --save-every 2 --rate 1e-3 --peak-tflops 1
says out "run/step-000006"
says err "sequences to train on"
cp err first
says err "held out, step 3: loss"
check "two checkpoints" [ "$(ls -d run/step-* | wc -l)" = 2 ]
check "a log of six steps" [ "$(grep -c ',train,2,' run/log.csv)" = 6 ]
try 0 info run/step-000006
says out "drafts leave after layer 1 of 2"
try 0 run run/step-000006 -p "Line" -n 4
refuse 64 "holds a run already (step 6)" "${train[@]}" -o run --steps 6
refuse 64 "steps was 6, now it is 7" "${train[@]}" -o run --steps 7 --rate 1e-3 --resume
refuse 66 "no complete checkpoint" "${train[@]}" -o run6 --resume
try 0 train --help
says out "layerskip-llama2-13b"
says out "How to choose"

try 0 train -m model --data words.txt:1.5 -b 2 --length 16 --threads 1 -o mixed --steps 1 --look-every 0
says err "$(awk '/sequences to train on/ { print int($1 * 1.5 + .5) }' first) sequences to train on"

cp words.txt words.txt:12 # a file of the whole name is meant, not a weight
try 0 train -m model --data words.txt:12 -b 2 --length 16 --threads 1 -o colon --steps 1 --look-every 0
says err "$(awk '/sequences to train on/ { print $1 }' first) sequences to train on"
try 0 train -m model --data words.txt:12:0.5 -b 2 --length 16 --threads 1 -o colon2 --steps 1 --look-every 0
says err "$(awk '/sequences to train on/ { print int($1 * 0.5 + .5) }' first) sequences to train on"
rm words.txt:12

# Ctrl-C ends a run behind a checkpoint; it goes on to the bits of one that was not interrupted.
(trap - INT; exec "$program" "${train[@]}" -o cut --steps 1000 --look-every 0 --no-progress >out 2>err </dev/null) &
child=$!
for _ in $(seq 1000); do grep -qs ,train, cut/log.csv && break; sleep 0.01; done
kill -INT "$child"; sleep 0.01; kill -INT "$child" # as timeout(1) does: once more to the whole group
wait "$child"
check "status 130 expected" [ $? = 130 ]
says err "interrupted; --resume goes on from cut/step-"
check "one checkpoint" [ "$(ls -d cut/step-* | wc -l)" = 1 ]
try 0 "${train[@]}" -o cut --steps 1000 --look-every 0 --resume
try 0 "${train[@]}" -o whole --steps 1000 --look-every 0
check "the same weights" cmp -s cut/step-001000/model.safetensors whole/step-001000/model.safetensors

# A model's own replies: a function of the options alone, and of no interruption.
printf 'Once upon\\na time\n\nThe sun\nA third prompt, a longer one\n' >prompts.txt
make=(generate-corpus -m model --prompts prompts.txt -n 11 --n-predict 9 --temp 0.9 --seed 4)
refuse 64 "no file given" generate-corpus -m model --prompts prompts.txt
refuse 64 "no prompts given" generate-corpus -m model -o a.jsonl
refuse 65 "empty.txt: no prompt in it" generate-corpus -m model --prompts empty.txt -o a.jsonl
refuse 65 "binary.txt: a zero byte" generate-corpus -m model --prompts binary.txt -o a.jsonl
try 0 "${make[@]}" -o a.jsonl
check "eleven rows" [ "$(wc -l <a.jsonl)" = 11 ]
try 0 "${make[@]}" -o b.jsonl --parallel 3 --exit-layer 1
check "the same rows whatever runs side by side" cmp -s a.jsonl b.jsonl
cp a.jsonl before.jsonl
try 0 "${make[@]}" -o a.jsonl
says err "a.jsonl: complete already: 11 rows by these prompts and options"
refuse 73 "a.jsonl: line 1: exists already, and this row is of other prompts or options" "${make[@]}" --seed 5 -o a.jsonl
refuse 73 "words.txt: exists already, and is no file of rows" "${make[@]}" -o words.txt
check "a finished file stays as it is" cmp -s before.jsonl a.jsonl
try 0 "${make[@]}" -n 4 -o more.jsonl
try 0 "${make[@]}" -o more.jsonl
check "more rows of a finished run" cmp -s a.jsonl more.jsonl
printf 'One\n\n\xff\n' >latin.txt
refuse 65 "latin.txt: line 3" generate-corpus -m model --prompts latin.txt -o x.jsonl
python3 -c 'print("One\n" + "long " * 30000)' >long.txt
refuse 65 "long.txt: line 2: the prompt has" generate-corpus -m model --prompts long.txt -o x.jsonl
try 0 "${make[@]}" -o c.jsonl --seed 5
check "other rows with another seed" [ "$(cmp -s a.jsonl c.jsonl; echo $?)" = 1 ]
rm -f b.jsonl
"$program" "${make[@]}" -o b.jsonl -n 4 --parallel 2 >out 2>err
check "the first rows of more" cmp -s b.jsonl <(head -n 4 a.jsonl)
check "the rows are JSON" python3 -c 'import json
rows = [json.loads(line) for line in open("a.jsonl")]
assert rows[0]["prompt"] == "Once upon\na time" and rows[1]["prompt"] == rows[4]["prompt"] == "The sun"
assert all(len(r["tokens"]) <= r["prompt_tokens"] + 9 for r in rows) and rows[0]["finish"] == "length"'
part=$(cd "$work" && mkdir part && cd part && cp ../prompts.txt . && ln -s ../model model && timeout -s KILL 0.02 "$program" "${make[@]}" -o b.jsonl >/dev/null 2>&1; ls "$work"/part/b.jsonl.part-* 2>/dev/null)
if [ -n "$part" ]; then # some rows and the beginning of one, as a killed run leaves them
    { head -n 5 a.jsonl; head -n 6 a.jsonl | tail -n 1 | head -c 30; } >"$part"
    cd part || exit
    check "goes on" "$program" "${make[@]}" -o b.jsonl
    cd ..
    check "the same rows after a kill" cmp -s a.jsonl part/b.jsonl
    check "nothing is left beside" [ -z "$(ls part/*.part-* 2>/dev/null)" ]
fi

# Its own likeliest words are what the whole model foretells; an exit agrees with it as often as it is right then.
try 0 "${make[@]}" --temp 0 -n 6 -o greedy.jsonl
try 0 perplexity -m model -f greedy.jsonl --length 64 -o json
check "rows foretold by the model that wrote them" python3 -c 'import json
r, rows = json.load(open("out")), [json.loads(line) for line in open("greedy.jsonl")]
exit, whole = r["exits"]
assert (exit["exit_layer"], whole["exit_layer"]) == (1, 2) and whole["accuracy"] == whole["acceptance"] == 1
assert exit["accuracy"] == exit["acceptance"] <= 1 <= whole["perplexity"]
assert r["tokens"] == sum(len(row["tokens"]) - row["prompt_tokens"] for row in rows)'
try 0 perplexity -m model -f words.txt --length 40 --exits 1
says out "| exit layer | perplexity | ± stderr | acceptance | accuracy |"
says out "|          2 |"
try 0 perplexity -m model -f words.txt --length 40 --tokens 60
says out "78 tokens"
refuse 64 "no text given" perplexity -m model
refuse 64 "--exits: 2" perplexity -m model -f words.txt --exits 2
refuse 65 "beyond.jsonl: line 2" perplexity -m model -f beyond.jsonl
try 0 train -m model --data a.jsonl -o own -b 2 --length 8 --steps 2 --learn-prompts --threads 1

# Curves: the script that gnuplot is given, and what is said without it.
cat >gnuplot-fake <<'END'
#!/bin/sh
cat >script
echo picture
END
chmod +x gnuplot-fake
try 0 plot run/log.csv -o curves.svg --gnuplot ./gnuplot-fake
check "a picture" grep -q picture curves.svg
says script "set terminal svg dynamic size 1000,1100"
says script "title 'exit 1'"
check "every plot has its points" [ "$(grep -o "'-'" script | wc -l)" = "$(grep -c '^e$' script)" ]
if command -v gnuplot >/dev/null; then
    try 0 plot run/log.csv -o curves.png
    check "a PNG file" grep -q PNG curves.png
    try 0 plot run/log.csv -o real.svg
    check "an SVG file" grep -q '</svg>' real.svg
    check "gnuplot has nothing to say" [ ! -s err ]
fi
refuse 69 "no-such-gnuplot is not installed" plot run/log.csv -o x.svg --gnuplot no-such-gnuplot
refuse 69 "failed (status 1)" plot run/log.csv -o x.svg --gnuplot false
check "no picture, and nothing half-made" [ -z "$(ls x.svg* 2>/dev/null)" ]
refuse 64 "a picture is NAME.png or NAME.svg" plot run/log.csv -o x.jpg
refuse 64 "no log given" plot -o x.svg
refuse 66 "none.csv" plot none.csv -o x.svg
refuse 65 "words.txt: line 1" plot words.txt -o x.svg
{ cat run/log.csv; echo "3,train,x,1"; } >bad.csv
refuse 65 "is no row of a training log" plot bad.csv -o x.svg
head -n 1 run/log.csv >none.csv
refuse 65 "no rows" plot none.csv -o x.svg
{ cat run/log.csv; printf '7,train,2,6'; } >cut.csv
try 0 plot cut.csv -o cut.svg --gnuplot ./gnuplot-fake

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
