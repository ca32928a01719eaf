#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Free text to train on, from Debian packages:  scripts/model_texts.py FOLDER_OF_DEBS OUT [--bytes N]

Writes OUT/prose.jsonl, docs.jsonl, code.jsonl and words.jsonl, a document {"text"} in every line, at most N bytes of text each, and OUT/held.txt: every 8th document
of the prose, which is never trained on. Packages are opened, not installed. What is not there is left out. All of them may be used, changed and passed on, in weights too:

    r-cran-janeaustenr      six novels of Jane Austen, a chapter a document: public domain
    jargon-text             The Jargon File: public domain
    python3.11-doc          Python's documentation: PSF licence
    postgresql-doc-15       PostgreSQL's documentation: PostgreSQL licence
    libpython3.11-stdlib    Python's library: PSF licence
    wordnet-base            WordNet's glosses: WordNet licence
"""
import argparse
import gzip
import html.parser
import io
import json
import re
import subprocess
import tarfile
import zlib
from pathlib import Path

HELD_EVERY = 8


def members(package, folder, pattern):
    """(name, bytes) of the package's files, in order of their names."""
    for deb in sorted(folder.glob(f"{package}_*.deb"))[:1]:
        raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            for m in sorted(tar.getmembers(), key=lambda m: m.name):
                if m.isfile() and re.search(pattern, m.name):
                    data = tar.extractfile(m).read()
                    yield m.name, gzip.decompress(data) if m.name.endswith(".gz") else data


def utf8(data):
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\0", "")


def unwrap(lines):
    """Paragraphs of lines that were broken for print."""
    return "\n\n".join(" ".join(p.split()) for p in "\n".join(lines).split("\n\n") if p.strip())


def novels(folder):
    """The package keeps each novel as an R vector of lines: zlib behind a length of four bytes; in it every string is a mark, a length and bytes."""
    for _, data in members("r-cran-janeaustenr", folder, r"/data/Rdata\.rdb$"):
        while len(data) > 4:
            d = zlib.decompressobj()
            raw, data = d.decompress(data[4:]), d.unused_data
            lines, at = [], raw.find(b"\0\x04\0\x09")
            while at >= 0:
                n = int.from_bytes(raw[at + 4:at + 8], "big")
                lines.append(raw[at + 8:at + 8 + n].decode("utf-8", "replace"))
                at = raw.find(b"\0\x04\0\x09", at + 8 + n)
            if len(lines) > 1000:
                yield lines


def prose(folder):
    for lines in novels(folder):
        yield from re.split(r"\n\n(?=CHAPTER |Chapter |VOLUME )", re.sub(r"_(\w[^_]*)_", r"\1", unwrap(lines)))
    for _, data in members("jargon-text", folder, r"jargon\.txt\.gz$"):
        entries = [p for p in unwrap(utf8(data).splitlines()).split("\n\n") if len(p.split()) > 15]
        for i in range(0, len(entries), 10):
            yield "\n\n".join(entries[i:i + 10])


class Text(html.parser.HTMLParser):
    BLOCKS = {"p", "div", "li", "h1", "h2", "h3", "h4", "pre", "tr", "dt", "dd", "br"}

    def __init__(self):
        super().__init__()
        self.out, self.skip, self.pre = [], 0, 0

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "style", "head") or ("class", "navheader") in attrs or ("class", "navfooter") in attrs or (self.skip and tag == "div"):
            self.skip += 1
        self.pre += tag == "pre"
        self.out += ["\n"] if tag in self.BLOCKS else []

    def handle_endtag(self, tag):
        if self.skip and tag in ("script", "style", "head", "div"):
            self.skip -= 1
        self.pre -= tag == "pre"
        self.out += ["\n"] if tag in self.BLOCKS else []

    def handle_data(self, data):
        if not self.skip:
            self.out.append(data if self.pre else re.sub(r"\s+", " ", data))


def docs(folder):
    for name, data in members("python3.11-doc", folder, r"/_sources/.*\.txt$"):
        yield utf8(data)
    for name, data in members("postgresql-doc-15", folder, r"/html/[a-z].*\.html$"):
        if not re.search(r"/(bookindex|release-|features)", name):
            t = Text()
            t.feed(utf8(data))
            yield re.sub(r"\n[ \n]*\n", "\n\n", "".join(t.out)).strip()


def code(folder):
    for name, data in members("libpython3.11-stdlib", folder, r"\.py$"):
        if not re.search(r"/(pydoc_data|encodings|test)/", name):
            yield utf8(data)


def words(folder):
    """"noun: gloss", some in every document."""
    lines = []
    for _, data in members("wordnet-base", folder, r"/wordnet/data\.noun$"):
        for line in utf8(data).splitlines():
            m = re.match(r"\d{8} \d\d n [0-9a-f]{2} ([A-Za-z_]+) .*?\| (.*)", line)
            if m:
                lines.append(f"{m.group(1).replace('_', ' ')}: {m.group(2).strip()}")
    for i in range(0, len(lines), 30):
        yield "\n".join(lines[i:i + 30])


def thin(texts, limit):
    """At most `limit` bytes of documents, from all parts of a collection: each is taken whose bytes still fit in the share that is due by then."""
    sizes = [len(t.encode()) for t in texts]
    total, seen, used, kept = sum(sizes), 0, 0, []
    for text, size in zip(texts, sizes):
        seen += size
        if (used + size) * total <= min(limit, total) * seen:
            used += size
            kept.append(text)
    return kept


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("debs", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--bytes", type=int, default=1 << 40)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for kind in (prose, docs, code, words):
        texts = [t for t in kind(a.debs) if t.strip()]
        if kind is prose and texts:
            (a.out / "held.txt").write_text("\n\n".join(texts[::HELD_EVERY]) + "\n")
            del texts[::HELD_EVERY]
        texts = thin(texts, a.bytes)
        if texts:
            (a.out / f"{kind.__name__}.jsonl").write_text("".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts))
        print(f"{kind.__name__}: {len(texts)} documents, {sum(len(t.encode()) for t in texts)} bytes")


if __name__ == "__main__":
    main()
