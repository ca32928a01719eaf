#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small free stand-ins for data sets that cannot be passed on, from Debian packages:  scripts/standin_sets.py FOLDER_OF_DEBS OUT [--rows N]

They have the layouts of the published sets, so that `layerskip benchmark` can be tried and speeds be compared; their scores are not those of the published sets, and the files' names say so.
Packages are opened, not installed (`apt-get download r-cran-janeaustenr libpython3.11-stdlib wordnet-base` gets them); what is not there is left out:

    standin-cnn_dm.jsonl      --dataset cnn_dm_summarization, cnn_dm_lm   chapters of Jane Austen's novels; the "highlights" are a chapter's first sentence (public domain)
    standin-human_eval.jsonl  --dataset human_eval                        functions of Python's library whose documentation has examples: those are the tests (PSF licence)
    standin-words.jsonl       --dataset custom_jsonl                      WordNet's words and what they mean (WordNet licence)
"""
import argparse
import ast
import contextlib
import doctest
import io
import json
import random
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import model_texts

ARTICLE_WORDS = 300
LEFT_OUT = r"/(test|idlelib|lib2to3|encodings|pydoc_data|distutils|tkinter|turtledemo|multiprocessing|asyncio)/"


def chapters(debs):
    """A chapter's beginning behind its first sentence, and that sentence."""
    for lines in model_texts.novels(debs):
        for chapter in re.split(r"\n\n(?=CHAPTER |Chapter |VOLUME )", model_texts.unwrap(lines))[1:]:
            text = " ".join(re.sub(r"_(\w[^_]*)_", r"\1", chapter).split("\n\n")[1:])
            first = re.match(r"[A-Z\"].{20,400}?[.?!]\"?(?= )", text)
            rest = text[first.end():].split()[:ARTICLE_WORDS] if first else []
            if len(rest) == ARTICLE_WORDS:
                yield {"article": " ".join(rest), "highlights": first.group()}


def example_lines(source, name, examples):
    """The examples as lines of a test, up to the first that does not hold: what follows may build on it."""
    space, lines = {"__name__": "standin"}, []
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):  # it may need more than itself
        exec(source, space)
        for e in examples:
            if e.want and len(e.source.strip().splitlines()) == 1:
                if repr(eval(e.source, space)) != e.want.strip():
                    break
                lines.append(f"assert repr({e.source.strip()}) == {e.want.strip()!r}")
            elif not e.want:
                exec(e.source, space)
                lines += e.source.strip().splitlines()
            else:
                break
    return [line.replace(f"{name}(", "candidate(") for line in lines]


def holds(program, name):
    """Does the test that ends the program hold for its function?"""
    space = {"__name__": "standin"}
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
        exec(program, space)
        space["check"](space[name])
        return True
    return False


def functions(debs):
    """Functions that stand alone: what they import, their head and documentation are the prompt."""
    for path, data in model_texts.members("libpython3.11-stdlib", debs, r"\.py$"):
        text = model_texts.utf8(data)
        if re.search(LEFT_OUT, path) or ">>>" not in text:
            continue
        module = ast.parse(text)
        imports = [ast.unparse(n) for n in module.body if isinstance(n, ast.Import)]
        for f in module.body:
            if not isinstance(f, ast.FunctionDef) or ">>>" not in (ast.get_docstring(f) or "") or len(f.body) < 2 or f.decorator_list:
                continue
            body = "".join(text.splitlines(keepends=True)[f.body[0].end_lineno:f.end_lineno])
            used = [i for i in imports if re.search(r"\b%s\." % re.escape(i.split()[-1]), body)]
            head = "".join(line + "\n" for line in used) + "\n" * bool(used) + "".join(text.splitlines(keepends=True)[f.lineno - 1:f.body[0].end_lineno])
            tests = example_lines(head + body, f.name, doctest.DocTestParser().get_examples(ast.get_docstring(f)))
            test = "def check(candidate):\n" + "".join(f"    {line}\n" for line in tests or ["pass"])
            if holds(head + body + test, f.name) and not holds(head + "    pass\n" + test, f.name):
                yield {"task_id": f"standin/{Path(path).stem}.{f.name}", "prompt": head, "canonical_solution": body, "entry_point": f.name, "test": test}


def words(debs):
    for _, data in model_texts.members("wordnet-base", debs, r"/wordnet/data\.noun$"):
        for line in model_texts.utf8(data).splitlines():
            m = re.match(r"\d{8} \d\d n [0-9a-f]{2} ([a-z_]{4,}) .*?\| ([^;]{20,120})$", line)
            if m:
                yield {"prompt": f"{m.group(1).replace('_', ' ')} (noun):", "response": " " + m.group(2).strip()}


SETS = {"cnn_dm": chapters, "human_eval": functions, "words": words}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("debs", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--rows", type=int, default=50, help="at most so many in each set, drawn by a fixed seed (default 50)")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for name, make in SETS.items():
        rows = list(make(a.debs))
        rows = [rows[i] for i in sorted(random.Random(1).sample(range(len(rows)), min(a.rows, len(rows))))]
        if rows:
            (a.out / f"standin-{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        print(f"standin-{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
