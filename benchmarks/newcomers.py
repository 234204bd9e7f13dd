"""How fast newcomers get their first token in the transformers engine, and how long they hold up those who decode.

    python benchmarks/newcomers.py [--model M] [--newcomers 32] [--prompt-tokens 110] [--decoders 32] [--repeats 3]

"In turn" is what an engine does that prefills each prompt by itself, one after the other, while the others wait; "in
one pass" is the engine. They take turns, with the same model and prompts: first while nobody decodes, then beside
decoders. A stall is the longest time between two tokens of a decoder, in decode steps as they were before.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
import warnings

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import powercut as pc
from powercut.engines.transformers import TransformersEngine
from powercut.engines.transformers.one_pass import ByRow
from powercut.engines.transformers.tensor_slots import TensorSlots

BEFORE, TOP_K = 8, 50  # BEFORE: tokens of a decoder before newcomers come


def prompts_of(engine, count, length, seed):
    """Random prompts: speed does not depend on what they say."""
    return list(np.random.default_rng(seed).integers(10, engine.vocab_size, size=(count, length)))


def in_turn(cache, newcomers, decoders):
    """(Seconds to the last first token, longest stall in decode steps): each prompt by itself, then all together."""
    slots, steps = [], []

    def take_in(prompts):
        for prompt in prompts:
            slot, _ = cache.open(pc.Request(prompt, 64))
            cache.rewind(slot, 0)
            cache.advance([slot], [prompt[:-1]], 0)
            slots.append(slot)

    def step():
        torch.topk(cache.advance(slots, [np.array([11])] * len(slots), len(slots)), TOP_K)[0].cpu()

    take_in(decoders)
    for _ in range(BEFORE if decoders else 0):
        start = time.perf_counter()
        step()
        steps.append(time.perf_counter() - start)
    start = time.perf_counter()
    take_in(newcomers)
    step()
    seconds = time.perf_counter() - start
    for slot in slots:
        cache.close(slot, 1, wanted=False)
    return seconds, seconds / statistics.median(steps) if steps else None


async def in_one_pass(engine, newcomers, decoders, seed):
    """The same of the engine."""
    times = [[] for _ in decoders]

    def request(prompt, tokens, i):
        return pc.Request(prompt, tokens, top_k=TOP_K, seed=seed + i)

    async def decode(prompt, i):
        await engine.extend(
            request(prompt, 440, i), lambda _: times[i].append(time.perf_counter()) or not over.is_set()
        )

    over = asyncio.Event()
    at_work = [asyncio.create_task(decode(prompt, i)) for i, prompt in enumerate(decoders)]
    while any(len(seen) < BEFORE for seen in times):
        await asyncio.sleep(0.001)
    start = time.perf_counter()
    await asyncio.gather(*(engine.extend(request(prompt, 1, i)) for i, prompt in enumerate(newcomers)))
    seconds = time.perf_counter() - start
    over.set()
    await asyncio.gather(*at_work)
    if not decoders:
        return seconds, None
    steps = [gap for seen in times for gap in np.diff([t for t in seen if t < start])[1:]]
    stalls = [max(np.diff([t for t in seen if t <= start + seconds][BEFORE - 2 :])) for seen in times]
    return seconds, max(stalls) / statistics.median(steps)


def main():
    """Let both take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id or folder; default: the bundled SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", help="float32, bfloat16, ...")
    parser.add_argument("--newcomers", type=int, default=32)
    parser.add_argument("--prompt-tokens", type=int, default=110)
    parser.add_argument("--decoders", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    slots = args.newcomers + args.decoders
    engine = TransformersEngine.load(args.model, dtype=args.dtype, slots=slots, context_length=512)
    engine.stop_tokens = frozenset()
    cache = engine._thread.submit(TensorSlots, engine.model, slots, 512, ByRow).result()
    on_cpu = engine.model.device.type == "cpu"
    where = f"{torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name()
    title = f"{args.newcomers} newcomers of {args.prompt_tokens} tokens; {engine.describe()}; {where}"
    table = Table("decoders", "", "s to the last first token", "ratio, median", "stall, decode steps", title=title)
    for decoders in (0, args.decoders):
        old, new = [], []
        for repeat in range(args.repeats + 1):  # the first is not counted
            prompts = prompts_of(engine, args.newcomers, args.prompt_tokens, seed=repeat)
            others = prompts_of(engine, decoders, 60, seed=1000 + repeat)
            old.append(engine._thread.submit(in_turn, cache, prompts, others).result())
            new.append(asyncio.run(in_one_pass(engine, prompts, others, seed=repeat)))
        ratios = [b[0] / a[0] for a, b in zip(old[1:], new[1:], strict=True)]
        for name, rows, ratio in (("in turn", old, ""), ("in one pass", new, f"{statistics.median(ratios):.2f}")):
            seconds = statistics.median(seconds for seconds, _ in rows[1:])
            stall = f"{statistics.median(stall for _, stall in rows[1:]):.1f}" if decoders else ""
            table.add_row(str(decoders), name, f"{seconds:.2f}", ratio, stall)
    Console().print(table)


if __name__ == "__main__":
    main()
