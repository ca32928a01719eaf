#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Remakes perplexity.json: what transformers (float32, eager attention) says of english.txt in windows, and of continuations, behind some of SmolLM2-135M-Instruct's layers.

    python tests/golden/make_perplexity.py [--gguf FILE]          in the environment that README.md describes
"""
import argparse
import math
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import make_golden

WINDOW, WINDOWS, DEPTHS = 128, 2, [1, 4, 8, 15, 22, 29, 30]
CONTINUATIONS = [("The capital of France is", " Paris, and the river is the Seine."), ("Alice was beginning to get very tired of sitting by her sister ", "on the bank."), ("def add(a, b):\n    ", "return a + b")]


def surprises(model, ids, first):
    """-log p of the tokens from `first` on, behind every depth: {depth: [nats]}."""
    h = make_golden.states(model, ids)
    found = {}
    for d in DEPTHS:
        logp = torch.log_softmax(make_golden.head(model, h[d]).double(), -1)
        found[d] = [-float(logp[i - 1, ids[i]]) for i in range(first, len(ids))]
    return found


def windows(model, ids):
    nats = {d: [] for d in DEPTHS}
    for at in range(0, WINDOWS * WINDOW, WINDOW):
        for d, values in surprises(model, ids[at:at + WINDOW], 1).items():
            nats[d] += values
    rows = []
    for d in DEPTHS:
        n = len(nats[d])
        mean = sum(nats[d]) / n
        variance = sum((x - mean) ** 2 for x in nats[d]) / (n - 1)
        rows.append({"exit_layer": d, "perplexity": math.exp(mean), "perplexity_stderr": math.exp(mean) * math.sqrt(variance / n)})
    return {"window": WINDOW, "tokens": len(nats[DEPTHS[0]]), "exits": rows}


def continuation(model, tok, context, text):
    """As lm-evaluation-harness splits them: blanks at the end of the context belong to the continuation."""
    before = tok(context.rstrip(), add_special_tokens=False)["input_ids"]
    whole = tok(context + text, add_special_tokens=False)["input_ids"]
    found = surprises(model, whole, len(before))
    return {"context": context, "continuation": text, "log_likelihood": {str(d): -sum(v) for d, v in found.items()}}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--gguf", default=make_golden.packaged_gguf())
    folder, file = os.path.split(os.path.abspath(p.parse_args().gguf))
    torch.set_num_threads(2)
    with torch.inference_mode():
        tok = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager").eval()
        out = make_golden.about(model, file, "GGUF, dequantised to float32")
        del out["inv_freq"], out["fixed_ids"]
        with open(os.path.join(make_golden.HERE, "english.txt")) as f:
            out["text"] = windows(model, tok(f.read(), add_special_tokens=False)["input_ids"])
        out["continuations"] = [continuation(model, tok, *c) for c in CONTINUATIONS]
    make_golden.write("perplexity.json", out)


if __name__ == "__main__":
    main()
