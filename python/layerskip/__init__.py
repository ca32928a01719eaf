# SPDX-License-Identifier: Apache-2.0
"""LayerSkip and other Llama-type models with exact self-speculative decoding.

    from layerskip import Model

    with Model("model.gguf", context=2048) as model, model.session() as session:
        for piece in session.stream("Once upon a time", max_tokens=100, exit_layer=8):
            print(piece, end="", flush=True)
        print(session.stats.acceptance_rate)
"""
from __future__ import annotations

import ctypes
import json
import operator
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Generator, Iterator, NamedTuple, Sequence, Union

from . import _abi
from ._abi import ChatOptions, Finish, GenerateOptions, Memory, ModelInfo, ModelOptions, Status, SynthOptions
from ._library import Callback, LayerskipError, check, fill, ids_of, lib, raise_error, read, text_of

__version__ = _abi.VERSION

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["Chat", "ChatOptions", "Event", "Finish", "GenerateOptions", "LayerskipError", "Memory", "Model", "ModelInfo", "ModelOptions", "Reply", "Session", "Stats", "Status",
           "SynthOptions", "library_version", "step", "synth"]


def library_version() -> str:
    version: bytes = lib.lsk_version()
    return version.decode()


class Stats(_abi.Stats):
    """What a reply took: the fields of lsk_stats, and what follows from them."""

    @property
    def acceptance_rate(self) -> float:
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.reply_tokens * 1e9 / self.reply_ns if self.reply_ns else 0.0


class Event(NamedTuple):
    """One token that joined the reply, or (token -1) its end with the text that was held back."""

    token: int
    text: str
    drafted: bool
    logprob: float
    finish: Finish
    top: tuple[tuple[int, float], ...]  # with n_probs: the most probable tokens here and their log-probabilities
    error: str  # with Finish.ERROR: why


@dataclass(frozen=True)
class Reply:
    text: str
    tokens: list[int]
    finish: Finish
    stats: Stats


@dataclass(frozen=True)
class Chat:
    """A conversation as the model was taught to read it: a prompt. `end` is the token that ends the assistant's message, -1: none."""

    text: str
    tokens: list[int]
    end: int


Prompt = Union[str, Sequence[int], Chat]
Progress = Callable[[str, int, int], Any]


def _with_progress(struct: Any, progress: Progress | None) -> Callback:
    """Sets a struct's progress; a true value of the Python function stops the work."""
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: must be a function, not {type(progress).__name__}")
    callback = Callback(_abi.lsk_progress_fn, lambda what, done, total: progress(what.decode(), done, total) if progress else False)
    if progress:
        struct.progress = callback.pointer
    return callback


class Model:
    """Weights on a device, with their tokenizer. Options are those of lsk_model_options (layerskip(3)). Threads may share a model; it does one thing at a time."""

    def __init__(self, path: Any, *, progress: Progress | None = None, **options: Unpack[ModelOptions]):
        self._handle: int | None = None
        self._sessions: set[int] = set()  # handles of those that are open
        self._left: list[int] = []  # handles of those that are garbage, to be closed between two calls
        self._calls = 0  # of the library that have not returned: more than one where a callback calls it
        self._lock = threading.RLock()
        error, o = _abi.lsk_error(), fill(_abi.lsk_model_options, dict(options))
        callback = _with_progress(o, progress)
        handle = lib.lsk_model_open(text_of(path, "path"), ctypes.byref(o), ctypes.byref(error))
        if not handle:
            callback.finish()
            raise_error(error)
        self._handle = handle

    def close(self) -> None:
        """Gives the memory back; sessions that are still open are closed first. Waits for other threads' calls; ValueError in a callback of this model."""
        with self._lock:
            if not self._handle:
                return
            self._idle("model")
            handle, self._handle = self._handle, None
            sessions, self._sessions = self._sessions, set()
            for session in sessions:
                lib.lsk_session_close(session)
            lib.lsk_model_close(handle)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    def _open(self) -> int:
        if not self._handle:
            raise ValueError("the model is closed")
        return self._handle

    @contextmanager
    def _call(self) -> Iterator[int]:
        """Around every use of a handle of this model: nobody closes one meanwhile."""
        with self._lock:
            self._close_left()
            self._calls += 1
            try:
                yield self._open()
            finally:
                self._calls -= 1
                self._close_left()

    def _idle(self, what: str) -> None:
        if self._calls:
            raise ValueError(f"the {what} is in use: close it when the call that this callback is part of has returned")

    def _close_session(self, handle: int) -> None:
        if handle in self._sessions:  # else the model's close() was first
            self._sessions.remove(handle)
            lib.lsk_session_close(handle)

    def _close_left(self) -> None:
        if not self._calls:
            with suppress(IndexError):  # garbage may come and go at any line, so that there is no looking first
                while True:
                    self._close_session(self._left.pop())

    def _leave(self, handle: int) -> None:
        """Closes a session that is garbage, at once where the lock is free: the collector runs in any thread, with any lock held, and must not wait."""
        self._left.append(handle)
        if self._lock.acquire(blocking=False):
            try:
                self._close_left()
            finally:
                self._lock.release()

    @property
    def info(self) -> ModelInfo:
        with self._call() as handle:
            return read(lib.lsk_model_about(handle).contents, ModelInfo)

    def tokenize(self, text: str | bytes, *, bos: bool = True, special: bool = False, replace: bool = False) -> list[int]:
        """bos: begin with the beginning-of-text token where the model asks for it. special: "<|im_start|>" and the like become their tokens. replace: bytes that are not UTF-8 become U+FFFD."""
        if not isinstance(text, (str, bytes)):
            raise TypeError(f"text: must be str or bytes, not {type(text).__name__}")
        data = text.encode() if isinstance(text, str) else text
        flags = _abi.LSK_ENCODE_BOS * bos | _abi.LSK_ENCODE_SPECIAL * special | _abi.LSK_ENCODE_REPLACE * replace
        n = len(data) // 2 + 8  # a guess; the library says how many there are
        while True:
            tokens, error = (ctypes.c_int32 * n)(), _abi.lsk_error()
            with self._call() as handle:
                found = check(lib.lsk_encode(handle, data, len(data), flags, tokens, n, ctypes.byref(error)), error)
            if found <= n:
                return tokens[:found]
            n = found

    def piece(self, token: int) -> bytes:
        """The bytes of one token, perhaps a part of a character."""
        n = ctypes.c_size_t()
        with self._call() as handle:
            address = lib.lsk_piece(handle, operator.index(token), ctypes.byref(n))
            if not address:
                raise ValueError(f"token {token}: this model has 0 to {self.info.n_vocab - 1}")
            return ctypes.string_at(address, n.value)

    def detokenize(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.piece, tokens)).decode(errors="replace")

    def chat(self, messages: Sequence[dict[str, Any]], **options: Unpack[ChatOptions]) -> Chat:
        """Messages, [{"role": "user", "content": "Hello"}], through the model's chat template: a prompt for generate() and stream(). `tools` and `variables` may be Python objects."""
        given = {k: json.dumps(v) if k in ("tools", "variables") and v is not None and not isinstance(v, str) else v for k, v in options.items()}
        error, o = _abi.lsk_error(), fill(_abi.lsk_chat_options, given)
        with self._call() as handle:
            made = lib.lsk_chat_render(handle, text_of(json.dumps(messages)), ctypes.byref(o), ctypes.byref(error))
        if not made:
            raise_error(error)
        c = made.contents
        chat = Chat(ctypes.string_at(c.text, c.n_text).decode(), c.tokens[:c.n_tokens], c.end)
        lib.lsk_chat_free(made)
        return chat

    def session(self) -> Session:
        return Session(self)

    def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Reply:
        """One reply in a session of its own."""
        with self.session() as session:
            return session.generate(prompt, **options)


class Session:
    """A text that grows: a prompt that continues it is not computed again. Options of replies are those of lsk_generate_options."""

    def __init__(self, model: Model):
        self._handle: int | None = None
        self.model = model
        error = _abi.lsk_error()
        with model._call() as handle:
            self._handle = lib.lsk_session_open(handle, ctypes.byref(error))
            if not self._handle:
                raise_error(error)
            model._sessions.add(self._handle)
        self._reply = 0  # number of the present reply: who streams an earlier one must not go on
        self._running = False

    def close(self) -> None:
        """Gives the memory back. Waits for other threads' calls; ValueError in a callback of this model."""
        with self.model._lock:
            if not self._handle:
                return
            self.model._idle("session")
            handle, self._handle = self._handle, None
            self.model._close_session(handle)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle:
            self.model._leave(handle)

    def _open(self) -> int:
        self.model._open()
        if not self._handle:
            raise ValueError("the session is closed")
        return self._handle

    @property
    def running(self) -> bool:
        """A reply has begun and not ended."""
        return self._running

    @property
    def stats(self) -> Stats:
        """Of the present reply."""
        with self.model._call():
            return read(lib.lsk_session_stats(self._open()).contents, Stats)

    def prompt(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> None:
        """Begins a reply, which step() makes; generate(), stream() and events() do both."""
        given: dict[str, Any] = dict(options)
        if isinstance(given.get("stop"), str):
            given["stop"] = [given["stop"]]
        if isinstance(prompt, Chat) and prompt.end >= 0:
            given["eos"] = [*(given.get("eos") or ()), prompt.end]
        tokens = ids_of(self.model.tokenize(prompt) if isinstance(prompt, str) else prompt.tokens if isinstance(prompt, Chat) else prompt, "prompt")
        error, o = _abi.lsk_error(), fill(_abi.lsk_generate_options, given)
        self._reply += 1
        self._running = False
        with self.model._call():
            check(lib.lsk_session_prompt(self._open(), tokens, len(tokens), ctypes.byref(o), ctypes.byref(error)), error)
        self._running = True

    def cancel(self) -> None:
        """Ends the present reply where it is; the text stays, and a prompt that continues it is not computed again."""
        self._running = False

    def events(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Generator[Event, None, None]:
        """The reply token by token; closing the generator cancels it."""
        self.prompt(prompt, **options)
        reply = self._reply
        try:
            while self._running and self._reply == reply:
                for _, event in step([self]):
                    yield event
                    if event.error:
                        raise LayerskipError(Status.EDATA, event.error)
        finally:
            if self._reply == reply:
                self.cancel()

    def stream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Generator[str, None, None]:
        """The reply's text as it comes, whole characters; closing the generator cancels it."""
        events = self.events(prompt, **options)
        try:
            yield from (event.text for event in events if event.text)
        finally:
            events.close()

    def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Reply:
        events = list(self.events(prompt, **options))
        return Reply("".join(e.text for e in events), [e.token for e in events if e.token >= 0], events[-1].finish if events else Finish.CANCELLED, self.stats)

    def logits(self, tokens: Sequence[int], each: Callable[[int, memoryview[float]], Any], *, depth: int = 0) -> None:
        """Calls each(i, logits of position i) for all of tokens; the view is valid during the call. A true value ends it. depth: after so many layers, 0: all."""
        def row(i: int, address: Any, n: int) -> Any:
            return each(i, memoryview((ctypes.c_float * n).from_address(ctypes.addressof(address.contents))).cast("B").cast("f"))  # ctypes has a format of its own

        ids, error, callback = ids_of(tokens, "tokens"), _abi.lsk_error(), Callback(_abi.lsk_logits_fn, row)
        self._running = False
        with self.model._call():
            result = lib.lsk_score(self._open(), ids, len(ids), depth, callback.pointer, None, ctypes.byref(error))
        callback.finish()
        check(result, error)


def step(sessions: Sequence[Session]) -> list[tuple[Session, Event]]:
    """One step for every session of one model whose reply is running, in one pass over the weights: a chunk of its prompt or one round. Each gets the text that it would get alone."""
    running = [s for s in sessions if s._running]
    if not running:
        return []
    found: list[tuple[Session, Event]] = []

    def take(event: Any) -> None:
        e = event.contents
        text = ctypes.string_at(e.text, e.n_text).decode() if e.n_text else ""
        top = tuple((t.token, t.logprob) for t in e.top[:e.n_top]) if e.n_top else ()
        found.append((running[e.session], Event(e.token, text, bool(e.drafted), e.logprob, Finish(e.finish), top, (e.error or b"").decode(errors="replace"))))

    error, callback = _abi.lsk_error(), Callback(_abi.lsk_emit_fn, take)
    with running[0].model._call():
        handles = (ctypes.c_void_p * len(running))(*[s._open() for s in running])
        result = lib.lsk_step(handles, len(running), callback.pointer, None, ctypes.byref(error))
    for session, event in found:
        session._running = session._running and event.finish == Finish.RUNNING
    if result < 0 or callback.raised:
        for session in running:
            session._running = False
    callback.finish()
    check(result, error)
    return found


def synth(folder: Any, *, progress: Progress | None = None, **options: Unpack[SynthOptions]) -> None:
    """Writes a checkpoint of random weights, synth("tiny-model", shape="tiny"): for tests and for speed at sizes whose weights one does not have."""
    error, o = _abi.lsk_error(), fill(_abi.lsk_synth_options, dict(options))
    callback = _with_progress(o, progress)
    result = lib.lsk_synth(text_of(folder), ctypes.byref(o), ctypes.byref(error))
    callback.finish()
    check(result, error)
