"""A GGUF file: the llama engine against llama.cpp's own batched decoding, and against transformers on the same file.

Run by ``benchmarks/engine.py --model FILE.gguf``.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
import timeit
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

import powercut as pc
from powercut.engines.llama.context import Context, context_options
from powercut.engines.llama.gguf_model import GgufModel
from powercut.engines.llama.llama_slots import largest

ALPHA, TOP_K = 4.0, 50

FIRST = """
import asyncio, sys, time
begun = time.time()
import powercut as pc
engine = pc.load(sys.argv[1], slots=1, context_length=512)
loaded = time.time()
request = pc.Request(asyncio.run(engine.text.encode("The capital of France is")), 1, top_k=50)
asyncio.run(engine.extend(request))
print(loaded - begun, time.time() - begun, engine.describe())
"""


def prompts_of(vocab_size, count, length, seed):
    """Random prompts of about ``length`` tokens; speed does not depend on what they say."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(length // 2, length, size=count)
    return [rng.integers(vocab_size // 4, vocab_size // 2, size=size) for size in sizes]


def engine_seconds(engine, prompts, new_tokens, seed):
    """Seconds to decode ``new_tokens`` after each prompt, all at once: until each has its first token, and in all."""
    started, first = time.perf_counter(), [0.0]

    async def decode_all():
        asked = [
            pc.Request(p, new_tokens, temperature=1 / ALPHA, top_k=TOP_K, seed=seed + i) for i, p in enumerate(prompts)
        ]
        seen = set()

        def watch(i):
            def keep_going(_):
                if i not in seen:
                    seen.add(i)
                    first[0] = time.perf_counter() - started
                return True

            return keep_going

        return await asyncio.gather(*(engine.extend(r, watch(i)) for i, r in enumerate(asked)))

    traces = asyncio.run(decode_all())
    assert all(len(trace) == new_tokens for trace in traces)
    return first[0], time.perf_counter() - started


def own_seconds(model, threads, prompts, new_tokens):
    """The same with llama.cpp alone: prompts in batches of 512 tokens, then one token of each in every pass."""
    count, longest = len(prompts), max(map(len, prompts)) + new_tokens
    context = Context(
        model, cells=count * longest, sequences=count, tokens=512 + count, threads=threads, options=context_options({})
    )
    started = time.perf_counter()
    line = np.concatenate(prompts)
    places = np.concatenate([np.arange(len(p)) for p in prompts])
    owners = np.concatenate([np.full(len(p), i) for i, p in enumerate(prompts)])
    for at in range(0, len(line), 512):
        part = slice(at, at + 512)
        context.decode(line[part], places[part], owners[part], np.array([], dtype=np.int64))
    first = time.perf_counter() - started
    lengths, everyone = np.array([len(p) for p in prompts]), np.arange(count)
    for step in range(new_tokens):
        context.decode(line[:count], lengths + step, everyone, everyone)
        assert np.isfinite(context.logits(count)[:, 0]).all()
    seconds = time.perf_counter() - started
    context.close()
    return first, seconds


def speeds(path, counts, new_tokens, repeats, threads):
    """Table of tokens/s while all decode; the two take turns and go first in turn."""
    table = Table("requests", "llama engine tok/s", "llama.cpp tok/s", "ratio, median", "ratio, min-max")
    table.title = "Decoding, log-probabilities and entropies included, against llama.cpp without them"
    model = GgufModel(Path(path))
    for count in counts:
        engine = pc.load(f"llama:{path}", slots=count, context_length=128 + new_tokens, threads=threads)
        engine.stop_tokens = frozenset()
        engine_seconds(engine, prompts_of(engine.vocab_size, count, 16, 99), 2, seed=0)
        rates = {True: [], False: []}
        for repeat in range(repeats):
            prompts = prompts_of(engine.vocab_size, count, 64, repeat)
            for ours in (True, False) if repeat % 2 else (False, True):
                first, whole = (
                    engine_seconds(engine, prompts, new_tokens, 1000 * repeat)
                    if ours
                    # where the engine decodes: two teams of threads would not leave each other the cores
                    else engine._thread.submit(own_seconds, model, threads, prompts, new_tokens).result()
                )
                rates[ours].append(count * (new_tokens - ours) / (whole - first))
        ratios = [a / b for a, b in zip(rates[True], rates[False], strict=True)]
        table.add_row(
            str(count),
            *(f"{statistics.median(rates[ours]):.0f}" for ours in (True, False)),
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
        )
        asyncio.run(engine.aclose())
    model.close()
    return table


def against_transformers(path, counts, new_tokens, threads):
    """Table of tokens/s of the two engines on the same file, prompts included: one run each."""
    table = Table("requests", "llama engine tok/s", "transformers engine tok/s", title="Two engines, prompts included")
    rates = {}
    for name in ("llama", "transformers"):
        options = {"threads": threads} if name == "llama" else {}
        engine = pc.load(path, engine=name, slots=max(counts), context_length=128 + new_tokens, **options)
        engine.stop_tokens = frozenset()
        for count in counts:
            prompts = prompts_of(engine.vocab_size, count, 64, count)
            rates[name, count] = count * new_tokens / engine_seconds(engine, prompts, new_tokens, 0)[1]
        asyncio.run(engine.aclose())
    for count in counts:
        table.add_row(str(count), *(f"{rates[name, count]:.0f}" for name in ("llama", "transformers")))
    return table


def finding_the_largest(repeats=9):
    """Table: milliseconds a row to find the 50 largest of a large vocabulary's logits."""
    table = Table("vocabulary", "rows", "llama engine, ms a row", "argpartition, ms a row", title="The 50 most likely")
    for size in (49_152, 151_936):
        for rows in (1, 8, 32):
            logits = np.random.default_rng(rows).normal(size=(rows, size)).astype(np.float32)
            jobs = partial(largest, logits, TOP_K), partial(np.argpartition, logits, size - TOP_K, axis=1)
            taken = [statistics.median(timeit.repeat(job, number=1, repeat=repeats)) for job in jobs]
            table.add_row(str(size), str(rows), *(f"{1000 * seconds / rows:.2f}" for seconds in taken))
    return table


def first_tokens(path, threads):
    """Table: from the start of a Python process to its first token, and the most memory that the process had."""
    table = Table("engine", "loaded, s", "first token, s", "peak memory, GiB", title="From nothing to a first token")
    for name in ("llama", "transformers"):
        words = [sys.executable, "-c", FIRST, f"{name}:{path}"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        out = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
        loaded, first, about = out.split(maxsplit=2)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # of the largest child: the later one
        table.add_row(f"{name}: {about.strip()}", f"{float(loaded):.1f}", f"{float(first):.1f}", f"{peak:.2f}")
    return table
