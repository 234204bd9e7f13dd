"""What scheduling and early rejection buy: the same prompts, settings and engine in one run, three ways.

    python benchmarks/throughput.py [--model vllm:smollm2] [--prompts FILE] [--count 64] [--concurrency 32]

(a) lockstep batches, as published implementations run them: every step waits for the longest suffix of its batch, and
nothing is rejected early; (b) powercut without early rejection; (c) powercut; (d) powercut with look_ahead auto, which
fills the tail. Utilisation is decoded tokens/s over the engine's own rate at the same concurrency (plain generation):
over the whole run, while chains still wait for their start, in the tail after that, and over time in tenths of the run.
Prompts come from a JSON or JSON lines file with a field ``prompt`` or ``question``, or from a text file with one on
each line.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import powercut as pc

PROBLEMS = Path(__file__).parent / "problems.txt"


class Lockstep:
    """An engine whose requests all return together: each waits until none of its batch is still decoding."""

    def __init__(self, engine):
        self._engine, self._decoding, self._all_done = engine, 0, asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def extend(self, request, keep_going=None):
        """The inner engine's trace, held back until the whole batch has its own."""
        event = self._all_done
        self._decoding += 1
        try:
            return await self._engine.extend(request, keep_going)
        finally:
            self._decoding -= 1
            if not self._decoding:
                event.set()
                self._all_done = asyncio.Event()
            await event.wait()


class Meter:
    """Decoded tokens over time, and when the last chain started: from then on the engine runs empty."""

    def __init__(self, engine, interval=0.5):
        self._usage, self._interval = engine.usage, interval
        self.samples: list[tuple[float, int]] = []

    async def __aenter__(self):
        self._start, self._before = time.perf_counter(), self._usage.decoded
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        self._note()

    async def _watch(self):
        while True:
            self._note()
            await asyncio.sleep(self._interval)

    def _note(self):
        self.samples.append((time.perf_counter() - self._start, self._usage.decoded - self._before))

    @property
    def seconds(self):
        """Wall time so far."""
        return self.samples[-1][0]

    @property
    def tokens(self):
        """Tokens decoded so far."""
        return self.samples[-1][1]

    def rate(self, start, end):
        """Tokens/s between two times; nan where there is no such time."""
        inside = [(t, n) for t, n in self.samples if start <= t <= end]
        if len(inside) < 2:
            return float("nan")
        (t0, n0), (t1, n1) = inside[0], inside[-1]
        return (n1 - n0) / (t1 - t0)


async def run(engine, sampler, prompts, concurrency):
    """Sample all prompts; returns the meter, the completions, and when a chain last had to wait for its start."""
    done, completions = [], []
    async with Meter(engine) as meter:
        stream = pc.astream(engine, sampler, prompts, seed=0, concurrency=concurrency)
        async for outcome in stream:
            if isinstance(outcome, pc.Failure):
                raise outcome.error
            completions.append(outcome)
            done.append(time.perf_counter() - meter._start)
    waits_until = sorted(done)[len(prompts) - concurrency - 1] if len(prompts) > concurrency else 0.0
    return meter, completions, waits_until


async def run_lockstep(engine, sampler, prompts, concurrency):
    """Batches of ``concurrency`` prompts, one after the other, each in lockstep."""
    completions = []
    async with Meter(engine) as meter:
        for start in range(0, len(prompts), concurrency):
            batch = prompts[start : start + concurrency]
            completions += await pc.asample(Lockstep(engine), sampler, batch, seed=0, concurrency=concurrency)
    return meter, completions, 0.0


def read_prompts(path, count):
    """The first ``count`` prompts of a file, repeated if it has fewer."""
    text = path.read_text()
    if path.suffix == ".json":
        rows = json.loads(text)
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = [{"prompt": line} for line in text.splitlines() if line.strip()]
    prompts = [row.get("prompt") or row["question"] for row in rows]
    return [prompts[i % len(prompts)] for i in range(count)]


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
    parser.add_argument("--ways", default="abcd", help="which of them to run; ratios are to the first")
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
    ways = {
        "(a) lockstep": (run_lockstep, pc.EntropyCut(**common, early_reject=False)),
        "(b) no early rejection": (run, pc.EntropyCut(**common, early_reject=False)),
        "(c) powercut": (run, pc.EntropyCut(**common)),
        "(d) look_ahead auto": (run, pc.EntropyCut(**common, look_ahead="auto")),
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
