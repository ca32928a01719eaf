#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/standin_sets.py: the sets have the published layouts, and the tests of a function hold for it and not for another."""
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
spec = importlib.util.spec_from_file_location("standin_sets", Path(__file__).resolve().parents[2] / "scripts/standin_sets.py")
standin_sets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(standin_sets)

MODULE = '''import math
import os.path
def area(r):
    """The area.

    >>> area(2) > 12
    True
    >>> x = area(1)
    >>> round(x, 2)
    3.14
    >>> area(0)
    'wrong'
    """
    return math.pi * r * r

def lost(x):
    """>>> lost(1)
    2
    """
    return helper(x)

def helper(x):
    """No example."""
    return x + 1
'''
GLOSSES = "00001740 03 n 01 stone_wall 0 001 @ 00001930 n 0000 | a wall that is built of stones\n"


def members(package, folder, pattern):
    yield {"libpython3.11-stdlib": ("/usr/lib/python3.11/shapes.py", MODULE.encode()), "wordnet-base": ("/usr/share/wordnet/data.noun", GLOSSES.encode())}[package]


class Sets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        chapter = ["", "CHAPTER I", "", "It was a fine day in the little village. " + "Nobody knew why. " * 200, ""]
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(standin_sets.model_texts, "members", members), \
                mock.patch.object(standin_sets.model_texts, "novels", lambda _: [["Title"] + chapter * 3]), \
                mock.patch.object(sys, "argv", ["standin_sets.py", folder, folder, "--rows", "2"]), redirect_stdout(io.StringIO()):
            standin_sets.main()
            cls.rows = {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in Path(folder).iterdir()}

    def test_columns(self):
        self.assertEqual({name: sorted(rows[0]) for name, rows in self.rows.items()}, {
            "standin-cnn_dm": ["article", "highlights"], "standin-human_eval": ["canonical_solution", "entry_point", "prompt", "task_id", "test"], "standin-words": ["prompt", "response"]})
        self.assertEqual(len(self.rows["standin-cnn_dm"]), 2)
        self.assertEqual(self.rows["standin-cnn_dm"][0]["highlights"], "It was a fine day in the little village.")
        self.assertEqual(len(self.rows["standin-cnn_dm"][0]["article"].split()), 300)
        self.assertEqual(self.rows["standin-words"], [{"prompt": "stone wall (noun):", "response": " a wall that is built of stones"}])

    def test_functions_have_tests_that_can_fail(self):
        (row,) = self.rows["standin-human_eval"]  # the other one needs more than itself
        self.assertEqual(row["entry_point"], "area")
        self.assertTrue(row["prompt"].startswith("import math\n\ndef area(r):"))
        self.assertNotIn("wrong", row["test"])
        for body, good in ((row["canonical_solution"], True), ("    return 4 * r * r\n", False)):
            space = {}
            exec(row["prompt"] + body + row["test"], space)
            if good:
                space["check"](space["area"])
            else:
                self.assertRaises(AssertionError, space["check"], space["area"])


if __name__ == "__main__":
    unittest.main()
