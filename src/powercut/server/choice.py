"""One choice of an answer: its completion in the making, the text that is certain, and where it stands if cut short."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from powercut.engines.protocol import Engine, Request
from powercut.run import Failure, draw_one
from powercut.samplers import BestOfN, LowTemperature, Rejection, Sampler, Standard
from powercut.samplers.sampler import Restricted
from powercut.server.refusals import NO_RETRY, Refusal
from powercut.server.safe_text import SafeText
from powercut.server.watched import CutShort, Watched
from powercut.text import LocalText, completion_text
from powercut.trace import Completion, Event, IntArray, Stats, Step, Trace


class Choice:
    """The completion at ``place`` (prompt and sample index) of ``prompt``, drawn by ``sampler``.

    ``text`` is the part of its text that cannot change any more; with ``as_drawn`` it grows while tokens are drawn, for
    samplers that take none back. ``completion`` is there once it is done, and ``stopped`` says which bound ended it
    where it stood; ``refusal`` is there instead where that was nowhere. ``event`` is the last of ``events``, of whose
    steps ``accepted`` and ``moved`` count those. ``changed`` is called after each change, ``shown`` after each event,
    and ``view`` with each.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompt: IntArray,
        place: tuple[int, int],
        changed: Callable[[], None] = lambda: None,
        shown: Callable[[], None] = lambda: None,
        *,
        as_drawn: bool = False,
        view: Callable[[Choice, Event], None] | None = None,
    ) -> None:
        self.sampler, self.prompt, self.place = sampler, prompt, place
        self.text = ""
        self.completion: Completion | None = None
        self.stopped: str | None = None
        self.refusal: Refusal | None = None
        self.watched: Watched | None = None
        self.event: Event | None = None
        self.events = 0
        self.steps: list[Step] = []
        self.accepted = self.moved = 0
        self._changed, self._shown, self._view = changed, shown, view
        self._as_drawn = as_drawn and isinstance(sampler, Standard | LowTemperature) and sampler.require is None
        self._standing: Trace | None = None
        self._begun: list[Trace] = []
        self._room: int | None = None
        self._request: Request | None = None
        self._safe: SafeText | None = None

    async def draw(
        self, engine: Engine, seed: int, *, deadline: float | None = None, budget: int | None = None, rows: bool = False
    ) -> None:
        """Draw it. Raises what failed."""
        start = time.perf_counter()
        if self._as_drawn and isinstance(engine.text, LocalText):
            stops = [stop for stop in self.sampler.decoding.on(engine).stop if isinstance(stop, str)]
            self._safe = SafeText(engine.text.decode_now, stops)
        self._room = budget
        shown = self._safe is not None or deadline is not None or budget is not None
        self.watched = Watched(engine, self._take if shown else None, deadline=deadline, budget=budget, rows=rows)
        outcome = await draw_one(self.watched, self.sampler, self.prompt, self.place, seed, self._observe)
        if isinstance(outcome, Failure):
            if not isinstance(outcome.error, CutShort):
                raise outcome.error
            self.stopped = outcome.error.reason
            trace = Trace.join(self._begun) if self._standing is None else self._standing
            if not len(trace) or isinstance(self.sampler, Rejection):  # what it has rejected is no draw
                self.refuse(
                    self.stopped,
                    f"the {self.stopped} was met before there was a completion: give more, or another sampler",
                )
                return
            outcome = await self._where_it_stands(engine, trace, time.perf_counter() - start)
        if outcome.text is None and engine.text is not None:
            raise Refusal(503, "the text of a completion could not be had: ask again", kind="server_error")
        self.completion, self.text = outcome, outcome.text or ""
        self._changed()

    def refuse(self, reason: str, message: str, kind: str = "sampler_error") -> None:
        """The bound ``reason`` was met before there was anything."""
        field = "deadline_s" if reason == "deadline" else reason
        self.stopped = reason
        self.refusal = Refusal(504, message, kind=kind, code=reason, param=field, headers=NO_RETRY)

    def leave_empty(self) -> None:
        """Give the empty text in place of the refusal, since there are choices that have one."""
        self.completion = Completion(Trace.empty(), self._stats(0.0, None), tuple(self.steps), "", *self.place)
        self._changed()

    async def _where_it_stands(self, engine: Engine, trace: Trace, seconds: float) -> Completion:
        """The completion that a bound ended at ``trace``."""
        text, sampler = None, self.sampler
        if engine.text is not None:
            stop = sampler.decoding.on(engine).stop
            text = await completion_text(engine.text, trace.tokens.tolist(), stop, sampler.min_new_tokens)
        satisfied = None
        if isinstance(sampler, Restricted) and sampler.require is not None:
            assert isinstance(sampler.require, str), "a request has no functions"
            satisfied = trace.finished and re.search(sampler.require, text or "") is not None
        return Completion(trace, self._stats(seconds, satisfied), tuple(self.steps), text, *self.place)

    def _stats(self, seconds: float, satisfied: bool | None) -> Stats:
        """Of a chain that did not come to its end."""
        watched = self.watched
        return Stats.of(
            self.steps,
            tokens_decoded=0 if watched is None else watched.decoded,
            tokens_prefilled=0 if watched is None else watched.prefilled,
            seconds=seconds,
            satisfied=satisfied,
        )

    def _observe(self, event: Event) -> None:
        self.event = event
        self.events += 1
        if self._view is not None:
            self._view(self, event)
        if event.step is not None:
            self.steps.append(event.step)
            self.accepted += event.step.accepted
            self.moved += event.step.changed_at is not None
        best = self._standing if isinstance(self.sampler, BestOfN) else None
        if best is None or self.sampler.score(event.trace) > self.sampler.score(best):  # type: ignore[attr-defined]
            self._standing = event.trace
        self._shown()

    def _take(self, request: Request, piece: Trace) -> None:
        """A new piece; those of the first extension are all there is before the first event."""
        if self._standing is not None or request.lane:
            return
        if request is not self._request and not len(request.generated):
            self._begun.clear()  # drawn again, for want of what is required
        self._request = request
        if self._room is not None:  # the token that spends a budget is not in the answer, and must not be shown
            piece = piece[: max(0, self._room - sum(map(len, self._begun)))]
        self._begun.append(piece)
        if self._safe is not None:
            self._safe.add(piece.tokens.tolist())
            self.text = self._safe.text
            self._changed()
