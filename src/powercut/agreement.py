"""Several completions of one prompt, which are no longer drawn once their answers agree.

The answers are taken to be independent draws of an unknown law. With v votes for the leading answer and w for the next,
and no opinion beforehand, the chance that the leading one is the more likely of the two is that of a Beta(v + 1, w + 1)
variable to exceed 1/2: the stopping rule of adaptive self-consistency (arXiv 2305.11860). It is asked after each answer
anew, and the votes it ends with lead by more than the law's own: it says when to stop, and bounds no share of errors.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from powercut.trace import Completion

T = TypeVar("T")


def lead(leading: int, runner_up: int) -> float:
    """The chance that an answer with so many votes is likelier than one with so many: P(Beta(v + 1, w + 1) > 1/2)."""
    n = leading + runner_up + 1
    return float(sum(math.comb(n, k) for k in range(leading + 1)) / 2**n)


class Agreement:
    """The answers to one prompt, by sample index, and how many of up to ``n`` samples it takes for them to agree.

    They agree after sample k if those of samples 0 to k do, with a ``lead`` of at least ``level`` (None: never). So
    what counts does not depend on which sample is done first. No answer (None) is no vote.
    """

    def __init__(self, n: int, level: float | None) -> None:
        self._n, self._level = n, level
        self._done: dict[int, tuple[Any, Hashable | None]] = {}  # those whose turn has not come yet
        self._votes: Counter[Hashable] = Counter()  # of the others
        self._started = self._taken = 0
        self._agreed = False

    @property
    def over(self) -> bool:
        """Whether no further sample is to be started."""
        return self._agreed or self._started == self._n

    def start(self) -> int | None:
        """The next sample, if it is certain to count: if those before it cannot agree, whatever they will answer."""
        if self.over or self._may_agree():
            return None
        self._started += 1
        return self._started - 1

    def _may_agree(self) -> bool:
        votes, open_ones = self._votes.copy(), 0
        for k in range(self._taken, self._started) if self._level is not None else ():
            if k not in self._done:
                open_ones += 1
            elif (answer := self._done[k][1]) is not None:
                votes[answer] += 1
            if self._agree(_lead_of(votes, open_ones)):
                return True
        return False

    def _agree(self, lead: float) -> bool:
        return self._level is not None and lead >= self._level

    def add(self, sample: int, outcome: T, answer: Hashable | None) -> Iterator[tuple[T, float]]:
        """Take in what became of a sample; yields the outcomes whose turn has come, and the lead of an answer then."""
        self._done[sample] = outcome, answer
        while self._taken in self._done:
            outcome, answer = self._done.pop(self._taken)
            self._taken += 1
            if answer is not None:
                self._votes[answer] += 1
            leads = _lead_of(self._votes)
            self._agreed = self._agreed or self._agree(leads)
            yield outcome, leads


class Agenda:
    """Which chain comes next: prompt by prompt, and sample by sample.

    With ``agree`` none that may turn out not to count: a prompt's next one waits for the answers of those before.
    """

    def __init__(self, prompts: int, n: int, agree: float | None) -> None:
        self._prompts = {i: Agreement(n, agree) for i in range(prompts)}
        self._open = deque(range(prompts))
        self._agree, self._changed = agree, asyncio.Event()

    async def next(self) -> tuple[int, int] | None:
        """Prompt and sample index of a chain that is to be drawn, as soon as there is one; None if no other is."""
        while self._open:
            for i in tuple(self._open):
                if (j := self._prompts[i].start()) is not None:
                    return i, j
                if self._prompts[i].over:
                    self._open.remove(i)
            if self._open:
                self._changed.clear()
                await self._changed.wait()
        return None

    def add(self, place: tuple[int, int], outcome: T, answer: Hashable | None) -> Iterator[T]:
        """Take in what became of a chain; yields the outcomes whose turn has come. None waits without ``agree``."""
        if self._agree is None:
            yield outcome
            return
        for each, leads in self._prompts[place[0]].add(place[1], outcome, answer):
            if isinstance(each, Completion):
                each = replace(each, stats=replace(each.stats, agreement=leads))
            yield each
        self._changed.set()


def _lead_of(votes: Counter[Hashable], more: int = 0) -> float:
    """The ``lead`` of the leading answer, should it get so many votes more."""
    (_, first), (_, second) = [*votes.most_common(2), (None, 0), (None, 0)][:2]
    return lead(first + more, second)
