#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ROUGE and BLEU of tests/tools/metrics.jsonl, which test_metrics holds the program's own to, are what the PyPI packages rouge-score and sacrebleu give for these texts.
Skips where the packages cannot be had. `--record` writes the file anew."""
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "text"))
import fetch

RECORD = HERE / "metrics.jsonl"
PACKAGES = ["rouge-score==0.1.2", "sacrebleu==2.6.0"]
WORDS = {
    "english": "the quick brown fox, jumps over a lazy dog. It's U.S. 3,000.5 10-20 e-mail (see [1]) \"well-known\" state-of-the-art $5.00 50% A/B x_y z@w.org #1 ~ ^ | {a} <b> 1.2.3 ,5 5, .".split(),
    "european": "größe Straße naïve café œuvre ł señor İstanbul \u212aelvin Ελλάδα слово речь; Ещё».".split(),
    "asian": "東京は 日本の首都。 中文，测试 문장을 비교 한다. ไทย हिन्दी शब्द العربية، كلمة עברית".split(),
    "marks": ["&quot;x&quot;", "&amp;lt;", "&lt;", "&gt;", "<skipped>", "a-\nb", "end\n", "\u00a0", "x\u2003y", "\u3000", "🙂", "e\u0301", "\t", "-<skipped>\n", "\r\n", "\u0085z", "\x1c", "9.", ".9", "4-", "-4"],
}
FIXED = [("", ""), ("", "a"), ("a", ""), ("a", "a"), ("a b", "a b"), ("a b c", "a b c"), ("a b c d", "a b c d"), ("...", "..."), (" ", "\n"), ("日本", "日本"), ("A a", "a A"),
         ("end-\n", "end-"), ("the cat sat on the mat", "the the the the the the the"), ("x", "x " * 40), ("ok .", "ok.")]


def pairs():
    r = random.Random(7)
    every = sum(WORDS.values(), [])
    for i in range(200 - len(FIXED)):
        words = every if i % 5 == 0 else WORDS["english"] + (WORDS["marks"] if i % 5 == 1 else WORDS["european"] if i % 5 == 2 else WORDS["asian"] if i % 5 == 3 else [])
        reference = [r.choice(words) for _ in range(r.randint(1, 20))]
        reply = list(reference)
        for _ in range(r.randint(0, 6)):
            at = r.randrange(len(reply) + 1)
            reply[at:at + r.randint(0, 2)] = [r.choice(words) for _ in range(r.randint(0, 2))]
        if i % 7 == 0:
            r.shuffle(reply)
        yield " ".join(reference), " ".join(reply)
    yield from FIXED


def measure(rows):
    import sacrebleu
    from rouge_score import rouge_scorer
    names = ["rouge1", "rouge2", "rouge3", "rougeL"]
    rouge = rouge_scorer.RougeScorer(names)
    for reference, reply in rows:
        scores = rouge.score(reference, reply)
        yield {"reference": reference, "reply": reply, "rouge": [scores[n].fmeasure for n in names], "bleu": sacrebleu.sentence_bleu(reply, [reference]).score}
    yield {"corpus_bleu": sacrebleu.corpus_bleu([p for _, p in rows], [[r for r, _ in rows]]).score}


def main():
    try:
        fetch.into_environment("metrics", PACKAGES)
    except fetch.Unavailable as why:
        print(f"skipped: {why}\n[  SKIPPED ] rouge_and_bleu_of_the_packages")
        return 77
    rows = list(pairs())
    lines = [json.dumps(row, ensure_ascii=False) for row in measure(rows)]
    if sys.argv[1:] == ["--record"]:
        RECORD.write_text("\n".join(lines) + "\n")
    recorded = [json.loads(line) for line in RECORD.read_text().split("\n") if line]
    wrong = 0
    for want, have in zip(map(json.loads, lines), recorded, strict=True):
        near = lambda a, b: abs(a - b) < 1e-9 if isinstance(a, float) else a == b
        same = want.keys() == have.keys() and all(all(map(near, want[k], have[k])) if isinstance(want[k], list) else near(want[k], have[k]) for k in want)
        wrong += not same
        if not same:
            print(f"recorded {have}\nthe packages give {want}")
    print(f"{len(rows)} pairs, {wrong} wrong")
    return wrong > 0 or len(rows) < 200


if __name__ == "__main__":
    sys.exit(main())
