#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Completions and manual pages: the shells themselves are asked at a terminal what they offer, mandoc reads the pages, and every option of --help is in all of them."""
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

FAKE = Path(os.environ["LSK_PROGRAM"]).parent / "tests" / "tool_fake"
ROOT = Path(__file__).resolve().parents[2]
DATE = "November 24, 2026"
SHELLS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
PREPARE = {"bash": "PS1='> '; bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'; bind 'set enable-bracketed-paste off'; source ./bash",
           "zsh": "PS1='> '; autoload -Uz compinit; compinit -D -u; LISTMAX=10000; unsetopt beep; source ./zsh"}


def ask(*arguments):
    return subprocess.run([FAKE, *arguments], capture_output=True, text=True)


def commands():
    listed = ask("--help").stdout.partition("commands\n")[2].partition("\n\n")[0]
    return [line.split()[0] for line in listed.splitlines()]


def options(command):
    """The first long name of every option in --help."""
    return re.findall(r"^  (?:-\w, |    )--(?:\[no-\])?([a-z-]+)", ask(command, "--help").stdout, re.M)


class Shell:
    """A shell at a terminal of 300 columns, in a folder with a few files."""

    def __init__(self, name, folder):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.execvpe(name, SHELLS[name], {"PATH": os.environ["PATH"], "TERM": "dumb", "LC_ALL": "C.UTF-8", "HOME": folder, "COLUMNS": "300", "LINES": "400"})
        self.send("stty -echo cols 300 rows 400; " + PREPARE[name] + "; stty echo; echo read''y\n")
        self.until(["ready"])

    def send(self, text):
        os.write(self.fd, text.encode())

    def until(self, wanted, seconds=10):
        """What comes until all of `wanted` is among it, or until the time is over."""
        got, end = "", time.monotonic() + seconds
        while not all(text in got for text in wanted) and (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                got += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self.fd, 65536).decode(errors="replace"))
        return got

    def complete(self, line, *wanted, seconds=10):
        """What two tabs behind a line bring to the screen."""
        self.send(line + "\t\t")
        found = self.until(wanted, seconds)
        self.send("\x15\x03\necho read''y\n")
        self.until(["ready"])
        return found

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@unittest.skipUnless(FAKE.exists(), "the program without an engine is not built")
class Completions(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        for shell in ("bash", "zsh", "fish"):
            Path(self.folder.name, shell).write_text(ask("--completion", shell).stdout)
        Path(self.folder.name, "layerskip").symlink_to(FAKE)
        Path(self.folder.name, "story one.txt").touch()
        Path(self.folder.name, "subfolder").mkdir()

    def require(self, shell):
        if not shutil.which(shell):
            print(f"skipped: {shell} is not installed (make deps-test)")
            self.skipTest(shell)

    def at_terminal(self, name):
        self.require(name)
        shell = Shell(name, self.folder.name)
        self.addCleanup(shell.close)
        for line, *offers in (["layerskip quan", "quantize"], ["layerskip ", "run", "verify", "pull"], ["layerskip run --weig", "run --weights"], ["layerskip run --weights ", "bf16", "q8", "q4"],
                              ["layerskip bench --weights=", "bf16", "q8", "q4"], ["layerskip run --no-esc", "--no-escape"], ["layerskip run -f sto", r"story\ one.txt"],
                              ["layerskip tokenize sto", r"story\ one.txt"], ["layerskip train --out s", "subfolder/"], ["layerskip --completion f", "fish"]):
            found = shell.complete(line, *offers)
            self.assertTrue(all(text in found for text in offers), (line, found))
        self.assertNotRegex(shell.complete("layerskip run --top-k s", "never", seconds=0.4), r"story|subfolder")

    def test_bash(self):
        self.at_terminal("bash")

    def test_bash_knows_all_spellings(self):
        self.require("bash")
        shell = Shell("bash", self.folder.name)
        self.addCleanup(shell.close)
        for option in ("--generation_strategy ", "-generation-strategy ", "--generation-strategy="):
            self.assertIn("self_speculative", shell.complete("layerskip run " + option, "self_speculative"))

    def test_zsh(self):
        self.at_terminal("zsh")

    def test_fish(self):
        self.require("fish")

        def complete(line):
            found = subprocess.run(["fish", "--no-config", "-c", "source fish; complete -C $argv[1]", line], cwd=self.folder.name, capture_output=True, text=True, env=os.environ | {"HOME": self.folder.name})
            self.assertEqual(found.stderr, "")
            return [row.split("\t")[0] for row in found.stdout.splitlines()]

        self.assertLessEqual(set(commands()), set(complete("layerskip ")))
        self.assertEqual(complete("layerskip run --weights "), ["bf16", "file", "q4", "q8"])
        self.assertIn("--weights", complete("layerskip run --w"))
        self.assertIn("--no-escape", complete("layerskip run --no-e"))
        self.assertIn("story one.txt", complete("layerskip run -f sto"))
        self.assertIn("subfolder/", complete("layerskip train --out s"))
        self.assertEqual(complete("layerskip run --top-k s"), [])

    def test_every_option_is_in_all_of_them(self):
        texts = {shell: ask("--completion", shell).stdout for shell in SHELLS}
        fish = ask("--completion", "fish").stdout
        for command in commands():
            page = ask("--manual", command, DATE).stdout.replace("\\&", "").replace("\\-", "-")
            names = options(command)
            self.assertEqual(len(names), page.count("\n.It Fl"), command)
            bash = texts["bash"].partition(f"    1:{command})")[2].partition("esac")[0]
            zsh = texts["zsh"].partition(f"    {command})\n")[2].partition(";;")[0]
            for name in names:
                self.assertRegex(page, rf'\.It Fl.*"-(\[no-\])?{name}"', command)
                self.assertIn(f" --{name} ", bash.replace("'", " "), command)
                self.assertRegex(zsh, rf"'\*--{name}=?\[", command)
                self.assertIn(f"__fish_seen_subcommand_from {command}' -l {name} ", fish)

    def test_what_is_not_there_is_refused(self):
        for arguments, text in ((["--completion", "tcsh"], "give one of: bash, zsh, fish"), (["--completion"], "give one of"), (["--manual", "nothing", DATE], "--manual"),
                                (["--manual", "run"], "--manual"), (["--manual"], "--manual")):
            found = ask(*arguments)
            self.assertEqual((found.returncode, found.stdout, found.stderr.count("\n")), (64, "", 1), arguments)
            self.assertIn(text, found.stderr)


@unittest.skipUnless(FAKE.exists(), "the program without an engine is not built")
class Manual(unittest.TestCase):
    def test_every_exit_status_is_said(self):
        header = (ROOT / "include/layerskip.h").read_text()
        statuses = {int(n) for n in re.findall(r"\bLSK_E\w+ = -(\d+)", header)} | {getattr(os, name) for p in (ROOT / "tools").glob("*.c") for name in re.findall(r"-(EX_\w+)", p.read_text())}
        self.assertIn(os.EX_NOPERM, statuses)
        for command in ("layerskip", "verify"):
            page = ask("--manual", command, DATE).stdout.partition(".Sh EXIT STATUS\n")[2].partition("\n.Sh ")[0]
            self.assertEqual({int(n) for n in re.findall(r"\b(\d+) (?:\(|means )", page)} - {0}, statuses | {1})

    def test_mandoc_has_no_complaint(self):
        if not shutil.which("mandoc"):
            print("skipped: mandoc is not installed (make deps-test)")
            self.skipTest("mandoc")
        with tempfile.TemporaryDirectory() as folder:
            for command in ["layerskip", *commands()]:
                Path(folder, command + ".1").write_text(ask("--manual", command, DATE).stdout)
            api = subprocess.run(["python3", ROOT / "scripts/api.py", "manual", DATE], capture_output=True, check=True).stdout
            Path(folder, "layerskip.3").write_bytes(api)
            pages = [*Path(folder).iterdir(), *(ROOT / "docs/man").iterdir()]
            self.assertGreater(len(pages), 15)
            found = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True)
            self.assertEqual((found.stdout, found.returncode), ("", 0))
            shown = subprocess.run(["mandoc", "-T", "ascii", Path(folder, "run.1")], capture_output=True, text=True).stdout
            shown = re.sub(".\b", "", shown)
            for text in ('-p "Once upon a time" -n 100', "--num-speculations D", "LAYERSKIP_CTX_SIZE=4096", "[-1 to 1023] (default -1)"):
                self.assertIn(text, shown)
            functions = set(re.findall(r"LSK_API .*?(lsk_\w+)\(", (ROOT / "include/layerskip.h").read_text()))
            self.assertEqual({f for f in functions if f"{f}(".encode() not in api}, set())


if __name__ == "__main__":
    unittest.main()
