"""Best-of-N: independent completions, of which the best by its own probability, or the majority's, is returned."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Literal

import numpy as np

from powercut.errors import SettingError
from powercut.samplers.draw import Draw, request_seeds, spawn
from powercut.samplers.sampler import Restricted
from powercut.samplers.settings import check_temperature, check_word, setting
from powercut.trace import Completion, Trace

Selection = Literal["mean-logp", "logp", "majority"]

DEFAULT_N = 8
MOST = 256
"""Completions that a budget buys at most, as published."""


@dataclass(frozen=True, kw_only=True)
class BestOfN(Restricted):
    """The best of ``n`` completions, or of as many as a budget of decoded tokens buys.

    ``budget`` draws completions until they have cost that many tokens, or there are ``n`` of them (256 unless given):
    the cost is at least the budget, and less than the budget and one completion more. ``pc.sample(...,
    match=completions)`` gives each completion the budget that another sampler spent (compute-matched best-of-N, as
    compared in arXiv 2605.30327). Without a budget ``n`` is 8 unless given.

    ``select`` is ``mean-logp``, the highest mean log-probability per token (as published); ``logp``, the highest sum;
    or ``majority``: the most frequent ``answer``, and of its completions the one with the highest mean.

    With ``require`` the best is one of those that have it, if any has.

    Not the power distribution, whatever N: it approaches the mode of what it selects by.
    """

    n: int | None = setting(
        None,
        "Completions to choose from (none: 8), at most so many where there is a budget (none: 256).",
        at_least=1,
        optional=True,
        whole=True,
    )
    budget: int | None = setting(
        None, "Draw until so many tokens have been decoded.", at_least=1, at_most=10**9, optional=True, whole=True
    )
    temperature: float = setting(1.0, "Temperature at which tokens are drawn.")
    select: Selection = setting(
        "mean-logp", "The best has the highest mean log p per token, the highest sum, or the most frequent answer."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature is None:
            raise SettingError("temperature must be a positive number (got None)")
        check_temperature(1.0, self.temperature)
        check_word("select", self.select, Selection)
        if self.select == "majority" and self.answer is None:
            raise SettingError("select majority counts answers: give answer, which finds them")

    @property
    def proposal_temperature(self) -> float:
        """``temperature``."""
        return self.temperature

    @property
    def width(self) -> int:
        """``n`` completions decode at once; of a budget, those that it is certain to buy."""
        return self._most if self.budget is None else min(-(-self.budget // self.max_new_tokens), self._most)

    async def run(self, draw: Draw, rng: np.random.Generator) -> Completion:
        """Draw one completion (see ``Sampler.run``); completion i of those it chooses from has seed i."""
        if self.select == "majority" and draw.engine.text is None:
            raise SettingError("select=majority reads answers in texts, and this model has no tokenizer")
        drawn = await self._draw_all(draw, spawn(rng, 1)[0])
        eligible = [trace for trace in drawn if await draw.fits(trace)] or drawn
        best = eligible[await self._best(eligible, draw)]
        return await draw.complete(best, candidates=len(drawn))

    async def _draw_all(self, draw: Draw, rng: np.random.Generator) -> list[Trace]:
        """Completions in the order of their seeds; how many there are does not depend on which ends first."""
        whole: dict[int, Trace] = {}
        running: dict[asyncio.Task[Trace], int] = {}
        while True:
            while self._buys_another(whole, running):
                index = len(whole) + len(running)
                [seed] = request_seeds(spawn(rng, 1)[0], 1)
                running[draw.start(draw.extend(Trace.empty(), self.max_new_tokens, seed, lane=index))] = index
            if not running:
                return [whole[index] for index in sorted(whole)]
            for task in await draw.first(running):
                index = running.pop(task)
                whole[index] = task.result()
                stages = self._most if self.budget is None else len(whole) + len(running)
                draw.show(whole[index], whole[index], stage=len(whole) - 1, stages=stages)

    @property
    def _most(self) -> int:
        """How many completions there are at most."""
        return (DEFAULT_N if self.budget is None else MOST) if self.n is None else self.n

    def _buys_another(self, whole: Mapping[int, Trace], running: Sized) -> bool:
        """Whether one more completion is certain to be paid for, however long those that run now will be."""
        if len(whole) + len(running) >= self._most:
            return False
        return self.budget is None or sum(map(len, whole.values())) + len(running) * self.max_new_tokens < self.budget

    def score(self, trace: Trace) -> float:
        """What decides between completions, or between those with equally many votes; in nats."""
        return float(trace.logp.sum() if self.select == "logp" else trace.logp.mean())

    async def _best(self, traces: Sequence[Trace], draw: Draw) -> int:
        """The index of the completion to return; the first of equals."""
        scores = [self.score(trace) for trace in traces]
        if self.select != "majority" or draw.engine.text is None:
            return int(np.argmax(scores))
        texts = [await draw.text_of(trace) for trace in traces]
        answers = [self.find_answer(text) for text in texts]
        votes = Counter(answer for answer in answers if answer is not None)
        # Where no text has an answer, all texts are equals.
        return max(range(len(traces)), key=lambda i: (votes[answers[i]], scores[i], -i))
