#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One run on one GPU: what the engine does with a llama2-13b shape of random weights, side by side with the GPU's own ceilings and with transformers on the same folder.
#
#   bench/gpu_13b.sh BUILD WORK [PART ...]        BUILD: the build folder; WORK: checkpoints (45 GB: /dev/shm/lsk is good) and results
#
# Parts, all by default, each under three minutes; -PART leaves one out:
#   synth   the checkpoints that are not there yet           verify  drafted text against plain, token for token, greedy and sampled
#   main    plain and drafted speed, median of five          rows    1 to 64 rows against one, prompts
#   sweep   exit layers and drafts, then the best of them    q8      plain and drafted with 8-bit weights
#   tree    the same, with the exit's other choices beside its chain
#   memory  peak memory, load time, waits of the host        shapes  the other shapes, plain and drafted
#   ceilings, transformers  the peers, by bench/gpu_peers.py table   what WORK/results holds, as one table
# Each part leaves its raw numbers in WORK/results, so that parts may be run in several calls. Variables: DEVICE (cuda), MODEL (llama2-13b), SHAPES, EXIT (7), DRAFTS (4),
# EXITS (4,5,6,7,8,10), MANY (2-6): exit layers and drafts of the sweep, NEW (256) tokens of a reply.
set -u
[[ $# -ge 2 ]] || { sed -n '3,16p' "$0" | cut -c3-; exit 64; }
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "$1") || exit
mkdir -p "$2/results" || exit
work=$(realpath "$2")
shift 2
results=$work/results
program=$build/layerskip
device=${DEVICE:-cuda} model=${MODEL:-llama2-13b} shapes=${SHAPES:-llama3-8b llama3.2-1b smollm2-135m}
exit_layer=${EXIT:-7} drafts=${DRAFTS:-4} exits=${EXITS:-4,5,6,7,8,10} many=${MANY:-2-6} new=${NEW:-256}
export LAYERSKIP_DEVICE=$device LAYERSKIP_PROGRESS=off LD_LIBRARY_PATH=$build${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} XDG_CONFIG_HOME=$work/config PYTHONUNBUFFERED=1
text='Once upon a time there lived an' # 31 tokens of one byte, and the first
printf '%s' "$text" >"$work/prompt.txt"
failed=0

say() { printf '%4d s  %s\n' "$SECONDS" "$*" >&2; }
# run NAME SECONDS COMMAND...: its stdout is results/NAME; what it says on stderr is shown and kept.
run() {
    local name=$1 limit=$2
    shift 2
    timeout "$limit" "$@" >"$results/$name.part" 2>"$results/$name.err" </dev/null
    local status=$?
    sed 's/^/        /' "$results/$name.err" >&2
    mv "$results/$name.part" "$results/$name"
    [[ $status == 0 ]] || { failed=1 && say "$name: exit status $status"; }
    return "$status"
}
# bench NAME FOLDER ARGUMENTS...
bench() { run "$1.json" 170 "$program" bench "$work/$2" -f "$work/prompt.txt" -p 0 -o json "${@:3}"; }

part_synth() {
    for shape in $model $shapes; do
        [[ -e $work/$shape ]] && continue
        "$program" synth --shape "$shape" "$work/$shape" 2>&1 | sed 's/^/        /' >&2
        [[ ${PIPESTATUS[0]} == 0 ]] || failed=1
    done
}
part_main() { bench main "$model" -n "$new" --exit-layer "$exit_layer" --num-speculations "$drafts" -r 5; }
# sweep NAME DRAFTER: all pairs with short replies to NAME.json, then the best of them as the other numbers are taken, to best-NAME.json
sweep() {
    bench "$1" "$model" -n $((new / 2)) --drafter "$2" --exit-layer "$exits" --num-speculations "$many" -r 1 || return
    local best
    best=$(python3 -c 'import json, sys
best = max((t for t in json.load(open(sys.argv[1])) if t["num_speculations"]), key=lambda t: t["median_ts"])
print(best["exit_layer"], best["num_speculations"])' "$results/$1.json") || return
    say "best of the sweep with $2: exit layer ${best% *}, ${best#* } drafts"
    bench "best-$1" "$model" -n "$new" --drafter "$2" --exit-layer "${best% *}" --num-speculations "${best#* }" -r 5
}
part_sweep() { sweep sweep exit; }
part_tree() { sweep tree exit+recycle; }
part_verify() {
    for drafter in exit exit+recycle; do
        run "verify-$drafter.txt" 170 "$program" verify "$work/$model" -p "$text" -n "$new" --ignore-eos --drafter "$drafter" --exit-layer "$exit_layer" --num-speculations "$drafts" \
            --temp 0,0.8 --seed 1
        sed 's/^/        /' "$results/verify-$drafter.txt" >&2
    done
}
part_rows() { run rows.jsonl 170 "$build/bench/bench_rows" "$work/$model" "$device" file 9 512 --json; }
part_q8() { bench q8 "$model" -n "$new" --exit-layer "$exit_layer" --num-speculations "$drafts" -r 5 --weights q8; }
part_shapes() {
    for shape in $shapes; do
        bench "shape-$shape" "$shape" -n "$new" --exit-layer "$(($("$program" info "$work/$shape" --device cpu --json | sed 's/.*"n_layers": \([0-9]*\).*/\1/') / 4))" \
            --num-speculations "$drafts" -r 3
    done
}

# MiB in use; nothing where nvidia-smi has no number.
used() {
    local ordinal=${device#cuda}
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i "${ordinal#:}" 2>/dev/null | grep -E '^[0-9]+$' ||
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i 0 2>/dev/null | grep -E '^[0-9]+$' || true
}
# watched NAME ARGUMENTS...: a reply, and the most GPU memory in use meanwhile, beyond what was before (MiB).
watched() {
    local name=$1 before most=0 now child
    before=$(used)
    run "$name.txt" 170 "$program" run "$work/$model" -p "$text" -n 64 --ignore-eos --stats json "${@:2}" &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        now=$(used)
        [[ -n $now && $now -gt $most ]] && most=$now
        sleep 0.1
    done
    wait "$child" || failed=1
    grep '^{' "$results/$name.txt.err" >"$results/$name.json"
    [[ -z $before ]] || printf '%d\n' $((most - before)) >"$results/$name.mib"
}
part_memory() {
    watched plain-run --generation-strategy autoregressive
    watched drafted-run --exit-layer "$exit_layer" --num-speculations "$drafts"
}
part_ceilings() { run ceilings.jsonl 120 python3 "$here/gpu_peers.py" "$work/$model" - --only ceilings; }
part_transformers() {
    "$program" tokenize "$work/$model" -p "$text" --ids --device cpu >"$work/ids.txt" || return
    run transformers.jsonl 170 python3 "$here/gpu_peers.py" "$work/$model" "$work/ids.txt" --only transformers --new "$new" --exit-layer "$exit_layer" --drafts "$drafts"
}

part_table() {
    python3 - "$results" "$model" "$exit_layer" "$drafts" <<'EOF'
import json, pathlib, re, sys

folder, model, exit_layer, drafts = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


def load(name):
    """A file's objects: one array, or one object a line; nothing where the part was left out or failed."""
    try:
        text = (folder / name).read_text().strip()
        return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    except (OSError, ValueError):
        return []


def find(rows, **keys):
    return next((r for r in rows if all(r.get(k) == v for k, v in keys.items())), {})


def row(what, value, unit="", floor=None, share=None, note=""):
    number = "-" if value is None else value if isinstance(value, str) else f"{value:.4g}"
    print(f"| {what} | {number} {unit} | {'' if floor is None else f'{floor:.4g} {unit}'} | {'' if share is None else f'{100 * share:.1f} %'} | {note} |")


ceilings, peers, rows = load("ceilings.jsonl"), load("transformers.jsonl"), load("rows.jsonl")
read, product = find(ceilings, what="read").get("gb_per_s"), find(ceilings, what="product").get("tflops")
print(f"\nSynthetic {model}, {find(ceilings, what='device').get('name', 'GPU')}\n")
print("| what | measured | at the ceiling | share | |\n| --- | --: | --: | --: | --- |")
for name, what, unit in (("read", "ceiling: reading", "GB/s"), ("copy", "ceiling: copying, read and written", "GB/s"), ("product", "ceiling: bf16 product of 8192 cubed", "TFLOP/s")):
    c = find(ceilings, what=name)
    key = "tflops" if name == "product" else "gb_per_s"
    if key in c:
        row(what, c[key], unit, note="torch" + (f".{c['how']}" if "how" in c else ""))


def speeds(what, name):
    """Weights read per second against the ceiling; at the ceiling the same passes would give floor tokens per second."""
    for t in load(name):
        share = t["gb_per_second"] / read if read and t["gb_per_second"] else None
        drafted = t["num_speculations"]
        note = f"acceptance {t['acceptance_rate']:.3f}, {t['mean_acceptance_length']:.2f} tokens a round, {t['speedup']:.3f} times plain" if drafted else ""
        if t.get("host_waits_per_token"):
            note += f"{', ' if note else ''}{t['host_waits_per_token']:.2f} waits a token"
        row(f"{what}{' E%d d%d' % (t['exit_layer'], drafted) if drafted else ', plain'}", t["median_ts"], "tokens/s", t["median_ts"] / share if share else None, share, note)


speeds("bf16", "main.json")
speeds("best of the sweep, chain", "best-sweep.json")
speeds("best of the sweep, tree", "best-tree.json")
speeds("q8", "q8.json")
for t in (t for mode in ("plain", "early exit") for t in [find(peers, what="transformers", mode=mode)] if t):
    what = "transformers, " + ("plain" if t["mode"] == "plain" else f"early exit E{exit_layer} d{drafts}")
    row(what, t.get("tokens_per_s"), "tokens/s", note=t.get("error") or f"the same as its own plain text for {t['same_as_plain']} of {t['tokens']} tokens")
for r in rows:
    if r["what"] == "rows" and r["rows"] > 1:
        row(f"{r['rows']} rows over one, context {r['context']}", r["over_one"], "", note=f"{r['ms']:.3f} ms, {r['gb_per_s']:.0f} GB/s")
    elif r["what"] == "rows":
        row(f"one row, context {r['context']}", r["ms"], "ms", r["ms"] * r["gb_per_s"] / read if read else None, r["gb_per_s"] / read if read else None, f"{r['gb_per_s']:.0f} GB/s")
    elif r["what"] == "prompt":
        share = r["tflops"] / product if product else None
        row(f"prompt of {r['rows']}", r["tokens_per_s"], "tokens/s", r["tokens_per_s"] / share if share else None, share, f"{r['ms']:.1f} ms, {r['tflops']:.0f} TFLOP/s of the layers' products")
for name, what in (("plain-run", "plain"), ("drafted-run", "drafting")):
    s = find(load(name + ".json"))
    if not s:
        continue
    own = s["weight_bytes"] + s["kv_bytes"] + s["scratch_bytes"]
    try:
        seen = float((folder / (name + ".mib")).read_text()) / 1024
    except (OSError, ValueError):
        seen = None
    row(f"GPU memory, {what}", own / 2**30, "GiB", note=f"the plan; of it only for drafting {s['draft_bytes'] / 2**20:.1f} MiB; nvidia-smi: " + (f"{seen:.2f} GiB" if seen else "not there"))
    row(f"loading, {what}", (s["load_ms"] or 0) / 1e3, "s", note=f"{s['weight_bytes'] / ((s['load_ms'] or 1) * 1e6):.1f} GB/s; {s['host_waits'] or 0} waits for {s['reply_tokens']} tokens")
for path in sorted(folder.glob("verify-*.txt")):
    text = path.read_text()
    for m in re.finditer(r"(?m)^ +(\d+) +(\d+) +(\d+) +(\d+) ", text):
        row(f"drafted by {path.stem[7:]} against plain, greedy and at 0.8, E{m[1]} d{m[2]}", f"{m[3]}", "tokens compared", note=f"{m[4]} replies differ: {text.strip().splitlines()[-1]}")
for path in sorted(folder.glob("shape-*.json")):
    speeds(path.stem[6:], path.name)
for name in ("sweep", "tree"):
    sweep = [t for t in load(name + ".json") if t["num_speculations"]]
    if not sweep:
        continue
    many = sorted({t["num_speculations"] for t in sweep})
    print(f"\nTokens/s by exit layer and drafts ({'a chain' if name == 'sweep' else 'a tree'})\n\n| E | " + " | ".join(f"d{d}" for d in many) + " |\n| --: |" + " --: |" * len(many))
    for e in sorted({t["exit_layer"] for t in sweep}):
        print(f"| {e} | " + " | ".join(f"{find(sweep, exit_layer=e, num_speculations=d).get('median_ts', 0):.1f}" for d in many) + " |")
EOF
}

all=(synth main verify rows sweep tree q8 memory shapes ceilings transformers table)
wanted=() left_out=" "
for part in "$@"; do
    if [[ $part == -* ]]; then left_out+="${part#-} "; else wanted+=("$part"); fi
done
[[ ${#wanted[@]} -gt 0 ]] || wanted=("${all[@]}")
for part in "${wanted[@]}" ${left_out}; do
    [[ " ${all[*]} " == *" $part "* ]] || { echo "no part $part: there are ${all[*]}" >&2 && exit 64; }
done
for part in "${wanted[@]}"; do
    [[ $left_out == *" $part "* ]] && continue
    say "$part"
    "part_$part" || failed=1
done
say "done"
exit $failed
