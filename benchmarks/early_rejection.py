"""Tokens decoded with and without early rejection: the same chains, the same completions.

    python benchmarks/early_rejection.py [--model M] [--prompts FILE] [--max-new-tokens 192]

Repeats are decoded in both (skip_repeats.py measures what they cost). Prompts are one per line (default: sixteen
problems in the style of MATH, ``benchmarks/problems.txt``).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import powercut as pc

PROBLEMS = Path(__file__).parent / "problems.txt"
LAWS = {"entropy": pc.EntropyCut, "uniform": pc.UniformCut}


def main():
    """Run both variants for each cut law and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id or folder; default: the bundled SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=Path, default=PROBLEMS)
    parser.add_argument("--cuts", choices=LAWS, nargs="+", default=list(LAWS))
    parser.add_argument("--max-new-tokens", type=int, default=192)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--alpha", type=float, default=4)
    args = parser.parse_args()
    prompts = [line for line in args.prompts.read_text().splitlines() if line.strip()]
    engine = pc.load(args.model, slots=min(32, len(prompts)), context_length=args.max_new_tokens + 320)
    console = Console()
    console.print(engine.describe())
    table = Table("cuts", "early rejection", "tokens decoded", "saved", "seconds", "acceptance", "same completions")
    for name in args.cuts:
        runs = []
        for early_reject in (False, True):
            sampler = LAWS[name](
                alpha=args.alpha,
                steps=args.steps,
                blocks=args.blocks,
                max_new_tokens=args.max_new_tokens,
                early_reject=early_reject,
                skip_repeats=False,
            )
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task(f"{name} cuts", total=None)

                def count(i, j, event, progress=progress, task=task):
                    progress.update(task, advance=1)

                start = time.perf_counter()
                completions = pc.sample(engine, sampler, prompts, seed=0, observe=count)
                seconds = time.perf_counter() - start
            decoded = sum(c.stats.tokens_decoded for c in completions)
            steps = sum(c.stats.steps for c in completions)
            accepted = sum(c.stats.acceptance * c.stats.steps for c in completions if c.stats.steps)
            runs.append((completions, decoded))
            same = sum(a.tokens.tolist() == b.tokens.tolist() for a, b in zip(runs[0][0], completions, strict=True))
            table.add_row(
                name,
                "on" if early_reject else "off",
                str(decoded),
                f"{1 - decoded / runs[0][1]:.0%}" if early_reject else "",
                f"{seconds:.0f}",
                f"{accepted / steps:.0%}",
                f"{same} of {len(prompts)}" if early_reject else "",
            )
    console.print(table)


if __name__ == "__main__":
    main()
