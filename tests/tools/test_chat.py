#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`layerskip chat` at a pseudo-terminal: every key and every command. The program without an engine (tests/tool_fake beside $LSK_PROGRAM) shows what it does; the
real one over a small synthetic model shows that what is common with the conversation so far is not computed again."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import time
import unittest
from pathlib import Path

REAL = os.environ["LSK_PROGRAM"]
FAKE = str(Path(REAL).parent / "tests" / "tool_fake")
CTRL_A, CTRL_C, CTRL_D, CTRL_E, CTRL_R, CTRL_U, CTRL_W = (bytes([ord(c) - 64]) for c in "ACDERUW")
UP, LEFT, BACKSPACE, DELETE, ALT_ENTER = b"\x1b[A", b"\x1b[D", b"\x7f", b"\x1b[3~", b"\x1b\r"
PROMPT, DONE = "«", "»"  # stand for what switches bracketed paste on, as a line begins to be read, and off, when it is


class Terminal:
    """A program whose stdin and stderr are a terminal; its stdout is a file."""

    def __init__(self, folder, *command, env=None):
        self.out = open(Path(folder) / "out", "w+b")
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x28\0\xa0\0\0\0\0\0")  # 40 lines of 160
        environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": folder, "XDG_STATE_HOME": folder + "/state", "XDG_CONFIG_HOME": folder + "/config",
                       "LAYERSKIP_DEVICE": "cpu"}

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.p = subprocess.Popen(command, stdin=slave, stdout=self.out, stderr=slave, preexec_fn=own_terminal, cwd=folder, env=environment | (env or {}))
        os.close(slave)
        self.raw = b""
        self.screen = ""
        self.seen = 0

    def read(self, seconds):
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += data
        text = self.raw.decode(errors="replace").replace("\x1b[?2004h", PROMPT).replace("\x1b[?2004l", DONE)
        self.screen = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z])?", "", text)
        return bool(data)

    def expect(self, text, seconds=10):
        self.expect_pattern(re.escape(text), seconds)

    def expect_pattern(self, pattern, seconds=10):
        end = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.screen, self.seen)):
            if time.monotonic() > end or not self.read(end - time.monotonic()):
                raise AssertionError(f"{pattern!r} does not come; the screen is {self.screen[-1500:]!r}")
        self.seen = found.end()

    def ready(self):
        """The prompt is there, so keys are no longer the terminal's own."""
        self.expect_pattern(PROMPT + r"[^»]*?[>.] ")

    def send(self, *keys):
        for key in keys:
            os.write(self.master, key if isinstance(key, bytes) else key.encode())

    def say(self, *keys):
        """Types, ends the line and waits for the next prompt."""
        self.send(*keys, "\r")
        self.expect(DONE)
        self.ready()

    def end(self):
        while self.read(5):
            pass
        return self.p.wait(5)

    def answers(self):
        return Path(self.out.name).read_text()

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        os.close(self.master)
        self.out.close()


class Chat(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.terminals = []

    def tearDown(self):
        for t in self.terminals:
            t.close()
        self.folder.cleanup()

    def path(self, name):
        return Path(self.folder.name) / name

    def start(self, model="m.gguf", *options, program=FAKE, env=None):
        if program == FAKE:
            self.path(model).touch()
        t = Terminal(self.folder.name, program, "chat", str(self.path(model)), *options, env=env)
        self.terminals.append(t)
        t.expect("Ctrl-D leaves.")
        t.ready()
        return t

    def saved(self, t, name="saved.json"):
        t.say(f"/save {name}")
        return json.loads(self.path(name).read_text())

    def said(self, t):
        return [m["content"] for m in self.saved(t)["messages"] if m["role"] == "user"]

    def test_editing(self):
        t = self.start()
        t.say("bc", CTRL_A, "a", CTRL_E, "dX", BACKSPACE)
        t.say("gone", CTRL_U, "héllo €😀 wörld")
        t.say("one two", CTRL_W, "three", LEFT, LEFT, DELETE, b"\x1b[H", "<", b"\x1b[F", ">")
        self.assertEqual(self.said(t), ["abcd", "héllo €😀 wörld", "<one thre>"])
        self.assertEqual(len(self.saved(t)["messages"]), 6)

    def test_history_stays(self):
        t = self.start()
        t.say("first é")
        t.say('"""second')
        t.say('line"""')
        t.send(CTRL_D)
        self.assertEqual(t.end(), 0)
        t = self.start()
        t.say(UP)
        t.say(UP, UP)
        t.say(CTRL_R, "irs")
        self.assertEqual(self.said(t), ["second\nline", "first é", "first é"])
        self.assertEqual(self.path("state/layerskip/chat_history").stat().st_mode & 0o777, 0o600)
        self.assertEqual([p.name for p in self.path("state/layerskip").iterdir()], ["chat_history"])
        self.start("m.gguf", "--no-history").say(UP, "new")

    def test_several_lines(self):
        t = self.start()
        for line in ("a\\", "b", '"""x', "/bye", 'y"""'):
            t.say(line)
        t.say(b"\x1b[200~p\xc3\xa9\rq\n\x01r\x1b[201~", "!")
        t.say("k", ALT_ENTER, "l")
        self.assertEqual(self.said(t), ["a\nb", "x\n/bye\ny", "pé\nq\nr!", "k\nl"])

    def test_leaving(self):
        for keys, status in (((CTRL_D,), 0), (("/bye\r",), 0), (("/exit\r",), 0)):
            t = self.start()
            t.send(*keys)
            self.assertEqual(t.end(), status)
        t = self.start()
        t.send(CTRL_C)
        t.expect("(Ctrl-C again, Ctrl-D or /bye leaves)")
        t.ready()
        t.say("something")  # the count begins again
        t.send("typed", CTRL_C)
        t.expect("^C")
        t.ready()
        t.say('"""half')
        t.send(CTRL_C)
        t.expect("^C")
        t.ready()
        self.assertEqual(self.said(t), ["something"])
        t.send(CTRL_C)
        t.expect("leaves)")
        t.ready()
        t.send(CTRL_C)
        self.assertEqual(t.end(), 130)
        t = self.start()
        t.p.send_signal(signal.SIGTERM)
        self.assertEqual(t.end(), 143)
        t = self.start()
        os.close(t.master)  # the terminal goes away
        t.master = os.open("/dev/null", os.O_RDONLY)
        self.assertIn(t.p.wait(20), (0, -signal.SIGHUP))

    def test_stopping_an_answer(self):
        t = self.start("slow-endless.gguf")
        t.send("go on\r")
        while len(t.answers()) < 20:
            time.sleep(0.005)
        t.send(CTRL_C)
        t.expect("(cancelled)")
        t.ready()
        t.say("/set max_tokens 5")
        t.say("more")
        messages = self.saved(t)["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant", "user", "assistant"])
        self.assertEqual("".join(messages[i]["content"] + "\n" for i in (1, 3)), t.answers())
        self.assertEqual(len(messages[3]["content"]), 5)
        t.send(CTRL_D)
        self.assertEqual(t.end(), 0)

    def test_settings(self):
        t = self.start("m.gguf", "--sys", "Be brief.", "--seed", "3")
        t.say("/set temperature 0.5")
        t.say("/set parameter top_k 7")
        t.say("/set top_p 0.9")
        t.say("/set repeat_penalty 1.2")
        t.say('/set grammar root ::= "a"')
        t.say('/set json_schema {"type": "object"}')
        t.say("/set logit_bias 65-2.5")
        for line, says in (("/set temperature hot", '/set temperature: "hot": must be a number from 0 to 100'), ("/set top_k 1.5", "must be a whole number from 0"),
                           ("/set tempereture 1", "(did you mean temperature?)"), ("/exit-layer 8", "must be 1 to 7, below this model's layers"), ("/spec maybe", "must be on, off or auto"),
                           ("/regne", "did you mean /regen?"), ("/set grammar nothing", "grammar: line 1, column 6"), ("/set logit_bias 7", "must be ID+BIAS"), ("/stats", "/stats: there is no answer yet"), ("/regen", "/regen: there is no answer yet"), ("/undo", "nothing was said yet"),
                           ("/save", "/save: give a file"), ("/load none.json", "none.json: "), ("/save m.gguf", "is there and is no conversation: it stays")):
            t.send(line, "\r")
            t.expect("layerskip: ")
            t.expect(says)
            t.ready()
        t.send("/set\r")
        for name, value in (("temperature", "0.5"), ("top_k", "7"), ("top_p", "0.9"), ("repeat_penalty", "1.2"), ("seed", "3"), ("system", "Be brief."), ("grammar", "(none)"),
                            ("json_schema", '{"type": "object"}'), ("logit_bias", "65-2.5")):
            t.expect(f"{name:17} {value}")
        t.ready()
        t.say("/set system Täglich neu")
        self.assertEqual(self.saved(t)["messages"], [{"role": "system", "content": "Täglich neu"}])
        t.say("/set system")
        self.assertEqual(self.saved(t)["messages"], [])
        t.send("/?\r")
        for name in "/set /stats /spec /exit-layer /regen /undo /clear /save /load /bye /?".split():
            t.expect("  " + name)

    def test_drafting(self):
        t = self.start()
        t.say("q")
        for line, want, confirmed in (("/spec on", "exit layer 2", "exit, exit layer 2, a quarter of the layers)"), ("/exit-layer 3", "exit layer 3", "exit, exit layer 3)"),
                                      ("/spec off", "", "none, exit layer 3: decoding is plain, `/spec on` drafts)"), ("/spec auto", "exit layer 3", "auto, exit layer 3)")):
            t.send(line, "\r")
            t.expect("(drafter " + confirmed)
            t.ready()
            t.say("/regen")
            t.send("/stats\r")
            t.expect("memory")
            t.ready()
            stats = t.screen[t.screen.rindex("prompt     "):]
            self.assertEqual("exit layer" in stats, bool(want), line)
            self.assertIn(want, stats)

        t.send("/exit-layer 0\r")
        t.expect("(drafter auto, exit layer 2, a quarter of the layers: decoding is plain, `/spec on` drafts)")
        t.ready()
        t = self.start("own.gguf")
        for line in ("/spec", "/exit-layer"):
            t.send(line, "\r")
            t.expect("(drafter auto, exit layer 3, the profile's)")
            t.ready()

    def test_conversation(self):
        t = self.start("m.gguf", "--sys", "S")
        t.say("one")
        t.say("two")
        both = self.saved(t)["messages"]
        t.say("/regen")
        self.assertEqual(self.saved(t)["messages"], both)  # greedy
        t.send("/undo\r")
        t.expect("(forgotten; 1 question left)")
        t.ready()
        self.assertEqual(self.saved(t)["messages"], both[:3])
        t.say("REFUSE")
        self.assertIn("the template refuses these messages", t.screen)
        self.assertEqual(self.saved(t, "kept.json")["messages"], both[:3])
        t.say("/clear")
        self.assertEqual(self.saved(t)["messages"], both[:1])
        t.send("/load kept.json\r")
        t.expect("(1 question)")
        t.ready()
        t.say("two")
        self.assertEqual(self.saved(t)["messages"], both)
        self.path("broken.json").write_text('{"messages": [{"role": "user"}]}')
        t.say("/load broken.json")
        self.assertIn("is no conversation", t.screen)
        self.assertEqual(self.saved(t)["messages"], both)

    def test_pipes(self):
        self.path("m.gguf").touch()
        self.path("base.gguf").touch()
        self.path("bad.jinja").write_text("REFUSE")
        environment = os.environ | {"HOME": self.folder.name, "LC_ALL": "C"}

        def run(*options, stdin):
            return subprocess.run([FAKE, "chat", *options], input=stdin, capture_output=True, cwd=self.folder.name, env=environment, timeout=20)

        lines = b'hello\n"""two\nlines"""\n\xc3\xa9\\\nx\n/save a.json\n/bye\nlast'
        r = run("m.gguf", "-n", "9", stdin=lines)
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        self.assertFalse(self.path("a.json").exists())
        t = self.start("m.gguf", "-n", "9")
        for text in ("hello", '"""two', 'lines"""', "é\\", "x", '""" /save a.json"""'):
            t.say(text)
        answers = [m["content"] + "\n" for m in self.saved(t)["messages"] if m["role"] == "assistant"]
        self.assertTrue(r.stdout.decode().startswith("".join(answers[:3])))  # then come those to lines that are commands at a terminal
        for stdin, status in ((b"\xff\nREFUSE\n/bye\n", 65), (b"a\n" + b"x" * 9000 + b"\nREFUSE\nb\n", 64)):
            r = run("m.gguf", "-n", "9", stdin=stdin)
            self.assertEqual((r.returncode, r.stderr.count(b"\n"), r.stderr.count(b"layerskip: ")), (status, 2, 2))
            self.assertNotEqual(r.stdout, b"")  # of the messages that did not fail
        r = run("m.gguf", "-n", "0", stdin=b"x\n")
        self.assertEqual((r.returncode, r.stdout), (64, b""))
        self.assertIn(b"--n-predict: 0: must be at least 1, or -1", r.stderr)
        r = run("base.gguf", stdin=b"x\n")
        self.assertEqual((r.returncode, r.stdout, r.stderr.count(b"\n")), (64, b"", 1))
        self.assertIn(b"brings no chat template, as base models do: name one with --chat-template", r.stderr)
        self.assertEqual(run("base.gguf", "--chat-template", "chatml", stdin=b"x\n").returncode, 0)
        self.assertEqual(run("m.gguf", "--chat-template-file", "bad.jinja", stdin=b"x\n").returncode, 65)
        self.assertEqual(run("m.gguf", "--chat-template-file", "none.jinja", stdin=b"x\n").returncode, 66)
        self.assertEqual(run("none.gguf", stdin=b"").returncode, 66)

    def test_a_terminal_is_told_nothing(self):
        """What a model says can ring, retitle a window or write to the clipboard only where stdout is no terminal."""
        self.path("endless-rude.gguf").touch()
        said = "\x1b]52;\a\x9b\r\x7f\b\n\té" * 2
        shown = "\\x1B]52;\\x07\\xC2\\x9B\\r\\x7F\\x08\n\té" * 2
        for command, stdin in ((["run", "-p", "x", "--stats", "none"], b""), (["chat"], b"x\n")):
            command = [FAKE, *command, "-m", "endless-rude.gguf", "-n", "18"]
            environment = {"PATH": os.environ["PATH"], "HOME": self.folder.name, "LC_ALL": "C.UTF-8"}
            r = subprocess.run(command, input=stdin, capture_output=True, cwd=self.folder.name, env=environment, timeout=20)
            self.assertEqual((r.returncode, r.stdout.decode(), r.stderr), (0, said + "\n", b""))
            master, slave = pty.openpty()
            modes = termios.tcgetattr(slave)
            modes[1] &= ~termios.OPOST
            termios.tcsetattr(slave, termios.TCSANOW, modes)
            r = subprocess.run(command, input=stdin, stdout=slave, stderr=subprocess.PIPE, cwd=self.folder.name, env=environment, timeout=20)
            self.assertEqual((r.returncode, os.read(master, 65536).decode(), r.stderr), (0, shown + "\n", b""))
            os.close(slave)
            os.close(master)

    def test_limits_are_saved(self):
        t = self.start("m.gguf", "--grammar", 'root ::= "ä\n"', "-l", "65-2.5", "-l", "66-inf")
        t.say("q")
        kept = self.saved(t, "kept.json")
        self.assertEqual(kept["limits"], {"grammar": 'root ::= "ä\n"', "json_schema": None, "logit_bias": ["65-2.5", "66-inf"]})
        t.say("/set json_schema {}")
        t.say("/set logit_bias 67+9.53674316e-07")
        self.assertEqual(self.saved(t, "schema.json")["limits"], {"grammar": None, "json_schema": "{}", "logit_bias": ["65-2.5", "66-inf", "67+9.53674316e-07"]})
        for name, limits, says in (("grammar", {"grammar": "nothing"}, "grammar: line 1, column 6"), ("bias", {"json_schema": "[]", "logit_bias": ["1+1", 7]}, "must be ID+BIAS")):
            self.path(name + ".json").write_text(json.dumps({"messages": [], "limits": limits}))
            t.send(f"/load {name}.json\r")
            t.expect(f"layerskip: {name}.json: limits: ")
            t.expect(says)
            t.ready()
        self.assertEqual(self.saved(t, "same.json"), json.loads(self.path("schema.json").read_text()))
        t.say("/load kept.json")
        self.assertEqual(self.saved(t), kept)
        self.path("plain.json").write_text("[]")  # says nothing of them
        t.say("/load plain.json")
        self.assertEqual(self.saved(t)["limits"], kept["limits"])
        t = self.start()
        t.say("/load schema.json")
        t.send("/set\r")
        for name, value in (("grammar", "(none)"), ("json_schema", "{}"), ("logit_bias", "65-2.5"), ("logit_bias", "66-inf"), ("logit_bias", "67+9.53674e-07")):
            t.expect(f"{name:17} {value}")
        t.ready()

    def test_drafting_and_stops_are_saved(self):
        t = self.start("endless.gguf", "-r", "zz", "-r", "ä\n", "-n", "9")
        t.say("/spec on")
        t.say("/exit-layer 3")
        kept = self.saved(t, "kept.json")
        self.assertEqual((kept["stop"], kept["drafting"]), (["zz", "ä\n"], {"drafter": "exit", "exit_layer": 3, "num_speculations": 0}))
        t.send("/set\r")
        t.expect("stop              zz")
        t.ready()
        t = self.start()
        for name, change, says in (("stop", {"stop": [""]}, "stop: must be at most 64 texts, none of them empty"), ("list", {"stop": "a"}, "stop: must be"),
                                   ("who", {"drafting": kept["drafting"] | {"drafter": "exitt"}}, '"drafter": must be auto'),
                                   ("layer", {"drafting": kept["drafting"] | {"exit_layer": 8}}, '"exit_layer": must be 1 to 7'),
                                   ("many", {"drafting": kept["drafting"] | {"num_speculations": 16}}, '"num_speculations": must be -1 to 15'), ("what", {"drafting": 3}, '"drafter": must be auto')):
            self.path(name + ".json").write_text(json.dumps(kept | change))
            t.send(f"/load {name}.json\r")
            t.expect(f"layerskip: {name}.json: ")
            t.expect(says)
            t.ready()
            now = self.saved(t)
            self.assertEqual((now["stop"], now["drafting"]), ([], {"drafter": "auto", "exit_layer": 0, "num_speculations": 0}))
        t.say("/load kept.json")
        self.assertEqual(self.saved(t), kept)
        t.say("/load kept.json")
        t.say("zzz")
        self.assertEqual(self.saved(t)["drafting"], kept["drafting"])

    def test_a_window_of_nothing(self):
        """0 is no window in the conversation as on the command line, and another window brings the penalties back."""
        t = self.start("endless-penalties.gguf", "--repeat-last-n", "0", "--presence-penalty", "2", "-n", "3")
        for line, asked in (("/set seed 1", "000"), ("/set repeat_last_n 64", "200"), ("/set repeat_last_n 0", "000")):
            t.say(line)
            t.say("x")
            self.assertEqual(self.saved(t)["messages"][-1]["content"], asked, line)
            self.assertEqual(self.saved(t)["settings"]["presence_penalty"], 2)

    def test_common_prefix_is_reused(self):
        subprocess.run([REAL, "synth", "--shape", "tiny", str(self.path("model"))], check=True, capture_output=True)
        r = subprocess.run([REAL, "chat", str(self.path("model")), "--chat-template", "chatlm"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(r.returncode, 64)
        self.assertIn('chat template "chatlm": must be auto or one of llama2, llama3, chatml, codellama', r.stderr)
        t = self.start("model", "--chat-template", "chatml", "-n", "30", program=REAL)

        def numbers():
            t.send("/stats\r")
            t.expect("reply ")
            t.ready()
            return [int(n) for n in re.findall(r"prompt     (\d+) tokens?: (\d+) cached, (\d+) evaluated", t.screen)[-1]]

        t.say("one")
        first, cached, _ = numbers()
        self.assertEqual(cached, 0)
        t.say("two")
        second, cached, _ = numbers()
        answer = self.saved(t)["messages"]
        self.assertGreaterEqual(cached, first)  # the whole first prompt at least, and what of the answer reads as it was written
        self.assertLess(cached, second)
        t.say("/regen")
        self.assertEqual(numbers()[:2], [second, second - 1])
        t.say("/spec on")
        t.say("/exit-layer 1")
        t.say("/regen")
        self.assertEqual(numbers()[:2], [second, second - 1])
        self.assertEqual(self.saved(t, "drafted.json")["messages"], answer)  # whatever drafted it
        t.send(CTRL_D)
        self.assertEqual(t.end(), 0)
        t = self.start("model", "--chat-template", "chatml", "-n", "30", program=REAL)
        t.say("/load drafted.json")
        t.say("/regen")
        self.assertEqual(numbers()[:2], [second, 0])
        self.assertEqual(self.saved(t)["messages"], answer)


if __name__ == "__main__":
    unittest.main()
