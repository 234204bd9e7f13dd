"""One completion of a prompt, and many re-drawings of it from several cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from powercut.cuts import EntropyJump
from powercut.engines.protocol import Engine
from powercut.samplers import LowTemperature
from powercut.samplers.draw import Draw, request_seeds
from powercut.step_lines import StepLines
from powercut.study.findings import Record
from powercut.study.redraws import Extract, answers_of, each_prompt, redraw
from powercut.trace import Event, FloatArray, IntArray, Trace


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
    """Measure the prompts whose numbers are ``missing``; each is kept as soon as it is done."""

    async def measure(number: int) -> Record:
        return await _measure(engine, sampler, prompts[number], redraws, extract, number)

    await each_prompt(engine, missing, redraws.cuts * redraws.each, measure, keep)


async def _measure(
    engine: Engine, sampler: LowTemperature, prompt: IntArray, redraws: Redraws, extract: Extract, number: int
) -> Record:
    rng = np.random.default_rng(np.random.SeedSequence(redraws.seed, spawn_key=(number,)))
    horizon = sampler.max_new_tokens
    drawn_with: dict[str, Any] = {"settings": asdict(sampler), "seed": redraws.seed, "model": engine.name}
    lines = StepLines(engine.text, sampler="low-temperature", **drawn_with)
    async with Draw(engine, prompt, replace(sampler.decoding, rows=True)) as draw:
        whole = await draw.extend(Trace.empty(), horizon, request_seeds(rng, 1)[0])
        jumps = EntropyJump(1)(whole.entropy)
        cuts = choose_cuts(jumps, redraws.cuts, rng)
        tails = await redraw(draw, whole, cuts, redraws.each, [horizon] * len(cuts), rng)
        [answer] = await answers_of(draw, number, [whole], extract)
        found = []
        for cut, own in zip(cuts, tails, strict=True):
            several = [whole[:cut].splice(cut, tail) for tail in own]
            found.append(
                {
                    "position": cut,
                    "token": int(whole.tokens[cut]),
                    "entropy": float(whole.entropy[cut]),
                    "jump": float(jumps[cut]),
                    "tokens": [int(tail.tokens[0]) for tail in own],
                    "answers": await answers_of(draw, number, several, extract),
                }
            )
        text = await draw.text_of(whole)
    return {
        "prompt": number,
        "text": text,
        "length": len(whole),
        "finished": whole.finished,
        "answer": answer,
        "cuts": found,
        "lines": lines.event(number, 0, Event(0, 1, None, whole, whole, prompt)),
    }


def choose_cuts(jumps: FloatArray, count: int, rng: np.random.Generator) -> list[int]:
    """Positions in order: the half of ``count`` with the largest jumps, ties by chance, and others at random."""
    if count >= len(jumps):
        return list(range(len(jumps)))
    order = np.lexsort((rng.random(len(jumps)), -jumps))
    top, rest = order[: (count + 1) // 2], order[(count + 1) // 2 :]
    others = rng.choice(rest, count - len(top), replace=False)
    return sorted(int(c) for c in (*top, *others))
