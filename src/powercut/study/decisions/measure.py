"""One completion of a prompt, and many re-drawings of it from several cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from powercut.cuts import EntropyJump
from powercut.engines.protocol import Engine
from powercut.samplers import LowTemperature
from powercut.samplers.draw import Draw, request_seeds
from powercut.study.findings import Record
from powercut.trace import FloatArray, IntArray, Trace

Extract = Callable[[str], str | None]
"""The answer in a completion's text; None if there is none."""


@dataclass(frozen=True)
class Redraws:
    """From each of ``cuts`` cuts ``each`` re-drawings: half of the cuts at the largest jumps, half at random others."""

    cuts: int
    each: int
    seed: int


async def measure_prompts(
    engine: Engine,
    sampler: LowTemperature,
    prompts: Sequence[IntArray],
    redraws: Redraws,
    extract: Extract,
    missing: Sequence[int],
    keep: Callable[[int, Record], None],
) -> None:
    """Measure the prompts whose numbers are ``missing``; each is kept as soon as it is done.

    As many prompts are at work as keep the engine full; all re-drawings of one are asked for at once.
    """
    at_once = asyncio.Semaphore(max(1, 2 * engine.concurrency // (redraws.cuts * redraws.each) + 1))

    async def one(number: int) -> None:
        async with at_once:
            keep(number, await _measure(engine, sampler, prompts[number], redraws, extract, number))

    async with asyncio.TaskGroup() as group:
        for number in missing:
            group.create_task(one(number))


async def _measure(
    engine: Engine, sampler: LowTemperature, prompt: IntArray, redraws: Redraws, extract: Extract, number: int
) -> Record:
    rng = np.random.default_rng(np.random.SeedSequence(redraws.seed, spawn_key=(number,)))
    horizon = sampler.max_new_tokens
    async with Draw(engine, prompt, sampler.decoding) as draw:
        whole = await draw.extend(Trace.empty(), horizon, request_seeds(rng, 1)[0])
        jumps = EntropyJump(1)(whole.entropy)
        cuts = choose_cuts(jumps, redraws.cuts, rng)

        async def redraw(cut: int, seed: int, lane: int) -> tuple[int, str | None]:
            tail = await draw.extend(whole[:cut], horizon, seed, lane=lane)
            return int(tail.tokens[0]), extract(await draw.text_of(whole[:cut].splice(cut, tail)))

        seeds = request_seeds(rng, len(cuts) * redraws.each)
        places = [cut for cut in cuts for _ in range(redraws.each)]
        drawn = await draw.together(redraw(c, s, i) for i, (c, s) in enumerate(zip(places, seeds, strict=True)))
        text = await draw.text_of(whole)
    per_cut = [drawn[i : i + redraws.each] for i in range(0, len(drawn), redraws.each)]
    return {
        "prompt": number,
        "text": text,
        "length": len(whole),
        "finished": whole.finished,
        "answer": extract(text),
        "cuts": [
            {
                "position": cut,
                "token": int(whole.tokens[cut]),
                "entropy": float(whole.entropy[cut]),
                "jump": float(jumps[cut]),
                "tokens": [token for token, _ in own],
                "answers": [answer for _, answer in own],
            }
            for cut, own in zip(cuts, per_cut, strict=True)
        ],
    }


def choose_cuts(jumps: FloatArray, count: int, rng: np.random.Generator) -> list[int]:
    """Positions in order: the half of ``count`` with the largest jumps, ties by chance, and others at random."""
    if count >= len(jumps):
        return list(range(len(jumps)))
    order = np.lexsort((rng.random(len(jumps)), -jumps))
    top, rest = order[: (count + 1) // 2], order[(count + 1) // 2 :]
    others = rng.choice(rest, count - len(top), replace=False)
    return sorted(int(c) for c in (*top, *others))
