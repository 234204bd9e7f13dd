"""Completions of prompts by one sampler under several targets, each with the same random numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from powercut.engines.protocol import Engine
from powercut.evals.problem import Grade
from powercut.run import Failure, draw_one
from powercut.study.exact import CutSampler
from powercut.study.findings import Record
from powercut.study.redraws import side_by_side
from powercut.trace import Completion, IntArray

GradeText = Callable[[int, str], Grade]
"""The answer in a completion of the prompt of a number, and whether it is right; may block."""


@dataclass(frozen=True)
class Shape:
    """A setting, or none, that shapes the target, as a column of the report; ``answered``: a text needs an answer."""

    name: str
    min_new_tokens: int = 0
    length_bonus: float = 0.0
    require: str | None = None
    answered: bool = False

    def applied(self, sampler: CutSampler, number: int, grade: GradeText) -> CutSampler:
        """The sampler with it, for the prompt of a number."""
        own: dict[str, Any] = {"min_new_tokens": self.min_new_tokens, "length_bonus": self.length_bonus}
        own["require"] = (lambda text: grade(number, text).answer is not None) if self.answered else self.require
        return replace(sampler, **own)


async def measure_shapes(
    engine: Engine,
    sampler: CutSampler,
    shapes: Sequence[Shape],
    prompts: Sequence[IntArray],
    n: int,
    seed: int,
    grade: GradeText,
    missing: Sequence[tuple[int, int]],
    keep: Callable[[int, int, Record], None],
) -> None:
    """``n`` completions of each prompt under each shape, whose numbers are ``missing`` (shape, prompt).

    As many chains are at work as keep the engine full.
    """
    chains = asyncio.Semaphore(engine.concurrency)

    async def chain(own: CutSampler, number: int, sample: int) -> Completion:
        async with chains:
            drawn = await draw_one(engine, own, prompts[number], (number, sample), seed)
        if isinstance(drawn, Failure):
            raise drawn.error
        return drawn

    async def one(which: int, number: int) -> None:
        own = shapes[which].applied(sampler, number, grade)
        drawn = await asyncio.gather(*(chain(own, number, sample) for sample in range(n)))
        grades = await asyncio.to_thread(lambda: [grade(number, c.text or "") for c in drawn])
        record = {
            "shape": shapes[which].name,
            "prompt": number,
            "tokens": [len(c.tokens) for c in drawn],
            "finished": [c.finished for c in drawn],
            "logp": [c.logp for c in drawn],
            "answers": [each.answer for each in grades],
            "right": [each.correct for each in grades],
            "changed": [c.stats.changed for c in drawn],
            "tokens_decoded": [c.stats.tokens_decoded for c in drawn],
        }
        keep(which, number, record)

    await side_by_side(one(which, number) for which, number in missing)
