"""What scheduling and not decoding in vain buy: the same prompts, settings and engine in one run, several ways.

    python benchmarks/throughput.py [--model vllm:smollm2] [--prompts FILE] [--count 64] [--concurrency 32]

(a) lockstep batches, as published implementations run them: every step waits for the longest suffix of its batch, and
all of every proposal is decoded; (b) powercut without early rejection and with repeats decoded; (c) with early
rejection; (d) with repeats skipped as well, which is the default; (e) look_ahead auto, which fills the tail.
Utilisation is decoded tokens/s over the engine's own rate at the same concurrency (plain generation): over the whole
run, while chains still wait for their start, in the tail after that, and over time in tenths of the run. Prompts come
from a JSON or JSON lines file with a field ``prompt`` or ``question``, or from a text file with one on each line.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import powercut as pc
from common import PROBLEMS, read_prompts, run, run_lockstep


def main():
    """Run the three ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as for powercut sample; default: the bundled model on transformers")
    parser.add_argument("--prompts", type=Path, default=PROBLEMS)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=192)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--ways", default="abcde", help="which of them to run; ratios are to the first")
    args = parser.parse_args()
    engine = pc.load(args.model, slots=args.concurrency, context_length=args.max_new_tokens + 832)
    prompts = read_prompts(args.prompts, args.count)
    common = {"max_new_tokens": args.max_new_tokens, "blocks": args.blocks, "steps": args.steps}
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(engine.describe())
    console.print(f"{args.count} prompts, at most {args.concurrency} at once, {common}")

    asyncio.run(run(engine, pc.LowTemperature(max_new_tokens=8), prompts[:4], 4))  # warm up
    plain = pc.LowTemperature(max_new_tokens=args.max_new_tokens)
    meter, _, until = asyncio.run(run(engine, plain, prompts, args.concurrency))
    own_rate = meter.rate(0, until) if until else meter.tokens / meter.seconds
    console.print(f"plain generation: {own_rate:.0f} tokens/s while full ({meter.seconds:.0f} s in all)")
    all_decoded = {"early_reject": False, "skip_repeats": False}
    ways = {
        "(a) lockstep": (run_lockstep, pc.EntropyCut(**common, **all_decoded)),
        "(b) all decoded": (run, pc.EntropyCut(**common, **all_decoded)),
        "(c) early rejection": (run, pc.EntropyCut(**common, skip_repeats=False)),
        "(d) powercut": (run, pc.EntropyCut(**common)),
        "(e) look_ahead auto": (run, pc.EntropyCut(**common, look_ahead="auto")),
    }
    table = Table("", "seconds", "of (a)", "tokens", "of (a)", "utilisation", "while full", "in the tail", "mean log p")
    tenths = [f"{tenth}0%" for tenth in range(1, 11)]
    over_time = Table("utilisation", *tenths, title="over time, in tenths of each run")
    first = None
    try:
        for name, (way, sampler) in ways.items():
            if name[1] not in args.ways:
                continue
            with console.status(name):
                meter, completions, until = asyncio.run(way(engine, sampler, prompts, args.concurrency))
            first = first or meter
            rates = [meter.tokens / meter.seconds, meter.rate(0, until), meter.rate(until, meter.seconds)]
            if way is run_lockstep:
                rates[1:] = [float("nan")] * 2
            log_p = sum(c.logp for c in completions) / len(completions)
            table.add_row(
                name,
                f"{meter.seconds:.0f}",
                f"{meter.seconds / first.seconds:.2f}",
                f"{meter.tokens}",
                f"{meter.tokens / first.tokens:.2f}",
                *(spell(rate / own_rate) for rate in rates),
                f"{log_p:.1f}",
            )
            ends = [meter.seconds * tenth / 10 for tenth in range(11)]
            over_time.add_row(name, *(spell(meter.rate(*pair) / own_rate) for pair in itertools.pairwise(ends)))
            console.print(f"{name}: {meter.seconds:.0f} s, {meter.tokens} tokens")
    finally:  # Ctrl-C too shows what is done
        console.print(table)
        console.print(over_time)


def spell(share):
    """Two digits; a dash for what was not measured."""
    return "-" if share != share else f"{share:.2f}"


if __name__ == "__main__":
    main()
