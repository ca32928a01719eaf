#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether transformers accepts as many drafts of a Hugging Face folder as this program does: `generate(assistant_early_exit=E)` with confidence threshold 0 and a constant schedule
against `layerskip run --drafter exit`, both greedy and in float32, on the same prompts. Needs torch and transformers.

    scripts/acceptance.py FOLDER [--exit-layer E] [--drafts D] [--tokens N] [--prompts FILE] [--special] [--within SHARE] [--program PROGRAM]

Prints both rates (accepted drafts of all that were submitted) and how many texts are equal; exit status 1 when the rates differ by more than SHARE."""
import argparse
import json
import subprocess
import sys
from pathlib import Path

try:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.generation.candidate_generator import EarlyExitCandidateGenerator as Generator
except ImportError as e:
    sys.exit(print(f"skipped: {e}; torch and transformers are needed") or 77)

PROMPTS = ["Once upon a time", "The history of the", "def add(a, b):", "In the morning the", "A list of things:"]


def program(a, command, prompt, *options):
    return subprocess.run([a.program, command, "-m", a.folder, "-p", prompt, "--device", "cpu", *(["--special"] if a.special else []), *options], capture_output=True, text=True, check=True)


def ours(a, prompt):
    """(drafted, accepted, text) of one reply."""
    r = program(a, "run", prompt, "-n", str(a.tokens), "--temp", "0", "--ignore-eos", "--compute", "f32", "--kv", "f32", "--drafter", "exit", "--exit-layer", str(a.exit_layer),
                "--num-speculations", str(a.drafts), "--stats", "json", "--no-progress")
    stats = json.loads(r.stderr.splitlines()[-1])
    return stats["drafted"], stats["accepted"], r.stdout


def count(generator):
    """What the generator proposes, and what of it the model takes, added up in the two numbers returned."""
    seen = [0, 0]
    propose, learn = generator.get_candidates, generator.update_candidate_strategy

    def get_candidates(self, input_ids, **rest):
        out = propose(self, input_ids, **rest)
        seen[0] += out[0].shape[1] - input_ids.shape[1]
        return out

    def update_candidate_strategy(self, input_ids, scores, num_matches):
        seen[1] += int(num_matches)
        return learn(self, input_ids, scores, num_matches)

    generator.get_candidates, generator.update_candidate_strategy = get_candidates, update_candidate_strategy
    return seen


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--exit-layer", type=int)
    p.add_argument("--drafts", type=int, default=4)
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--prompts", type=Path)
    p.add_argument("--special", action="store_true")
    p.add_argument("--within", type=float, default=0.02)
    p.add_argument("--program", default=str(Path(__file__).resolve().parents[1] / "build/layerskip"))
    a = p.parse_args()
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(a.folder, dtype=torch.float32)
    a.exit_layer = a.exit_layer or max(1, model.config.num_hidden_layers // 4)
    model.generation_config.eos_token_id = None
    settings = dict(do_sample=False, max_new_tokens=a.tokens, pad_token_id=0)
    early = dict(num_assistant_tokens=a.drafts, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0)
    model.generation_config.update(**early)  # given to generate() they are not looked at: the drafter reads its model's own settings
    seen, drafted, accepted, equal = count(Generator), 0, 0, 0
    prompts = [line for line in a.prompts.read_text().splitlines() if line] if a.prompts else PROMPTS
    for prompt in prompts:
        n, m, text = ours(a, prompt)
        drafted, accepted = drafted + n, accepted + m
        ids = torch.tensor([[int(i) for i in program(a, "tokenize", prompt, "--ids").stdout.split()]])
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), **settings, assistant_early_exit=a.exit_layer)[0]
        plain = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0]
        assert theirs.tolist() == plain.tolist(), "transformers' own early exit changes its text"
        whole = program(a, "run", prompt, "-n", str(a.tokens), "--temp", "0", "--ignore-eos", "--compute", "f32", "--kv", "f32", "--num-speculations", "0", "--stats", "none", "--no-progress").stdout
        assert whole == text, "drafted text differs from plain text"
        equal += text.rstrip("\n") == decode(a, theirs[ids.shape[1]:]).rstrip("\n")
    rate = {"layerskip": accepted / max(1, drafted), "transformers": seen[1] / max(1, seen[0])}
    print(f"exit layer {a.exit_layer} of {model.config.num_hidden_layers}, {a.drafts} drafts, {len(prompts)} prompts, {a.tokens} tokens each: acceptance rate "
          f"{rate['layerskip']:.4f} ({accepted} / {drafted}) here, {rate['transformers']:.4f} ({seen[1]} / {seen[0]}) in transformers; {equal} of {len(prompts)} texts are equal")
    if not drafted or not seen[0]:
        sys.exit("nothing was drafted")
    return abs(rate["layerskip"] - rate["transformers"]) > a.within


def decode(a, ids):
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(a.folder).decode(ids, skip_special_tokens=not a.special, clean_up_tokenization_spaces=False)


if __name__ == "__main__":
    sys.exit(main())
