#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files of `layerskip quantize` in llama.cpp, and weights that llama.cpp quantised in ours. Skips without the Python package xllamacpp (pip install xllamacpp gguf numpy).

The two engines round activations differently (llama.cpp takes Q4_K and Q6_K with one scale for 256 activations, ours has one for 32), so logits differ a little and a tie may
go either way. What is asked: every token that ours picks greedily is, in the eyes of llama.cpp behind the same tokens, its own pick too or less likely by a small bound only. Where
margins are clear the texts are therefore the same.

How small: 0.13 was met with synthetic weights, and 0.62 once in 96 tokens with SmolLM2 (0.02 in the mean), whose few large activations make 8 bits coarse in either engine: at the three
places with more than 0.4, float activations (--compute f32) gave our pick twice and llama.cpp's once. BF16 files, with activations of 16 bits, give the same text.

The model is synthetic; LSK_SMOLLM2, the path of a SmolLM2-135M in F16, BF16, F32 or Q4_1, adds a real one."""
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import gguf
    import numpy as np
    import xllamacpp
except ImportError as e:
    print(f"skipped: {e}; `pip install xllamacpp gguf numpy` brings it")
    sys.exit(77)

PROGRAM = os.environ.get("LSK_PROGRAM", str(Path(__file__).resolve().parents[2] / "build/layerskip"))
TYPES = ["bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k", "q4_k_s", "q4_k_m"]
PROMPTS = ["The capital of France is", "Once upon a time, there was a little", "def add(a, b):\\n    return", "Water boils at a temperature of"]
TOKENS = 24


def run(*args):
    return subprocess.run([PROGRAM, *map(str, args)], check=True, capture_output=True, text=True).stdout


def replies(model, work):
    """Our own greedy replies: (all tokens, how many of them are the prompt's)."""
    prompts, out = work / "prompts.txt", work / "replies.jsonl"
    prompts.write_text("\n".join(PROMPTS) + "\n")
    out.unlink(missing_ok=True)
    run("generate-corpus", "-m", model, "--prompts", prompts, "-o", out, "--n-predict", TOKENS, "--device", "cpu")
    return [(row["tokens"], row["prompt_tokens"]) for row in map(json.loads, out.read_text().splitlines())]


class Peer:
    def __init__(self, model):
        p = xllamacpp.CommonParams()
        p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.verbosity = str(model), 512, 1, False, -1
        p.cpuparams.n_threads = 2
        self.server = xllamacpp.Server(p)

    def likeliest(self, tokens):
        """The likeliest next tokens and their log-probabilities; empty where its pick begins a character that is not complete, of which the server tells nothing."""
        r = self.server.handle_completions({"prompt": tokens, "max_tokens": 1, "temperature": 0, "logprobs": 20, "cache_prompt": True})
        told = r["choices"][0]["logprobs"]
        return {t["id"]: t["logprob"] for t in told["content"][0]["top_logprobs"]} if told else {}


def shortfalls(model, work):
    """By how much each token that ours picked is less likely than llama.cpp's pick, in its own eyes."""
    peer = Peer(model)
    for tokens, first in replies(model, work):
        for i in range(first, len(tokens)):
            seen = peer.likeliest(tokens[:i])
            if seen:
                yield max(seen.values()) - seen.get(tokens[i], -1e9)


def quantise_there(source, target):
    """The matrices of `target`, in its types, as llama.cpp rounds the values of `source`."""
    lib = ctypes.CDLL(str(Path(xllamacpp.__file__).parent / "xllamacpp.abi3.so"))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    values = {t.name: t.data for t in gguf.GGUFReader(source).tensors}
    changed = 0
    for t in gguf.GGUFReader(target, "r+").tensors:
        if t.tensor_type == gguf.GGMLQuantizationType.F32:
            continue
        x = np.ascontiguousarray(values[t.name], dtype=np.float32)
        out = np.empty_like(t.data)
        assert lib.ggml_quantize_chunk(int(t.tensor_type), x.ctypes.data, out.ctypes.data, 0, x.shape[0], x.shape[1], None) == out.nbytes
        changed += int(np.count_nonzero(out != t.data))
        t.data[:] = out
        t.data.flush()
    return changed


class Test(unittest.TestCase):
    def compare(self, model, work, bound, mean_bound):
        off = list(shortfalls(model, work))
        print(f"{model.name}: {sum(o == 0 for o in off)} of {len(off)} tokens are llama.cpp's picks, the others less likely by {max(off):.3f} at most", flush=True)
        self.assertGreater(len(off), len(PROMPTS) * TOKENS * 0.7)
        self.assertLess(max(off), bound)
        self.assertLess(sum(off) / len(off), mean_bound)

    def test_synthetic(self):
        with tempfile.TemporaryDirectory() as d:
            work = Path(d)
            run("synth", "--shape", "tiny-256", "--dtype", "f32", work / "model")
            run("quantize", work / "model", work / "source.gguf", "f32")
            for type_name in TYPES:
                with self.subTest(type=type_name):
                    out = work / f"{type_name}.gguf"
                    run("quantize", work / "model", out, type_name)
                    self.compare(out, work, 0.2, 0.01)
                    if type_name != "bf16":
                        changed = quantise_there(work / "source.gguf", out)
                        self.assertTrue(changed > 0 or "k" not in type_name)
                        self.compare(out.rename(work / f"theirs-{type_name}.gguf"), work, 0.2, 0.01)

    @unittest.skipUnless(os.environ.get("LSK_SMOLLM2"), "LSK_SMOLLM2 is not set")
    def test_smollm2(self):
        with tempfile.TemporaryDirectory() as d:
            work = Path(d)
            for type_name in TYPES:
                with self.subTest(type=type_name):
                    out = work / f"{type_name}.gguf"
                    run("quantize", "--allow-requantize", os.environ["LSK_SMOLLM2"], out, type_name)
                    self.compare(out, work, 0.8, 0.03)
                    out.unlink()


if __name__ == "__main__":
    unittest.main()
