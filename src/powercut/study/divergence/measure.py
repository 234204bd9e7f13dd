"""One completion of a prompt, and from each place of each arm many suffixes: how far they go apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from powercut.cuts import EntropyJump
from powercut.engines.protocol import Engine
from powercut.samplers import LowTemperature
from powercut.samplers.draw import Draw, request_seeds
from powercut.study.divergence.distance import mean_distance
from powercut.study.divergence.positions import MENDED, MOST, PUBLISHED, SHORTEST, mended_places, published_places
from powercut.study.findings import Record
from powercut.study.redraws import Extract, answers_of, each_prompt, redraw
from powercut.trace import IntArray, Trace


@dataclass(frozen=True)
class Suffixes:
    """From each place ``each`` suffixes of at most ``tokens`` tokens (None: to the end of the completion).

    ``published``: the places are those of the published protocol, which has two arms.
    """

    each: int
    tokens: int | None
    published: bool
    seed: int

    @property
    def arms(self) -> tuple[str, ...]:
        """Their names."""
        return PUBLISHED if self.published else MENDED

    def most_tokens(self, longest: int) -> int:
        """What one prompt decodes at the most, if a completion has at most ``longest`` tokens."""
        return longest + len(self.arms) * MOST * self.each * (longest if self.tokens is None else self.tokens)


async def measure_suffixes(
    engine: Engine,
    sampler: LowTemperature,
    prompts: Sequence[IntArray],
    suffixes: Suffixes,
    extract: Extract,
    missing: Sequence[int],
    keep: Callable[[int, Record], None],
) -> None:
    """Measure the prompts whose numbers are ``missing``; each is kept as soon as it is done."""

    async def measure(number: int) -> Record:
        return await _measure(engine, sampler, prompts[number], suffixes, extract, number)

    await each_prompt(engine, missing, len(suffixes.arms) * MOST * suffixes.each, measure, keep)


async def _measure(
    engine: Engine, sampler: LowTemperature, prompt: IntArray, suffixes: Suffixes, extract: Extract, number: int
) -> Record:
    rng = np.random.default_rng(np.random.SeedSequence(suffixes.seed, spawn_key=(number,)))
    longest = sampler.max_new_tokens
    room = longest + (suffixes.tokens or 0)  # a suffix may end behind the longest completion
    async with Draw(engine, prompt, replace(sampler, max_new_tokens=room).decoding) as draw:
        whole = await draw.extend(Trace.empty(), longest, request_seeds(rng, 1)[0])
        places = []
        if len(whole) >= SHORTEST:
            places = published_places(whole.entropy) if suffixes.published else mended_places(whole.entropy, rng)
        cuts, jumps = [place.position for place in places], EntropyJump(1)(whole.entropy)
        ends = [longest if suffixes.tokens is None else cut + suffixes.tokens for cut in cuts]
        tails = await redraw(draw, whole, cuts, suffixes.each, ends, rng)
        found = []
        for place, own in zip(places, tails, strict=True):
            several = [whole[: place.position].splice(place.position, tail) for tail in own]
            found.append(
                {
                    "arm": place.arm,
                    "position": place.position,
                    "pair": place.pair,
                    "entropy": float(whole.entropy[place.position]),
                    "jump": float(jumps[place.position]),
                    "distance": mean_distance([tail.tokens.tolist() for tail in own]),
                    "length": float(np.mean([len(tail) for tail in own])),
                    "finished": float(np.mean([tail.finished for tail in own])),
                    "answers": await answers_of(draw, number, several, extract),
                }
            )
        [answer] = await answers_of(draw, number, [whole], extract)
    return {"prompt": number, "length": len(whole), "finished": whole.finished, "answer": answer, "places": found}
