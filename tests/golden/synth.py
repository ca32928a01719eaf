#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Synthetic Llama weights: a pure function of (seed, tensor name, index), the same bits here and in `layerskip synth`.

The definition
  key    = seed XOR FNV-1a-64(Hugging Face tensor name in UTF-8)                     (basis 0xcbf29ce484222325, prime 0x100000001b3)
  index  = place in the row-major tensor; j = index / 4
  w      = word index % 4 of Philox4x32-10(key, counter = (low 32 bits of j, high 32 bits of j, 0, 0))       (src/base/philox.h)
  n      = 2 * (sum of the four bytes of w) - 1020          an even integer in [-1020, 1020], variance 4 * 21845: nearly normal (kurtosis 2.7)
  factor = float32(std / (2 * sqrt(21845)))                 double arithmetic, rounded once
  value  = float32(n) * factor                              one float32 multiplication, then rounded to nearest even to the type stored (bf16)
  std, in doubles:
    embed_tokens                     1
    every other weight and bias      r = the shape's initializer_range: 0.02, and more for the tiny shapes, where 0.02 would make attention all but uniform
    o_proj, down_proj of layer l     r * s(l),   s(l) = 1 for l < 2, else 0.25 * exp(-(l - 2) / 5.0)
  norms are not drawn: exactly 1. A tied model has no lm_head.weight.

  python3 synth.py SHAPE OUT [--seed N] [--tie]     writes OUT/config.json and OUT/model.safetensors (bf16); no tokenizer
  python3 synth.py --sums [--seed N]                prints golden sums of the tiny shapes as JSON (see README.md)
"""
import argparse
import json
import math
import os
import sys
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    name: str
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv: int
    head_dim: int
    vocab: int
    theta: float
    rope: tuple          # () or llama3 scaling: (factor, low_freq_factor, high_freq_factor, original context)
    context: int
    eps: float
    r: float = 0.02      # initializer_range
    tie: bool = False
    bias: bool = False   # attention_bias and mlp_bias


#         name              hidden ffn   layers heads kv head_dim vocab theta rope            context eps   r     tie   bias
SHAPES = {s.name: s for s in (
    Shape("llama2-7b",       4096, 11008, 32, 32, 32, 128, 32000, 1e4, (),                    4096, 1e-5),
    Shape("llama2-13b",      5120, 13824, 40, 40, 40, 128, 32000, 1e4, (),                    4096, 1e-5),
    Shape("llama2-70b",      8192, 28672, 80, 64, 8, 128, 32000, 1e4, (),                     4096, 1e-5),
    Shape("codellama-7b",    4096, 11008, 32, 32, 32, 128, 32016, 1e6, (),                   16384, 1e-5),
    Shape("codellama-34b",   8192, 22016, 48, 64, 8, 128, 32000, 1e6, (),                    16384, 1e-5),
    Shape("llama3-8b",       4096, 14336, 32, 32, 8, 128, 128256, 5e5, (),                    8192, 1e-5),
    Shape("llama3.2-1b",     2048, 8192, 16, 32, 8, 64, 128256, 5e5, (32.0, 1.0, 4.0, 8192), 131072, 1e-5),
    Shape("smollm2-135m",     576, 1536, 30, 9, 3, 64, 49152, 1e5, (),                        8192, 1e-5),
    Shape("tinyllama-1.1b",  2048, 5632, 22, 32, 4, 64, 32000, 1e4, (),                       2048, 1e-5),
    Shape("tiny",              64, 176, 4, 4, 4, 16, 515, 1e4, (),                            4096, 1e-5, 0.16),
    Shape("tiny-gqa",          96, 200, 5, 6, 2, 16, 512, 1e4, (),                            2048, 1e-2, 0.13),
    Shape("tiny-tied",         64, 160, 4, 4, 2, 16, 509, 1e5, (),                            2048, 1e-5, 0.16, True),
    Shape("tiny-llama3",      128, 256, 4, 4, 1, 32, 768, 5e5, (32.0, 1.0, 4.0, 64),          4096, 1e-5, 0.11),
    Shape("tiny-headdim",      72, 184, 4, 4, 2, 32, 600, 1e4, (),                            2048, 1e-6, 0.15),
    Shape("tiny-bias",         64, 144, 4, 4, 2, 16, 512, 1e4, (),                            2048, 1e-5, 0.16, False, True),
)}
TINY = [s for s in SHAPES.values() if s.name.startswith("tiny") and s.hidden <= 128]


def config(s):
    """The shape as a Hugging Face config.json."""
    c = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "bfloat16",
         "hidden_size": s.hidden, "intermediate_size": s.ffn, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
         "num_key_value_heads": s.kv, "head_dim": s.head_dim, "vocab_size": s.vocab, "max_position_embeddings": s.context,
         "rms_norm_eps": s.eps, "rope_theta": s.theta, "rope_scaling": None, "tie_word_embeddings": s.tie,
         "attention_bias": s.bias, "mlp_bias": s.bias, "initializer_range": s.r, "bos_token_id": 1, "eos_token_id": 2}
    if s.rope:
        c["rope_scaling"] = {"rope_type": "llama3", "factor": s.rope[0], "low_freq_factor": s.rope[1],
                             "high_freq_factor": s.rope[2], "original_max_position_embeddings": s.rope[3]}
    return c


def tensors(s):
    """Yields (name, dims, std); std None: all ones."""
    q, kv = s.heads * s.head_dim, s.kv * s.head_dim
    yield "model.embed_tokens.weight", (s.vocab, s.hidden), 1.0
    for l in range(s.layers):
        at = f"model.layers.{l}."
        late = s.r * (1.0 if l < 2 else 0.25 * math.exp(-(l - 2) / 5.0))
        yield at + "input_layernorm.weight", (s.hidden,), None
        yield at + "post_attention_layernorm.weight", (s.hidden,), None
        for module, rows, cols, std in (
                ("self_attn.q_proj", q, s.hidden, s.r), ("self_attn.k_proj", kv, s.hidden, s.r), ("self_attn.v_proj", kv, s.hidden, s.r),
                ("self_attn.o_proj", s.hidden, q, late), ("mlp.gate_proj", s.ffn, s.hidden, s.r), ("mlp.up_proj", s.ffn, s.hidden, s.r),
                ("mlp.down_proj", s.hidden, s.ffn, late)):
            yield at + module + ".weight", (rows, cols), std
            if s.bias:
                yield at + module + ".bias", (rows,), std
    yield "model.norm.weight", (s.hidden,), None
    if not s.tie:
        yield "lm_head.weight", (s.vocab, s.hidden), s.r


def fnv1a(name):
    h = 0xcbf29ce484222325
    for b in name.encode():
        h = (h ^ b) * 0x100000001b3 & (1 << 64) - 1
    return h


def philox(key, counter):
    """counter: uint64[n] -> uint32[n][4]."""
    low, half = np.uint64(0xffffffff), np.uint64(32)
    c0, c1 = counter & low, counter >> half
    c2, c3 = np.zeros_like(counter), np.zeros_like(counter)
    k0, k1 = key & 0xffffffff, key >> 32
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ np.uint64(k0), b & low, (a >> half) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = k0 + 0x9E3779B9 & 0xffffffff, k1 + 0xBB67AE85 & 0xffffffff
    return np.stack([c0, c1, c2, c3], axis=1).astype("<u4")


def factor(std):
    return np.float32(std / (2.0 * math.sqrt(21845.0)))


def values(seed, name, dims, std):
    """The tensor as float32, not yet rounded to the type stored."""
    if std is None:
        return np.ones(dims, np.float32)
    n = math.prod(dims)
    words = philox(seed ^ fnv1a(name), np.arange((n + 3) // 4, dtype=np.uint64))
    sums = words.reshape(-1, 1).view(np.uint8).sum(axis=1, dtype=np.int32)[:n]
    return ((2 * sums - 1020).astype(np.float32) * factor(std)).reshape(dims)


def to_bf16(x):
    """float32 -> bf16 codes, nearest even (no NaN here)."""
    u = x.view(np.uint32).astype(np.uint64)
    return ((u + 0x7fff + (u >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype("<u2")


def from_bf16(code):
    return (code.astype(np.uint32) << 16).view(np.float32)


def weights(s, seed):
    """Yields (name, bf16 codes)."""
    for name, dims, std in tensors(s):
        yield name, to_bf16(values(seed, name, dims, std))


def write_folder(s, seed, out):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(config(s), f, indent=2)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dims, _ in tensors(s):
        size = 2 * math.prod(dims)
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for _, code in weights(s, seed):
            f.write(code.tobytes())


def check_sum(code):
    """Sum over i of (i + 1) * code[i], modulo 2^64."""
    flat = code.reshape(-1).astype(np.uint64)
    return int((flat * np.arange(1, flat.size + 1, dtype=np.uint64)).sum(dtype=np.uint64))


def sums(seed):
    return {"seed": seed, "shapes": {s.name: {
        name: {"dims": list(code.shape), "first": [f"{c:04x}" for c in code.reshape(-1)[:4]], "sum": f"{check_sum(code):016x}"}
        for name, code in weights(s, seed)} for s in TINY}}


def main():
    p = argparse.ArgumentParser(description="Synthetic Llama weights, bit for bit those of `layerskip synth`")
    p.add_argument("shape", nargs="?", choices=list(SHAPES))
    p.add_argument("out", nargs="?")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--tie", action="store_true", help="the head is the embedding")
    p.add_argument("--sums", action="store_true", help="print golden sums of the tiny shapes")
    a = p.parse_args()
    if a.sums:
        json.dump(sums(a.seed), sys.stdout, indent=1)
    elif a.shape and a.out:
        s = SHAPES[a.shape]
        write_folder(Shape(**{**s.__dict__, "tie": s.tie or a.tie}), a.seed, a.out)
    else:
        p.error("SHAPE and OUT, or --sums")


if __name__ == "__main__":
    main()
