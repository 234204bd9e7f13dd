"""Tokens per second of the transformers engine against the library's own batched ``generate``, side by side.

    python benchmarks/engine.py [--model M] [--requests 1 8 32 64] [--new-tokens 128] [--repeats 3] [--sections ...]

Both decode the same prompts with the same model, temperature and top_k for the same number of tokens (stop tokens
switched off), in turn, several times, in one thread; the engine also computes log-probabilities and entropies. Then:
what cuts cost in prefill, the price of copying a prefix against computing it, and the sampler's own share of the time.

Of a GGUF file: the llama engine against llama.cpp's own batched decoding and against the transformers engine, and the
time to a first token (sections decoding, largest, engines, first).
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import os
import statistics
import time
import warnings
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import gguf_file
import powercut as pc
from powercut.engines.batching.apart import run_apart
from powercut.engines.transformers import TransformersEngine
from powercut.engines.transformers.packed_linear import pack_linears
from powercut.models.gguf_files import is_gguf
from powercut.models.loading import load_model

ALPHA, TOP_K = 4.0, 50


def prompts_of(model, count, lengths=(60, 160), seed=0):
    """Random prompts of the lengths of MATH500 problems; speed does not depend on what they say."""
    rng = np.random.default_rng(seed)
    vocab = model.config.get_text_config().vocab_size
    return [rng.integers(10, vocab, size=rng.integers(*lengths)) for _ in range(count)]


def engine_seconds(engine, prompts, new_tokens, seed):
    """Wall time to decode ``new_tokens`` after each prompt, all requests at once."""

    async def decode_all():
        requests = [
            pc.Request(context=p, max_new_tokens=new_tokens, temperature=1 / ALPHA, top_k=TOP_K, seed=seed + i)
            for i, p in enumerate(prompts)
        ]
        return await asyncio.gather(*(engine.extend(r) for r in requests))

    synchronise()
    start = time.perf_counter()
    traces = asyncio.run(decode_all())
    synchronise()
    assert all(len(trace) == new_tokens for trace in traces)
    return time.perf_counter() - start


def generate_seconds(model, prompts, new_tokens):
    """The same with one batched ``generate``: left padding, sampling, no scores."""
    width = max(map(len, prompts))
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    synchronise()
    start = time.perf_counter()
    out = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=True,
        temperature=1 / ALPHA,
        top_k=TOP_K,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        eos_token_id=None,
        pad_token_id=0,
    )
    synchronise()
    assert out.shape[1] == width + new_tokens
    return time.perf_counter() - start


def synchronise():
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare_speed(plain, model, counts, new_tokens, repeats, length):
    """Table of tokens/s; the two take turns and go first in turn, so that drift of the machine hits both."""
    table = Table("requests", "engine tok/s", "generate tok/s", "ratio, median", "ratio, min-max", title="Decoding")
    for count in counts:
        engine = TransformersEngine(model, slots=count, context_length=length)
        prompts = prompts_of(model, count)
        engine_seconds(engine, prompts, 4, seed=0)
        generate = partial(engine._thread.submit, generate_seconds, plain)  # where the engine decodes
        generate(prompts, 4).result()
        ours, theirs = [], []
        for repeat in range(repeats):
            fresh = prompts_of(model, count, seed=repeat + 1)  # nothing is cached of these
            for mine in (True, False) if repeat % 2 else (False, True):
                if mine:
                    ours.append(engine_seconds(engine, fresh, new_tokens, seed=1000 * repeat))
                else:
                    theirs.append(generate(fresh, new_tokens).result())
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        speed = [count * new_tokens / statistics.median(seconds) for seconds in (ours, theirs)]
        table.add_row(
            str(count),
            *(f"{s:.0f}" for s in speed),
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
        )
        del engine
    return table


def chains_of_cuts(model, chains, new_tokens, length):
    """Table: of the tokens that cut requests begin with, how many were computed again; and time outside the model."""
    engine = TransformersEngine(model, slots=chains, context_length=length)
    extend, submit = engine.extend, engine._thread.submit
    kept = again = 0
    inside = 0.0

    async def counted(request, keep_going=None):
        nonlocal kept, again
        trace = await extend(request, keep_going)
        if keep_going is not None:  # a Metropolis-Hastings step
            kept += len(request.context)
            again += trace.prefilled
        return trace

    def timed(job, *args):
        nonlocal inside
        start = time.perf_counter()
        try:
            return job(*args)
        finally:
            inside += time.perf_counter() - start

    engine.extend, engine._thread.submit = counted, partial(submit, timed)
    sampler = pc.EntropyCut(alpha=ALPHA, steps=10, blocks=8, max_new_tokens=new_tokens, top_k=TOP_K)
    start = time.perf_counter()
    pc.sample(engine, sampler, [p.tolist() for p in prompts_of(model, chains)], seed=0)
    wall = time.perf_counter() - start
    table = Table("chains", "tokens kept at cuts", "computed again", "tok/s", "outside the engine's passes")
    table.title = "Entropy-Cut chains"
    table.add_row(
        str(chains),
        f"{kept}",
        f"{again} ({again / kept:.2%})",
        f"{engine.usage.decoded / wall:.0f}",
        f"{1 - inside / wall:.1%} of {wall:.0f} s",
    )
    return table


def copy_against_prefill(model, length, repeats=5):
    """Table: seconds to copy a prefix from a row to its store, and to compute it."""
    table = Table("prefix tokens", "copy, ms", "prefill, ms", "ratio", title="Keeping the current completion at a cut")
    engine = TransformersEngine(model, slots=1, context_length=length)
    slots = engine._cache
    for tokens in (16, 64, 256):
        [ids] = prompts_of(model, 1, lengths=(tokens, tokens + 1))
        copying, computing = [], []
        for _ in range(repeats):
            slot, _shared = slots.open(pc.Request(ids, 1))
            slots.rewind(slot, 0)
            synchronise()
            start = time.perf_counter()
            slots.advance([slot], [ids], 0)
            synchronise()
            middle = time.perf_counter()
            slots._copy(slot.row, slot.store, 0, tokens)
            synchronise()
            computing.append(middle - start)
            copying.append(time.perf_counter() - middle)
            slots.close(slot, tokens, True)
        copy, prefill = (1000 * statistics.median(x) for x in (copying, computing))
        table.add_row(str(tokens), f"{copy:.2f}", f"{prefill:.1f}", f"{prefill / copy:.0f}")
    return table


def of_a_gguf_file(args, console):
    """The tables of a GGUF file."""
    sections = {
        "decoding": lambda: gguf_file.speeds(args.model, args.requests, args.new_tokens, args.repeats, args.threads),
        "largest": gguf_file.finding_the_largest,
        "engines": lambda: gguf_file.against_transformers(args.model, args.requests, args.new_tokens, args.threads),
        "first": lambda: gguf_file.first_tokens(args.model, args.threads),
    }
    for name, section in sections.items():
        if name in args.sections:
            console.print(section())


def main():
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id, folder or GGUF file; default: the bundled SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", help="float32, bfloat16, ...")
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--chain-tokens", type=int, default=64, help="max_new_tokens of the chains")
    every = ["decoding", "copying", "chains", "largest", "engines", "first"]
    parser.add_argument("--sections", nargs="+", default=every)
    parser.add_argument("--length", type=int, default=512, help="context_length")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the llama engine")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if is_gguf(args.model or ""):
        of_a_gguf_file(args, Console())
        return
    loaded = run_apart(load_model, args.model, dtype=args.dtype)
    console = Console()
    on_cpu = loaded.model.device.type == "cpu"
    where = f"{torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name()
    console.print(f"{loaded.name}, {loaded.model.dtype}, {where}, torch {torch.__version__}; {args.repeats} runs each")
    # What the engine does to a model on the CPU, generate should not find done.
    model, counts = copy.deepcopy(loaded.model) if on_cpu else loaded.model, args.requests
    run_apart(pack_linears, model)
    sections = {
        "decoding": lambda: compare_speed(loaded.model, model, counts, args.new_tokens, args.repeats, args.length),
        "copying": lambda: copy_against_prefill(model, args.length),
        "chains": lambda: chains_of_cuts(model, args.chains, args.chain_tokens, args.length),
    }
    for name, section in sections.items():
        if name in args.sections:
            console.print(section())


if __name__ == "__main__":
    main()
