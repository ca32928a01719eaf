#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One cache for `layerskip pull` and Hugging Face's own tools: the package huggingface-hub reads what we wrote without a request, and we what it wrote. Skips where it is not installed."""
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

PROGRAM = os.environ.get("LSK_PROGRAM", str(Path(__file__).resolve().parents[2] / "build/layerskip"))
ROOT = tempfile.TemporaryDirectory()
WORK = Path(ROOT.name)
for name in [n for n in os.environ if n.startswith(("HF_", "LAYERSKIP_")) or n.lower().endswith("_proxy")]:
    del os.environ[name]

sys.dont_write_bytecode = True
import hub_server

server, other = hub_server.start(WORK / "root", WORK / "log")
os.environ |= {"HF_HOME": str(WORK / "home"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
               "HF_HUB_DISABLE_PROGRESS_BARS": "1", "LAYERSKIP_DEVICE": "cpu"}
try:
    import huggingface_hub
except ImportError as e:
    print(f"skipped: {e}; `pip install huggingface-hub` brings it")
    print("[  SKIPPED ] cache_shared_with_huggingface_hub")
    sys.exit(77)


def run(*args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60)


def requests():
    """Of the log, when it stands still: the server writes a line behind its answer."""
    last, now = -1, 0
    while last != now:
        time.sleep(0.1)
        last, now = now, len((WORK / "log").read_text().splitlines())
    return now


class Cache(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = WORK / "root/ok/folder"
        folder.parent.mkdir(parents=True)
        run("synth", "--shape", "tiny", str(folder))
        for repository in ("ours", "theirs"):
            (WORK / "root/ok" / repository).mkdir()
            run("quantize", str(folder), str(WORK / "root/ok" / repository / "tiny.Q8_0.gguf"), "q8_0")
        if "built without libcurl" in run("pull", "ok/folder").stderr:
            print("skipped: this build has no libcurl")
            sys.exit(77)

    def test_they_read_ours(self):
        path = run("pull", "ok/ours").stdout.strip()
        run("pull", "ok/folder")
        before = requests()
        self.assertEqual(huggingface_hub.hf_hub_download("ok/ours", "tiny.Q8_0.gguf", local_files_only=True), path)
        self.assertEqual(huggingface_hub.try_to_load_from_cache("ok/ours", "tiny.Q8_0.gguf"), path)
        there = Path(huggingface_hub.snapshot_download("ok/folder", local_files_only=True))
        self.assertEqual((there / "config.json").read_text(), (WORK / "root/ok/folder/config.json").read_text())
        self.assertEqual(requests(), before)
        report = huggingface_hub.scan_cache_dir()
        self.assertEqual(report.warnings, [])
        repos = {r.repo_id: r for r in report.repos}
        self.assertIn("main", repos["ok/ours"].refs)
        self.assertEqual(repos["ok/folder"].nb_files, 5)
        huggingface_hub.hf_hub_download("ok/ours", "tiny.Q8_0.gguf")  # asks, and finds it there
        self.assertFalse([line for line in (WORK / "log").read_text().splitlines()[before:] if " GET " in line and ".gguf" in line])

    def test_we_read_theirs(self):
        path = huggingface_hub.hf_hub_download("ok/theirs", "tiny.Q8_0.gguf")
        before = requests()
        self.assertIn(path, run("info", "-hf", "ok/theirs").stdout)
        self.assertEqual(requests(), before)
        self.assertEqual(run("pull", "ok/theirs").stdout.strip(), path)
        self.assertIn("ok/theirs:Q8_0", run("list").stdout)
        self.assertFalse([line for line in (WORK / "log").read_text().splitlines()[before:] if " GET " in line and "resolve" in line])
        run("rm", "ok/theirs")
        self.assertFalse([r for r in huggingface_hub.scan_cache_dir().repos if r.repo_id == "ok/theirs"])
        self.assertEqual(run("run", "-hf", "ok/theirs", "-p", "x", "--offline").returncode, 66)

    def test_their_snapshot_is_enough(self):
        huggingface_hub.snapshot_download("ok/folder", cache_dir=str(WORK / "second"))
        os.environ["HF_HUB_CACHE"] = str(WORK / "second")
        try:
            before = requests()
            self.assertEqual(run("run", "-hf", "ok/folder", "-p", "x", "-n", "1").returncode, 0)
            self.assertEqual(requests(), before)
        finally:
            del os.environ["HF_HUB_CACHE"]


if __name__ == "__main__":
    unittest.main()
