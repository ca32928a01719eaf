#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `layerskip quantize` writes, read by the Python package gguf: keys, names, shapes, row orders and values. Skips where the package is not installed."""
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
except ImportError as e:
    print(f"skipped: {e}; `pip install gguf` brings it")
    sys.exit(0)

PROGRAM = os.environ.get("LSK_PROGRAM", str(Path(__file__).resolve().parents[2] / "build/layerskip"))
FLOATS = ["f32", "f16", "bf16"]
SHAPES = {shape: FLOATS + ["q8_0", "q4_0", "q4_1"] for shape in ["tiny-tied", "tiny-gqa", "tiny-llama3", "tiny-bias"]} | {"tiny-headdim": FLOATS, "tiny-256": ["q4_k", "q6_k", "q4_k_s", "q4_k_m"]}
FILE_TYPES = {"f32": "ALL_F32", "q4_k": "MOSTLY_Q4_K_M"}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def run(*args):
    return subprocess.run([PROGRAM, *args], check=True, capture_output=True, text=True).stdout


def read_safetensors(path):
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            yield name, np.frombuffer(raw[8 + n + a:8 + n + b], dtype="<f4").reshape(t["shape"])


def expected(folder):
    """Every tensor under its name in GGUF, q and k in the order of llama.cpp's converter."""
    config = json.loads((folder / "config.json").read_text())
    for name, values in read_safetensors(folder / "model.safetensors"):
        stem, kind = name.rsplit(".", 1)
        layer = ""
        if stem.startswith("model.layers."):
            number, stem = stem[len("model.layers."):].split(".", 1)
            layer = f"blk.{number}."
        heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}.get(stem)
        if heads:
            n = config[heads]
            values = values.reshape(n, 2, values.shape[0] // n // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        yield f"{layer}{NAMES[stem]}.{kind}", values


def rounded(values, kind):
    """As the package itself rounds."""
    if kind == gguf.GGMLQuantizationType.F32:
        return values
    return gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)


class Test(unittest.TestCase):
    def check(self, folder, out, type_name):
        reader = gguf.GGUFReader(out)
        config = json.loads((folder / "config.json").read_text())
        field = lambda key: reader.get_field(key).contents()
        self.assertEqual(field("general.architecture"), "llama")
        self.assertEqual(field("llama.block_count"), config["num_hidden_layers"])
        self.assertEqual(field("llama.attention.head_count_kv"), config["num_key_value_heads"])
        self.assertEqual(len(field("tokenizer.ggml.tokens")), config["vocab_size"])
        self.assertEqual(field("general.file_type"), getattr(gguf.LlamaFileType, FILE_TYPES.get(type_name, "MOSTLY_" + type_name.upper())))
        tensors = {t.name: t for t in reader.tensors}
        want = dict(expected(folder))
        self.assertEqual(set(tensors) - set(want), {"rope_freqs.weight"} if config.get("rope_scaling") else set())
        self.assertEqual(set(want) - set(tensors), set())
        for name, values in want.items():
            t = tensors[name]
            self.assertEqual(list(t.shape), list(reversed(values.shape)), name)
            self.assertEqual(t.data_offset % 32, 0)
            got = gguf.quants.dequantize(t.data, t.tensor_type).reshape(values.shape)
            if values.ndim == 1:
                self.assertEqual(t.tensor_type, gguf.GGMLQuantizationType.F32)
                self.assertTrue(np.array_equal(got, values), name)
                continue
            error = np.sqrt(np.mean((got - values) ** 2) / np.mean(values ** 2))
            if t.tensor_type in (gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.Q6_K):  # the package reads these, but cannot round to them
                self.assertLess(error, 0.08 if t.tensor_type == gguf.GGMLQuantizationType.Q4_K else 0.02, name)
                continue
            own = rounded(values, t.tensor_type).reshape(values.shape)
            # a value just between two codes may get either, by the order of float operations; the scale is rounded, so its errors differ a little
            self.assertLess(np.mean(got != own), 5e-3, f"{name} {t.tensor_type}")
            self.assertTrue(np.allclose(np.abs(got - values), np.abs(own - values), rtol=0, atol=2e-3 * np.abs(values).max()), f"{name} {t.tensor_type}")
            self.assertLess(error, 0.12, name)

    def test_types(self):
        for shape, types in SHAPES.items():
            with tempfile.TemporaryDirectory() as d:
                folder = Path(d) / "model"
                run("synth", "--shape", shape, "--dtype", "f32", str(folder))
                for type_name in types:
                    with self.subTest(shape=shape, type=type_name):
                        out = Path(d) / f"{type_name}.gguf"
                        run("quantize", str(folder), str(out), type_name)
                        self.check(folder, out, type_name)


if __name__ == "__main__":
    unittest.main()
