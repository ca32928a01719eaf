#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The structure gates: what a compiler does not check. Prints one line per violation (file:line: what) and exits 1 if there is any.

    scripts/gates.py [--root FOLDER] [--library build/liblayerskip.so] [GATE ...]
"""
import argparse
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Part of the house -> what it may include besides itself. The files directly in src/ (api*.c) tie all parts to the public header and may include everything.
ARROWS = {"base": []}
ARROWS["format"] = ["base"]
ARROWS["text"] = ["base"]
ARROWS["model"] = ["base", "format", "text"]
ARROWS["backend"] = ARROWS["model"] + ["model"]
ARROWS["decode"] = ARROWS["backend"] + ["backend"]
ARROWS["train"] = ARROWS["decode"] + ["decode"]
ARROWS["serve"] = ARROWS["train"] + ["train", "include"]
ARROWS["api"] = ARROWS["serve"]
ARROWS["tools"] = ["include"]
ARROWS["include"] = []

C_KINDS = (".c", ".h", ".inc", ".cu", ".cuh")
MAX_FILE, MAX_FUNCTION, USUAL_FUNCTION, USUAL_SHARE, MAX_API = 800, 120, 50, 0.95, 30
FORBIDDEN = r"\b(secure_getenv|getenv|_exit|quick_exit|exit|abort|v?f?printf|v?dprintf|f?puts|f?putc|putchar|perror|assert|err|errx|warn|warnx)\s*\("

# Sources whose test has another name, and why. A family may share a test anyhow: x_y.c is covered by test_x_y.c or test_x.c.
UNMIRRORED = {  # and why
    "src/backend/cuda/forward.c": "tests/backend/cuda/test_cuda.c and tests/backend/test_backend.c run it on a GPU",
    "src/backend/cuda/kv.c": "likewise",
    "src/backend/cuda/step.c": "likewise",
    "src/backend/cuda/rows.cu": "likewise",
}


def sources(root, *folders, kinds=C_KINDS):
    return sorted(p for f in folders for p in (root / f).rglob("*") if p.suffix in kinds and p.is_file())


def strip(text):
    """Comments, strings and characters become blanks; lines stay where they are."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def lines_matching(path, pattern, text=None):
    for number, line in enumerate((path.read_text() if text is None else text).splitlines(), 1):
        for m in re.finditer(pattern, line):
            yield number, m


def part_of(root, path):
    first = path.relative_to(root).parts
    if first[0] != "src":
        return first[0]
    return first[1] if len(first) > 2 else "api"


def find_include(root, source, name):
    for base in (root / "src", root / "include", root / "tools", source.parent):
        if (base / name).is_file():
            return (base / name).resolve()
    return None


def gate_arrows(root, _):
    """An include points from a later part to an earlier one."""
    for path in sources(root, "src", "tools", "include"):
        part = part_of(root, path)
        if part not in ARROWS:
            yield path, 1, f"src/{part} is no part of the chain"
            continue
        for number, m in lines_matching(path, r'^\s*#\s*include\s*"([^"]+)"'):
            target = find_include(root, path, m.group(1))
            if not target:
                yield path, number, f'"{m.group(1)}" is neither in src nor in include'
            elif part_of(root, target) not in [part] + ARROWS[part]:
                yield path, number, f"{part} may not include {target.relative_to(root)}"
        for number, m in lines_matching(path, r"^\s*#\s*include\s*<(layerskip\.h|(?:%s)/[^>]*)>" % "|".join(ARROWS)):
            yield path, number, f"<{m.group(1)}>: our own headers are included with quotes"


def functions(paths):
    """(path, line, name, lines) of every function definition."""
    command = ["ctags", "--quiet", "--output-format=json", "--fields=+ne", "--languages=C", "--langmap=C:+.inc.cu.cuh", "--kinds-C=f", "-f", "-", "-L", "-"]
    out = subprocess.run(command, input="\n".join(map(str, paths)), capture_output=True, text=True, check=True).stdout
    for tag in map(json.loads, out.splitlines()):
        if tag.get("_type") == "tag" and "end" in tag:
            yield Path(tag["path"]), tag["line"], tag["name"], tag["end"] - tag["line"] + 1


def gate_sizes(root, _):
    """Files and functions are short."""
    paths = sources(root, "src", "tools", "include", "tests", "bench", "scripts", "python", "examples", kinds=C_KINDS + (".py", ".sh"))
    for path in paths:
        n = len(path.read_text().splitlines())
        if n > MAX_FILE:
            yield path, n, f"{n} lines, a file may have {MAX_FILE}"
    found = list(functions([p for p in paths if p.suffix in C_KINDS]))
    for path, line, name, n in found:
        if n > MAX_FUNCTION:
            yield path, line, f"{name} has {n} lines, a function may have {MAX_FUNCTION}"
    long = [f for f in found if f[3] > USUAL_FUNCTION]
    if len(long) > (1 - USUAL_SHARE) * len(found):
        for path, line, name, n in long:
            yield path, line, f"{name} has {n} lines: {len(long)} of {len(found)} functions exceed {USUAL_FUNCTION}, 5 % may"


def gate_quiet(root, _):
    """Below the server and the tools nothing prints, exits or reads the environment."""
    for path in sources(root, "src"):
        if part_of(root, path) != "serve":
            for number, m in lines_matching(path, FORBIDDEN, strip(path.read_text())):
                yield path, number, f"{m.group(1)}: the library never prints, exits or reads the environment"


def gate_symbols(root, library):
    """The shared library exports what the public header declares and the package's list of symbols has, each with its version; and the header stays small."""
    header = root / "include/layerskip.h"
    text = re.sub(r"(?m)^[ \t]*#.*$", "", strip(header.read_text()))
    declared = set(re.findall(r"LSK_API\b[^;()]*?\b(\w+)\s*\(", text))
    if len(declared) > MAX_API:
        yield header, 1, f"{len(declared)} functions, the API may have {MAX_API}"
    out = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True).stdout
    versions = dict(line.split()[-1].split("@@") if "@@" in line else (line.split()[-1], "Base") for line in out.splitlines() if " A " not in line)
    exported = set(versions)
    for name in sorted(exported - declared):
        yield library, 1, f"exports {name}, which {header.name} does not declare"
    if any((root / "src").glob("api*.c")):
        for name in sorted(declared - exported):
            yield header, text[:text.index(name)].count("\n") + 1, f"{name} is declared, {library.name} does not export it"
    listing = root / "debian/liblayerskip0.symbols"
    if listing.exists():
        listed = {m.group(1): (number, m.group(2)) for number, m in lines_matching(listing, r"^ (lsk_\w+)@(\w+) ")}
        for name in sorted(exported - set(listed)):
            yield listing, 1, f"{name}@{versions[name]} is exported and not listed"
        for name, (number, version) in listed.items():
            if versions.get(name) != version:
                yield listing, number, f"{name}@{version} is listed and not exported: programs that use it would no longer start"


def gate_mirror(root, _):
    """Every source has its test."""
    tests = {p.stem for p in sources(root, "tests", kinds=(".c", ".py"))}
    for path in sources(root, "src", kinds=(".c", ".cu")):
        words = path.stem.split("_")
        family = {"test_" + "_".join(words[:n + 1]) for n in range(len(words))}
        family |= {name.replace("test_", f"test_{path.parent.name}_", 1) for name in family}
        if not family & tests and str(path.relative_to(root)) not in UNMIRRORED:
            yield path, 1, f"no {' or '.join(sorted(family))} under tests/"
    for name in UNMIRRORED:
        if (root / name).parent.exists() and not (root / name).exists():
            yield root / name, 1, "listed as an exception in scripts/gates.py, and not there"


def gate_headers(root, _):
    """Every header compiles alone; the public one as C99 and C++ too."""
    public = root / "include/layerskip.h"
    own = [f"-I{root / 'src'}", f"-I{root / 'include'}", f"-I{root / 'tools'}", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-psabi", "-Werror", "-fsyntax-only"]
    jobs = [(h, ["gcc", "-std=c11", "-x", "c"] + own) for h in sources(root, "src", "include", "tools", kinds=(".h",))]
    if public.exists():
        strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
        jobs += [(public, ["gcc", "-std=c99", "-x", "c"] + strict), (public, ["g++", "-std=c++11", "-x", "c++"] + strict)]

    def compile_alone(job):
        header, command = job
        return header, command, subprocess.run(command + ["-include", str(header), "/dev/null"], capture_output=True, text=True).stderr

    with ThreadPoolExecutor(2) as pool:
        for header, command, messages in pool.map(compile_alone, jobs):
            wrong = re.search(r":(\d+):\d+: (?:fatal )?error: (.*)", messages)
            if messages:
                yield header, int(wrong.group(1)) if wrong else 1, f"not alone as {command[1]}: {wrong.group(2) if wrong else messages.splitlines()[0]}"


def gate_licence(root, _):
    """The first line (the second behind #!) names the licence."""
    for path in sources(root, "src", "tools", "include", "tests", "bench", "scripts", "cmake", "python", "examples", kinds=C_KINDS + (".py", ".sh", ".cmake")):
        head = path.read_text().splitlines()[:2] or [""]
        if "SPDX-License-Identifier: Apache-2.0" not in head[head[0].startswith("#!")]:
            yield path, 1, "no SPDX-License-Identifier line"


GATES = {name[5:]: f for name, f in globals().items() if name.startswith("gate_")}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gates", nargs="*", metavar="GATE", help=", ".join(GATES))
    p.add_argument("--root", type=Path, default=Path(__file__).parent.parent)
    p.add_argument("--library", type=Path)
    a = p.parse_args()
    root, failed = a.root.resolve(), 0
    for name in a.gates or GATES:
        if name not in GATES:
            p.error(f"{name}: no such gate; there are: {', '.join(GATES)}")
        found = list(GATES[name](root, a.library or root / "build/liblayerskip.so"))
        for path, line, what in found:
            print(f"{path.relative_to(root) if path.is_relative_to(root) else path}:{line}: {what}")
        failed += bool(found)
        print(f"gate {name}: {len(found)} violations" if found else f"gate {name}: ok")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
