"""Chains of one prompt: pairs that are coupled until they meet, and several chains from each of several starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from powercut.engines.protocol import Engine
from powercut.samplers.draw import Draw, request_seeds, spawn
from powercut.study.exact import CutSampler
from powercut.study.findings import Record
from powercut.study.mixing.coupled import meeting_time
from powercut.study.redraws import side_by_side
from powercut.trace import IntArray, Trace

Answer = Callable[[str], str | None]
"""The answer in a completion's text; None if there is none."""


@dataclass(frozen=True)
class Plan:
    """``starts`` independent starts; from each a coupled pair with a ``lag``, and ``chains`` chains of ``steps`` steps.

    A pair that has not met after ``most`` steps is given up. A start is a completion at the proposal's temperature.
    """

    starts: int
    chains: int
    steps: int
    lag: int
    most: int
    seed: int

    @property
    def keys(self) -> list[str]:
        """The keys of its records."""
        return [f"start {i}" for i in range(self.starts)]


async def measure_starts(
    engine: Engine,
    sampler: CutSampler,
    prompt: IntArray,
    plan: Plan,
    missing: Sequence[str],
    keep: Callable[[str, Record], None],
    answer: Answer | None = None,
) -> None:
    """Measure the starts whose keys are ``missing``, side by side; each is kept as soon as it is done."""

    async def one(key: str) -> None:
        keep(key, await _measure(engine, sampler, prompt, plan, plan.keys.index(key), answer))

    await side_by_side(map(one, missing))


async def _measure(
    engine: Engine, sampler: CutSampler, prompt: IntArray, plan: Plan, index: int, answer: Answer | None
) -> Record:
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(index,)))
    pair, *others = spawn(rng, 1 + plan.chains)
    decoding, horizon = sampler.decoding, sampler.max_new_tokens
    async with Draw(engine, prompt, decoding) as draw:
        first, second = [await draw.extend(Trace.empty(), horizon, seed) for seed in request_seeds(rng, 2)]
        meeting = await meeting_time(draw, sampler, first, second, plan.lag, plan.most, pair)

    async def chain(own: np.random.Generator) -> dict[str, Any]:
        async with Draw(engine, prompt, decoding) as draw:
            return await _chain(draw, sampler, first, plan.steps, own, answer)

    chains = await asyncio.gather(*map(chain, others))
    return {"start": index, "meeting": meeting, "chains": list(chains)}


async def _chain(
    draw: Draw, sampler: CutSampler, current: Trace, steps: int, rng: np.random.Generator, answer: Answer | None
) -> dict[str, Any]:
    """A chain after each step, its start first: log p, length, answer; what each step decoded, and if it changed it."""
    found: dict[str, list[Any]] = {"logp": [], "length": [], "answer": [], "decoded": [], "changed": [], "accepted": []}

    async def look() -> None:
        found["logp"].append(float(current.logp.sum()))
        found["length"].append(len(current))
        if answer is not None:
            found["answer"].append(answer(await draw.text_of(replace(current, rows=None))))

    await look()
    for each in spawn(rng, steps):
        tail, step = await sampler.kernel.step(draw, current, sampler.max_new_tokens, each)
        current = current.splice(step.cut, tail) if step.accepted else current
        found["decoded"].append(step.tokens_decoded)
        found["changed"].append(step.changed_at is not None)
        found["accepted"].append(step.accepted)
        await look()
    return found
