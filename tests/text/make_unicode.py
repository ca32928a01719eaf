#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the ranges of src/text/unicode.c: letters and numbers of Unicode 16.0, the version in the reference tokenizers.
Needs: pip install unicodedata2==16.0.0.  Use: make_unicode.py > ranges, then paste between the braces of `ranges`."""
import unicodedata2

assert unicodedata2.unidata_version == "16.0.0"
runs, last = [], None
for cp in range(0x80, 0x110000):
    kind = {"L": "L", "N": "N"}.get(unicodedata2.category(chr(cp))[0])
    if kind != last and kind:
        runs.append([cp, cp, kind])
    elif kind:
        runs[-1][1] = cp
    last = kind
line = "   "
for lo, hi, kind in runs:
    item = " {0x%x, 0x%x, %s}," % (lo, hi, kind)
    if len(line) + len(item) > 150:
        print(line)
        line = "   "
    line += item
print(line)
