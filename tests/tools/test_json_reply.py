#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real model under JSON schemas: every reply is valid against its schema as python3-jsonschema sees it, and the same drafted and plain."""
import json
import os
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is missing: make deps-test installs it")
    sys.exit(77)

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
program = os.environ.get("LSK_PROGRAM", "build/layerskip")
found = subprocess.run(["bash", os.path.join(root, "scripts/smollm2.sh")], capture_output=True, text=True)
if found.returncode:
    print(f"skipped: {found.stderr.strip()}")
    sys.exit(77)

PERSON = {"type": "object", "required": ["name", "age", "langs"], "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 16}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "langs": {"type": "array", "maxItems": 3, "items": {"enum": ["C", "Python", "Rust"]}}}}
POINT = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number", "minimum": -90, "maximum": 90}}
CASES = [(PERSON, "A programmer as JSON: ", ["--temp", "0"]), (PERSON, "Person:", ["--temp", "1.2", "--seed", "5", "--repeat-penalty", "1.1"]),
         (POINT, "Paris lies at", ["--temp", "0.8", "--seed", "2", "--frequency-penalty", "0.2"])]
wrong = 0
for schema, prompt, options in CASES:
    replies = []
    for drafting in (["--drafter", "none"], ["--drafter", "ngram+exit+recycle", "--exit-layer", "6", "--num-speculations", "3"]):
        command = [program, "run", found.stdout.strip(), "-p", prompt, "-j", json.dumps(schema), "-n", "120", "--stats", "json"] + options + drafting
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        replies.append((done.stdout, json.loads(done.stderr)["finish"]))
    text, finish = replies[0]
    errors = [e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(json.loads(text))] if finish == "end of text" else [f"the reply has no end: {finish}"]
    errors += ["drafted: " + replies[1][0]] if replies[1] != replies[0] else []
    print(f"{text.strip()}: {errors or 'valid'}")
    wrong += len(errors)
sys.exit(wrong > 0)
