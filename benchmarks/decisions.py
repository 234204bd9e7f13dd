"""How full the map of a completion's decisions keeps the engine: its decoded tokens/s over plain generation's.

    python benchmarks/decisions.py [--model M] [--new-tokens 200] [--cuts 20] [--redraws 16] [--slots 32]

``powercut study decisions`` of one prompt, its completion, all re-drawings and their answers included, with stop tokens
switched off so that its length is known; before and after it plain generation of as many tokens as fill the slots
twice, whose rate counts while every slot is full. Memory is what the process took at the most.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import powercut as pc
from common import PROBLEMS, Meter, read_prompts, run
from powercut.study.decisions.measure import Redraws, measure_prompts
from powercut.text import encode_prompt


async def decision_map(engine, sampler, prompt, redraws):
    """Its seconds and decoded tokens."""
    tokens = np.array(await encode_prompt(engine.text, prompt))
    async with Meter(engine) as meter:
        await measure_prompts(engine, sampler, [tokens], redraws, lambda _, text: text[-8:], [0], lambda *_: None)
    return meter.seconds, meter.tokens


def main():
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as for powercut sample; default: the bundled model on transformers")
    parser.add_argument("--prompts", type=Path, default=PROBLEMS)
    parser.add_argument("--new-tokens", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--redraws", type=int, default=16)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    engine = pc.load(args.model, slots=args.slots, context_length=args.new_tokens + 320)
    engine.stop_tokens = frozenset()
    sampler = pc.LowTemperature(temperature=1.0, max_new_tokens=args.new_tokens)
    plain = pc.LowTemperature(temperature=1.0, max_new_tokens=args.new_tokens // 2)
    prompts = read_prompts(args.prompts, max(args.repeats, 1))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(engine.describe())
    table = Table("map", "tokens decoded", "seconds", "tokens/s", "plain, tokens/s", "utilisation")
    shares = []
    for number, prompt in enumerate(prompts[: args.repeats]):
        rates = []
        for turn in range(2):
            meter, _, until = asyncio.run(
                run(engine, plain, [prompt] * 2 * args.slots, args.slots, seed=2 * number + turn)
            )
            rates.append(meter.rate(0, until))
            if turn == 0:
                redraws = Redraws(args.cuts, args.redraws, number)
                seconds, tokens = asyncio.run(decision_map(engine, sampler, prompt, redraws))
        own = statistics.mean(rates)
        shares.append(tokens / seconds / own)
        row = (
            number + 1,
            f"{tokens:,}",
            f"{seconds:.0f}",
            f"{tokens / seconds:.0f}",
            f"{own:.0f}",
            f"{shares[-1]:.2f}",
        )
        table.add_row(*map(str, row))
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"utilisation, median of {len(shares)}: {statistics.median(shares):.2f}; memory {peak:.1f} GiB")


if __name__ == "__main__":
    main()
