"""A completion of each of many prompts, and new endings of it from several cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import numpy as np

from powercut.engines.protocol import Engine
from powercut.samplers.draw import Draw, request_seeds
from powercut.study.findings import Record
from powercut.trace import Trace

Extract = Callable[[int, str], str | None]
"""The answer that a completion of a prompt, given by its number, has in its text; None if it has none. May block."""


async def each_prompt(
    engine: Engine,
    missing: Sequence[int],
    requests: int,
    measure: Callable[[int], Awaitable[Record]],
    keep: Callable[[int, Record], None],
) -> None:
    """Measure the prompts whose numbers are ``missing``; each is kept as soon as it is done.

    ``requests`` is how many requests one makes at once; as many prompts are at work as keep the engine full.
    """
    at_once = asyncio.Semaphore(2 + 2 * engine.concurrency // requests)  # the next begins while one fills the engine

    async def one(number: int) -> None:
        async with at_once:
            keep(number, await measure(number))

    await side_by_side(map(one, missing))


async def side_by_side(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; the first failure ends the rest and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None


async def redraw(
    draw: Draw, whole: Trace, cuts: Sequence[int], each: int, ends: Sequence[int], rng: np.random.Generator
) -> list[list[Trace]]:
    """From each of ``cuts`` so many new endings of ``whole``, asked for all at once.

    ``ends`` are the lengths, of the completions from each cut, at which an ending is cut off.
    """
    seeds = request_seeds(rng, len(cuts) * each)
    places = [place for place in zip(cuts, ends, strict=True) for _ in range(each)]

    async def one(cut: int, end: int, seed: int, lane: int) -> Trace:
        return await draw.extend(whole[:cut], end, seed, lane=lane)

    work = (one(*place, seed, lane) for lane, (place, seed) in enumerate(zip(places, seeds, strict=True)))
    tails = await draw.together(work)
    return [tails[i : i + each] for i in range(0, len(tails), each)]


async def answers_of(draw: Draw, number: int, completions: Sequence[Trace], extract: Extract) -> list[str | None]:
    """The answer of each completion of the prompt ``number``."""
    texts = [await draw.text_of(each) for each in completions]
    return await asyncio.to_thread(lambda: [extract(number, text) for text in texts])
