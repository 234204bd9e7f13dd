"""Accuracy at equal cost: every sampler on arithmetic word problems, each tuned to spend the same number of tokens.

    python benchmarks/quality.py [--model M] [--problems 200] [--budgets 300 900] [--out FILE] [--plot FILE]

Problems come from a seed (``powercut.evals.tasks.arithmetic``). One setting of each sampler (steps, particles,
candidates) is tuned on the first few problems until the mean number of decoded tokens is near the budget; what was
really spent is printed. Intervals are 95% bootstrap intervals over problems (BCa). Rows are written as problems finish,
and a second run of the same command goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.stats import bootstrap

import powercut as pc
from powercut.evals.graders.number import grade_number as grade
from powercut.evals.tasks.arithmetic import problems

QUESTION = "{} Think in one short sentence, then give the answer as a number."
PILOT = 8
"""Problems on which settings are tuned."""


@dataclass(frozen=True)
class Family:
    """Samplers with one number left open. ``make(number, budget)``; ``fixed`` is what the number does not buy."""

    make: Callable[[int, int], pc.Sampler]
    start: int = 4
    fixed: bool = False  # one decode more than the number pays for
    tuned: bool = True


def families(length, alpha):
    """The samplers compared; ``length`` is the longest completion."""
    common = {"max_new_tokens": length}
    power = common | {"alpha": alpha}
    cut = power | {"blocks": 4}
    block = max(1, length // 4)
    smc = power | {"block_size": block}
    tmc = power | {"block_size": 2 * block, "horizon": 2 * block, "keep": 3, "rollouts": 2}
    return {
        "standard": Family(lambda n, b: pc.Standard(**common), tuned=False),
        "low-temperature": Family(lambda n, b: pc.LowTemperature(**power), tuned=False),
        "best-of-n": Family(lambda n, b: pc.BestOfN(budget=b, **common), tuned=False),
        "best-of-n, cold": Family(
            lambda n, b: pc.BestOfN(budget=b, temperature=1 / alpha, select="logp", **common), tuned=False
        ),
        "uniform-cut": Family(lambda n, b: pc.UniformCut(steps=n, **cut), fixed=True),
        "entropy-cut": Family(lambda n, b: pc.EntropyCut(steps=n, **cut), fixed=True),
        "entropy-cut, 4 tries": Family(lambda n, b: pc.EntropyCut(steps=n, tries=4, **cut), start=2, fixed=True),
        "smc": Family(lambda n, b: pc.SMC(particles=n, **smc), start=8),
        "smc, 2 moves": Family(lambda n, b: pc.SMC(particles=n, moves=2, **smc), start=6),
        "power-smc": Family(lambda n, b: pc.PowerSMC(particles=n, ramp_tokens=length // 2, **smc), start=8),
        "tmc": Family(lambda n, b: pc.TMC(candidates=n, **tmc)),
    }


async def draw(engine, sampler, asked, seed, take):
    """Sample one completion of each problem; ``take(problem, completion)`` as each finishes."""
    stream = pc.astream(engine, sampler, [QUESTION.format(p.question) for p in asked], seed=seed)
    async for outcome in stream:
        if isinstance(outcome, pc.Failure):
            raise outcome.error
        take(asked[outcome.prompt_index], outcome)


def tune(engine, family, budget, pilot, one_decode):
    """The open number with which the pilot problems cost about ``budget`` tokens each."""

    def cost(number):
        spent = []
        work = draw(engine, family.make(number, budget), pilot, 1, lambda p, c: spent.append(c.stats.tokens_decoded))
        asyncio.run(work)
        return float(np.mean(spent))

    base = one_decode if family.fixed else 0.0
    number = family.start
    for _ in range(2):
        per_unit = max(1e-9, (cost(number) - base) / number)
        better = max(1, round((budget - base) / per_unit))
        if better == number:
            break
        number = better
    return number


class Rows:
    """The results on disk: a JSON line for each completion, and where the run stopped last time."""

    def __init__(self, path):
        self.path, self.rows = path, []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    self.rows.append(json.loads(line))
                except ValueError:
                    break  # a line that was being written when the run was stopped
            path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def of(self, **wanted):
        """The rows that have these values."""
        return [row for row in self.rows if all(row[key] == value for key, value in wanted.items())]

    def add(self, row):
        """Keep a row, on disk at once."""
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def run(engine, rows, asked, budgets, kinds, console):
    """Fill in what is missing."""
    lengths = []
    pilot = asked[:PILOT]
    asyncio.run(
        draw(engine, kinds["low-temperature"].make(0, 0), pilot, 1, lambda p, c: lengths.append(c.stats.tokens_decoded))
    )
    for budget in budgets:
        for name, family in kinds.items():
            if not family.tuned and not name.startswith("best"):
                wanted = {"sampler": name, "budget": None}  # costs what it costs
            else:
                wanted = {"sampler": name, "budget": budget}
            done = {row["id"] for row in rows.of(**wanted)}
            left = [p for p in asked if p.id not in done]
            if not left:
                continue
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task(f"{name}, {budget} tokens: tuning", total=None)
                number = tune(engine, family, budget, pilot, np.mean(lengths)) if family.tuned else 0
                sampler = family.make(number, budget)
                progress.update(task, description=f"{name}, {budget} tokens", total=len(asked), completed=len(done))
                start = last = time.perf_counter()

                def take(problem, c, wanted=wanted, sampler=sampler, progress=progress, task=task):
                    nonlocal last
                    before, last = last, time.perf_counter()
                    rows.add(
                        wanted
                        | {
                            "id": problem.id,
                            "correct": grade(problem, c.text).correct,
                            "logp": c.logp,
                            "tokens": c.stats.tokens_decoded,
                            "seconds": last - before,  # of all that ran since the last row: they add up to the run
                            "settings": {k: v for k, v in asdict(sampler).items() if k not in ("stop", "match")},
                        }
                    )
                    progress.advance(task)

                asyncio.run(draw(engine, sampler, left, 0, take))
            console.print(f"{name}, {budget} tokens: {time.perf_counter() - start:.0f} s for {len(left)} problems")


def interval(values, rng):
    """Mean and 95% bootstrap interval."""
    values = np.asarray(values, dtype=float)
    if np.ptp(values) == 0:
        return values.mean(), values.mean(), values.mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limits = bootstrap((values,), np.mean, confidence_level=0.95, rng=rng).confidence_interval
    return values.mean(), limits.low, limits.high


def summarise(rows, kinds, budgets):
    """One entry for each sampler and budget that has rows."""
    rng = np.random.default_rng(0)
    points = []
    for name in kinds:
        for budget in (None, *budgets):
            found = rows.of(sampler=name, budget=budget)
            if not found:
                continue
            first = kinds[name].make(1, 1), found[0]["settings"]
            default = asdict(first[0])
            points.append(
                {
                    "sampler": name,
                    "budget": budget,
                    "setting": next((f"{k}={v}" for k, v in first[1].items() if k in OPEN and v != default.get(k)), ""),
                    "accuracy": interval([row["correct"] for row in found], rng),
                    "logp": interval([row["logp"] for row in found], rng),
                    "tokens": float(np.mean([row["tokens"] for row in found])),
                    "seconds": float(np.mean([row["seconds"] for row in found])),
                    "n": len(found),
                }
            )
    return points


OPEN = ("steps", "particles", "candidates", "budget")


def table_of(points):
    """The points as a table."""
    table = Table("sampler", "budget", "setting", "n", "accuracy", "95%", "mean log p", "95%", "tokens", "s/problem")
    for p in points:
        (mean, low, high), (logp, logp_low, logp_high) = p["accuracy"], p["logp"]
        table.add_row(
            p["sampler"],
            "-" if p["budget"] is None else str(p["budget"]),
            p["setting"],
            str(p["n"]),
            f"{mean:.0%}",
            f"{low:.0%}–{high:.0%}",
            f"{logp:.2f}",
            f"{logp_low:.1f}–{logp_high:.1f}",
            f"{p['tokens']:.0f}",
            f"{p['seconds']:.2f}",
        )
    return table


def plot(points, path, title):
    """Accuracy against decoded tokens, a line for each sampler."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    markers = "os^Dv<>pPX*"
    for i, name in enumerate(dict.fromkeys(p["sampler"] for p in points)):
        mine = [p for p in points if p["sampler"] == name]
        mean, low, high = np.array([p["accuracy"] for p in mine]).T
        axes.errorbar(
            [p["tokens"] for p in mine],
            100 * mean,
            yerr=100 * np.array([mean - low, high - mean]),
            marker=markers[i % len(markers)],
            color=plt.get_cmap("tab20")(2 * i % 20 + (i >= 10)),
            linewidth=1.5,
            elinewidth=0.8,
            capsize=2,
            label=name,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("tokens decoded per problem")
    axes.set_ylabel("accuracy, %")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def main():
    """Run, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as for powercut sample; default: the bundled SmolLM2-135M-Instruct")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--budgets", type=int, nargs="+", default=[300, 900], help="decoded tokens a problem")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--alpha", type=float, default=4)
    parser.add_argument("--samplers", nargs="+", help="some of them only")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--plot", type=Path, default=Path("quality.png"))
    args = parser.parse_args()
    kinds = families(args.max_new_tokens, args.alpha)
    kinds = {name: kind for name, kind in kinds.items() if args.samplers is None or name in args.samplers} | {
        "low-temperature": kinds["low-temperature"]
    }
    engine = pc.load(args.model, slots=args.slots, context_length=args.max_new_tokens + 192)
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(engine.describe())
    rows = Rows(args.out)
    run(engine, rows, problems(args.problems), args.budgets, kinds, console)
    points = summarise(rows, kinds, args.budgets)
    console.print(table_of(points))
    plot(points, args.plot, f"{args.problems} arithmetic problems, {engine.name}, alpha = {args.alpha:g}")
    console.print(f"plot: {args.plot}")


if __name__ == "__main__":
    main()
