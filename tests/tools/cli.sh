#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program as its user meets it: exit codes, messages, pipes and streams. usage: cli.sh PROGRAM
# PROGRAM is the one that is linked with fake_layerskip.c, so no weights are needed.
set -u
program=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" NO_COLOR
touch m.gguf corrupt.gguf broken.gguf ends.gguf slow.gguf nan.gguf mute.gguf evil.gguf
failures=0 checks=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  status %s\n  stdout: %s\n  stderr: %s\n' "$1" "$status" "$(head -c 400 out)" "$(head -c 400 err)"
}
# try WHAT STATUS COMMAND...: runs it, keeps out and err.
try() {
    local what=$1 want=$2
    shift 2
    checks=$((checks + 1))
    "$@" >out 2>err </dev/null
    status=$?
    [ "$status" = "$want" ] || fail "$what: status $want expected"
}
says() { checks=$((checks + 1)); grep -qF -- "$2" "$1" || fail "$1 shall say: $2"; }
# ended WHAT STATUS: for a command that was started with streams of its own.
ended() {
    status=$?
    checks=$((checks + 1))
    [ "$status" = "$2" ] || fail "$1: status $2 expected"
}
same_text() { checks=$((checks + 1)); cmp -s out plain || fail "$1: another text"; }
silent() { checks=$((checks + 1)); [ ! -s "$1" ] || fail "$1 shall be empty"; }
one_line() { checks=$((checks + 1)); [ "$(wc -l <err)" = 1 ] || fail "one line on stderr expected"; }
ls_run() { "$program" run m.gguf "$@"; }

# Usage: 64, one line on stderr, nothing on stdout.
refuse() {
    local text=$1
    shift
    try "$*" 64 "$@"
    silent out
    one_line
    says err "layerskip: error: "
    says err "$text"
}
refuse "no command given" "$program"
refuse "did you mean run?" "$program" rnu
refuse "did you mean --temp?" "$program" run m.gguf --tmep 0
refuse "--top-k: \"-5\" is out of range: give a whole number from 0" ls_run -p x --top-k -5
refuse "--temp: \"nan\"" ls_run -p x --temp nan
refuse "--exit-layer: 8: this model has 8 layers: give 1 to 7" ls_run -p x --exit-layer 8
refuse "--num-speculations: \"33\" is out of range: give a whole number from -1 to 32" ls_run -p x --num-speculations 33
refuse "contradict" ls_run -p x --generation-strategy self_speculative --drafter none
refuse "contradict" ls_run -p x --generation-strategy autoregressive --drafter exit
refuse "the prompt is empty" ls_run -p ""
refuse "the prompt is empty" ls_run
refuse "give one of them" ls_run -p x -f y
refuse "give one of them" env LAYERSKIP_PROMPT=x LAYERSKIP_FILE=y "$program" run m.gguf
refuse "--n-predict" ls_run -p x -n 0
refuse "stop string may not be empty" ls_run -p x -r ""
refuse "no model given" "$program" run -p x
refuse "the prompt has 6 tokens, the context holds 6" ls_run -p hello -c 6
refuse "unexpected argument" ls_run x
refuse "LAYERSKIP_TOP_K" env LAYERSKIP_TOP_K=many "$program" run m.gguf -p x
refuse "\n" ls_run $'--line\nbreak'
refuse "not UTF-8" ls_run -p $'\xff'
refuse "--exit-layer: 9" "$program" bench m.gguf --exit-layer 9
refuse "is not a list" "$program" bench m.gguf -n 3-1
refuse "no shape given: --shape NAME, one of: tiny" "$program" synth out
refuse "did you mean tiny?" "$program" synth --shape tniy out
refuse "no prompts" "$program" verify m.gguf
head -c 130000 /dev/zero | tr '\0' - >huge
refuse "unknown option" ls_run "$(cat huge)"

# Causes below: their own codes.
try "missing model" 66 "$program" run none.gguf -p x
one_line
try "missing prompt file" 66 ls_run -f none.txt
says err "none.txt: No such file"
try "corrupt model" 65 "$program" info corrupt.gguf
silent out
for command in "run -p x" "verify -p x" "bench -p 4 -n 8"; do
    # shellcheck disable=SC2086
    try "logits that are no numbers: $command" 65 "$program" ${command%% *} nan.gguf ${command#* }
    one_line
    says err "logits are not finite (NaN or infinity) at token 3 of the reply"
done
try "existing folder" 73 "$program" synth --shape tiny m.gguf

# Results on stdout, statistics on stderr, the same text whatever drafted it.
try "run" 0 ls_run -p hello -n 60 --ignore-eos
cp out plain
says err "reply      60 tokens (token limit)"
try "drafted" 0 ls_run -p hello -n 60 --ignore-eos --exit-layer 3 --num-speculations 5
says err "acceptance rate"
same_text "the drafted text"
try "self_speculative with the original's spellings" 0 ls_run -p hello --max_steps 60 --ignore_eos --generation_strategy self_speculative --exit_layer 3 --num_speculations 5
same_text "the drafted text"
try "environment" 0 env LAYERSKIP_MODEL=m.gguf LAYERSKIP_PROMPT=hello LAYERSKIP_N_PREDICT=60 LAYERSKIP_IGNORE_EOS=on "$program" run
same_text "the environment's text"
try "locale" 0 env LC_ALL=de_DE.UTF-8 "$program" run m.gguf -p hello -n 60 --ignore-eos --temp 0.0
same_text "locale"
try "empty environment" 0 env -i "$program" run m.gguf -p hello -n 60 --ignore-eos
same_text "empty environment"
printf 'hello\n' >hello.txt
try "file" 0 ls_run -f hello.txt -n 60 --ignore-eos
same_text "the text from a file"
try "a file where the environment has a prompt" 0 env LAYERSKIP_PROMPT=other "$program" run m.gguf -f hello.txt -n 60 --ignore-eos
same_text "the command line wins"
try "a prompt where the environment has a file" 0 env LAYERSKIP_FILE=none.txt "$program" run m.gguf -p hello -n 60 --ignore-eos
same_text "the command line wins"
try "-n -2" 0 ls_run -p hello -c 20 --ignore-eos -n -2
says err "14 tokens (context full)"
printf 'hello\n' | ls_run -n 60 --ignore-eos >out 2>err
ended "stdin" 0
same_text "the text from stdin"
try "no statistics" 0 ls_run -p hello --no-stats
silent err
try "json statistics" 0 ls_run -p hello --stats json
says err '"tokens_per_second": '
try "no colour in pipes" 0 ls_run -p hello --drafter exit -n 60
! grep -q $'\033' out || fail "colour in a pipe"
try "colour when asked" 0 ls_run -p hello --drafter exit -n 60 --ignore-eos --color on
grep -q $'\033\\[32m' out || fail "no colour"
sed 's/\x1b\[[0-9]*m//g' out | cmp -s - plain || fail "colour changes the text"
try "exact fit" 0 ls_run -p hello -c 20 --ignore-eos
says err "14 tokens (context full)"
try "verbose prompt" 0 ls_run -p $'a\tb' --verbose-prompt
says err '"\t"'
try "escapes" 0 "$program" tokenize m.gguf -p 'a\n\x41\\' --no-bos --ids
[ "$(cat out)" = "97 10 65 92" ] || fail "escapes"
try "no escapes" 0 "$program" tokenize m.gguf -p 'a\n' --no-bos --no-escape --count
[ "$(cat out)" = 3 ] || fail "no escapes"

# Commands.
try "help" 0 "$program" --help
for command in run info tokenize bench verify synth; do
    says out "  $command "
done
for command in run info tokenize bench verify synth; do
    try "$command --help" 0 "$program" "$command" --help
    says out "usage: layerskip $command"
    [ "$(grep -c "^  layerskip $command " out)" = 2 ] || fail "two examples for $command"
done
try "version" 0 "$program" --version
says out "cpu features"
try "info" 0 "$program" info m.gguf
says out "KV cache 64.00 KiB for 8192 tokens"
says out "llama, fake, "
try "info json" 0 "$program" info m.gguf --json
says out '"n_layers": 8'
try "a hostile name" 0 "$program" info evil.gguf
says out 'llama, evil\x1B[31m\n|line, '
try "a hostile name in JSON" 0 "$program" info evil.gguf --json --tensors
says out '"evil\u001b[31m\u000a|line"'
try "a hostile name in a table" 0 "$program" bench evil.gguf -p 4 -n 0 -r 1
says out '| evil\x1B[31m\n\|line bf16 '
try "verify" 0 "$program" verify m.gguf -p one -p two --exit-layer 1-7 --temp 0,0.5 --seed 1-2
says out "every drafted reply equals plain decoding"
try "verify finds a difference" 1 "$program" verify broken.gguf -p one -p two
says out "different: prompt 1, position 5 of the reply, exit layer 2, 1 drafts, temperature 0"
says out "NOT the same text"
try "verify finds another end" 1 "$program" verify ends.gguf -p one -n 8 --ignore-eos
says out "position 8 of the reply, exit layer 2, 1 drafts, temperature 0, seed 0: plain its end (token limit), drafted its end (context full)"
try "verify has nothing to compare" 1 "$program" verify mute.gguf -p one
says out "NOTHING compared"
try "bench" 0 "$program" bench m.gguf -p 8 -n 16 -r 2 --exit-layer 2,3 --pg 4,4 -d 0,8
says out "| tg16 E2 d4 @ d8"
try "bench csv" 0 "$program" bench m.gguf -p 8 -n 16 -r 2 -o csv
[ "$(awk -F, '{print NF}' out | sort -u | wc -l)" = 1 ] || fail "csv columns"
try "synth" 0 "$program" synth --shape tiny new --agreement
says err "wrote new with seed 1"
says out "agreement over 128 random tokens; all 8 layers"
[ "$(grep -cE '^ +[1-7]  [01]\.[0-9]{3}  ' out)" = 7 ] || fail "seven exits"

# Streams.
ls_run -p hello >/dev/full 2>err
ended "/dev/full" 74
says err "standard output: No space left on device"
"$program" info m.gguf >/dev/full 2>err
ended "info to /dev/full" 74
ls_run -p hello >&- 2>err
ended "closed stdout" 74
ls_run <&- >out 2>err
ended "closed stdin" 64
ls_run -p hello -n 60 --ignore-eos 2>&- >out
ended "closed stderr" 0
same_text "closed stderr"
ls_run -p hello -n 60 --ignore-eos <&- >out 2>&-
ended "closed stdin and stderr" 0
same_text "closed stdin and stderr"
"$program" run slow.gguf -p hello -n -1 --ignore-eos 2>err | head -c 5 >out
(exit "${PIPESTATUS[0]}")
ended "a closed pipe ends it quietly" 141
silent err

# On a terminal: what is measured, on a line that goes away.
if script -qec true typescript >/dev/null 2>&1 </dev/null; then
    script -qec "'$program' bench m.gguf -p 4 -n 4 -r 2 -o jsonl >rows" typescript >out 2>err </dev/null
    ended "bench on a terminal" 0
    says out "tg4  warm-up"
    says out "tg4  round 2 of 2"
    [ "$(wc -l <rows)" = 2 ] || fail "two rows, nothing else on stdout"
    script -qec "'$program' bench m.gguf -p 4 -n 4 -r 2 --no-progress >rows" typescript >out 2>err </dev/null
    silent out
fi

# Interruption: the text so far, the statistics, 130.
(trap - INT; exec "$program" run slow.gguf -p hello -n -1 --ignore-eos >out 2>err) &
child=$!
sleep 0.5
kill -INT "$child"
wait "$child"
ended "interrupted" 130
[ -s out ] || fail "no text before the interruption"
says err "(cancelled)"
(trap - INT; exec "$program" verify slow.gguf -p hello -n 100 --ignore-eos --exit-layer 1-7 --num-speculations 1 >out 2>err) &
child=$!
sleep 0.5
kill -INT "$child"
wait "$child"
ended "verify interrupted" 130
! grep -q "different:\|every drafted" out || fail "no verdict on what was not compared"
(trap - INT; exec "$program" bench slow.gguf -p 0 -n 1000 -o json >out 2>err) &
child=$!
sleep 0.5
kill -INT "$child"
wait "$child"
ended "bench interrupted" 130
[ "$(cat out)" = "[]" ] || fail "JSON without a row"
try "synth with another seed each time" 0 "$program" synth --shape tiny new2 --seed -1
! grep -q "seed 18446744073709551615" err || fail "-1 is no seed"

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
