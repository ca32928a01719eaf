#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Texts sampled under the grammar of a schema, held against the schema by an independent validator (python3-jsonschema)."""
import json
import os
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is missing: make deps-test installs it")
    sys.exit(77)

program = os.path.join(os.path.dirname(os.environ.get("LSK_PROGRAM", "build/layerskip")), "tests/test_json_schema")
out = subprocess.run([program, "--sample"], check=True, capture_output=True).stdout.decode("utf-8", "surrogatepass")
validators, texts, wrong = {}, set(), 0
for line in out.split("\n")[:-1]:  # splitlines would cut at U+2028 too
    schema, text = json.loads(line)
    if schema not in validators:
        parsed = json.loads(schema)
        validators[schema] = jsonschema.Draft202012Validator(parsed, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    texts.add((schema, text))
    for e in validators[schema].iter_errors(json.loads(text)):
        print(f"{schema}\n{text}\n{e.message}")
        wrong += 1
print(f"{len(texts)} different texts of {len(validators)} schemas, {wrong} wrong")
sys.exit(wrong > 0 or len(validators) < 40 or len(texts) < 500)
