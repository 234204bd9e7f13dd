"""Ending a stage when nothing seems to change any more: a rule of thumb, which moves the chain's law.

How long a chain stays where it is depends on where that is. To stop it once it has stayed for a while favours what is
hard to leave, whatever stands elsewhere, and a larger ``until`` does not cure that: given enough steps the one text
that is hardest to leave wins. The law is that of the chain without it only where a stage has fewer steps than that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable

from powercut.trace import Step, Trace

Answer = Callable[[Trace], Awaitable[Hashable | None]]
"""The answer of a completion; None if it has none."""


class Until:
    """Counts the last steps of a stage that tried a change and brought none: ``patience`` of them end it.

    A change is one of the text, or where ``answer`` finds one in it, of that; a stage goes on while there is no answer.
    Null steps do not count: they tried none. ``ended`` counts the stages that came to their end so.
    """

    def __init__(self, patience: int, answer: Answer | None = None) -> None:
        self._patience, self._answer = patience, answer
        self._stage, self._same = -1, 0
        self._known: tuple[Trace, Hashable | None] = Trace.empty(), None
        self.ended = 0

    async def ends(self, step: Step, before: Trace, after: Trace) -> bool:
        """Whether the stage ends with this step, which led from one completion to the other."""
        if step.stage != self._stage:
            self._stage, self._same = step.stage, 0
        if step.accepted and step.changed_at is None:
            return False
        self._same = self._same + 1 if await self._is_same(before, after) else 0
        ends = self._same >= self._patience
        self.ended += ends
        return ends

    async def _is_same(self, before: Trace, after: Trace) -> bool:
        if self._answer is None:
            return before is after
        old = await self._answer_of(before)
        return old is not None and old == await self._answer_of(after)

    async def _answer_of(self, trace: Trace) -> Hashable | None:
        if self._answer is not None and trace is not self._known[0]:
            self._known = trace, await self._answer(trace)
        return self._known[1]
