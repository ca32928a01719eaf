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
export XDG_CONFIG_HOME=$work/config
touch stuck.gguf own.gguf packed.gguf greedy.gguf slow-dear.gguf m.gguf corrupt.gguf broken.gguf ends.gguf slow.gguf nan.gguf mute.gguf evil.gguf endless.gguf lean.gguf gpu.gguf empty.txt
printf "a text\n" >text.txt
printf "one\n\n\377\n" >bytes.txt
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
silent_warning() { checks=$((checks + 1)); ! grep -q warning err || fail "no warning expected"; }
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
refuse "--device: \"gpu\": must be auto, cpu, cuda or cuda:N" ls_run -p x --device gpu
refuse "(did you mean cuda?)" ls_run -p x --device cdua
for command in "run -p x" bench "verify -p x" info "tokenize -p x" "generate-corpus --prompts text.txt -o rows.jsonl"; do
    # shellcheck disable=SC2086
    refuse "--device: \"cuda:x\"" "$program" ${command%% *} -m m.gguf ${command#"${command%% *}"} --device cuda:x
done
refuse "--device: \"tpu\"" "$program" synth --shape tiny --device tpu new1
refuse "--device: \"cuda:\"" "$program" train -m m.gguf --data text.txt -o run --device cuda:
refuse "LAYERSKIP_DEVICE: \"cuda:1234\"" env LAYERSKIP_DEVICE=cuda:1234 "$program" run m.gguf -p x
refuse "contradict" ls_run -p x --generation-strategy autoregressive --drafter exit
refuse "the prompt is empty" ls_run -p ""
refuse "the prompt is empty" ls_run
refuse "give one of them" ls_run -p x -f y
refuse "give one of them" env LAYERSKIP_PROMPT=x LAYERSKIP_FILE=y "$program" run m.gguf
refuse "contradict" ls_run -p x --sample --temp 0
refuse "contradict" ls_run -p x --temp 0 --sample True
refuse "is neither on nor off" ls_run -p x --sample=maybe
refuse "--drafter none: plain decoding has nothing to be compared with" "$program" verify m.gguf -p x --drafter none
refuse "--num-speculations 0: plain decoding has nothing to be compared with" "$program" verify m.gguf -p x --num-speculations 0-4
refuse "--save-profile: no reply would be drafted" "$program" bench m.gguf -p 4 -n 4 -f text.txt --save-profile
refuse "--save-profile: no reply would be drafted" "$program" bench m.gguf -p 4 -n 0 -f text.txt --exit-layer 2 --save-profile
refuse "--save-profile: how many drafts are accepted depends on the text: give one like yours with --file" "$program" bench m.gguf -n 4 --exit-layer 2 --save-profile
refuse "--repetitions: 2: --save-profile needs 3 or more" "$program" bench m.gguf -n 4 --exit-layer 2 --save-profile -f text.txt -r 2
refuse "empty.txt: the file is empty" "$program" bench m.gguf -n 4 -f empty.txt
refuse "empty.txt: the file is empty" ls_run -f empty.txt
refuse "empty.txt: no prompts: every line is empty" "$program" verify m.gguf -f empty.txt
refuse "prompt 2 is empty" "$program" verify m.gguf -p x -p ""
refuse "bytes.txt: text: offset" ls_run -f bytes.txt
refuse "bytes.txt: line 3: text: offset" "$program" verify m.gguf -f bytes.txt
refuse "bytes.txt: text: offset" "$program" bench m.gguf -n 4 -f bytes.txt
refuse '--logit-bias: "5": must be ID+BIAS, ID-BIAS or ID-inf' ls_run -p x -l 5
refuse '--logit-bias: "5+-1"' "$program" verify m.gguf -p x --logit-bias 5+-1
refuse '--repeat-penalty: "0" is out of range' ls_run -p x --repeat-penalty 0
refuse '--presence-penalty: "inf"' ls_run -p x --presence-penalty inf
refuse '--n-probs: "21" is out of range: give a whole number from 0 to 20' ls_run -p x --n-probs 21
refuse "both --grammar and --json-schema are given" ls_run -p x --grammar 'root ::= "a"' -j '{}'
refuse "--ctx-size: 10000: this model's context holds 8192 tokens" ls_run -p x -c 10000
refuse "--n-predict: 9000, behind 2 tokens of prompt: this model's context holds 8192: give at most 8190" "$program" verify m.gguf -p x -n 9000
refuse "9000 of reply (--n-gen) do not fit this model's context of 8192" "$program" bench m.gguf -p 0 -n 9000
refuse "--stop-token-ids: 300: this model has 258 tokens: give 0 to 257" ls_run -p x --stop-token-ids 300
refuse "--depth: 9: this model has 8 layers" ls_run -p x --depth 9
refuse "--exit-layer: 4: must be below --depth 4" ls_run -p x --depth 4 --exit-layer 4
refuse "contradict" ls_run -p x --depth 4 --exit-layer 3 --generation-strategy autoregressive
refuse "LAYERSKIP_EXIT_LAYER: 9: this model has 8 layers" env LAYERSKIP_EXIT_LAYER=9 "$program" run m.gguf -p x
refuse "--exit-layer: 10: this model has 8 layers" env LAYERSKIP_EXIT_LAYER=9 "$program" run m.gguf -p x --exit_layer 10
refuse "--top-k: \"0.1\" must be a whole number" ls_run -p x --top-k 0.1
refuse "--top-k: \"99999999999999999999\" is out of range: give a whole number from 0 to 16777216" ls_run -p x --top-k 99999999999999999999
refuse "stop string may not be empty" ls_run -p x -r ""
refuse "no model given" "$program" run -p x
refuse "the prompt has 6 tokens, the context holds 6" ls_run -p hello -c 6
refuse "unexpected argument" ls_run x
refuse "LAYERSKIP_TOP_K" env LAYERSKIP_TOP_K=many "$program" run m.gguf -p x
refuse "\n" ls_run $'--line\nbreak'
refuse "not UTF-8" ls_run -p $'\xff'
refuse "--exit-layer: 9" "$program" bench m.gguf --exit-layer 9
refuse "is not a list" "$program" bench m.gguf -n 3-1
refuse "contradict" "$program" bench m.gguf --sample --temp 0
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
# What the reply may say: a mistake is told before weights are read, with its file.
printf 'root = "a"\n' >bad.gbnf
printf 'root ::= "a\0"\n' >zero.gbnf
for command in "run -p x" "verify -p x" chat; do
    # shellcheck disable=SC2086
    try "broken grammar: $command" 65 "$program" ${command%% *} m.gguf ${command#"${command%% *}"} --grammar-file bad.gbnf
    one_line
    says err "bad.gbnf: grammar: line 1, column 6"
done
try "grammar with a zero byte" 65 ls_run -p x --grammar-file zero.gbnf
says err "--grammar-file: zero.gbnf: holds a zero byte"
try "no grammar file" 66 ls_run -p x --grammar-file none.gbnf
one_line
try "candidates" 0 ls_run -p x -n 2 --n-probs 3 --stats none
check_probs() { python3 -c 'import json; l = [json.loads(x) for x in open("err")]; assert len(l) == 2 and [t["token"] for t in l[0]["top_logprobs"]] == [101, 116, 200] and l[0]["logprob"] == -1 and l[0]["top_logprobs"][0]["text"] == "e"'; }
checks=$((checks + 1))
check_probs || fail "a line of JSON for every token"
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
says err "sampling   greedy"
says err "prompt     6 tokens: 0 cached, 5 evaluated, the last with the reply"
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
says err '"sampling": "greedy"'
try "sampling" 0 ls_run -p hello --sample --seed 7
says err "sampling   temperature 0.6, seed 7"
try "sampling cut" 0 ls_run -p hello --temp 0.6 --top-p 0 --top-k 5 --min-p 0.1 --seed 42
says err "sampling   temperature 0.6, top-k 5, top-p 0, min-p 0.1, seed 42"
silent_warning
try "sampling cut in JSON" 0 ls_run -p hello --temp 0.6 --top-p 0.9 --stats json
says err '"top_p": 0.9, "min_p": null, '
warned() { # TEXT COMMAND...: one line, and the text all the same
    local text=$1
    shift
    try "$*" 0 "$@"
    says err "layerskip: warning: $text"
    checks=$((checks + 1))
    [ "$(grep -c warning err)" = 1 ] || fail "one warning"
}
for cut in "--top-k 5" "--top-p 0.9" "--min-p 0.1 --temp 0" "--temp 0.6 --sample False --top-p 0"; do
    # shellcheck disable=SC2086
    warned "--top-k, --top-p and --min-p have no effect on greedy decoding: give --temp" ls_run -p hello $cut
done
warned "--generation-strategy autoregressive: decoding is plain, --num-speculations has no effect" ls_run -p hello --generation-strategy autoregressive --num-speculations 4
warned "--drafter none: decoding is plain" ls_run -p hello --drafter none --exit-layer 2
warned "--drafter none: decoding is plain" ls_run -p hello --drafter none --num-speculations 2
warned "--ignore-config sliding_window: this key changes what the model computes: the text may differ from the reference" ls_run -p hello --ignore-config sliding_window
try "a key of no effect" 0 ls_run -p hello --ignore-config other
silent_warning
try "depth" 0 ls_run -p hello --depth 3
says err "depth      3 of 8 layers: not the text of the whole model"
try "depth in JSON" 0 ls_run -p hello --depth 3 --stats json
says err '"depth": 3, "n_layers": 8, '
try "no memory for drafts" 0 "$program" run lean.gguf -p hello
says err "scratch 39.06 KiB; peak"
for sample in "--sample True --temp 0.3" "--sample true --temp 0.3" "--temp 0.3 --sample"; do
    # shellcheck disable=SC2086
    try "$sample" 0 ls_run -p hello $sample
    says err "sampling   temperature 0.3, seed 0"
done
for sample in "--sample False" "--no-sample" "--sample=false --temp 0.3" "--preset layerskip --sample False -n 60"; do
    # shellcheck disable=SC2086
    try "$sample" 0 ls_run -p hello $sample -n 60 --ignore-eos
    says err "sampling   greedy"
    same_text "$sample"
done
try "a prompt without a reply" 0 ls_run -p hello -n 0
silent out
says err "prompt     6 tokens: 0 cached, 5 evaluated"
says err "reply      0 tokens (token limit)"
says err "5 evaluated, the last not needed without a reply"
checks=$((checks + 1))
! grep -q "^reply.*tokens/s" err || fail "no rate of what was not timed"

# The text and one newline behind it, and statistics begin a line, also where both go to one place.
ls_run -p hello -n 6 --ignore-eos >out 2>err </dev/null
ended "to a file" 0
checks=$((checks + 1))
[ "$(wc -c <out)" = 7 ] && [ "$(tail -c 1 out | od -An -tx1)" = " 0a" ] || fail "six bytes and a newline"
[ "$(head -c 6 err)" = prompt ] || fail "statistics begin at once"
ls_run -p hello -n 6 --ignore-eos >both 2>&1 </dev/null
checks=$((checks + 1))
cat out err | sed 's/[0-9.]* \(ms\|tokens.s\|GB.s\|MiB\)//g' >want
sed 's/[0-9.]* \(ms\|tokens.s\|GB.s\|MiB\)//g' both | cmp -s - want || fail "text, newline, statistics"
ls_run -p hello -n 60 -r " " --ignore-eos --no-stats >out 2>err </dev/null
checks=$((checks + 1))
[ "$(tail -c 1 out | od -An -tx1)" = " 0a" ] || fail "a newline also behind what was held back"
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
for command in run info tokenize bench verify synth quantize; do
    says out "  $command "
done
for command in run info tokenize bench verify synth quantize; do
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
try "info without an end of text" 0 "$program" info endless.gguf
says out "bos 256, eos none"
try "greedy by the model's files" 0 "$program" info greedy.gguf
says out "the model's files ask for greedy decoding"
! grep -q "temperature" out || fail "greedy is no temperature"
says out "passed over: generation.top_k = -2: \x1B"
try "no damage" 0 "$program" info m.gguf --check
says out "every stored value is a number"
try "perplexity of what is no number" 65 "$program" perplexity nan.gguf -f text.txt
one_line
says err "logits are not finite behind layer 8"
silent out
try "damage" 1 "$program" info nan.gguf --check
says out "1 tensor is DAMAGED"
says err "layerskip: warning: tensor fake: 1 values are not finite"
try "damage in JSON" 1 "$program" info nan.gguf --check --json
says out '{"damaged_tensors": 1}'
for command in "run -p x" "info --json" "bench -p 4 -n 4 -r 1" "verify -p x"; do
    # shellcheck disable=SC2086
    try "quantised already: $command" 0 "$program" ${command%% *} packed.gguf ${command#* } --weights q8
    says err "layerskip: warning: --weights q8: 7 tensors are quantised in the file (mostly Q4_1) and stay as they are"
    checks=$((checks + 1))
    [ "$(grep -c warning err)" = 1 ] || fail "one warning"
done
try "quantised, and kept so" 0 "$program" info packed.gguf
silent err
try "pieces that are no characters" 0 "$program" tokenize m.gguf --no-bos --json -p $'a\xc3\xa9'
says out '{"id": 97, "piece": "a"}'
says out '{"id": 195, "piece": "\ufffd", "bytes": [195]}'
says out '{"id": 169, "piece": "\ufffd", "bytes": [169]}'
try "a hostile name" 0 "$program" info evil.gguf
says out 'llama, evil\x1B[31m\n|line, '
try "a hostile name in JSON" 0 "$program" info evil.gguf --json --tensors
says out '"evil\u001b[31m\u000a|line"'
try "a hostile name in a table" 0 "$program" bench evil.gguf -p 4 -n 0 -r 1
says out 'evil\x1B[31m\n|line bf16, '
try "verify" 0 "$program" verify m.gguf -p one -p two --exit-layer 1-7 --temp 0,0.5 --seed 1-2
says out "every drafted reply equals plain decoding"
try "verify of one" 0 "$program" verify m.gguf -p one --exit-layer 2 --num-speculations 1
says out "1 prompt, 1 plain reply"
try "verify finds a difference" 1 "$program" verify broken.gguf -p one -p two
says out "different: prompt 1, position 5 of the reply, exit layer 2, 1 draft, temperature 0"
says out "NOT the same text"
try "verify finds another end" 1 "$program" verify ends.gguf -p one -n 8 --ignore-eos
says out "position 8 of the reply, exit layer 2, 1 draft, temperature 0, seed 0: plain its end (token limit), drafted its end (context full)"
try "verify has nothing to compare" 1 "$program" verify mute.gguf -p one
says out "NOTHING compared"
try "bench" 0 "$program" bench m.gguf -p 8 -n 16 -r 2 --exit-layer 2,3 --pg 4,4 -d 0,8
says out "| tg16 E2 d4 @ d8"
try "bench csv" 0 "$program" bench m.gguf -p 8 -n 16 -r 2 -o csv
[ "$(awk -F, '{print NF}' out | sort -u | wc -l)" = 1 ] || fail "csv columns"
try "bench sampled" 0 "$program" bench m.gguf -p 8 -n 16 -r 2 --temp 0.8 --top-k 40 --top-p 0.9 --min-p 0.05 --seed 7
says out "; temp 0.8 top-k 40 top-p 0.9 min-p 0.05 seed 7"
try "bench sampled, as data" 0 "$program" bench m.gguf -p 8 -n 16 -r 2 --temp 0.8 --top-k 40 --top-p 0.9 --min-p 0.05 --seed 7 -o json
says out '"top_k": 40, "seed": 7, "temperature": 0.8, "top_p": 0.9, "min_p": 0.05'
try "bench once" 0 "$program" bench m.gguf -p 8 -n 4 -r 1
checks=$((checks + 1))
! tail -n 4 out | grep -q "| [0-9.]* ±" || fail "no spread of one"
try "bench once in JSON" 0 "$program" bench m.gguf -p 8 -n 0 -r 1 -o jsonl
says out '"stddev_ts": null'
try "synth" 0 "$program" synth --shape tiny new --agreement
says err "wrote new with seed 1"
says out "agreement over 128 random tokens; all 8 layers"
[ "$(grep -cE '^ +[1-7]  [01]\.[0-9]{3}  ' out)" = 7 ] || fail "seven exits"

# A profile decides on drafts where nothing else does: the checkpoint's, or what was measured.
saved=$XDG_CONFIG_HOME/layerskip/profiles/00000000000000fa.json
try "no profile" 0 ls_run -p hello
! grep -q "^profile\|^drafts" err || fail "nothing drafts by itself"
try "info without a profile" 0 "$program" info m.gguf
says out "no profile: decoding is plain"
says out "$saved"
try "the checkpoint's profile" 0 "$program" run own.gguf -p hello -n 60 --ignore-eos
says err "profile    from the checkpoint: exit layer 3, 2 drafts in a round"
same_text "profile"
try "info with the checkpoint's profile" 0 "$program" info own.gguf
says out "LayerSkip      profile from the checkpoint: drafts leave after layer 3 of 8, 2 in a round"
try "verify by the profile" 0 "$program" verify own.gguf -p x
says out "profile from the checkpoint: exit layer 3, 2 drafts"
[ "$(grep -c '^ *[0-9][0-9]*  ' out)" = 1 ] || fail "one combination"
try "a profile is measured" 0 "$program" bench slow.gguf -p 0 -n 24 -r 3 -f text.txt --exit-layer 2,5 --num-speculations 1,8 --save-profile
says err "profile saved to $saved: exit layer "
python3 -c 'import json, sys
p = json.load(open(sys.argv[1]))
sys.exit(not (p["exit_layer"] in (2, 5) and p["num_speculations"] == 8 and p["measured"]["speedup"] > 1))' "$saved" || fail "the profile's content"
try "run by the measured profile" 0 ls_run -p hello -n 60 --ignore-eos
says err "profile    measured 20"
says err ", 8 drafts in a round"
same_text "measured profile"
try "the measured one before the checkpoint's" 0 "$program" run own.gguf -p hello --stats json
says err '"num_speculations": 8'
says err '"profile": "measured 20'
try "an option before both" 0 ls_run -p hello --num-speculations 3
! grep -q "^profile" err || fail "the profile did not decide"
try "info with a measured profile" 0 "$program" info m.gguf --json
says out '"profile": "measured 20'
try "verify by the measured profile" 0 "$program" verify m.gguf -p x
says out "profile measured 20"
try "bench by the measured profile" 0 "$program" bench m.gguf -p 0 -n 8 -r 1
says out " d8"
try "drafting does not pay" 0 "$program" bench slow-dear.gguf -p 0 -n 24 -r 3 -f text.txt --exit-layer 2 --num-speculations 4 --save-profile
says err "profile saved to $saved: drafting gains less than 3 %, plain decoding stays"
try "plain by the measured profile" 0 "$program" run own.gguf -p hello
says err "profile    measured 20"
says err ": plain decoding"
! grep -q "^drafts" err || fail "nothing drafts"
try "info says so" 0 "$program" info own.gguf
says out "plain decoding, drafting gained less than 3 %"
printf '{"exit_layer": 99, "num_speculations": 2, "measured": {"date": "2026-11-23"}}' >"$saved"
try "a broken profile" 0 "$program" run own.gguf -p hello -n 60 --ignore-eos --no-stats
one_line
says err "layerskip: warning: $saved: no profile: \"exit_layer\" must be a whole number from 0 to 7; decoding is plain"
same_text "a broken profile"
rm "$saved"
(trap - INT; exec "$program" bench slow.gguf -p 0 -n 1000 -f text.txt --exit-layer 2 --save-profile >out 2>err) &
child=$!
sleep 0.3
kill -INT "$child"
wait "$child"
ended "measuring interrupted" 130
[ ! -e "$saved" ] || fail "half a measurement is none"
says err "layerskip: warning: interrupted: no profile was saved"
touch nofolder
try "no place for a profile" 73 env XDG_CONFIG_HOME="$work/nofolder" "$program" bench slow.gguf -p 0 -n 1000 -f text.txt --exit-layer 2 --save-profile
one_line
silent out
says err "no profile can be saved there: Not a directory"

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
    prompt=$(head -c 8000 /dev/zero | tr '\0' a)
    script -qec "'$program' run slow.gguf -p '$prompt' -n 4 --ignore-eos >text" typescript >out 2>err </dev/null
    ended "a long prompt on a terminal" 0
    checks=$((checks + 1))
    grep -q $'\r\033\\[Kreading the prompt  .* tokens/s  .*\r\033\\[Kprompt     8001 tokens' out || fail "progress that goes away before the statistics"
    [ "$(wc -c <text)" = 5 ] || fail "progress is not part of the text"
    script -qec "'$program' run slow.gguf -p '$prompt' -n 0 --no-progress" typescript >out 2>err </dev/null
    ! grep -q "reading" out || fail "no progress when not wanted"
fi

# A GPU: what memory it will hold stands on stderr before the rest, how often the host waited among the statistics; the host's memory is not measured.
try "run on a GPU" 0 "$program" run gpu.gguf -p hello -n 20 --ignore-eos --device cuda:1
checks=$((checks + 1))
[ "$(head -n 1 err)" = "plan       cuda: weights 1.91 MiB, KV cache 64.00 KiB, activations 39.06 KiB: 2.01 MiB in all" ] || fail "the plan comes first"
says err "waits      the host waited 40 times for the device: "
says err ", 2.00 a token"
try "statistics of a GPU" 0 "$program" run gpu.gguf -p hello -n 20 --ignore-eos --stats json
says err '"host_waits": 40'
says err '"device": "cuda"'
try "statistics of a CPU" 0 ls_run -p hello -n 20 --ignore-eos --stats json
says err '"host_waits": null'
try "info of a GPU" 0 "$program" info gpu.gguf --device cuda
silent err
says out "on cuda with plain kernels"
! grep -q "threads" out || fail "no threads on a GPU"
says out "; 2.01 MiB in all"
try "bench on a GPU" 0 "$program" bench gpu.gguf -p 0 -n 8 -r 2 -o json
says out '"read_gb_per_second": null'
says out '"host_waits_per_token": 2'
says out '"n_batch": 256'

# Interruption: the text so far, the statistics, 130.
(trap - INT; exec "$program" run slow.gguf -p hello -n -1 --ignore-eos >out 2>err) &
child=$!
sleep 0.5
kill -INT "$child"
wait "$child"
ended "interrupted" 130
[ -s out ] || fail "no text before the interruption"
says err "(cancelled)"
"$program" run slow.gguf -p hello -n -1 --ignore-eos >out 2>err &
child=$!
sleep 0.5
kill "$child"
wait "$child"
ended "terminated" 143
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
# Where nobody asks for signals they end the program at once; `info --check` asks.
soon() { # WHAT SIGNAL ARGUMENTS...
    (trap - INT; exec "$program" "${@:3}" >out 2>err) &
    child=$!
    sleep 0.5
    local sent=$SECONDS want
    want=$((128 + $(kill -l "$2")))
    kill "-$2" "$child"
    wait "$child"
    ended "$1, SIG$2" "$want"
    [ $((SECONDS - sent)) -lt 10 ] || fail "$1: SIG$2 ends it at once"
}
for signal in INT TERM; do
    soon "opening a model" "$signal" info stuck.gguf
    soon "opening a model to run it" "$signal" run stuck.gguf -p x
    soon "a look at the weights" "$signal" info slow.gguf --check
    silent err
done
try "synth with another seed each time" 0 "$program" synth --shape tiny new2 --seed -1
! grep -q "seed 18446744073709551615" err || fail "-1 is no seed"

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
