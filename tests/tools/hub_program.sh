#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Models by name as their user meets them, against a hub on the loopback (hub_server.py) with every fault. usage: LSK_PROGRAM=PROGRAM hub_program.sh (arguments are not used)
set -u
program=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
server=$(realpath "$(dirname "$0")/hub_server.py")
work=$(mktemp -d)
trap 'exec 8>&-; [ -z "${tmpfs-}" ] || umount "$tmpfs"; rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" "${!HF_@}" NO_COLOR http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
export LAYERSKIP_DEVICE=cpu HOME=$work/home XDG_CACHE_HOME=$work/xdg
mkdir home
commit=0123456789abcdef0123456789abcdef01234567
failures=0 checks=0

check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" && return
    failures=$((failures + 1))
    printf 'FAILED: %s\n  stdout: %s\n  stderr: %s\n' "$what" "$(head -c 400 out)" "$(head -c 600 err)"
}
try() { # STATUS ARGUMENTS...
    local want=$1 status
    shift
    timeout 60 "$program" "$@" >out 2>err </dev/null
    status=$?
    check "status $want expected, not $status: $*" [ "$status" = "$want" ]
}
says() { check "$1 shall say: $2" grep -qF -- "$2" "$1"; }
requests() { wc -l <log; }
in_cache() { echo "$HF_HUB_CACHE/models--${1/\//--}"; }
refuse() { # STATUS TEXT REPOSITORY [ARGUMENTS]: nothing that a start would find is there then
    local folder
    folder=$(in_cache "${3%%:*}")
    try "$1" pull "${@:3}"
    says err "$2"
    check "one line on stderr expected" [ "$(wc -l <err)" = 1 ]
    check "nothing on stdout expected" [ ! -s out ]
    check "$3: no revision" [ ! -e "$folder/refs/main" ]
    check "$3: only whole blobs under their names" [ -z "$(find "$folder/blobs" -type f ! -name '*.incomplete' -size +100k 2>/dev/null)" ]
    try 66 run -hf "${@:3}" --offline -p x
}

# Repositories: a folder, GGUF files, one in parts, and the same GGUF for every fault.
"$program" synth --shape tiny model 2>/dev/null
mkdir -p root/ok/folder root/ok/same/sub root/ok/gguf/sub root/ok/parts root/ok/pickle root/ok/ranges
cp model/* root/ok/folder
printf x | tee root/ok/folder/README.md root/ok/folder/pytorch_model.bin >root/ok/pickle/pytorch_model.bin
"$program" quantize model root/ok/gguf/tiny.Q8_0.gguf q8_0 >/dev/null 2>&1
"$program" quantize model root/ok/gguf/tiny-q4_0.gguf q4_0 >/dev/null 2>&1
cp root/ok/gguf/tiny-q4_0.gguf "root/ok/gguf/sub/a b+%.gguf"
printf x >root/ok/gguf/mmproj-f16.gguf
cp root/ok/gguf/tiny.Q8_0.gguf root/ok/same/model.gguf
cp root/ok/gguf/tiny-q4_0.gguf root/ok/same/sub/model.gguf
"$program" synth --shape tiny-llama3 model3 2>/dev/null
"$program" quantize model3 root/ok/parts/m-f32.gguf f32 --split-max-size 1M >/dev/null 2>&1
head -c 40000000 /dev/urandom >root/ok/ranges/r.gguf
for fault in gated busy closed broken cut stuck wrong noranges shifted expired evil nonsense slow here silent plain moved; do
    mkdir -p root/$fault && ln -s ../ok/gguf root/$fault/m
done
ln -s ../ok/ranges root/noranges/r
ln -s ../ok/ranges root/expired/r
mkfifo control
: >log
python3 "$server" root log <control >ports & exec 8>control
for _ in $(seq 200); do
    [ -s ports ] && break
    sleep 0.02
done
read -r hub other <ports
export HF_ENDPOINT=http://127.0.0.1:$hub/

# Without libcurl the program says what is missing, and runs what is in the cache.
"$program" pull ok/folder >out 2>err
if grep -q "built without libcurl" err; then
    echo "skipped: this build has no libcurl"
    exit 77
fi

# Where the cache is, in the order of precedence.
check "XDG_CACHE_HOME" [ -d "xdg/huggingface/hub/models--ok--folder/snapshots/$commit" ]
HF_HOME=$work/hfhome try 0 pull ok/folder
check "HF_HOME" [ -d hfhome/hub/models--ok--folder ]
XDG_CACHE_HOME='' HF_HOME='~/h' try 0 pull ok/folder
check "a ~ in HF_HOME" [ -d home/h/hub/models--ok--folder ]
export HF_HUB_CACHE=$work/cache
try 0 pull ok/folder
check "HF_HUB_CACHE" [ "$(cat out)" = "$work/cache/models--ok--folder/snapshots/$commit" ]

# The layout.
folder=$(in_cache ok/folder)
check "refs/main" [ "$(cat "$folder/refs/main")" = $commit ]
check "the files that a model needs" [ "$(ls "$folder/snapshots/$commit" | tr '\n' ' ')" = "config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json " ]
check "a large blob is called by its sha256" [ "$(readlink "$folder/snapshots/$commit/model.safetensors")" = "../../blobs/$(sha256sum <model/model.safetensors | cut -d' ' -f1)" ]
check "a small one by its git hash" [ "$(readlink "$folder/snapshots/$commit/config.json")" = "../../blobs/$(cd model && git hash-object config.json)" ]
check "contents" diff -r "$folder/snapshots/$commit" model
check "locks" [ -n "$(ls "$work/cache/.locks/models--ok--folder"/*.lock)" ]

# A start from the cache asks nobody; pull asks, and fetches nothing twice.
n=$(requests)
plain=$("$program" run model -p hello -n 8 2>/dev/null | base64)
check "the same text by name" [ "$("$program" run -hf ok/folder -p hello -n 8 2>/dev/null | base64)" = "$plain" ]
check "no request" [ "$(requests)" = "$n" ]
try 0 pull ok/folder
check "one request" [ "$(requests)" = $((n + 1)) ]
HF_ENDPOINT=http://127.0.0.1:1 try 0 info -hf ok/folder --json
HF_HUB_OFFLINE=1 try 0 pull ok/folder
HF_HUB_OFFLINE=1 try 66 run -hf ok/gguf -p x
says err "HF_HUB_OFFLINE forbids to ask the hub"
HF_HUB_OFFLINE=yes try 66 run -hf ok/folder:Q4_0 -p x
says err "no \"Q4_0\" there: choose one of: safetensors"
try 66 run -hf ok/folder --revision other --offline -p x
HF_ENDPOINT=http://127.0.0.1:1 try 69 run -hf ok/gguf -p x
says err "127.0.0.1:1"
LAYERSKIP_MODEL=none try 0 info -hf ok/folder
LAYERSKIP_HF_REPO=no/ne try 0 info model
try 64 info -m model -hf ok/folder
says err "both --model and --hf-repo"
try 64 run model -hff x -p x
says err "Give -hf ORG/NAME too"

# Which file.
try 0 tokenize -hf ok/gguf -p x
says err "ok/gguf: Q8_0 is taken; ok/gguf:TYPE takes another of: a b+%.gguf, Q4_0"
try 0 pull ok/gguf:q4_0
says out "/tiny-q4_0.gguf"
try 0 pull ok/gguf --hf-file "sub/a b+%.gguf"
check "a link from a folder further down" cmp -s "$(cat out)" root/ok/gguf/tiny-q4_0.gguf
check "one blob for equal files" [ "$(ls "$(in_cache ok/gguf)/blobs" | wc -l)" = 2 ]
try 0 info -hf ok/gguf:tiny-q4_0.gguf
says out "/tiny-q4_0.gguf"
try 66 pull ok/gguf:Q6_K
says err "ok/gguf, revision main: no \"Q6_K\" there: choose one of: a b+%.gguf, Q4_0, Q8_0"
try 0 run -hf ok/parts:F32 -p hello -n 4
check "all parts" [ "$(ls "$(in_cache ok/parts)/snapshots/$commit" | wc -l)" = "$(ls root/ok/parts | wc -l)" ]
try 0 pull ok/same:sub/model.gguf
try 0 pull ok/same:model.gguf
says out "/$commit/model.gguf"
try 0 info -hf ok/same:model.gguf --offline
says out "/$commit/model.gguf"
try 0 list
check "two names for two files" [ "$(grep -o '^ok/same:[^ ]*' out | tr '\n' ' ')" = "ok/same:model.gguf ok/same:sub/model.gguf " ]
try 66 pull ok/pickle
says err "only PyTorch pickle weights (pytorch_model.bin)"
try 0 pull ok/gguf --revision $commit
try 0 pull ok/gguf --revision refs/pr/1
check "a revision with slashes" [ -s "$(in_cache ok/gguf)/refs/refs/pr/1" ]
try 66 pull ok/gguf --revision other
says err "no such revision"
for name in ../x ok/ /ok a/b/c ok/x..y ok--x/y 'ok/x y' ok/gguf:; do
    try 64 pull "$name"
done
try 64 pull ok/gguf --revision ../x

# list and rm.
try 0 list
says out "ok/gguf:Q4_0"
says out "ok/folder:safetensors"
try 0 list --json
check "JSON" python3 -c 'import json,os
rows = [json.loads(line) for line in open("out")]
assert all(os.path.exists(r["path"]) and r["bytes"] > 1000 for r in rows), rows
assert [r["revision"] for r in rows if r["model"] == "ok/gguf:Q8_0"] == ["main"], rows'
try 0 rm "ok/gguf:a b+%.gguf"
try 0 info -hf ok/gguf:q4_0 --offline
try 0 rm ok/gguf:Q8_0
check "only its blob is gone" [ "$(ls "$(in_cache ok/gguf)/blobs" | wc -l)" = 1 ]
try 66 rm ok/gguf:Q8_0
says err "no \"Q8_0\" there: choose one of: Q4_0"
try 0 rm ok/gguf
check "nothing is left" [ ! -e "$(in_cache ok/gguf)" ]
try 66 rm ok/gguf
try 64 rm ../..

# Who may not read, and what is not there.
refuse 77 "accept its licence at http://127.0.0.1:$hub/gated/m and set HF_TOKEN" gated/m
HF_TOKEN=hf_other refuse 77 "HF_TOKEN's account may not read it" gated/m
refuse 77 "no such repository, or a private or gated one" private/m
HF_TOKEN=hf_expired refuse 77 "the hub refuses the token" plain/m:Q8_0
refuse 66 "no such repository" ok/none
HF_TOKEN=$'a\nX-Evil: b' try 64 pull gated/m
: >log
HF_TOKEN=hf_good try 0 pull gated/m
check "the token went to the hub" grep -q "^$hub HEAD .* Bearer_hf_good" log
check "large files come from the other host" grep -q "^$other GET .*/cdn/.* 200$" log
check "which never sees the token" [ -z "$(grep "^$other " log | grep -v ' - [0-9]*$')" ]
try 0 rm gated/m
mkdir -p home/h && echo hf_good >home/token
HF_TOKEN_PATH=$work/home/token try 0 pull gated/m
try 0 rm gated/m
try 0 pull gated/m -hft hf_good

# What gets better, and what does not.
for fault in busy broken cut noranges here plain expired slow; do
    try 0 pull $fault/m:Q8_0
    check "$fault: the whole file" cmp -s "$(cat out)" root/ok/gguf/tiny.Q8_0.gguf
done
check "a cut download goes on where it ended" grep -q "^$other GET /cdn/cut/.* bytes=[1-9]" log
refuse 69 "asks for 3600 s of patience" closed/m
refuse 65 "damaged on its way" wrong/m:Q8_0
check "what was wrong is removed" [ -z "$(find "$(in_cache wrong/m)/blobs" -type f)" ]
refuse 65 "does not say the file's etag" silent/m:Q8_0
refuse 65 "in no valid JSON" nonsense/m
refuse 65 "commit ${commit//0/f} was asked for, but http://127.0.0.1:$hub answers with $commit" moved/m --revision "${commit//0/f}"
try 0 pull moved/m --revision $commit
try 0 pull evil/m
check "no file outside the cache" [ -z "$(find . /tmp/escaped.gguf -name 'escaped*' 2>/dev/null)" ]
HF_ENDPOINT=ftp://x try 64 pull ok/gguf
HF_ENDPOINT=http://127.0.0.1:$hub/no/hub try 66 pull ok/gguf

# Ranges side by side, in order on the disk; without ranges; a range that is another.
for org in ok/ranges noranges/r expired/r; do
    try 0 pull $org
    check "$org: the whole file" cmp -s "$(cat out)" root/ok/ranges/r.gguf
done
check "three ranges" [ "$(grep -c "^$other GET /cdn/ok/ranges/.* 206$" log)" = 3 ]
mkdir -p "$(in_cache shifted/m)/blobs"
blob=$(sha256sum <root/ok/gguf/tiny.Q8_0.gguf | cut -d' ' -f1)
head -c 1000 root/ok/gguf/tiny.Q8_0.gguf >"$(in_cache shifted/m)/blobs/$blob.incomplete"
refuse 65 "another range than was asked for" shifted/m:Q8_0

# What another has begun is gone on with; a wrong beginning is found by the hash.
mkdir -p "$(in_cache ok/gguf)/blobs"
head -c 100001 root/ok/gguf/tiny.Q8_0.gguf >"$(in_cache ok/gguf)/blobs/$blob.incomplete"
try 0 list
says out "(incomplete)"
try 0 pull ok/gguf
check "resumed" grep -q "^$other GET /cdn/ok/gguf/.* bytes=100001-" log
check "resumed to the whole file" cmp -s "$(cat out)" root/ok/gguf/tiny.Q8_0.gguf
try 0 rm ok/gguf
mkdir -p "$(in_cache ok/gguf)/blobs"
head -c 100001 /dev/zero >"$(in_cache ok/gguf)/blobs/$blob.incomplete"
refuse 65 "damaged on its way" ok/gguf:Q8_0
try 0 pull ok/gguf

# One fetches, the other waits for it.
try 0 rm slow/m
"$program" pull slow/m:Q8_0 >first 2>/dev/null & one=$!
"$program" pull slow/m:Q8_0 >second 2>/dev/null & two=$!
check "the first of two" wait $one
check "the second of two" wait $two
check "both have it" cmp -s first second
check "it came once" [ "$(grep -c "^$other GET /cdn/slow/.* 200$" log)" = 2 ] # and once above

# Interrupted: what came stays, nothing more, and the next one goes on.
try 0 rm slow/m
(trap - INT; exec "$program" pull slow/m:Q8_0 >out 2>err) & child=$!
for _ in $(seq 300); do
    [ -s "$(in_cache slow/m)/blobs/$blob.incomplete" ] && break
    sleep 0.01
done
kill -INT $child
wait $child
check "status of SIGINT" [ $? = 130 ]
check "a beginning is left" [ -s "$(in_cache slow/m)/blobs/$blob.incomplete" ]
begun=$(in_cache slow/m)/blobs/$blob.incomplete
check "without a hole" cmp -n "$(stat -c %s "$begun")" "$begun" root/ok/gguf/tiny.Q8_0.gguf
check "no link" [ ! -e "$(in_cache slow/m)/snapshots" ]
try 0 pull slow/m:Q8_0

# The repository moves on: what is the same in the new commit stays startable, what is not there is fetched.
try 0 pull ok/gguf:Q8_0
printf '89%.0s' {1..20} >root/commit
HF_ENDPOINT=http://127.0.0.1:1 try 0 info -hf ok/gguf:Q8_0
try 0 pull ok/gguf:Q4_0
says out "/$(cat root/commit)/tiny-q4_0.gguf"
check "refs/main moved" [ "$(cat "$(in_cache ok/gguf)/refs/main")" = "$(cat root/commit)" ]
try 0 info -hf ok/gguf:Q8_0 --offline
says out "/$(cat root/commit)/tiny.Q8_0.gguf"
try 0 info -hf ok/gguf:Q8_0 --offline --revision $commit
try 0 rm ok/gguf:Q8_0
check "from both commits" [ -z "$(find "$(in_cache ok/gguf)" -name '*Q8_0*')" ]

# A full disk: seen before, and met on the way.
try 0 rm ok/gguf
(trap '' XFSZ; ulimit -f 100; exec "$program" pull ok/gguf >out 2>err)
check "status of a full disk" [ $? = 74 ]
says err "make room, or set HF_HUB_CACHE"
check "no link to half a file" [ ! -e "$(in_cache ok/gguf)/snapshots" ]
try 0 pull ok/gguf
mkdir small
if mount -t tmpfs -o size=200k none small 2>/dev/null; then
    tmpfs=$work/small
    HF_HUB_CACHE=$work/small refuse 74 "the disk is full" ok/gguf:Q8_0
else
    echo "skipped: no small file system: mounting one needs root"
fi

echo "$checks checks, $failures failures"
[ "$failures" = 0 ]
