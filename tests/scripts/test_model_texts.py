#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/model_texts.py: how much it takes is counted in bytes, and what is held out is never trained on."""
import importlib.util
import io
import json
import sys
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("model_texts", Path(__file__).resolve().parents[2] / "scripts/model_texts.py")
model_texts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model_texts)


class Thin(unittest.TestCase):
    def test_counts_bytes(self):
        texts = ["ä" * (10 + i % 7) for i in range(1000)]
        for limit in (0, 1, 100, 5000, 25000):
            left = model_texts.thin(texts, limit)
            size = sum(len(t.encode()) for t in left)
            self.assertLessEqual(size, limit)
            self.assertGreaterEqual(size, limit - 64)

    def test_takes_from_everywhere(self):
        left = model_texts.thin([f"{i:04}" for i in range(1000)], 400)
        self.assertEqual(len(left), 100)
        self.assertLess(max(int(b) - int(a) for a, b in zip(left, left[1:])), 12)

    def test_takes_all_that_fits(self):
        texts = [str(i) * (i % 5) for i in range(100)]
        self.assertEqual(model_texts.thin(texts, sum(map(len, texts))), texts)


class Held(unittest.TestCase):
    def test_every_eighth_document_of_the_prose(self):
        novels = [[f"CHAPTER {i}", "", f"What happened in chapter {i}.", ""] for i in range(20)]
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(model_texts, "novels", lambda _: novels), \
                mock.patch.object(sys, "argv", ["model_texts.py", folder, folder]), redirect_stdout(io.StringIO()):
            model_texts.main()
            held = (Path(folder) / "held.txt").read_text()
            rows = [json.loads(line)["text"] for line in (Path(folder) / "prose.jsonl").read_text().splitlines()]
        self.assertEqual([i for i in range(20) if f"chapter {i}." in held], [0, 8, 16])
        self.assertEqual(len(rows), 17)
        self.assertFalse([row for row in rows if row in held])


if __name__ == "__main__":
    unittest.main()
