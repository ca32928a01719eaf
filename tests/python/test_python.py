#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python binding over a small synthetic model: its structs are the header's, its text is the program's, generators can be left, errors say what the library says."""
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ["LSK_PROGRAM"])
os.environ["LAYERSKIP_LIBRARY"] = str(PROGRAM.parent / "liblayerskip.so.0")
sys.path.insert(0, str(ROOT / "python"))

import layerskip  # noqa: E402
from layerskip import Finish, LayerskipError, Model, Status, _abi  # noqa: E402

CHAT = {"template_name": "chatml"}


class Interface(unittest.TestCase):
    def test_declarations_are_those_of_the_header(self):
        made = subprocess.run([sys.executable, ROOT / "scripts/api.py", "python"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(made, (ROOT / "python/layerskip/_abi.py").read_text(), "the header has changed: scripts/api.py python > python/layerskip/_abi.py")

    def test_layout_is_the_compiler_s(self):
        with tempfile.TemporaryDirectory() as folder:
            source = subprocess.run([sys.executable, ROOT / "scripts/api.py", "layout"], capture_output=True, check=True).stdout
            subprocess.run(["cc", "-x", "c", "-", f"-I{ROOT / 'include'}", "-o", f"{folder}/layout"], input=source, check=True)
            lines = subprocess.run([f"{folder}/layout"], capture_output=True, text=True, check=True).stdout.splitlines()
        self.assertGreater(len(lines), 200)
        for line in lines:
            name, value = line.split()
            struct, _, field = name.partition(".")
            found = getattr(getattr(_abi, struct), field).offset if field else ctypes.sizeof(getattr(_abi, struct))
            self.assertEqual(found, int(value), name)

    def test_all_functions_are_there(self):
        exported = subprocess.run(["nm", "-D", "--defined-only", "--without-symbol-versions", os.environ["LAYERSKIP_LIBRARY"]], capture_output=True, text=True, check=True).stdout
        self.assertEqual(set(_abi.FUNCTIONS), {w for w in exported.split() if w.startswith("lsk_")})

    def load_with(self, library):
        code = "import sys; sys.path.insert(0, sys.argv[1]); import layerskip"
        return subprocess.run([sys.executable, "-c", code, ROOT / "python"], env=os.environ | {"LAYERSKIP_LIBRARY": str(library)}, capture_output=True, text=True)

    def test_a_library_that_does_not_fit_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            missing = Path(folder) / "nothing.so"
            found = self.load_with(missing)
            self.assertNotEqual(found.returncode, 0)
            self.assertIn("set LAYERSKIP_LIBRARY", found.stderr.splitlines()[-1])
            old = Path(folder) / "old.so"
            subprocess.run(["cc", "-shared", "-x", "c", "-", "-o", old], input=b'const char *lsk_version(void) { return "0.0.9"; }', check=True)
            self.assertIn("is version 0.0.9, this package needs", self.load_with(old).stderr)
            subprocess.run(["cc", "-shared", "-x", "c", "-", "-o", old], input=b'const char *lsk_version(void) { return "9.0.0"; }', check=True)
            self.assertRegex(self.load_with(old).stderr, "has no lsk_.*: it is older")


class Replies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = Path(cls.folder.name) / "tiny"
        layerskip.synth(cls.path, shape="tiny", seed=1, threads=1)
        cls.model = Model(cls.path, device="cpu", context=200, sessions=2, threads=1, batch=16)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()
        cls.folder.cleanup()

    def test_info(self):
        info = self.model.info
        self.assertEqual((info.device, info.context, info.path), ("cpu", 200, str(self.path)))
        self.assertEqual(len(info.id), 16)
        self.assertGreater(info.memory.weights, 1000)
        self.assertTrue(all(0 <= t < info.n_vocab for t in info.eos))

    def test_tokens(self):
        text = "héllo <s> ☃"
        tokens = self.model.tokenize(text, bos=False)
        self.assertEqual(self.model.tokenize(text), [self.model.info.bos, *tokens])
        self.assertEqual(self.model.detokenize(tokens), text)
        self.assertEqual(self.model.tokenize(text * 50, bos=False), tokens * 50)
        self.assertEqual(self.model.tokenize("<s>", special=True), [self.model.info.bos])
        self.assertEqual(self.model.detokenize(self.model.tokenize(b"a\0b", bos=False)), "a\0b")
        self.assertEqual(self.model.detokenize(self.model.tokenize(b"\xff", bos=False, replace=True)), "\ufffd")
        with self.assertRaises(LayerskipError) as caught:
            self.model.tokenize(b"\xff")
        self.assertEqual(caught.exception.code, Status.EDATA)
        with self.assertRaises(ValueError):
            self.model.piece(10**6)

    def test_the_program_writes_the_same(self):
        wanted = subprocess.run([PROGRAM, "run", self.path, "-p", "Once", "-n", "40", "--temp", "0.8", "--seed", "7", "--ignore-eos", "--device", "cpu", "--stats", "none", "-t", "1"],
                                capture_output=True, check=True).stdout.decode(errors="replace")
        options = dict(max_tokens=40, temperature=0.8, seed=7, ignore_eos=True)
        plain = self.model.generate("Once", drafter="none", **options)
        drafted = self.model.generate("Once", exit_layer=2, num_speculations=4, **options)
        self.assertEqual(plain.text.strip("\n"), wanted.strip("\n"))
        self.assertEqual((plain.text, plain.tokens, plain.finish), (drafted.text, drafted.tokens, Finish.LENGTH))
        self.assertEqual(len(plain.tokens), 40)
        self.assertEqual((plain.stats.drafted, drafted.stats.exit_layer), (0, 2))
        self.assertEqual(drafted.stats.acceptance_rate, drafted.stats.accepted / drafted.stats.drafted)
        self.assertGreater(drafted.stats.tokens_per_second, 0)

    def test_streams_and_their_end(self):
        with self.model.session() as session:
            reply = session.generate("Once", max_tokens=30, ignore_eos=True)
            self.assertEqual("".join(session.stream("Once", max_tokens=30, ignore_eos=True)), reply.text)
            events = list(session.events("Once", max_tokens=30, ignore_eos=True, exit_layer=2, num_speculations=3))
            self.assertEqual([e.token for e in events if e.token >= 0], reply.tokens)
            self.assertEqual(events[-1].finish, Finish.LENGTH)
            self.assertTrue(all(e.finish == Finish.RUNNING and e.logprob <= 0 for e in events[:-1]))
            stream = session.stream("Once", max_tokens=30, ignore_eos=True)
            next(stream)
            self.assertTrue(session.running)
            stream.close()
            self.assertFalse(session.running)
            self.assertLess(session.stats.reply_tokens, 30)
            self.assertEqual(session.generate("Once", max_tokens=30, ignore_eos=True).text, reply.text)
            left = session.events("Once", max_tokens=30, ignore_eos=True)
            next(left)
            self.assertEqual(session.generate("Once", max_tokens=30, ignore_eos=True).text, reply.text)
            self.assertEqual(list(left), [])  # another reply has taken the session over

    def test_stop_and_lists(self):
        text = self.model.generate("Once", max_tokens=30, ignore_eos=True).text
        stop = text[10:14]
        for given in (stop, [stop, "never"]):
            reply = self.model.generate("Once", max_tokens=30, ignore_eos=True, stop=given)
            self.assertEqual((reply.finish, reply.text), (Finish.STOP, text[:text.index(stop)]))
        first = self.model.generate("Once", max_tokens=1, ignore_eos=True).tokens[0]
        self.assertEqual(self.model.generate("Once", max_tokens=5, eos=[first]).finish, Finish.EOS)

    def test_what_the_reply_may_say(self):
        options = dict(max_tokens=12, ignore_eos=True, exit_layer=2, num_speculations=3)
        with self.model.session() as session:
            events = list(session.events("Once", n_probs=3, **options))
            self.assertTrue(all(len(e.top) == 3 and e.top[0] == (e.token, e.logprob) for e in events if e.token >= 0))
            never = events[0].token
            for bias in ({never: float("-inf")}, [(never, float("-inf"))]):
                self.assertNotIn(never, session.generate("Once", logit_bias=bias, **options).tokens)
            self.assertRegex(session.generate("Once", max_tokens=12, grammar='root ::= [ab]+ "."').text, r"^[ab]+\.?$")
            with self.assertRaisesRegex(LayerskipError, "grammar"):
                session.generate("Once", grammar="root ::= nothing")

    def test_a_conversation_continues(self):
        messages = [{"role": "user", "content": "Hi"}]
        chat = self.model.chat(messages, **CHAT)
        self.assertIn("Hi", chat.text)
        self.assertEqual(self.model.chat(messages, variables={"x": 1}, **CHAT), chat)
        with self.model.session() as session:
            reply = session.generate(chat, max_tokens=8, ignore_eos=True)
            self.assertEqual(reply.stats.prompt_tokens, len(chat.tokens))
            longer = self.model.chat(messages + [{"role": "assistant", "content": "x"}, {"role": "user", "content": "More"}], **CHAT)
            self.assertGreaterEqual(session.generate(longer, max_tokens=1).stats.cached_tokens, len(chat.tokens) - 1)
        with self.assertRaisesRegex(LayerskipError, "no_such"):
            self.model.chat(messages, template_name="no_such")

    def test_two_sessions_in_one_pass(self):
        options = dict(max_tokens=12, ignore_eos=True, exit_layer=2, num_speculations=2)
        alone = [self.model.generate(p, **options).text for p in ("Once", "Then there")]
        with self.model.session() as a, self.model.session() as b:
            a.prompt("Once", **options)
            b.prompt("Then there", **options)
            texts = {a: "", b: ""}
            while a.running or b.running:
                for session, event in layerskip.step([a, b]):
                    texts[session] += event.text
            self.assertEqual([texts[a], texts[b]], alone)
            with self.assertRaisesRegex(LayerskipError, "in use"):
                self.model.session()

    def test_threads_take_turns(self):
        texts, options = [], dict(max_tokens=25, ignore_eos=True)
        with self.model.session() as a, self.model.session() as b:
            threads = [threading.Thread(target=lambda s=s: texts.append(s.generate("Once", **options).text)) for s in (a, b)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        self.assertEqual(texts, [self.model.generate("Once", **options).text] * 2)

    def test_logits(self):
        tokens, picks = self.model.tokenize("Once upon"), []
        with self.model.session() as session:
            session.logits(tokens, lambda i, row: picks.append((i, len(row), max(range(len(row)), key=row.__getitem__))))
            self.assertEqual([p[:2] for p in picks], [(i, self.model.info.n_vocab) for i in range(len(tokens))])
            self.assertEqual(picks[-1][2], session.generate(tokens, max_tokens=1, ignore_eos=True).tokens[0])
            with self.assertRaises(ZeroDivisionError):
                session.logits(tokens, lambda i, row: 1 // 0)

    def test_options_are_checked(self):
        for error, text, options in ((TypeError, "did you mean 'temperature'", {"temperatur": 1}), (TypeError, "unknown option 'reserved'", {"reserved": 1}),
                                     (TypeError, "unknown option 'n_stop'", {"n_stop": 1}), (OverflowError, "top_k", {"top_k": 2**40}), (TypeError, "top_k", {"top_k": "many"}),
                                     (ValueError, "zero byte", {"stop": ["a\0b"]}), (LayerskipError, "exit layer 99", {"exit_layer": 99}),
                                     (LayerskipError, "temperature -1", {"temperature": -1})):
            with self.assertRaisesRegex(error, text, msg=options):
                self.model.generate("Once", **options)
        for text, call in (("path: must be a text or a path, not int", lambda: Model(3)), ("progress: must be a function, not int", lambda: Model(self.path, progress=3)),
                           ("prompt: must be token ids, not 3", lambda: self.model.generate(3)), ("prompt: must be token ids, not .1, 'a'", lambda: self.model.generate([1, "a"])),
                           ("text: must be str or bytes, not int", lambda: self.model.tokenize(3)), ("option 'stop': must be a list, not int", lambda: self.model.generate("a", stop=3)),
                           ("option 'logit_bias': must be token and bias, not int", lambda: self.model.generate("a", logit_bias=[1])), ("integer", lambda: self.model.piece("a"))):
            with self.assertRaisesRegex(TypeError, text):
                call()
        with self.assertRaisesRegex(LayerskipError, "No such file"):
            Model("/nonexistent/model")
        with self.assertRaisesRegex(TypeError, "unknown option 'progress_ud'"):
            Model(self.path, progress_ud=1)
        with self.assertRaisesRegex(LayerskipError, "exit layer 99"):
            Model(self.path, profile=(99, 4), device="cpu")

    def test_progress_can_stop(self):
        seen = []
        Model(self.path, device="cpu", context=16, threads=1, progress=lambda *a: seen.append(a)).close()
        self.assertTrue(seen and all(len(a) == 3 and a[1] <= a[2] for a in seen))
        with self.assertRaises(LayerskipError) as caught:
            Model(self.path, device="cpu", context=16, threads=1, progress=lambda *a: True)
        self.assertEqual(caught.exception.code, Status.EUSAGE)
        with self.assertRaises(KeyboardInterrupt):
            Model(self.path, device="cpu", context=16, threads=1, progress=lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))

    def test_what_is_closed_says_so(self):
        model = Model(self.path, device="cpu", context=32, threads=1)
        session = model.session()
        model.close()
        model.close()
        session.close()
        for use in (lambda: model.info, lambda: model.session(), lambda: session.generate("x"), lambda: session.stats):
            with self.assertRaisesRegex(ValueError, "closed"):
                use()
        model = Model(self.path, device="cpu", context=32, threads=1)
        session, model = model.session(), None  # a session keeps its model
        gc.collect()
        self.assertEqual(len(session.generate("x", max_tokens=3, ignore_eos=True).tokens), 3)


class Closing(unittest.TestCase):
    """No order of closing, in callbacks, in other threads or by the collector of garbage, frees what a call of the library still reads."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = Path(cls.folder.name) / "tiny"
        layerskip.synth(cls.path, shape="tiny", seed=1, threads=1)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.model = Model(self.path, device="cpu", context=64, sessions=2, threads=1)
        self.addCleanup(self.model.close)
        self.freed = []
        for name in ("lsk_session_close", "lsk_model_close"):
            patch = mock.patch.object(layerskip.lib, name, self.noted(name, getattr(layerskip.lib, name)))
            patch.start()
            self.addCleanup(patch.stop)

    def noted(self, name, function):
        def call(handle):
            self.freed.append(name)
            function(handle)
        return call

    def in_a_thread(self, function):
        """Starts it, and gives it the time to arrive at the model's lock; the list has the error that it ended with."""
        errors = []

        def call():
            try:
                function()
            except Exception as e:
                errors.append(e)

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.1)
        return thread, errors

    def in_a_call(self, function):
        """Runs it while the library reads this model: in the first callback of one."""
        rows = []
        with self.model.session() as session:
            session.logits(self.model.tokenize("Once upon"), lambda i, row: rows.append(i) or (i == 0 and function(session) and False))
            self.assertEqual(rows, list(range(len(self.model.tokenize("Once upon")))))

    def test_a_session_closed_before_its_step_has_the_lock(self):
        for what in ("session", "model"):
            session = self.model.session()
            session.prompt("Once", max_tokens=3, ignore_eos=True)
            with self.model._lock:
                thread, errors = self.in_a_thread(lambda s=session: layerskip.step([s]))
                (session if what == "session" else self.model).close()
            thread.join()
            self.assertEqual([(type(e), str(e)) for e in errors], [(ValueError, f"the {what} is closed")])

    def test_callbacks_cannot_close_what_calls_them(self):
        def close(session):
            for what, name in ((session, "session"), (self.model, "model")):
                with self.assertRaisesRegex(ValueError, f"the {name} is in use"):
                    what.close()

        self.in_a_call(close)
        self.assertEqual(self.freed, ["lsk_session_close"])
        with self.model.session() as session, self.assertRaisesRegex(ValueError, "in use"):
            session.logits([1, 2], lambda i, row: session.close())
        self.model.close()
        self.assertEqual(self.freed, ["lsk_session_close"] * 2 + ["lsk_model_close"])

    def test_another_thread_waits_with_closing(self):
        threads, encode = [], layerskip.lib.lsk_encode

        def slow(*arguments):
            threads.append(self.in_a_thread(self.model.close))
            self.assertEqual(self.freed, [])
            return encode(*arguments)

        with mock.patch.object(layerskip.lib, "lsk_encode", slow):
            self.assertEqual(len(self.model.tokenize("a")), 2)
        threads[0][0].join()
        self.assertEqual((threads[0][1], self.freed), ([], ["lsk_model_close"]))

    def test_a_model_is_not_closed_below_a_session_that_opens(self):
        with self.model._lock:
            thread, errors = self.in_a_thread(self.model.close)
            session = self.model.session()
        thread.join()
        self.assertEqual((errors, self.freed), ([], ["lsk_session_close", "lsk_model_close"]))
        with self.assertRaisesRegex(ValueError, "closed"):
            session.generate("x")

    def test_garbage_of_a_call_is_freed_behind_it(self):
        others = [self.model.session()]
        others[0].itself = others[0]

        def collect(session):
            others.clear()
            gc.collect()
            self.assertEqual(self.freed, [])

        self.in_a_call(collect)
        self.assertEqual(self.freed, ["lsk_session_close"] * 2)
        with self.model.session(), self.model.session():  # its place is free
            pass

    def test_garbage_of_another_thread_waits_for_no_lock(self):
        sessions = [self.model.session()]
        with self.model._lock:
            thread, _ = self.in_a_thread(sessions.clear)
            self.assertFalse(thread.is_alive())
            self.assertEqual(self.freed, [])
        thread.join()
        with self.model.session(), self.model.session():
            self.assertEqual(self.freed, ["lsk_session_close"])

    def test_garbage_closes_sessions_before_their_model(self):
        session = Model(self.path, device="cpu", context=16, threads=1).session()
        session.itself = session
        del session
        gc.collect()
        self.assertEqual(self.freed, ["lsk_session_close", "lsk_model_close"])


class RealModel(unittest.TestCase):
    def test_smollm2(self):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = Path(os.environ.get("LAYERSKIP_TEST_MODEL") or cache / "layerskip/SmolLM2-135M-Instruct.Q4_1.gguf")
        if not path.exists():
            print(f"skipped: {path} is not there: scripts/smollm2.sh gets it")
            self.skipTest("no model")
        with Model(path, device="cpu", context=128) as model:
            chat = model.chat([{"role": "user", "content": "What is the capital of France?"}])
            reply = model.generate(chat, max_tokens=24)
            self.assertIn("<|im_start|>user\nWhat is", chat.text)
            self.assertGreater(len(reply.tokens), 4)
            self.assertEqual(model.generate(chat, max_tokens=24, exit_layer=20, num_speculations=3).tokens, reply.tokens)


if __name__ == "__main__":
    unittest.main()
