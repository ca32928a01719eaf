#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`layerskip eval --compute f32` against what transformers says of the same windows and continuations (tests/golden/perplexity.json; make_perplexity.py makes it). Needs the model that
scripts/smollm2.sh fetches; without it the test is skipped."""
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "golden"
PROGRAM = os.environ["LSK_PROGRAM"]
MODEL = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerskip/SmolLM2-135M-Instruct.Q4_1.gguf"
RELATIVE = 1e-3  # bound; 1e-6 is usual


def close(got, want, what):
    error = abs(got - want) / abs(want)
    if not error < RELATIVE:
        sys.exit(f"FAILED: {what}: {got} instead of {want}, {error:.2g} of it")
    return error


def main():
    if not MODEL.exists():
        print("skipped: the model is not there: scripts/smollm2.sh fetches it")
        sys.exit(77)
    golden = json.loads((HERE / "perplexity.json").read_text())
    depths = [e["exit_layer"] for e in golden["text"]["exits"]]
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.jsonl"
        task.write_text("".join(json.dumps({k: c[k] for k in ("context", "continuation")}) + "\n" for c in golden["continuations"]))
        out = subprocess.run([PROGRAM, "eval", MODEL, "--device", "cpu", "--compute", "f32", "-f", HERE / "english.txt", "--length", str(golden["text"]["window"]), "--tokens", str(golden["text"]["tokens"]), "--task", task,
                              "--exits", ",".join(map(str, depths[:-1])), "-o", "json"], capture_output=True, text=True, check=True).stdout
    results = json.loads(out)
    text = results["text"]
    assert text["tokens"] == golden["text"]["tokens"], (text["tokens"], golden["text"]["tokens"])
    assert [e["exit_layer"] for e in text["exits"]] == depths
    for got, want in zip(text["exits"], golden["text"]["exits"]):
        worst = max(worst, close(got["perplexity"], want["perplexity"], f"perplexity behind layer {want['exit_layer']}"))
        close(got["perplexity_stderr"], want["perplexity_stderr"], f"its standard error behind layer {want['exit_layer']}")
    assert results["tasks"][0]["rows"] == len(golden["continuations"])
    for got in results["tasks"][0]["exits"]:
        want = [c["log_likelihood"][str(got["exit_layer"])] for c in golden["continuations"]]
        worst = max(worst, close(got["log_likelihood"], sum(want) / len(want), f"log-likelihood behind layer {got['exit_layer']}"))
    assert math.isfinite(worst)
    print(f"worst {worst:.2g}")


if __name__ == "__main__":
    main()
