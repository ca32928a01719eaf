#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `benchmark`, and `verify` over a data set, as their user meets them. usage: LSK_PROGRAM=PROGRAM benchmark.sh FAKE
# FAKE is the program that is linked with fake_layerskip.c; the real one runs the last part.
set -u
program=$(realpath "$1")
real=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" NO_COLOR
export XDG_CONFIG_HOME=$work/config
touch m.gguf own.gguf slow.gguf broken.gguf nan.gguf mute.gguf
failures=0 checks=0 status=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  status %s\n  stdout: %s\n  stderr: %s\n' "$1" "$status" "$(head -c 900 out)" "$(head -c 900 err)"
}
# try WHAT STATUS COMMAND...: runs it, keeps out and err.
try() {
    local what=$1 want=$2
    shift 2
    checks=$((checks + 1))
    timeout 60 "$@" >out 2>err </dev/null
    status=$?
    [ "$status" = "$want" ] || fail "$what: status $want expected"
}
says() { checks=$((checks + 1)); grep -qF -- "$2" "$1" || fail "$1 shall say: $2"; }
holds() { checks=$((checks + 1)); python3 -c "import json, sys, glob
j = json.load(open('out'))
m = j['metrics']
t = m['predicted_text']
rows = [json.loads(l) for l in open(glob.glob(sys.argv[1])[0])][1:]
assert ($2), ($2, j)" "$1" 2>why || fail "not so: $2 $(tail -n 1 why)"; }
refuse() { # STATUS TEXT COMMAND...
    local code=$1 text=$2
    shift 2
    try "$*" "$code" "$program" benchmark "$@"
    says err "$text"
    checks=$((checks + 1))
    [ "$(wc -l <err)" = 1 ] && [ ! -s out ] || fail "one line on stderr, nothing on stdout"
}
benchmark() { "$program" benchmark "$@"; }

python3 - <<'END'
import json
rows = [{"prompt": "p%d" % i, "response": "the answer %d" % i} for i in range(6)]
with open("rows.jsonl", "w") as f:
    for i, row in enumerate(rows):
        f.write(json.dumps(row) + "\n" + ("no json\n" if i == 2 else ""))
END

grep -v "no json" rows.jsonl >good.jsonl

# What is wrong says so at once, in one line.
refuse 64 "no data set given: --data-path FILE" m.gguf
refuse 66 "none.jsonl: No such file" m.gguf --data-path none.jsonl
refuse 64 "--dataset" m.gguf --data-path rows.jsonl --dataset xsum
refuse 64 "--exit-layer: 9: this model has 8 layers" m.gguf --data-path good.jsonl --exit-layer 9
refuse 64 "--stop-token-ids: 300: this model has 258 tokens" m.gguf --data-path good.jsonl --stop-token-ids 300
refuse 64 "--run-code: replies of custom_jsonl are no programs" m.gguf --data-path rows.jsonl --run-code
echo '{"text": 1, "id": 2}' >other.jsonl
refuse 65 'other.jsonl: line 1: no column "prompt": there are "text", "id"' m.gguf --data-path other.jsonl
touch file
refuse 73 "file/x: cannot make the folder: Not a directory" m.gguf --data-path good.jsonl --output-dir file/x
[ ! -e logs ] || fail "no results of a run that never was"

# A run: a table, a file with every sample, the sums in JSON; bad rows are said and counted.
run=(m.gguf --data-path rows.jsonl -n 20 --exit-layer 2 --num-speculations 4)
try "a benchmark" 0 "$program" benchmark "${run[@]}"
says err "layerskip: warning: rows.jsonl: line 4: not JSON: column 2:"
says err "row passed over"
says out "custom_jsonl: 6 of 6 samples of rows.jsonl, 0-shot; 1 bad row passed over"
says out "ROUGE-L"
says out "exact match"
checks=$((checks + 1))
[ "$(wc -l <"$(echo logs/custom_jsonl-*.jsonl)")" = 7 ] || fail "a first line and one for every sample"
python3 -c 'import json, glob; json.load(open(glob.glob("logs/*.json")[0]))' || fail "the sums are JSON"

# The same command has nothing left to do, and says the same.
cp logs/custom_jsonl-*.jsonl before
try "again" 0 "$program" benchmark "${run[@]}" -o json
says err "goes on behind 6 samples"
cmp -s before logs/custom_jsonl-*.jsonl || fail "nothing was added"
holds 'logs/*.jsonl' 'j["samples"] == 6 and j["bad_rows"] == 1 and j["bad_lines"] == [4] and j["settings"]["exit_layer"] == 2 and t["exact_match"] == 0 and
    t["edit_distance"] > 3 and 0 <= t["rouge-1"] <= 1 and t["bleu_score"] < 100 and t["pass@1"] is None and
    abs(m["acceptance_rate"]["mean"] - sum(r["acceptance_rate"] for r in rows) / 6) < 1e-9 and j["drafted"] == sum(r["drafted"] for r in rows) and
    m["tokens_per_second"]["mean"] > 0 and sorted(r["line"] for r in rows) == [1, 2, 3, 5, 6, 7] and [r["line"] for r in rows] != [1, 2, 3, 5, 6, 7]'
try "a plain one is another file" 0 "$program" benchmark m.gguf --data-path rows.jsonl -n 20 --num-samples 2 -o json --output-dir plain
holds 'plain/*.jsonl' 'm["acceptance_rate"]["mean"] is None and len(rows) == 2'
replies() { python3 -c 'import json, sys; print([json.loads(l)["reply"] for l in open(sys.argv[1]).readlines()[1:int(sys.argv[2])]])' "$1" "$2"; }
[ "$(replies plain/*.jsonl 3)" = "$(replies before 3)" ] || fail "drafted replies are the plain ones"
try "more samples of the same run" 0 "$program" benchmark m.gguf --data-path rows.jsonl -n 20 --num-samples 3 -o json --output-dir plain
says err "goes on behind 2 samples"
holds 'plain/*.jsonl' 'len(rows) == 3'
try "as they stand" 0 "$program" benchmark "${run[@]}" --random-shuffle False --fresh --output-dir straight -o json
holds 'straight/*.jsonl' '[r["line"] for r in rows] == [1, 2, 3, 5, 6, 7]'
try "sampled by a profile" 0 "$program" benchmark own.gguf --data-path rows.jsonl -n 9 --temp 0.7 --seed 5 --num-samples 2 --output-dir sampled
says out "drafter auto, profile from the checkpoint: exit layer 3, 2 in a round; temperature 0.7, seed 5"
# What drafts is said as it is: a profile of plain decoding, of a team, one that an option overrides, none at all.
short=(--data-path good.jsonl --num-samples 1 -n 4 --output-dir short)
profile=$XDG_CONFIG_HOME/layerskip/profiles/00000000000000fa.json
mkdir -p "${profile%/*}"
echo '{"exit_layer": 0, "num_speculations": 0, "measured": {"date": "2026-11-24"}}' >"$profile"
try "a profile of plain decoding" 0 "$program" benchmark m.gguf "${short[@]}"
says out "plain decoding (profile measured 2026-11-24); greedy"
try "an exit layer beside it" 0 "$program" benchmark m.gguf "${short[@]}" --exit-layer 2
says out "drafter auto, exit layer 2; greedy"
echo '{"exit_layer": 2, "num_speculations": 3, "drafter": "exit", "measured": {"date": "2026-11-24"}}' >"$profile"
try "a profile with its drafter" 0 "$program" benchmark m.gguf "${short[@]}"
says out "drafter exit, exit layer 2, 3 drafts in a round, profile measured 2026-11-24; greedy"
rm -r "$XDG_CONFIG_HOME"
try "no profile" 0 "$program" benchmark m.gguf "${short[@]}"
says out "plain decoding (no profile); greedy"
try "none wanted" 0 "$program" benchmark m.gguf "${short[@]}" --num-speculations 0
says out "plain decoding; greedy"
try "a mute model" 0 "$program" benchmark mute.gguf --data-path rows.jsonl --num-samples 2 --output-dir mute -o json
holds 'mute/*.jsonl' 'len(rows) == 2 and rows[0]["reply"] == "" and m["tokens_per_second"]["mean"] is None and t["rouge-1"] == 0 and t["edit_distance"] > 0'
try "logits that are no numbers" 65 "$program" benchmark nan.gguf --data-path rows.jsonl --output-dir nan
says err "logits are not finite"

# Exact match is equality: the reply itself as the reference.
python3 - <<'END'
import json, glob
rows = [json.loads(l) for l in open(glob.glob("straight/*.jsonl")[0])][1:]
with open("equal.jsonl", "w") as f:
    for i, r in enumerate(rows):
        f.write(json.dumps({"prompt": "p%d" % i, "response": r["reply"] + ("." if i == 5 else "")}) + "\n")
END
try "equal texts" 0 "$program" benchmark m.gguf --data-path equal.jsonl -n 20 --output-dir equal -o json
holds 'equal/*.jsonl' 'abs(t["exact_match"] - 5 / 6) < 1e-9 and abs(t["edit_distance"] - 1 / 6) < 1e-9'

# Token ids, shots, a template, other forms of file.
echo '{"prompt": [256, 97, 98], "response": [99, 100]}' >ids.jsonl
try "token ids" 0 "$program" benchmark m.gguf --data-path ids.jsonl -n 4 --output-dir ids -o json
holds 'ids/*.jsonl' 'rows[0]["prompt_tokens"] == 3 and rows[0]["reference"] == "cd"'
printf 'id,article,highlights\n1,"One, two\nthree",x\n2,b,y\n3,c,z\n' >news.csv
try "shots of a CSV file" 0 "$program" benchmark m.gguf --dataset cnn_dm_summarization --data-path news.csv --n-shot 1 -n 4 --output-dir news -o json
holds 'news/*.jsonl' 'len(rows) == 2 and rows[0]["prompt_tokens"] > 40'
try "a template" 0 "$program" benchmark m.gguf --data-path rows.jsonl --template 'Q: {message}\nA:' --no-bos -n 4 --num-samples 1 --output-dir template -o json
holds 'template/*.jsonl' 'rows[0]["prompt_tokens"] == len("Q: p0\nA:")'

# An interruption keeps what is done; the same command goes on.
slow=(benchmark slow.gguf --data-path rows.jsonl -n 60 --ignore-eos --drafter none --output-dir slow -o json)
(trap - INT; exec "$program" "${slow[@]}" >out 2>err) &
child=$!
for _ in $(seq 100); do
    [ "$(cat slow/*.jsonl 2>/dev/null | wc -l)" -ge 3 ] && break
    sleep 0.05
done
kill -INT "$child"
wait "$child"
status=$?
[ "$status" = 130 ] || fail "interrupted: status 130 expected"
says err "interrupted, the same command goes on"
holds 'slow/*.jsonl' '2 <= len(rows) < 6 and j["samples"] == len(rows)'
printf '{"sample": 9, "li' >>"$(echo slow/*.jsonl)" # as a power cut leaves it
try "it goes on" 0 "$program" "${slow[@]}"
says err "goes on behind"
holds 'slow/*.jsonl' 'len(rows) == 6 and [r["sample"] for r in rows] == list(range(6))'
echo '{"sample": 6}' >>"$(echo slow/*.jsonl)"
try "a damaged file" 65 "$program" "${slow[@]}"
says err "line 8: no result of sample 6: remove the file, or give --fresh"

# Code is run on request alone. The fake model goes on with a comment and ends at the line's end.
python3 - <<'END'
import json
test = "def check(candidate):\n    assert candidate(2) == 3\n"
bodies = {"good": "return x + 1", "wrong": "return x", "endless": "while True: pass", "files": "open('/tmp/layerskip-test-" + "x', 'w')", "fork": "import os\n    while True: os.fork()", "exit": "import os; os._exit(0)"}
with open("code.jsonl", "w") as f:
    for name, body in bodies.items():
        f.write(json.dumps({"task_id": name, "prompt": "def f(x):\n    %s #" % body, "canonical_solution": "", "test": test, "entry_point": "f"}) + "\n")
END
code=(m.gguf --dataset human_eval --data-path code.jsonl --random-shuffle False -n 40 --output-dir code -o json)
try "nothing is run" 0 "$program" benchmark "${code[@]}"
holds 'code/*.jsonl' 't["pass@1"] is None and "verdict" not in rows[0]'
rm -r code
try "code is run" 0 "$program" benchmark "${code[@]}" --run-code --code-timeout 0.5
if [ "$status" = 0 ]; then
    holds 'code/*.jsonl' '[r["verdict"] for r in rows] == ["passed", "failed", "timeout", "failed", "failed", "failed"] and abs(t["pass@1"] - 1 / 6) < 1e-9'
    holds 'code/*.jsonl' '"PermissionError" in rows[3]["why"] and "PermissionError" in rows[4]["why"] and "status 0" in rows[5]["why"]'
    [ ! -e /tmp/layerskip-test-x ] || fail "a candidate wrote a file"
fi
try "no python" 69 env PATH=/nonexistent "$program" benchmark "${code[@]}" --run-code --fresh
says err "no python3 in PATH"

# verify takes the same sets, and every drafter.
set=(--data-path rows.jsonl --num-samples 3 -n 12 --ignore-eos)
try "verify a set" 0 "$program" verify m.gguf "${set[@]}" --exit-layer 2,3 --num-speculations 1,4 --temp 0,0.6 --drafter exit,exit
says out "3 prompts, 6 plain replies"
says out "every drafted reply equals plain decoding"
says out "greedy: 0 of 24 replies differ (0.00 %)"
says out "sampled: 0 of 24 replies differ"
checks=$((checks + 1))
[ "$(grep -c "  exit$" out)" = 8 ] || fail "a row for every combination"
try "verify finds it" 1 "$program" verify broken.gguf "${set[@]}" --exit-layer 2 --num-speculations 1
says out "different: prompt 1 (line "
says out "greedy: 3 of 3 replies differ (100.00 %)"
try "verify without a drafter" 64 "$program" verify m.gguf "${set[@]}" --drafter exit,none
says err "--drafter none: plain decoding has nothing to be compared with"
try "verify with an unknown one" 64 "$program" verify m.gguf "${set[@]}" --drafter exit,best
says err 'best": must be none'

# The real program over a small synthetic model.
try "synth" 0 "$real" synth --shape tiny model
export LAYERSKIP_DEVICE=cpu
try "real" 0 "$real" benchmark model --data-path rows.jsonl -n 16 --exit-layer 1 --num-speculations 2 --output-dir real -o json
holds 'real/*.jsonl' 'len(rows) == 6 and 0 <= m["acceptance_rate"]["mean"] <= 1 and m["prefill_time"]["mean"] > 0 and m["total_time"]["mean"] > m["prefill_time"]["mean"]'
echo '{"prompt": "Is it?", "response": "yes"}' >yes.jsonl
try "a grammar" 0 "$real" benchmark model --data-path yes.jsonl -n 16 --grammar 'root ::= " yes"' --output-dir yes -o json
holds 'yes/*.jsonl' 't["exact_match"] == 1 and t["edit_distance"] == 1 and t["rouge-1"] == 1 and j["settings"]["grammar"] == "root ::= \" yes\""'
try "real verify" 0 "$real" verify model "${set[@]}" --exit-layer 1 --num-speculations 2 --temp 0,0.8 --drafter all
says out "every drafted reply equals plain decoding"
checks=$((checks + 1))
[ "$(grep -c "^ *1  .*  ngram+exit+recycle$" out)/$(grep -c "^ *1 .*  exit$" out)/$(grep -c "^ *-  .*  ngram$" out)" = 1/1/1 ] || fail "a row for every drafter"
try "real, plain" 0 "$real" benchmark model --data-path rows.jsonl -n 16 --drafter none --output-dir real-plain -o json
holds 'real-plain/*.jsonl' 'm["acceptance_rate"]["mean"] is None and m["mean_accepted_length"]["mean"] == 1'
[ "$(replies real/*.jsonl 9)" = "$(replies real-plain/*.jsonl 9)" ] || fail "drafted replies are the plain ones"

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
