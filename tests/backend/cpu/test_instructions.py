# SPDX-License-Identifier: Apache-2.0
"""The program starts on every CPU of its kind: instructions that not all have are in the files named after them, and nowhere else."""
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

VECTOR = re.compile(r"\tv[a-z0-9]+ .*%[xyz]mm|%[yz]mm")  # VEX and EVEX: AVX and later
NAMED = re.compile(r"_(avx2|avx512)\.c\.o$")


def vector_instructions(file):
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", file], capture_output=True, text=True, check=True).stdout
    return [line.strip() for line in text.splitlines() if VECTOR.search(line)]


def main():
    if platform.machine() != "x86_64" or not shutil.which("objdump"):
        print("skipped: objdump for x86-64 is missing")
        return 77
    build = pathlib.Path(os.environ["LSK_PROGRAM"]).parent / "CMakeFiles"
    objects = [o for folder in ("core.dir", "tool.dir", "tool_parts.dir") for o in sorted((build / folder).rglob("*.c.o"))]
    found = {str(o): vector_instructions(o) for o in objects}
    named = [o for o in found if NAMED.search(o)]
    assert len(named) >= 6, f"{len(named)} files with vector instructions in {build}"
    failures = [f"{o}: none found: is this test blind?" for o in named if not found[o]]
    failures += [f"{o}: {found[o][0]}" for o in found if found[o] and o not in named]
    failures += [f"{o}: {line}" for o in named if "_avx2" in o for line in found[o] if re.search(r"%zmm|%k[0-7]|%[xy]mm(1[6-9]|2\d|3[01])", line)]
    print("\n".join(failures))
    return 1 if failures else 0


sys.exit(main())
