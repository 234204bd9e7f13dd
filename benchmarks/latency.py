"""Seconds for one prompt with look-ahead 1, 2, 4, 8 and auto: the same chain each time.

    python benchmarks/latency.py [--model M] [--max-new-tokens 192] [--prompts 4]

Prompts run one after the other. First, what a larger batch costs here: seconds of a decode step at batch 1 and 8.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import powercut as pc

PROBLEMS = Path(__file__).parent / "problems.txt"


def step_seconds(engine, batch, tokens=24):
    """Seconds per decode step with ``batch`` requests at once."""

    async def decode(count):
        requests = [pc.Request(np.arange(5, 105), count, top_k=50, seed=i, stop=()) for i in range(batch)]
        return await asyncio.gather(*(engine.extend(r) for r in requests))

    asyncio.run(decode(1))
    start = time.perf_counter()
    traces = asyncio.run(decode(tokens))
    return (time.perf_counter() - start) / max(map(len, traces))


def main():
    """Run every setting on every prompt and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id or folder; default: the bundled SmolLM2-135M-Instruct")
    parser.add_argument("--look-ahead", nargs="+", default=["1", "2", "4", "8", "auto"])
    parser.add_argument("--max-new-tokens", type=int, default=192)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=4)
    args = parser.parse_args()
    engine = pc.load(args.model, slots=8, context_length=args.max_new_tokens + 320)
    prompts = PROBLEMS.read_text().splitlines()[: args.prompts]
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(engine.describe())
    one, eight = (step_seconds(engine, batch) for batch in (1, 8))
    console.print(f"a decode step at batch 8 costs {eight / one:.2f} of one at batch 1 ({1000 * one:.0f} ms)")
    seconds, chains, decoded = {}, {}, {}
    with console.status("") as status:
        for i, prompt in enumerate(prompts):  # settings take turns, so that drift of the machine hits all
            for setting in args.look_ahead:
                status.update(f"prompt {i + 1} of {len(prompts)}, look_ahead {setting}")
                sampler = pc.EntropyCut(
                    steps=args.steps,
                    blocks=args.blocks,
                    max_new_tokens=args.max_new_tokens,
                    look_ahead=setting if setting == "auto" else int(setting),
                )
                start = time.perf_counter()
                (c,) = pc.sample(engine, sampler, [prompt], seed=i)
                seconds.setdefault(setting, []).append(time.perf_counter() - start)
                decoded.setdefault(setting, []).append(c.stats.tokens_decoded)
                chains.setdefault(setting, []).append(c.tokens.tolist())
                console.print(f"prompt {i + 1}, look_ahead {setting}: {seconds[setting][-1]:.0f} s")
    first = args.look_ahead[0]
    table = Table("look_ahead", "seconds, median", f"of look_ahead {first}, median", "min-max", "tokens", "same chains")
    for setting in args.look_ahead:
        ratios = [b / a for a, b in zip(seconds[first], seconds[setting], strict=True)]
        table.add_row(
            setting,
            f"{statistics.median(seconds[setting]):.1f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
            f"{sum(decoded[setting]) / sum(decoded[first]):.2f}",
            f"{sum(a == b for a, b in zip(chains[first], chains[setting], strict=True))} of {len(prompts)}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
