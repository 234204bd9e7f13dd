"""Tokens and seconds of a step with repeats decoded and with repeats skipped: the same law, other completions.

    python benchmarks/skip_repeats.py [--model M] [--task arithmetic] [--data FILE] [--style chat] [--count 32]

Entropy and uniform cuts, early rejection on in all, by turns on groups of prompts, so that drift of the machine hits
all; "published" is the published step in the same engine, which decodes all of every proposal. Steps are those that a
chain made, and those whose proposal differed from the text ("differing"); "repeats" is the share of the tokens of
proposals that were those of the current text, where repeats are decoded. HumanEval as the paper puts it: ``--task
humaneval --style paper --max-new-tokens 256 --blocks 4 --steps 8 --alpha 5``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

import powercut as pc
from common import run, task_prompts
from powercut.evals.styles import STYLES
from powercut.evals.tasks import TASKS

LAWS = {"entropy": pc.EntropyCut, "uniform": pc.UniformCut}


@dataclass
class Count:
    """What the chains of one variant did, summed over its groups of prompts; ``seconds`` group by group."""

    decoded: int = 0
    steps: int = 0
    differing: int = 0
    proposed: int = 0
    repeated: int = 0
    log_p: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def watch(count, current):
    """An observer of events that counts steps and the tokens of proposals; ``current`` is where each chain stands."""

    def observe(i, j, event):
        before = current.get((i, j), pc.Trace.empty())
        current[i, j] = event.trace
        if event.step is None:
            return
        old, new = before.tokens[event.step.cut :], event.proposal.tokens
        n = min(len(old), len(new))
        differ = (old[:n] != new[:n]).nonzero()[0]
        same = int(differ[0]) if len(differ) else n
        count.steps += 1 + event.step.nulls
        count.differing += same < len(new) or (len(new) < len(old) and event.proposal.finished)
        count.proposed += len(new)
        count.repeated += same

    return observe


def main():
    """Run all variants, group by group, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as for powercut sample; default: the bundled model on transformers")
    parser.add_argument("--task", choices=sorted(TASKS), default="arithmetic")
    parser.add_argument("--data", type=Path, help="the task's problems, where it does not bring them")
    parser.add_argument("--style", choices=sorted(STYLES), default="chat")
    parser.add_argument("--count", type=int, default=32, help="problems")
    parser.add_argument("--repeats", type=int, default=2, help="groups that the problems are divided into")
    parser.add_argument("--max-new-tokens", type=int, default=192)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--alpha", type=float, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prompts, chat = task_prompts(args.task, args.count, args.data, args.style)
    size = -(-len(prompts) // args.repeats)
    groups = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    engine = pc.load(args.model, slots=size, context_length=args.max_new_tokens + 512)
    common = {name: getattr(args, name) for name in ("max_new_tokens", "blocks", "steps", "alpha")}
    variants = {
        (cuts, way): law(**common, **more)
        for cuts, law in LAWS.items()
        for way, more in {
            "published": {"rule": "published"},
            "decoded": {"skip_repeats": False},
            "skipped": {},
        }.items()
    }
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(engine.describe())
    console.print(f"{len(prompts)} problems of {args.task} ({args.style}), {len(groups)} groups, {common}")
    asyncio.run(run(engine, pc.LowTemperature(max_new_tokens=8), groups[0], size, chat=chat))  # warm up
    counts = defaultdict(Count)
    try:
        for g, group in enumerate(groups):
            for name, sampler in variants.items():
                count = counts[name]
                with console.status(f"group {g + 1} of {len(groups)}: {name[0]} cuts, {name[1]}"):
                    meter, completions, _ = asyncio.run(
                        run(engine, sampler, group, size, seed=args.seed + g, chat=chat, observe=watch(count, {}))
                    )
                count.decoded += sum(c.stats.tokens_decoded for c in completions)
                count.steps += sum(c.stats.steps for c in completions)  # null ones too, which events are not of
                count.log_p += [c.logp for c in completions]
                count.seconds.append(meter.seconds)
    finally:  # Ctrl-C too shows what is done
        console.print(_table(counts))


def _table(counts):
    """A row for each variant; ratios are to the same cuts with repeats decoded."""
    columns = ("cuts", "repeats are", "steps", "differing", "tokens", "a step", "a differing", "repeats")
    table = Table(*columns, "tokens, of decoded", "seconds, of decoded", "mean log p")
    for (cuts, way), count in counts.items():
        if not (base := counts.get((cuts, "decoded"))):
            continue
        ratios = [a / b for a, b in zip(count.seconds, base.seconds, strict=False)]
        table.add_row(
            cuts,
            way,
            f"{count.steps:,}",
            f"{count.differing:,}",
            f"{count.decoded:,}",
            f"{count.decoded / max(1, count.steps):.1f}",
            f"{count.decoded / max(1, count.differing):.1f}",
            "" if way == "skipped" else f"{count.repeated / max(1, count.proposed):.0%}",
            f"{count.decoded / max(1, base.decoded):.2f}",
            f"{statistics.median(ratios):.2f}",
            f"{statistics.mean(count.log_p):.1f}",
        )
    return table


if __name__ == "__main__":
    main()
