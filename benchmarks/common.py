"""What several benchmarks share: prompts, engines that wait for each other, and tokens over time."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import powercut as pc
from powercut.evals.styles import STYLES, choose_style, make_prompt
from powercut.evals.tasks import TASKS

PROBLEMS = Path(__file__).parent / "problems.txt"


def read_prompts(path, count):
    """The first ``count`` prompts of a file, repeated if it has fewer.

    A JSON or JSON lines file has them in a field ``prompt`` or ``question``, a text file on its lines.
    """
    text = path.read_text()
    if path.suffix == ".json":
        rows = json.loads(text)
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = [{"prompt": line} for line in text.splitlines() if line.strip()]
    prompts = [row.get("prompt") or row["question"] for row in rows]
    return [prompts[i % len(prompts)] for i in range(count)]


def task_prompts(name, count, data=None, style="chat"):
    """The first ``count`` problems of a task as prompts in a style, and whether these are chats."""
    task = TASKS[name]
    chosen = STYLES[choose_style(style)]
    prompts = [make_prompt(chosen, task.kind, problem) for problem in task.problems(data=data, limit=count)]
    return prompts, task.kind in chosen.chat


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
        self.start, self._before = time.perf_counter(), self._usage.decoded
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
        self.samples.append((time.perf_counter() - self.start, self._usage.decoded - self._before))

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


async def run(engine, sampler, prompts, concurrency, *, seed=0, chat=None, observe=None):
    """Sample all prompts; returns the meter, the completions, and when a chain last had to wait for its start."""
    done, completions = [], []
    async with Meter(engine) as meter:
        stream = pc.astream(engine, sampler, prompts, seed=seed, concurrency=concurrency, chat=chat, observe=observe)
        async for outcome in stream:
            if isinstance(outcome, pc.Failure):
                raise outcome.error
            completions.append(outcome)
            done.append(time.perf_counter() - meter.start)
    waits_until = sorted(done)[len(prompts) - concurrency - 1] if len(prompts) > concurrency else 0.0
    return meter, completions, waits_until


async def run_lockstep(engine, sampler, prompts, concurrency, *, seed=0, chat=None):
    """Batches of ``concurrency`` prompts, one after the other, each in lockstep."""
    completions = []
    async with Meter(engine) as meter:
        for start in range(0, len(prompts), concurrency):
            batch = prompts[start : start + concurrency]
            completions += await pc.asample(
                Lockstep(engine), sampler, batch, seed=seed, concurrency=concurrency, chat=chat
            )
    return meter, completions, 0.0
