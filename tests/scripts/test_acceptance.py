#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small model, trained here and written as a Hugging Face folder: transformers accepts drafts of its exit at our rate within 2 %. Skips where torch or transformers is not installed;
LSK_TORCH_PYTHON names an interpreter that has both."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LSK_PROGRAM", str(ROOT / "build/layerskip"))
PYTHON = os.environ.get("LSK_TORCH_PYTHON", sys.executable)
TEXT = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. Once upon a time there was a fox who liked to jump over dogs; the dogs liked to sleep. "


def main():
    if subprocess.run([PYTHON, "-c", "import torch, transformers"], capture_output=True).returncode:
        print(f"skipped: {PYTHON} has no torch and transformers; LSK_TORCH_PYTHON names another one")
        return 77
    with tempfile.TemporaryDirectory() as work:
        run = lambda *args: subprocess.run([PROGRAM, *args], cwd=work, check=True, capture_output=True, text=True)
        (Path(work) / "text.txt").write_text("".join(f"{TEXT}{i * i % 97} of {i} times. " for i in range(150)))
        run("synth", "--shape", "tiny", "--layers", "4", "--dtype", "f32", "model")
        out = run("train", "-m", "model", "--data", "text.txt", "--recipe", "layerskip-llama2-7b", "-b", "4", "--length", "64", "--steps", "100", "--rate", "3e-3", "--exit-scale", "1",
                  "--look-every", "0", "-o", "run", "--device", "cpu")
        folder = Path(work) / out.stdout.strip()
        for drafts in (1, 4):
            done = subprocess.run([PYTHON, ROOT / "scripts/acceptance.py", folder, "--exit-layer", "2", "--drafts", str(drafts), "--tokens", "96", "--program", Path(PROGRAM).resolve()])
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
