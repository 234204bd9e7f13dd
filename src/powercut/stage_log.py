"""What a chain's last stage looked like, step by step: figures that say whether it moved and what its draws are worth.

Small enough to keep with each completion, unlike its proposals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from powercut.trace import Step, Trace


@dataclass(frozen=True, slots=True)
class LastStage:
    """The last stage of a chain in which a step was made, or the text extended.

    ``logp`` (nats) and ``length`` (tokens) are those at the start of the stage and after each of its n steps,
    ``[n + 1]``; of each step it is known whether it was ``accepted`` and ``changed`` the text, and what it ``decoded``,
    ``[n]``. Null steps are steps: accepted, without change, for nothing.
    """

    stage: int
    logp: tuple[float, ...]
    length: tuple[int, ...]
    accepted: tuple[bool, ...]
    changed: tuple[bool, ...]
    decoded: tuple[int, ...]


class StageLog:
    """Follows a chain of ``sampler`` by its events and forgets a stage when the next begins.

    Only of a cut sampler, and without ``until``, under which nobody knows how many steps a stage has.
    """

    def __init__(self, sampler: Any) -> None:
        cuts = hasattr(sampler, "cut_law") and sampler.until is None
        self._each = int(sampler.steps) if cuts else None
        self._stage = -1
        self._states: list[tuple[float, int]] = []
        self._steps: list[tuple[bool, bool, int]] = []

    def add(self, stage: int, step: Step | None, trace: Trace) -> None:
        """Take in an event: a step (None: an extension) of a stage, and the completion after it."""
        if self._each is None:
            return
        nulls = 0 if step is None else step.nulls
        if stage != self._stage:
            if step is not None:  # what is finished is not extended, and null steps go on over the end of a stage
                nulls -= (stage - self._stage) * self._each - len(self._steps)
            self._stage, self._steps = stage, []
            self._states = [] if step is None else self._states[-1:]
        if step is not None:
            self._rest(nulls)
            self._steps.append((step.accepted, step.changed_at is not None, step.tokens_decoded))
        self._states.append((float(trace.logp.sum()), len(trace)))

    def last(self) -> LastStage | None:
        """The last stage of a chain that is over, None if it was not followed; those null steps too that end it."""
        if self._each is None or not self._states:
            return None
        self._rest(self._each - len(self._steps))
        logp, length = zip(*self._states, strict=True)
        accepted, changed, decoded = zip(*self._steps, strict=True) if self._steps else ((), (), ())
        return LastStage(self._stage, logp, length, accepted, changed, decoded)

    def _rest(self, steps: int) -> None:
        """Take in so many null steps."""
        self._states += self._states[-1:] * steps
        self._steps += [(True, False, 0)] * steps
