#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every gate passes a small sound tree and names the place of every planted violation."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

GATES = Path(__file__).resolve().parents[2] / "scripts/gates.py"
LICENCE = "/* SPDX-License-Identifier: Apache-2.0 */\n"
SOUND = {
    "include/layerskip.h": "#ifndef L\n#define L\n#define LSK_API __attribute__((visibility(\"default\")))\nLSK_API int lsk_one(int a,\n    int b);\n#endif\n",
    "src/api.c": '#include "decode/round.h"\n#include "layerskip.h"\nint lsk_one(int a, int b) { return a + b; }\n',
    "src/base/error.h": "int fail(int code);\n",
    "src/base/error.c": '#include "base/error.h"\n/* exit(1), "abort()" */ const char *s = "printf(";\nint fail(int code) { return code; }\n',
    "src/format/gguf.h": '#include "base/error.h"\n',
    "src/text/vocab.h": '#include "base/error.h"\n',
    "src/decode/round.h": '#include "format/gguf.h"\n#include "text/vocab.h"\n',
    "src/serve/http.c": '#include <stdio.h>\n#include "layerskip.h"\nvoid http(void) { printf("x"); }\n',
    "tools/main.c": '#include "layerskip.h"\n#include "options.h"\nint main(void) { return lsk_one(1, 2); }\n',
    "tools/options.h": "int options;\n",
    "tests/test_api.c": "int x;\n", "tests/base/test_error.c": "int x;\n", "tests/serve/test_http.c": "int x;\n",
}
LONG = "int f%d(void)\n{\n" + "\n" * 60 + "    return 0;\n}\n"

# gate, file to add or replace, its content, where the complaint must point, a word of it
PLANTED = [
    ("arrows", "src/format/bad.h", '#include "text/vocab.h"\n', "src/format/bad.h:2", "text/vocab.h"),
    ("arrows", "src/text/bad.h", '#include "base/error.h"\n\n#include "format/gguf.h"\n', "src/text/bad.h:4", "format/gguf.h"),
    ("arrows", "src/base/bad.h", '#  include "../decode/round.h"\n', "src/base/bad.h:2", "decode/round.h"),
    ("arrows", "src/decode/bad.inc", '#include "layerskip.h"\n', "src/decode/bad.inc:2", "layerskip.h"),
    ("arrows", "tools/bad.c", '#include "base/error.h"\n', "tools/bad.c:2", "base/error.h"),
    ("arrows", "src/base/bad.c", '#include <format/gguf.h>\n', "src/base/bad.c:2", "format/gguf.h"),
    ("arrows", "src/base/bad.c", '#include "nowhere.h"\n', "src/base/bad.c:2", "nowhere.h"),
    ("arrows", "src/extra/bad.c", "int x;\n", "src/extra/bad.c:1", "extra"),
    ("sizes", "src/base/long.c", "\n" * 800, "src/base/long.c:801", "801 lines"),
    ("sizes", "bench/long.inc", "int f(void)\n{\n" + "\n" * 118 + "}\n", "bench/long.inc:2", "f has 121"),
    ("sizes", "src/base/many.c", "".join(LONG % i for i in range(3)), "src/base/many.c:2", "5 % may"),
    ("quiet", "src/base/bad.c", "void f(void)\n{\n    exit (1);\n}\n", "src/base/bad.c:4", "exit"),
    ("quiet", "src/base/bad.h", '#define SAY(x) fprintf(stderr, "%s", x)\n', "src/base/bad.h:2", "fprintf"),
    ("quiet", "src/decode/bad.inc", 'const char *v = "/*"; char *e(void) { return getenv("X"); }\n', "src/decode/bad.inc:2", "getenv"),
    ("quiet", "src/base/bad.c", "void f(int x)\n{\n    assert(x);\n}\n", "src/base/bad.c:4", "assert"),
    ("mirror", "src/text/merge.c", "int x;\n", "src/text/merge.c:1", "test_merge"),
    ("mirror", "src/backend/matmul_avx512.c", "int x;\n", "src/backend/matmul_avx512.c:1", "test_matmul"),
    ("headers", "src/base/bad.h", "size_t n;\n", "src/base/bad.h:2", "size_t"),
    ("headers", "include/layerskip.h", "int lsk_class(int class);\n", "include/layerskip.h:2", "c++"),
    ("headers", "include/layerskip.h", "static inline int lsk_f(void) { return _Generic(1, int: 1); }\n", "include/layerskip.h:2", "c99"),
    ("licence", "src/base/bad.c", None, "src/base/bad.c:1", "SPDX"),
    ("symbols", "src/base/leak.c", "LSK_API int leak(void) { return 1; }\n", "lib.so:1", "leak"),
    ("symbols", "include/layerskip.h", "#define LSK_API __attribute__((visibility(\"default\")))\nLSK_API int lsk_one(int a, int b);\n\nLSK_API int lsk_two(void);\n",
     "include/layerskip.h:5", "lsk_two"),
    ("symbols", "debian/liblayerskip0.symbols", "lib.so.0 lib0 #MINVER#\n lsk_one@Base 0.1.0\n lsk_gone@Base 0.1.0\n", "debian/liblayerskip0.symbols:4", "lsk_gone"),
    ("symbols", "debian/liblayerskip0.symbols", "lib.so.0 lib0 #MINVER#\n lsk_one@OTHER_0 0.1.0\n", "debian/liblayerskip0.symbols:3", "lsk_one@OTHER_0"),
    ("symbols", "debian/liblayerskip0.symbols", "lib.so.0 lib0 #MINVER#\n", "debian/liblayerskip0.symbols:1", "lsk_one@Base"),
]


class Gates(unittest.TestCase):
    def run_gates(self, changes, gate):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            files = {name: LICENCE + text for name, text in SOUND.items()}
            files.update({name: "int x;\n" if text is None else LICENCE + text for name, text in changes.items()})
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            library = root / "lib.so"
            if gate == "symbols":
                core = [str(root / n) for n in files if n.startswith("src/") and n.endswith(".c") and "/serve/" not in n]
                subprocess.run(["gcc", "-shared", "-fPIC", "-fvisibility=hidden", "-include", str(root / "include/layerskip.h"), f"-I{root}/src",
                                f"-I{root}/include", "-o", str(library)] + core, check=True)
            done = subprocess.run([sys.executable, str(GATES), "--root", folder, "--library", str(library), gate], capture_output=True, text=True)
            self.assertEqual(done.stderr, "")
            return done.returncode, done.stdout

    def test_sound_tree_passes(self):
        for gate in ("arrows", "sizes", "quiet", "symbols", "mirror", "headers", "licence"):
            with self.subTest(gate):
                self.assertEqual(self.run_gates({}, gate), (0, f"gate {gate}: ok\n"))

    def test_planted_violations_are_named(self):
        for gate, name, text, place, word in PLANTED:
            with self.subTest(f"{gate} {name}"):
                code, out = self.run_gates({name: text}, gate)
                self.assertEqual(code, 1)
                hits = [line for line in out.splitlines() if line.startswith(place + ":")]
                self.assertTrue(hits and any(word in h for h in hits), out)

    def test_a_family_shares_a_test(self):
        files = {"src/backend/matmul_avx512.c": "int x;\n", "src/backend/matmul.c": "int x;\n", "tests/backend/test_matmul.c": "int x;\n"}
        self.assertEqual(self.run_gates(files, "mirror")[0], 0)


if __name__ == "__main__":
    unittest.main()
