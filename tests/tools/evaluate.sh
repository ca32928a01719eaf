#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sweep, eval and report: the command line over a program without an engine, and numbers over a small synthetic checkpoint.
# usage: LSK_PROGRAM=PROGRAM evaluate.sh FAKE
set -u
fake=$(realpath "$1") program=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" NO_COLOR
export LAYERSKIP_DEVICE=${LSK_TEST_DEVICE:-cpu} XDG_CONFIG_HOME=$work/config
failures=0 checks=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  stdout: %s\n  stderr: %s\n' "$1" "$(head -c 600 out)" "$(head -c 600 err)"
}
check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" || fail "$what"
}
try() { # STATUS COMMAND...: keeps out and err
    local want=$1 status
    shift
    timeout 60 "$@" >out 2>err </dev/null
    status=$?
    check "status $want expected, not $status: $*" [ "$status" = "$want" ]
}
says() { check "$1 shall say: $2" grep -qF -- "$2" "$1"; }
lacks() { check "$1 shall not say: $2" sh -c '! grep -qF -- "$2" "$1"' - "$1" "$2"; }
refuse() { # STATUS TEXT COMMAND...
    local status=$1 text=$2
    shift 2
    try "$status" "$@"
    says err "$text"
    check "one line on stderr expected" [ "$(wc -l <err)" = 1 ]
    check "nothing on stdout expected" [ ! -s out ]
}
rows() { grep -vc '^[#e]' "$1"; }
settings() { grep -v '^[#e]' "$1" | cut -d, -f1,2,7 | sort -u | wc -l; } # the best have two rows

# ---- sweep ----

touch m.gguf slow.gguf dear.gguf broken.gguf
cat >gnuplot-fake <<'END'
#!/bin/sh
cat >script
echo '<svg>picture</svg>'
END
chmod +x gnuplot-fake

grid=(sweep m.gguf --exit-layer 1-3 --num-speculations 2,4 -n 16 -r 2)
try 0 "$fake" "${grid[@]}" -o a.csv --picture a.svg --picture a.png --gnuplot ./gnuplot-fake
says out "| exit: exit layer | 2 drafts | 4 drafts |"
says out "best: drafter exit, exit layer"
says err "profile saved to $work/config/layerskip/profiles/00000000000000fa.json"
says a.csv "# layerskip sweep model=00000000000000fa device=cpu weights=bf16"
says a.csv "# command: tool_fake sweep m.gguf --exit-layer 1-3 --num-speculations 2,4 -n 16 -r 2 -o a.csv"
check "six settings, and the best three once more" [ "$(settings a.csv) $(rows a.csv)" = "6 9" ]
check "pictures" grep -q picture a.svg a.png
says script "speed-up over plain decoding"
cp a.csv b.csv
try 0 "$fake" "${grid[@]}" -o a.csv
check "nothing is measured again" cmp a.csv b.csv
refuse 65 "a.csv: was measured with repetitions=2, this sweep is with repetitions=1: give another --output" "$fake" "${grid[@]}" -r 1 -o a.csv
refuse 65 "a.csv: was measured with temp=0, this sweep is with temp=0.5" "$fake" "${grid[@]}" --temp 0.5 -o a.csv
printf 'It is\n' >text.txt
try 65 "$fake" "${grid[@]}" -f text.txt -o a.csv
says err "was measured with prompts="
check "a refused sweep changes nothing" cmp a.csv b.csv

# Killed in a row: the row is measured again, the others are not.
{ head -n 8 a.csv; tail -n 1 a.csv | head -c 20; } >c.csv
try 0 "$fake" "${grid[@]}" -o c.csv
check "all rows after a kill" [ "$(settings c.csv)" = 6 ]
check "whole rows are kept" cmp <(head -n 8 a.csv) <(head -n 8 c.csv)

# Ctrl-C keeps what is done, and no profile comes of it.
rm -rf config
slow=(sweep slow.gguf --exit-layer 1-4 --num-speculations 1-4 -n 12 -r 1 -o s.csv)
timeout -s INT 0.7 "$fake" "${slow[@]}" >out 2>err
check "interrupted" [ $? = 124 ]
says err "the same command goes on"
done=$(rows s.csv)
check "some of it is done, not all: $done" [ "$done" -ge 1 -a "$done" -lt 16 ]
profile=config/layerskip/profiles/00000000000000fa.json
check "no profile of a half" [ ! -e $profile ]
head -n $((done + 6)) s.csv >before
try 0 "$fake" "${slow[@]}"
check "the rest" [ "$(settings s.csv)" = 16 ]
check "and nothing twice" cmp before <(head -n $((done + 6)) s.csv)

# What drafting does not gain is no profile; a text that drafting changes is an error.
try 0 "$fake" sweep dear.gguf --exit-layer 2 --num-speculations 4 -n 16 -r 1 -o dear.csv
says err "drafting gains less than 3 %, plain decoding stays"
says $profile '"exit_layer": 0'
try 70 "$fake" sweep broken.gguf --exit-layer 2 --num-speculations 4 -n 16 -r 1 -o broken.csv
says err "the drafted text is not the plain one"
rm -rf config
try 0 "$fake" sweep m.gguf --exit-layer 2 --num-speculations 2 -n 8 -r 1 -o d.csv --no-save-profile
check "no profile where none is wanted" [ ! -e $profile ]
try 0 "$fake" sweep m.gguf --auto --seconds 1 -n 16
says out "times plain decoding"
check "a profile" [ -e $profile ]
check "no CSV unless asked for" [ ! -e sweep.csv ]

# A key to the hub is in no file of results, however it is given.
secret=(-hft s3cret --hf_token=s3cret --hft s3cret --hf-token s3cret)
hidden="-hft ... --hf_token=... --hft ... --hf-token ..."
try 0 "$fake" sweep m.gguf --exit-layer 2 --num-speculations 2 -n 8 -r 1 --no-save-profile "${secret[@]}" -o key.csv
lacks key.csv s3cret
says key.csv "$hidden -o key.csv"
try 0 "$fake" bench m.gguf -p 8 -n 8 -r 1 --read-gib 0 "${secret[@]}" -o json
lacks out s3cret
says out "$hidden -o json"

# What a kill in the first write leaves has no row: the sweep begins anew.
for cut in 0 10 60 "$(head -n 5 a.csv | wc -c)" "$(($(head -n 6 a.csv | wc -c) - 1))"; do
    head -c "$cut" a.csv >anew.csv
    try 0 "$fake" sweep m.gguf --exit-layer 2 --num-speculations 2 -n 8 -r 1 --no-save-profile -o anew.csv
    check "a whole sweep after a cut at $cut" [ "$(settings anew.csv)" = 1 -a "$(grep -c '^exit_layer,' anew.csv)" = 1 ]
done

printf '{"prompt": "one"}\n{"promt": "two"}\n{"tokens": [1, 2]}\n' >p.jsonl
refuse 65 'p.jsonl: line 2: no column "prompt": there are "promt" (--bad-rows N passes such rows over)' "$fake" sweep m.gguf -f p.jsonl -o e.csv
try 0 "$fake" sweep m.gguf -f p.jsonl --bad-rows 1 --exit-layer 2 --num-speculations 2 -n 8 -r 1 -o e.csv
says err 'warning: p.jsonl: line 2: no column "prompt"'
try 0 "$fake" sweep m.gguf -f p.jsonl --bad-rows 1 --chat --exit-layer 2 --num-speculations 2 -n 8 -r 1 -o f.csv
refuse 64 "--auto finds exit layer and drafts itself" "$fake" sweep m.gguf --auto --exit-layer 2
refuse 64 "--auto is no grid to go on with" "$fake" sweep m.gguf --auto -o auto.csv
refuse 64 "--exit-layer: 9" "$fake" sweep m.gguf --exit-layer 9
refuse 64 "--drafter: none" "$fake" sweep m.gguf --drafter none
refuse 64 "a picture is NAME.png or NAME.svg" "$fake" sweep m.gguf --picture x.jpg
refuse 65 "text.txt: no sweep" "$fake" "${grid[@]}" -o text.txt
try 69 "$fake" "${grid[@]}" -o a.csv --picture x.svg --gnuplot no-such-gnuplot
says err "no-such-gnuplot is not installed"
check "no picture, and nothing half-made" [ -z "$(ls x.svg* 2>/dev/null)" ]

# ---- eval ----

try 0 "$program" synth --shape tiny-gqa model
head -c 3000 "$OLDPWD/tests/golden/english.txt" >english.txt
cat >task.jsonl <<'END'
{"query": "One and one is", "choices": ["two", "three", "fourteen"], "gold": 0}
{"question": "Water is", "choices": {"text": ["wet", "dry"], "label": ["A", "B"]}, "answerKey": "B"}

{"ctx": "She sang", "endings": ["a song", "a chair"], "label": "1"}
{"context": "One, two, ", "continuation": "three"}
{"question": "letters", "choices": ["x", "y"], "answer": "B"}
{"query": "None is right", "choices": ["x", "y"], "gold": 2}
{"query": "Nothing to choose", "choices": ["x"], "gold": 0}
{"question": "No answer", "choices": ["x", "y"]}
not JSON
[1]
END
refuse 65 "task.jsonl: line 7: the right choice must be a number from 0 to 1" "$program" eval model --task task.jsonl
try 0 "$program" eval model -f english.txt --length 200 --task task.jsonl --bad-rows 5 --report e.json --show-map --map map.html --map map.svg --picture e.svg --gnuplot ./gnuplot-fake --map-tokens 7
check "five warnings" [ "$(grep -c "warning: task.jsonl: line" err)" = 5 ]
says err 'line 9: no column "gold": there are "question", "choices"'
says err "line 11: not a JSON object"
says out "task.jsonl: 5 rows, 5 bad rows passed over"
says out "| exit layer | perplexity | ± stderr | agreement | in top 2 | in top 5 | in top 10 | accuracy |"
says map.html "<tr><th>5</th>"
check "a map of seven" [ "$(grep -o '<td' map.html | wc -l)" = $((6 * 7)) ]
lacks out $'\033'
check "results that hold together" python3 - <<'END'
import json
r = json.load(open("e.json"))
text, task = r["text"], r["tasks"][0]
assert [e["exit_layer"] for e in text["exits"]] == [1, 2, 3, 4, 5] == [e["exit_layer"] for e in task["exits"]]
assert (task["rows"], task["with_choices"], task["bad_rows"]) == (5, 4, 5)
for e in text["exits"]:
    assert e["agreement"] <= e["in_top_2"] <= e["in_top_5"] <= e["in_top_10"] <= 1 and e["perplexity_stderr"] > 0
assert text["exits"][-1]["agreement"] == 1
assert len(r["map"]["layers"]) == 5 and all(len(l) == 7 for l in r["map"]["layers"])
assert r["command"].startswith("layerskip eval model -f english.txt") and len(r["model"]["id"]) == 16
END
# The same numbers as from `perplexity`, which reads some exits only; and as from one exit alone.
try 0 "$program" perplexity model -f english.txt --length 200 --exits 2,4 -o json
check "the numbers of perplexity" python3 - <<'END'
import json
a, b = json.load(open("out")), json.load(open("e.json"))["text"]
assert a["tokens"] == b["tokens"]
by = {e["exit_layer"]: e for e in b["exits"]}
for e in a["exits"]:
    o = by[e["exit_layer"]]
    assert abs(e["perplexity"] / o["perplexity"] - 1) < 1e-4 and abs(e["acceptance"] - o["agreement"]) < 1e-4 and abs(e["accuracy"] - o["accuracy"]) < 1e-4, (e, o)
END
try 0 "$program" eval model --show-map --map-text "Once upon a time" --color on
says out $'\033[48;5;28m'
try 0 env NO_COLOR=1 "$program" eval model --show-map --map-text "Once upon a time"
lacks out $'\033'
# Names and arguments may be any bytes.
cp english.txt $'b\xc3d.txt'
head -n 1 task.jsonl >$'t\xff.jsonl'
ln -s model $'m\xfe'
try 0 "$program" eval $'m\xfe' -f $'b\xc3d.txt' --task $'t\xff.jsonl' --exits 2 --report any.json -o json
says out '"perplexity"'
check "texts that are not UTF-8" python3 - <<'END'
import json
r = json.load(open("any.json"))
assert (r["text"]["file"], r["tasks"][0]["file"], r["model"]["path"]) == ("b\ufffdd.txt", "t\ufffd.jsonl", "m\ufffd"), r
assert "-f 'b\ufffdd.txt'" in r["command"], r["command"]
END
try 0 "$program" eval model --task task.jsonl --limit 2 --exits 2
says out "task.jsonl: 2 rows"

# Ctrl-C keeps what is done, wherever it comes; what comes of it in the end is what one run gives.
yes '{"query": "What is it?", "choices": ["a cat", "a dog"], "gold": 1}' | head -n 40 >pets.jsonl
long=(eval slow.gguf -f english.txt --length 40 --task pets.jsonl -o json)
try 0 "$fake" "${long[@]}" --report whole.json
check "no file is left of a whole one" [ ! -e whole.json.part ]
echo '{"run": "another", "document": 1}' >cut.json.part
stops=0
while [ "$stops" -lt 20 ]; do
    timeout -s INT 0.3 "$fake" "${long[@]}" --report cut.json >out 2>err
    [ $? = 124 ] || break
    says err "the same command goes on"
    stops=$((stops + 1))
done
check "several stops: $stops" [ "$stops" -ge 3 -a "$stops" -lt 20 ]
says err "cut.json.part: goes on behind "
check "the same numbers" python3 -c 'import json
a, b = (json.load(open(n)) for n in ("whole.json", "cut.json"))
assert a["text"] == b["text"] and a["tasks"] == b["tasks"] and a["text"]["tokens"] > 2000 and a["tasks"][0]["rows"] == 40, (a, b)'
short=(eval slow.gguf -f english.txt --length 150 --task few.jsonl -o json)
head -n 6 pets.jsonl >few.jsonl
try 0 "$fake" "${short[@]}" --report few.json
timeout -s INT 0.12 "$fake" "${short[@]}" --report cut.json >out 2>err
check "what is kept" grep -q '"at": 1' cut.json.part
for damage in 's/x/x/' '' '[]' '{' 's/"at": [0-9]*/"at": -1/' 's/"document": [0-9]*/"document": 9/' 's/"exits": \[/&[],/' 's/"done": [0-9]*/"done": 7/' 's/"counted": [0-9]*/"counted": 1e3/'; do
    case $damage in s/*) sed "$damage" cut.json.part ;; *) printf '%s' "$damage" ;; esac >damaged.json.part
    try 0 "$fake" "${short[@]}" --report damaged.json
    check "goes on, or anew: $damage" [ "$(grep -c "goes on behind" err)" = "$([ "$damage" = s/x/x/ ] && echo 1 || echo 0)" ]
    check "right all the same: $damage" python3 -c 'import json
a, b = (json.load(open(n)) for n in ("few.json", "damaged.json"))
assert a["text"] == b["text"] and a["tasks"] == b["tasks"], (a, b)'
done
refuse 65 'task.jsonl: line 1: no column "nosuch": there are "query", "choices", "gold"' "$program" eval model --task task.jsonl --query nosuch
refuse 64 "--template" "$program" eval model --task task.jsonl --template "no place"
refuse 64 "nothing to evaluate" "$program" eval model
refuse 64 "--map: no text for the map" "$program" eval model --task task.jsonl --map map.html
refuse 64 "a map is NAME.html, NAME.png or NAME.svg" "$program" eval model -f english.txt --map map.txt
refuse 64 "--exits: 5" "$program" eval model -f english.txt --exits 5
refuse 66 "none.jsonl" "$program" eval model --task none.jsonl

# ---- report ----

try 0 "$program" sweep model --exit-layer 1,2 --num-speculations 1,2 -n 8 -r 2 -o real.csv
# Rows of another grid may draft more than this one has room for.
try 0 "$program" sweep model --exit-layer 1 --num-speculations 20 -n 8 -r 1 -o more.csv
try 0 "$program" sweep model --exit-layer 1 --num-speculations 2 -n 8 -r 1 -o more.csv
check "rows of both" [ "$(settings more.csv)" = 2 ]
says out "best: drafter exit, exit layer 1, 2 drafts"
try 0 "$program" sweep model --drafter exit,ngram,ngram+exit --exit-layer 2 --num-speculations 0,2 -n 12 -r 1 -o teams.csv
check "every team" [ "$(settings teams.csv)" = 6 ]
says out "| ngram: exit layer | as many as pay | 2 drafts |"
# A team that a sweep found best is what run drafts with, where nobody says otherwise.
rm -rf config
"$program" info model --json >info.json
mkdir -p config/layerskip/profiles
printf '{"exit_layer": 2, "num_speculations": 3, "drafter": "ngram+exit", "measured": {"date": "2026-11-24"}}\n' \
    >"config/layerskip/profiles/$(python3 -c 'import json; print(json.load(open("info.json"))["id"])').json"
try 0 "$program" run model -p "Once" -n 12 --ignore-eos
says err "measured 2026-11-24"
says err " a round, 3 at most"
try 0 "$program" run model -p "Once" -n 12 --ignore-eos --exit-layer 1
lacks err "measured 2026-11-24"
try 0 "$program" bench model -p 8 -n 8 -r 1 --read-gib 0 -o json
cp out bench.json
try 0 "$program" report --sweep real.csv --eval e.json --bench bench.json -o page.html --gnuplot ./gnuplot-fake
check "three pictures, one of each kind" [ "$(grep -c '<svg>picture' page.html)" = 3 ]
says page.html "times plain decoding"
# Of a setting that was measured again the page has the later numbers, as the sweep's last line has.
check "the best of the sweep is that of the page" python3 - <<'END'
import re
page, rows = open("page.html").read(), [line.split(",") for line in open("real.csv") if line[0] not in "#e"]
best = max(rows[-3:], key=lambda r: float(r[8]))
assert len(rows) == 7 and all(r[16] == "4" for r in rows[-3:]) and "exit layer %s, %s drafts" % (best[0], best[1]) in page and "in 4 repetitions" in page, (rows, best)
for r in rows[-3:]:
    assert ">%.3f</td>" % float(r[8]) in page, r
END
says page.html "<th>in top 10</th>"
says page.html "layerskip bench model -p 8"
says page.html "<td class=s"
lacks page.html "Not here"
lacks page.html "http"
check "a well-formed page" python3 - <<'END'
from html.parser import HTMLParser
class P(HTMLParser):
    def __init__(self): super().__init__(); self.open = []
    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "html"): self.open.append(tag)
    def handle_endtag(self, tag):
        if tag != "html": assert self.open.pop() == tag, tag
p = P(); p.feed(open("page.html").read()); assert not p.open, p.open
END
# A bench file says nothing that gnuplot or a shell obeys.
cat >hostile.json <<'END'
[{"test": "END_OF_DATA", "n_gen": 5, "avg_ts": 1, "stddev_ts": 0, "model_id": "m"},
 {"test": "!touch obeyed #", "n_gen": 5, "avg_ts": 1, "stddev_ts": 0, "model_id": "m"}]
END
try 0 "$program" report --bench hostile.json -o hostile.html --gnuplot ./gnuplot-fake
check "a label begins no line" sh -c '! grep -E "^(END_OF_DATA.|!)" script'
if command -v gnuplot >/dev/null; then
    try 0 "$program" report --bench hostile.json -o hostile.html
    check "both labels, in the picture and in the table" [ "$(grep -c END_OF_DATA hostile.html) $(grep -c '!touch obeyed #' hostile.html)" = "2 2" ]
    check "nothing was run" [ ! -e obeyed ]
fi
try 0 "$program" report --eval e.json -o part.html --gnuplot no-such-gnuplot
says err "warning: no-such-gnuplot is not installed"
says part.html "No pictures: no-such-gnuplot is not installed"
says part.html "Not here: sweep."
refuse 65 "is of model" "$program" report --sweep real.csv --sweep a.csv -o x.html
refuse 65 "not what \`layerskip eval --report\` writes" "$program" report --eval bench.json -o x.html
refuse 65 "not what \`layerskip bench -o json\` (or jsonl) prints" "$program" report --bench e.json -o x.html
refuse 65 "real.csv: not what \`layerskip bench -o json\` (or jsonl) prints: line 1: no JSON" "$program" report --bench real.csv -o x.html
refuse 65 "e.json: no sweep" "$program" report --sweep e.json -o x.html
refuse 64 "no page given" "$program" report --sweep real.csv
refuse 64 "nothing to report" "$program" report -o x.html
check "no page, and nothing half-made" [ -z "$(ls x.html* 2>/dev/null)" ]

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
