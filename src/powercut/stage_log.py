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
    """Follows a chain by its events and forgets a stage when the next begins."""

    def __init__(self) -> None:
        self._stage = -1
        self._states: list[tuple[float, int]] = []
        self._steps: list[tuple[bool, bool, int]] = []

    def add(self, stage: int, step: Step | None, trace: Trace) -> None:
        """Take in an event: a step (None: an extension) of a stage, and the completion after it."""
        if stage != self._stage:
            self._stage, self._steps = stage, []
            self._states = [] if step is None else self._states[-1:]  # what is finished is not extended
        if step is not None:
            self._rest(step.nulls)
            self._steps.append((step.accepted, step.changed_at is not None, step.tokens_decoded))
        self._states.append((float(trace.logp.sum()), len(trace)))

    def last(self, sampler: Any) -> LastStage | None:
        """The last stage of a chain that is over; None for one of a ``sampler`` that is no cut sampler."""
        if not self._states or not hasattr(sampler, "cut_law"):
            return None
        if sampler.count == "steps" and sampler.until is None:  # those that were passed over at the end
            self._rest(sampler.steps - len(self._steps))
        logp, length = zip(*self._states, strict=True)
        accepted, changed, decoded = zip(*self._steps, strict=True) if self._steps else ((), (), ())
        return LastStage(self._stage, logp, length, accepted, changed, decoded)

    def _rest(self, steps: int) -> None:
        """Take in so many null steps."""
        self._states += self._states[-1:] * max(0, steps)
        self._steps += [(True, False, 0)] * max(0, steps)
