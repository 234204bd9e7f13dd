"""A table that counts what it works on, and samplers to run on it: what the tests of many prompts at once share."""

import asyncio

import pytest

import powercut as pc
from powercut.study.exact import EOS
from tests.checks import random_table

BAD = 2
"""The table fails in contexts that begin with this token."""

SAMPLER = pc.EntropyCut(alpha=2, steps=3, blocks=2, max_new_tokens=6, refine_finished=True)
SAMPLERS = [
    pc.Standard(max_new_tokens=5),
    pc.LowTemperature(alpha=3, max_new_tokens=5),
    SAMPLER,
    pc.EntropyCut(alpha=4, steps=4, blocks=3, max_new_tokens=9, early_reject=False),
    pc.UniformCut(alpha=4, steps=4, blocks=3, max_new_tokens=9),
    pc.UniformCut(alpha=float("inf"), temperature=0.5, steps=4, blocks=3, max_new_tokens=9),
    pc.EntropyCut(steps=0, blocks=1, max_new_tokens=1),
]
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)


class Watched(pc.TableEngine):
    """A table that counts the requests it works on, remembers the order of prompts, and can be held still."""

    def __init__(self, concurrency=64, eos=EOS):
        table = random_table(3, 4)

        def probs(context):
            return [0.5, 0.5, 0.5, 0.5] if context[0] == BAD else table(context)

        super().__init__(probs, eos, concurrency=concurrency)
        self.busy = self.most_busy = 0
        self.opened = []
        self.held = False

    async def extend(self, request, keep_going=None):
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        self.opened.append(tuple(request.context.tolist()))
        try:
            if self.held:
                await asyncio.Event().wait()
            return await super().extend(request, keep_going)
        finally:
            self.busy -= 1


def collect(engine, prompts, sampler=SAMPLER, **options):
    """Everything that astream yields, in the order in which it does."""

    async def all_of_them():
        return [outcome async for outcome in pc.astream(engine, sampler, prompts, **options)]

    return asyncio.run(asyncio.wait_for(all_of_them(), 20))


def place(outcome):
    return outcome.prompt_index, outcome.sample_index


def tokens(completions):
    return {place(c): c.tokens.tolist() for c in completions}
