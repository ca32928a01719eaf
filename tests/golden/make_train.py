#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Remakes train.json beside this script: gradients and training steps of the tiny shapes as PyTorch's autograd computes them, in float64, from a Llama of plain tensor
operations below (any torch >= 1.13; with transformers installed, its own model is held against this one first).

  python3 make_train.py            writes train.json
  python3 make_train.py --check    compares with it instead; exit status 1 when they differ

A case: weights of `synth.py` (seed 1), but norms w[i] = 1 + ((7 i) mod 11 - 5) / 16; the anchor is the model with norms 1. Batches are {n, length, token, target, start, keep}
as src/backend/train.h has them, exits {layer, ce, kl, accept, anchor}. `losses`: per batch and exit, ce, kl, accept, anchor, and the share of picks that agree with the last layer's.
`gradients`: of the sum of all batches' losses, per tensor under its canonical name [norm, projections]: PROJECTIONS numbers, the sums of +-g[i], minus where bit j of the
first word of philox(FNV-1a-64(name), counter i) is set. The mean square of the projections of a difference is an estimate of its squared norm.
`steps` (one case): settings of AdamW, the gradient norms before each step, and `moved`: projections of (weight after all steps - weight before).
"""
import argparse
import json
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

import synth

HERE = os.path.dirname(os.path.abspath(__file__))
SEED, PROJECTIONS = 1, 24
WORDS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v",
         "self_attn.o_proj": "o", "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"}


def canonical(name):
    """model.layers.0.self_attn.q_proj.weight -> layers.0.q"""
    top = {"model.embed_tokens.weight": "embed", "model.norm.weight": "norm", "lm_head.weight": "head"}
    if name in top:
        return top[name]
    layer, rest = name[len("model.layers."):].split(".", 1)
    module, kind = rest.rsplit(".", 1)
    return f"layers.{layer}.{WORDS[module]}" + (".bias" if kind == "bias" else "")


# ---- the model ----

def frequencies(s):
    """As transformers has them: float32."""
    inv = 1.0 / (s.theta ** (torch.arange(0, s.head_dim, 2, dtype=torch.int64).float() / s.head_dim))
    if not s.rope:
        return inv
    factor, low, high, old = s.rope
    wave = 2 * math.pi / inv
    smooth = (old / wave - low) / (high - low)
    mixed = (1 - smooth) * inv / factor + smooth * inv
    return torch.where(wave > old / low, inv / factor, torch.where(wave < old / high, inv, mixed))


def rotate(x, angle):
    """x [n][T][heads][head_dim]; pair (j, j + head_dim / 2)"""
    cos, sin = (torch.cat([f(angle)] * 2, -1)[:, :, None].to(x.dtype) for f in (torch.cos, torch.sin))
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def norm(x, w, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


def layer(s, w, l, x, start, positions):
    n, length, _ = x.shape
    at = f"layers.{l}."
    linear = lambda y, name: F.linear(y, w[at + name], w.get(at + name + ".bias"))
    h = norm(x, w[at + "attn_norm"], s.eps)
    angle = (positions[..., None].float() * frequencies(s)).double()
    q = rotate(linear(h, "q").view(n, length, s.heads, s.head_dim), angle)
    k = rotate(linear(h, "k").view(n, length, s.kv, s.head_dim), angle)
    v = linear(h, "v").view(n, length, s.kv, s.head_dim)
    k, v = (torch.repeat_interleave(y, s.heads // s.kv, dim=2) for y in (k, v))
    scores = torch.einsum("nihd,njhd->nhij", q, k) / math.sqrt(s.head_dim)
    i, j = torch.arange(length)[:, None], torch.arange(length)[None]
    seen = (j <= i)[None] & (j[None] >= start[:, :, None])
    p = torch.softmax(scores.masked_fill(~seen[:, None], -math.inf), -1)
    x = x + linear(torch.einsum("nhij,njhd->nihd", p, v).reshape(n, length, -1), "o")
    h = norm(x, w[at + "ffn_norm"], s.eps)
    return x + linear(F.silu(linear(h, "gate")) * linear(h, "up"), "down")


def states(s, w, batch, dropping=True, packed=False):
    """Residual states before each layer and behind the last. packed: positions begin again with every document."""
    token, start = torch.tensor(batch["token"]), torch.tensor(batch["start"])
    positions = torch.arange(token.shape[1])[None].expand_as(token)
    positions = positions - start if packed else positions
    x = [F.embedding(token, w["embed"])]
    for l in range(s.layers):
        kept = torch.tensor(batch["keep"][l]).bool() if dropping else torch.ones(len(token)).bool()
        y = x[-1].clone()
        if kept.any():
            y[kept] = layer(s, w, l, x[-1][kept], start[kept], positions[kept])
        x.append(y)
    return x


def log_probabilities(s, w, x, there):
    return torch.log_softmax(F.linear(norm(x, w["norm"], s.eps), w.get("head", w["embed"])), -1)[there]


def losses(s, w, anchor, batch, exits, packed=False):
    """The batch's loss, and [ce, kl, accept, anchor, agree] of each exit."""
    target = torch.tensor(batch["target"])
    there = target >= 0
    x = states(s, w, batch, packed=packed)
    with torch.no_grad():
        last = log_probabilities(s, w, x[-1], there)
        original = log_probabilities(s, anchor, states(s, anchor, batch, dropping=False)[-1], there)
    total, rows = 0, []
    for e in exits:
        q = log_probabilities(s, w, x[e["layer"]], there)
        parts = [F.nll_loss(q, target[there]), (last.exp() * (last - q)).sum(-1).mean(),
                 -torch.minimum(last.exp(), q.exp()).sum(-1).log().mean(), (original.exp() * (original - q)).sum(-1).mean()]
        total = total + sum(e[name] * v for name, v in zip(("ce", "kl", "accept", "anchor"), parts))
        rows.append([float(v.detach()) for v in parts] + [float((q.argmax(-1) == last.argmax(-1)).double().mean())])
    return total, rows


# ---- cases ----

def read_weights(s):
    weights = {}
    for name, code in synth.weights(s, SEED):
        weights[canonical(name)] = torch.tensor(synth.from_bf16(code)).double()
    anchor = dict(weights)
    for name, v in weights.items():
        if name.endswith("norm"):
            weights[name] = 1 + ((torch.arange(len(v)) * 7) % 11 - 5).double() / 16
    return weights, anchor


def draw(name, n, below):
    words = synth.philox(SEED ^ synth.fnv1a(name), synth.np.arange((n + 3) // 4, dtype=synth.np.uint64))
    return [int(w) % below for w in words.reshape(-1)[:n]]


def batch_of(s, name, n, length, documents=False, holes=False, dropped=0):
    """dropped: one in so many (layer, sample) pairs is passed by."""
    text = np.array(draw(name, n * (length + 1), s.vocab)).reshape(n, length + 1)
    start, target = np.zeros((n, length), int), text[:, 1:].copy()
    if documents:
        for i, cut in enumerate(draw(name + " cut", n, length - 2)):
            start[i, cut + 1:] = cut + 1
            start[i, (cut + length) // 2 + 1:] = (cut + length) // 2 + 1
    if holes:
        target[np.array(draw(name + " holes", n * length, 3)).reshape(n, length) == 0] = -1
    keep = np.ones((s.layers, n), int)
    if dropped:
        keep[np.array(draw(name + " keep", s.layers * n, dropped)).reshape(s.layers, n) == 0] = 0
    return {"n": n, "length": length, "token": text[:, :-1].tolist(), "target": target.tolist(), "start": start.tolist(), "keep": keep.tolist()}


def exit_of(layer, ce=0.0, kl=0.0, accept=0.0, anchor=0.0):
    return {"layer": layer, "ce": ce, "kl": kl, "accept": accept, "anchor": anchor}


def cases():
    shape = synth.SHAPES
    s = shape["tiny"]
    yield "plain", s, [batch_of(s, "plain", 2, 24)], [exit_of(4, ce=1)], None
    s = shape["tiny-gqa"]
    yield "all", s, [batch_of(s, f"all {i}", 3, 20 + i, True, True, 3) for i in range(2)], [exit_of(2, kl=0.5), exit_of(3, accept=0.75), exit_of(4, ce=0.25), exit_of(5, ce=1)], None
    s = shape["tiny-tied"]
    yield "tied", s, [batch_of(s, "tied", 4, 16, dropped=2)], [exit_of(l, ce=l / 8) for l in (1, 2, 3, 4)], None
    s = shape["tiny-llama3"]
    yield "scaled", s, [batch_of(s, "scaled", 1, 150, documents=True)], [exit_of(1, kl=1, anchor=0.5), exit_of(4, ce=0.5, anchor=1)], None
    s = shape["tiny-headdim"]
    yield "mixed", s, [batch_of(s, "mixed", 3, 70, holes=True, dropped=4)], [exit_of(2, ce=0.25, kl=0.5, accept=1, anchor=0.125), exit_of(2, ce=0.5), exit_of(4, ce=1)], None
    s = shape["tiny-bias"]
    steps = {"count": 3, "rate": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-3, "decay": 0.1, "clip": 0.25}
    yield "steps", s, [batch_of(s, f"steps {i}", 2, 12, dropped=3) for i in range(2)], [exit_of(2, ce=0.2, kl=0.1), exit_of(4, ce=1)], steps


# ---- results ----

def number(x):
    return float(f"{x:.9g}")


def projections(name, g):
    bits = synth.philox(synth.fnv1a(name), np.arange(g.numel(), dtype=np.uint64))[:, 0]
    flat = g.detach().reshape(-1).numpy()
    return [number(float(np.where(bits >> np.uint32(j) & np.uint32(1), -flat, flat).sum())) for j in range(PROJECTIONS)]


def run(s, weights, anchor, batches, exits, packed=False):
    w = {name: v.clone().requires_grad_() for name, v in weights.items()}
    rows = []
    for b in batches:
        total, found = losses(s, w, anchor, b, exits, packed)
        total.backward()
        rows.append(found)
    return rows, {name: v.grad if v.grad is not None else torch.zeros_like(v) for name, v in w.items()}


def take_steps(s, weights, anchor, batches, exits, o):
    w = {name: v.clone().requires_grad_() for name, v in weights.items()}
    groups = [{"params": [v for v in w.values() if v.dim() == 2], "weight_decay": o["decay"]}, {"params": [v for v in w.values() if v.dim() == 1], "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=o["rate"], betas=(o["beta1"], o["beta2"]), eps=o["eps"])
    norms = []
    for _ in range(o["count"]):
        adam.zero_grad()
        for b in batches:
            (losses(s, w, anchor, b, exits)[0] / len(batches)).backward()
        norms.append(number(float(torch.nn.utils.clip_grad_norm_(list(w.values()), o["clip"]))))
        adam.step()
    moved = {name: (v - weights[name]).detach() for name, v in w.items()}
    return norms, {name: [number(float(d.norm())), projections(name, d)] for name, d in moved.items()}


def compute(name, s, batches, exits, steps):
    weights, anchor = read_weights(s)
    rows, grads = run(s, weights, anchor, batches, exits)
    _, packed = run(s, weights, anchor, batches, exits, packed=True)
    for key, g in grads.items():
        assert float((g - packed[key]).norm()) <= 2e-5 * float(g.norm()), (name, key)  # angles are float32 in either case
    out = {"name": name, "shape": s.name, "batches": batches, "exits": exits, "losses": [[[number(v) for v in e] for e in b] for b in rows],
           "gradients": {key: [number(float(g.norm())), projections(key, g)] for key, g in grads.items()}}
    if steps:
        norms, moved = take_steps(s, weights, anchor, batches, exits, steps)
        out["steps"] = {**steps, "norms": norms, "moved": moved}
    return out


def against_transformers():
    """The model above is transformers' Llama: logits, and gradients of its own loss; packed documents as its position_ids have them."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        print("transformers is not installed: the model here is not compared with its own")
        return
    for s in synth.TINY:
        weights, _ = read_weights(s)
        model = LlamaForCausalLM(LlamaConfig(**synth.config(s), attn_implementation="eager")).double()
        names = {name: canonical(name) for name, _, _ in synth.tensors(s)}
        model.load_state_dict({name: weights[to] for name, to in names.items()}, strict=not s.tie)
        b = batch_of(s, "transformers", 2, 40)
        out = model(torch.tensor(b["token"]))
        loss = F.cross_entropy(out.logits.flatten(0, 1), torch.tensor(b["target"]).flatten())
        loss.backward()
        _, grads = run(s, weights, weights, [b], [exit_of(s.layers, ce=1)])
        worst = max(float((p.grad - grads[names[name]]).norm() / grads[names[name]].norm()) for name, p in model.named_parameters())
        print(f"{s.name}: transformers' gradients are within {worst:.1e}")
        assert worst < 1e-5


def difference(a, b):
    """Largest relative difference of two results' numbers."""
    if isinstance(a, dict):
        return max([difference(a[k], b[k]) for k in a] + [0 if a.keys() == b.keys() else math.inf])
    if isinstance(a, list) and a and all(isinstance(x, float) for x in a):
        scale = max(map(abs, a + [1e-12]))
        return max(abs(x - y) / scale for x, y in zip(a, b))
    if isinstance(a, list):
        return max([difference(x, y) for x, y in zip(a, b)] + [0 if len(a) == len(b) else math.inf])
    if isinstance(a, float):
        return abs(a - b) / max(abs(a), 1e-12)
    return 0 if a == b else math.inf


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="compare with train.json instead of writing it")
    a = p.parse_args()
    torch.set_num_threads(1)
    against_transformers()
    result = {"seed": SEED, "projections": PROJECTIONS, "versions": {"torch": torch.__version__}, "cases": [compute(*c) for c in cases()]}
    path = os.path.join(HERE, "train.json")
    if a.check:
        with open(path) as f:
            worst = difference(json.load(f)["cases"], json.loads(json.dumps(result["cases"])))
        print(f"train.json: largest relative difference {worst:.1e}")
        sys.exit(worst > 1e-6)
    lines = ",\n".join(json.dumps(c, separators=(",", ":")).replace('"gradients"', '\n"gradients"').replace('"steps":{', '\n"steps":{') for c in result.pop("cases"))
    with open(path + ".tmp", "w") as f:
        f.write(json.dumps(result)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    os.replace(path + ".tmp", path)
    print(f"train.json: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
