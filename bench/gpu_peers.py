#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What else does the same on this GPU: its ceilings by torch (reading, copying, the 8192-cube bf16 product), and transformers on the same checkpoint, greedy, plain and with
its own early-exit drafts. One JSON object a line on stdout; what cannot be measured here is a line with "error".

    bench/gpu_peers.py FOLDER IDS_FILE [--new 256] [--exit-layer 7] [--drafts 4] [--runs 3] [--only ceilings|transformers]
"""
import argparse
import json
import statistics
import time


def say(**fields):
    print(json.dumps(fields), flush=True)


def timed(torch, call, runs):
    """Median seconds, each run between two waits."""
    times = []
    for i in range(runs + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_ceilings(torch):
    say(what="device", name=torch.cuda.get_device_name(), torch=torch.__version__)
    n = 2 << 30
    x = torch.randn(n // 4, device="cuda", dtype=torch.float32).repeat(4)  # 8 GiB
    reads = {"sum": lambda: x.sum(), "max": lambda: x.max(), "norm": lambda: torch.linalg.vector_norm(x, ord=float("inf"))}
    rates = {name: 4 * n / timed(torch, call, 5) for name, call in reads.items()}
    best = max(rates, key=rates.get)
    say(what="read", gb_per_s=rates[best] / 1e9, how=best)
    y = torch.empty_like(x)
    say(what="copy", gb_per_s=8 * n / timed(torch, lambda: y.copy_(x), 5) / 1e9)
    del x, y
    torch.cuda.empty_cache()
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    say(what="product", tflops=2 * 8192**3 / timed(torch, lambda: a @ b, 20) / 1e12)


def load(torch, transformers, folder):
    start = time.perf_counter()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cuda")
    except TypeError:  # before transformers 5
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.bfloat16, device_map="cuda")
    torch.cuda.synchronize()
    say(what="transformers load", seconds=time.perf_counter() - start, version=transformers.__version__)
    return model.eval()


def measure_transformers(torch, a):
    import transformers

    transformers.logging.set_verbosity_error()
    with open(a.ids) as f:
        ids = [int(i) for i in f.read().split()]
    model = load(torch, transformers, a.folder)
    prompt = torch.tensor([ids], device="cuda")
    own = model.generation_config
    own.eos_token_id, own.pad_token_id = None, 0
    own.num_assistant_tokens, own.num_assistant_tokens_schedule, own.assistant_confidence_threshold = a.drafts, "constant", 0.0
    replies = {}
    for mode, options in {"plain": {}, "early exit": {"assistant_early_exit": a.exit_layer}}.items():
        def generate(new=a.new):
            return model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new, do_sample=False, **options)

        try:
            torch.cuda.reset_peak_memory_stats()
            with torch.inference_mode():
                generate(16)
                times = []
                for _ in range(a.runs):
                    torch.cuda.synchronize()
                    start = time.perf_counter()
                    out = generate()
                    torch.cuda.synchronize()
                    times.append(time.perf_counter() - start)
            reply = out[0, len(ids):].tolist()
            replies[mode] = reply
            same = next((i for i, (x, y) in enumerate(zip(reply, replies["plain"])) if x != y), min(len(reply), len(replies["plain"])))
            say(what="transformers", mode=mode, tokens=len(reply), tokens_per_s=len(reply) / statistics.median(times), peak_bytes=torch.cuda.max_memory_allocated(), same_as_plain=same)
        except Exception as e:
            say(what="transformers", mode=mode, error=f"{type(e).__name__}: {e}"[:300])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("ids", help="a file of the prompt's token ids")
    p.add_argument("--new", type=int, default=256)
    p.add_argument("--exit-layer", type=int, default=7)
    p.add_argument("--drafts", type=int, default=4)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--only", choices=["ceilings", "transformers"])
    a = p.parse_args()
    try:
        import torch

        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no GPU")
    except Exception as e:
        say(what="torch", error=str(e)[:300])
        return
    for name, measure in {"ceilings": lambda: measure_ceilings(torch), "transformers": lambda: measure_transformers(torch, a)}.items():
        if a.only in (None, name):
            try:
                measure()
            except Exception as e:
                say(what=name, error=f"{type(e).__name__}: {e}"[:300])


if __name__ == "__main__":
    main()
