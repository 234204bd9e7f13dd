"""The published schedule against ours, on the same engine: at equal steps, and at equal log p.

    python benchmarks/peers.py [--model M] [--prompts FILE] [--count 32] [--concurrency 32]

The published schedule is computed by our own implementation of it: its step (``rule="published"``: a proposal as long
as what it replaces, all of it decoded), in batches whose steps wait for the longest of them. Ours are the exact steps
with early rejection and without repeats, scheduled one by one; with fewer steps too, and between two numbers of steps
the cost at which mean log p reaches that of the published schedule is interpolated. The runs with fewer steps come
last and all share one process, so that ratios, not seconds, are what to read.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import powercut as pc
from common import PROBLEMS, read_prompts, run, run_lockstep


def main():
    """Run the published schedule and ours, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as for powercut sample; default: the bundled model on transformers")
    parser.add_argument("--prompts", type=Path, default=PROBLEMS)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=192)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--alpha", type=float, default=4)
    parser.add_argument("--fewer", type=int, nargs="*", default=[1, 2, 4], help="smaller numbers of our steps")
    args = parser.parse_args()
    engine = pc.load(args.model, slots=args.concurrency, context_length=args.max_new_tokens + 832)
    prompts = read_prompts(args.prompts, args.count)
    common = {"max_new_tokens": args.max_new_tokens, "blocks": args.blocks, "alpha": args.alpha}
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(engine.describe())
    console.print(f"{args.count} prompts, at most {args.concurrency} at once, {common}")
    asyncio.run(run(engine, pc.LowTemperature(max_new_tokens=8), prompts[:4], 4))  # warm up
    ways = [(f"published, {args.steps} steps", run_lockstep, {"steps": args.steps, "rule": "published"})]
    ways += [(f"powercut, {n} steps", run, {"steps": n}) for n in (args.steps, *sorted(args.fewer))]
    table = Table("", "tokens", "of published", "seconds", "of published", "mean log p")
    found = []
    try:
        for name, way, settings in ways:
            with console.status(name):
                meter, completions, _ = asyncio.run(
                    way(engine, pc.EntropyCut(**common, **settings), prompts, args.concurrency)
                )
            tokens = sum(c.stats.tokens_decoded for c in completions)
            found.append((statistics.mean(c.logp for c in completions), tokens, meter.seconds))
            _add(table, name, found[-1], found[0])
    finally:  # Ctrl-C too shows what is done
        if len(found) == len(ways):
            _add(table, "powercut, at equal log p", _at(found[0][0], found[1:]), found[0])
        console.print(table)


def _at(log_p, ours):
    """(log p, tokens, seconds) of ours at a mean log p, between two numbers of steps; nan beyond all of them."""
    ours = sorted(ours, key=lambda each: each[1])
    best = np.maximum.accumulate([each[0] for each in ours])
    tokens, seconds = (np.interp(log_p, best, [each[i] for each in ours], np.nan, np.nan) for i in (1, 2))
    return log_p, tokens, seconds


def _add(table, name, row, first):
    """One row, with ratios to the first."""
    log_p, tokens, seconds = row
    if np.isnan(tokens):
        table.add_row(name, "not reached", "", "", "", f"{log_p:.1f}")
        return
    table.add_row(
        name,
        f"{tokens:,.0f}",
        f"{tokens / first[1]:.2f}",
        f"{seconds:.0f}",
        f"{seconds / first[2]:.2f}",
        f"{log_p:.1f}",
    )


if __name__ == "__main__":
    main()
