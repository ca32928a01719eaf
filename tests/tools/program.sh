#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The real program with its engine over a small synthetic checkpoint. usage: LSK_PROGRAM=PROGRAM program.sh (arguments are not used)
set -u
program=$(realpath "${LSK_PROGRAM:?the program to test}") || exit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit
unset "${!LAYERSKIP_@}" NO_COLOR
export LAYERSKIP_DEVICE=${LSK_TEST_DEVICE:-cpu}
export XDG_CONFIG_HOME=$work/config
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
if [ "$LAYERSKIP_DEVICE" = cpu ]; then
    try 0 "${run[@]}" --threads 1 --kernels plain
    same plain "one thread, plain kernels"
    if "$program" --version | grep "cpu features:" | grep -q avx2; then
        try 0 "${run[@]}" --kernels avx2
        same plain "avx2 kernels"
    fi
else
    check "the memory plan comes first" eval 'head -n 1 err | grep -q "^plan       cuda: weights "'
    says err "waits      the host waited"
fi
try 0 "${run[@]}" --temp 0.8 --seed 7
cp out sampled
check "sampling changes the text" eval '! cmp -s plain sampled'
try 0 "${run[@]}" --temp 0.8 --seed 7
same sampled "the same seed again"
try 0 "${run[@]}" --temp 0.8 --seed 7 --exit-layer 2 --num-speculations 4
same sampled "the same seed, drafted"
try 0 "${run[@]}" --depth 1
check "one layer of five writes another text" eval '! cmp -s plain out'
try 0 "${run[@]}" -n 0
check "no reply" [ ! -s out ]
says err "reply      0 tokens (token limit)"
try 0 "${run[@]}" --stats json
same plain "statistics in JSON"
cp err out
json
try 0 verify model -p one -p two --temp 0,0.7 --seed 3 -n 40
says out "every drafted reply equals plain decoding"
try 0 bench model -p 16 -n 8 -r 1 --exit-layer 2 --read-gib 0 -o json
json
says out '"test": "tg8 E2 d4"'

# What bench measured decides afterwards, wherever the folder lies, and never on the text.
echo "Once upon a time there was a text" >measured.txt
try 0 bench model -p 0 -n 8 -r 3 -f measured.txt --exit-layer 2 --read-gib 0 --save-profile
mv model moved
try 0 run moved -p "Once upon" -n 60 --ignore-eos
same plain "a measured profile"
says err "profile    measured 20"
mv moved model
sed -i 's/"exit_layer": [0-9]*, "num_speculations": [0-9]*/"exit_layer": 3, "num_speculations": 5/' config/layerskip/profiles/*.json
try 0 "${run[@]}"
same plain "another measured profile"
says err ": exit layer 3, 5 drafts in a round"
try 0 info model
says out "drafts leave after layer 3 of 5, 5 in a round"
rm -r config

# A GGUF whose layers are Q8_0 and whose embedding is F16: with --weights q4 the former stay.
try 0 synth --shape tiny-tied tied
python3 - <<'END'
import json, struct
S = lambda s: struct.pack("<Q", len(s)) + s.encode()
u32 = lambda k, v: S(k) + struct.pack("<II", 4, v)
f32 = lambda k, v: S(k) + struct.pack("<If", 6, v)
text = lambda k, v: S(k) + struct.pack("<I", 8) + S(v)
array = lambda k, t, items: S(k) + struct.pack("<IIQ", 9, t, len(items)) + b"".join(items)
c = json.load(open("tied/config.json"))
words = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % i for i in range(256)]
words += ["w%d" % i for i in range(c["vocab_size"] - len(words))]
kinds = [2, 3, 3] + [6] * 256 + [1] * (len(words) - 259)
kv = [text("general.architecture", "llama"), u32("llama.context_length", 256), u32("llama.embedding_length", c["hidden_size"]),
      u32("llama.block_count", c["num_hidden_layers"]), u32("llama.feed_forward_length", c["intermediate_size"]),
      u32("llama.attention.head_count", c["num_attention_heads"]), u32("llama.attention.head_count_kv", c["num_key_value_heads"]),
      f32("llama.attention.layer_norm_rms_epsilon", 1e-5), text("tokenizer.ggml.model", "llama"), array("tokenizer.ggml.tokens", 8, [S(w) for w in words]),
      array("tokenizer.ggml.scores", 6, [struct.pack("<f", -i) for i in range(len(words))]),
      array("tokenizer.ggml.token_type", 5, [struct.pack("<i", k) for k in kinds]), u32("tokenizer.ggml.bos_token_id", 1), u32("tokenizer.ggml.eos_token_id", 2)]
h, f, v = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
kvh = h // c["num_attention_heads"] * c["num_key_value_heads"]
shapes = {"token_embd": (v, h), "output_norm": (h,)}
for l in range(c["num_hidden_layers"]):
    shapes.update({f"blk.{l}.{n}": s for n, s in {"attn_norm": (h,), "ffn_norm": (h,), "attn_q": (h, h), "attn_k": (kvh, h), "attn_v": (kvh, h),
                   "attn_output": (h, h), "ffn_gate": (f, h), "ffn_up": (f, h), "ffn_down": (h, f)}.items()})
info, data, n = b"", b"", 0
for name, s in shapes.items():
    kind, count = (0, s[0]) if len(s) == 1 else (1 if name == "token_embd" else 8, s[0] * s[1])
    body = struct.pack("<f", 1) * count if kind == 0 else struct.pack("<e", 0.5) * count if kind == 1 else (struct.pack("<e", 0.01) + bytes(range(32))) * (count // 32)
    info += S(name + ".weight") + struct.pack("<I", len(s)) + struct.pack(f"<{len(s)}Q", *s[::-1]) + struct.pack("<IQ", kind, len(data))
    data += body + bytes(-len(body) % 32)
head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(kv)) + b"".join(kv) + info
open("packed.gguf", "wb").write(head + bytes(-len(head) % 32) + data)
END
try 0 run packed.gguf -p x -n 4 --weights q4 --no-stats
says err "layerskip: warning: --weights q4: 28 tensors are quantised in the file (mostly Q8_0) and stay as they are"
check "one warning" [ "$(wc -l <err)" = 1 ]
try 0 run packed.gguf -p x -n 4 --weights q8 --no-stats
check "Q8_0 is what was asked for" [ ! -s err ]
refuse 78 "its rows of 200 values do not divide into blocks of 32; load it with --weights file or bf16" run model --weights q8 -p x

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
try 1 info nan --check
says out "1 tensor is DAMAGED"
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

# Interrupted while it writes, synth leaves nothing.
for signal in INT TERM; do
    (trap - INT; exec "$program" synth --shape llama3.2-1b big --threads 1 >out 2>err) &
    child=$!
    for _ in $(seq 500); do
        compgen -G "big.tmp-*/*.safetensors*" >/dev/null && break
        sleep 0.01
    done
    check "synth writes" [ -n "$(compgen -G 'big.tmp-*')" ]
    kill "-$signal" "$child"
    wait "$child"
    check "status of SIG$signal" [ $? = $((128 + $(kill -l "$signal"))) ]
    check "nothing is left by SIG$signal" [ -z "$(compgen -G 'big*')" ]
done

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
