#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed beside llama.cpp: the same GGUF files, threads, tokens and contexts, each program with its model loaded, measured in turns.

    bench/llama_cpp.py [FILE.gguf ...] [--runs 7] [--threads N] [--llama LIBRARY] [--kernels avx2] [--scratch FOLDER]

Without files: SmolLM2-135M and a synthetic llama3.2-1b shape with random weights, of each of TYPES that `layerskip quantize` can write, made in the scratch folder.
llama.cpp is a shared library that has its C interface: PyPI's xllamacpp by default (pip install xllamacpp, in the Python that runs this), or a build of one's own,
which may use instructions that the wheel does not. It is called as its own llama-bench does: defaults throughout, its weights repacked at load where it does that.

What is measured, by the clock, on either side:
    prompt N  a prompt of N tokens, in the program's own batches: ours without a head; theirs with logits of the last token alone
    reply N   N tokens one after the other behind a context: ours with the greedy choice, theirs up to the logits
    rows N    N tokens at once behind the context, logits of each: ours with N greedy choices, theirs up to the logits
The ratio is the median over the runs of their time over ours, run by run; the goals are issue 5's.
"""
import argparse
import ctypes
import glob
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONTEXT = 256
TYPES = ("q8_0", "q4_0", "q4_k")
TESTS = (("prompt 512", 1.0), ("reply 32", 1.0), ("rows 4", 1.5), ("rows 8", 1.5))
REPEAT = {"rows": 5, "reply": 1, "prompt": 1}  # a short test is the median of so many


class Opaque(ctypes.Structure):
    """Parameters whose members differ from version to version. They go by value, in memory, so that a structure that is too large serves; of a context's the first is its size."""

    _fields_ = [("word", ctypes.c_uint32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p), ("pos", ctypes.POINTER(ctypes.c_int32)),
                ("n_seq_id", ctypes.POINTER(ctypes.c_int32)), ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


FUNCTIONS = {  # name: (result, arguments)
    "llama_backend_init": (None, ()), "llama_log_set": (None, (ctypes.c_void_p, ctypes.c_void_p)), "llama_print_system_info": (ctypes.c_char_p, ()),
    "llama_model_default_params": (Opaque, ()), "llama_context_default_params": (Opaque, ()),
    "llama_model_load_from_file": (ctypes.c_void_p, (ctypes.c_char_p, Opaque)), "llama_init_from_model": (ctypes.c_void_p, (ctypes.c_void_p, Opaque)),
    "llama_n_ctx": (ctypes.c_uint32, (ctypes.c_void_p,)), "llama_set_n_threads": (None, (ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)),
    "llama_batch_init": (Batch, (ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)), "llama_decode": (ctypes.c_int32, (ctypes.c_void_p, Batch)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (ctypes.c_void_p, ctypes.c_int32)),
    "llama_get_memory": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "llama_memory_seq_rm": (ctypes.c_bool, (ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)),
}
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class Llama:
    """llama.cpp with a model: prompt, reply and rows in seconds."""

    def __init__(self, library, path, threads, text):
        self.lib = ctypes.CDLL(library)
        for name, (result, arguments) in FUNCTIONS.items():
            f = getattr(self.lib, name)
            f.restype, f.argtypes = result, arguments
        self.quiet = LOG(lambda level, line, data: None)
        self.lib.llama_log_set(ctypes.cast(self.quiet, ctypes.c_void_p), None)
        self.lib.llama_backend_init()
        model = self.lib.llama_model_load_from_file(path.encode(), self.lib.llama_model_default_params())
        params = self.lib.llama_context_default_params()
        params.word[0] = size = 1024
        self.context = model and self.lib.llama_init_from_model(model, params)
        if not self.context or self.lib.llama_n_ctx(self.context) != size:
            sys.exit(f"{library}: {path}: no context of {size} tokens: another version of its interface?")
        self.lib.llama_set_n_threads(self.context, threads, threads)
        self.batch, self.text, self.length = self.lib.llama_batch_init(512, 0, 1), text, 0
        self.prompt(CONTEXT)

    def decode(self, start, n, logits):
        """Tokens [start, start + n) of the text; what lay there before goes first, unmeasured."""
        if self.length > start:
            self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(self.context), 0, start, -1)
        b = self.batch
        b.n_tokens = n
        for i in range(n):
            b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0] = self.text[(start + i) % len(self.text)], start + i, 1, 0
            b.logits[i] = logits or i == n - 1
        begin = time.perf_counter()
        if self.lib.llama_decode(self.context, b) or not self.lib.llama_get_logits_ith(self.context, n - 1):
            sys.exit("llama_decode failed")
        self.length = start + n
        return time.perf_counter() - begin

    def prompt(self, n):
        seconds = sum(self.decode(at, min(512, n - at), False) for at in range(0, n, 512))
        if n < CONTEXT:
            self.prompt(CONTEXT)
        return seconds

    def reply(self, n):
        return sum(self.decode(CONTEXT + i, 1, True) for i in range(n))

    def rows(self, n):
        return self.decode(CONTEXT, n, True)


def serve(library, path, threads):
    """The other side of bench_rows --serve: tokens first, then a time for every line."""
    llama = Llama(library, path, threads, [int(i) for i in input().split()])
    print(llama.lib.llama_print_system_info().decode().strip(), flush=True)
    for line in sys.stdin:
        what, n = line.split()
        print(f"{getattr(llama, what)(int(n)):.9f}", flush=True)


class Side:
    """A process that answers a line with a line."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line):
        print(line, file=self.process.stdin, flush=True)

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended early")
        return line.strip()

    def seconds(self, test):
        times = []
        for _ in range(REPEAT[test.split()[0]]):
            self.tell(test)
            times.append(float(self.hear()))
        time.sleep(0.02)  # until its threads sleep
        return statistics.median(times)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(path, a):
    """Rows of the table for one file."""
    ours = Side([a.rows, path, "cpu", "file", "1", str(CONTEXT), "--serve", "--threads", str(a.threads), "--kernels", a.kernels])
    text = ours.hear()
    theirs = Side([sys.executable, os.path.abspath(__file__), path, "--llama", a.llama, "--threads", str(a.threads), "--serve"])
    theirs.tell(text)
    a.about = theirs.hear()
    for test, goal in TESTS:
        pairs = [(ours.seconds(test), theirs.seconds(test)) for _ in range(a.runs + 1)][1:]  # the first is to warm up
        n, per = int(test.split()[1]), statistics.median
        us, them = per(n / o for o, _ in pairs), per(n / t for _, t in pairs)
        ratios = sorted(t / o for o, t in pairs)
        ratio = per(ratios)
        print(f"| {os.path.basename(path)} | {test} | {us:.1f} | {them:.1f} | {ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | >= {goal} | {'yes' if ratio >= goal else 'NO'} |", flush=True)
    ours.close()
    theirs.close()


def make_files(a):
    """SmolLM2 and the 1B shape in each type; what is there already is used again."""
    tool = os.path.join(ROOT, "build", "layerskip")
    smollm2 = subprocess.run([os.path.join(ROOT, "scripts", "smollm2.sh")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    shape = os.path.join(a.scratch, "1b")
    types = [t for t in TYPES if t in subprocess.run([tool, "quantize", "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout]
    files = []
    for name, source in (("smollm2", smollm2), ("1b", shape)):
        for t in types:
            path = os.path.join(a.scratch, f"{name}-{t}.gguf")
            files.append(path)
            if os.path.exists(path):
                continue
            if source == shape and not os.path.exists(shape):
                subprocess.run([tool, "synth", "--shape", "llama3.2-1b", "--tie", shape], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([tool, "quantize", "--allow-requantize", source, path, t], check=True, stdout=subprocess.DEVNULL)
    return files


def find_wheel():
    spec = importlib.util.find_spec("xllamacpp")
    found = spec and glob.glob(os.path.join(os.path.dirname(spec.origin), "xllamacpp*.so"))
    return found[0] if found else None


def version_of(library):
    """Its package and version, where it is a wheel's."""
    if os.path.basename(library).startswith("xllamacpp"):
        from importlib.metadata import version

        return f"xllamacpp {version('xllamacpp')}"
    return os.path.realpath(library)


def processor():
    with open("/proc/cpuinfo") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="*")
    p.add_argument("--runs", type=int, default=7)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--llama", default=find_wheel(), help="a library with llama.cpp's C interface")
    p.add_argument("--kernels", default="auto", help="ours: auto, avx2, avx512")
    p.add_argument("--rows", default=os.path.join(ROOT, "build", "bench", "bench_rows"), help="our side")
    p.add_argument("--scratch", default=os.path.join(tempfile.gettempdir(), "layerskip-llama-cpp"))
    p.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if not a.llama:
        sys.exit("llama.cpp is not here: pip install xllamacpp, or name a library with --llama")
    if a.serve:
        return serve(a.llama, a.files[0], a.threads)
    os.makedirs(a.scratch, exist_ok=True)
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True).stdout.strip()
    print(f"{processor()}, {a.threads} threads; layerskip {commit}, kernels {a.kernels}; llama.cpp: {version_of(a.llama)}; {a.runs} runs in turns, context {CONTEXT}; tokens/s\n")
    print("| file | test | layerskip | llama.cpp | ratio (least to most) | goal | met |\n| --- | --- | --: | --: | --: | --: | --- |", flush=True)
    for path in a.files or make_files(a):
        measure(path, a)
    print(f"\nllama.cpp says: {a.about}")


if __name__ == "__main__":
    main()
