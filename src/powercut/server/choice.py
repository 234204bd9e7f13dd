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
    where it stood. ``event`` is the last of ``events``. ``changed`` is called after each change.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompt: IntArray,
        place: tuple[int, int],
        changed: Callable[[], None] = lambda: None,
        *,
        as_drawn: bool = False,
    ) -> None:
        self.sampler, self.prompt, self.place = sampler, prompt, place
        self.text = ""
        self.completion: Completion | None = None
        self.stopped: str | None = None
        self.watched: Watched | None = None
        self.event: Event | None = None
        self.events = 0
        self.steps: list[Step] = []
        self._changed = changed
        self._as_drawn = as_drawn and isinstance(sampler, Standard | LowTemperature) and sampler.require is None
        self._standing: Trace | None = None
        self._begun: list[Trace] = []
        self._request: Request | None = None
        self._safe: SafeText | None = None

    async def draw(
        self, engine: Engine, seed: int, *, deadline: float | None = None, budget: int | None = None, rows: bool = False
    ) -> None:
        """Draw it. Raises what failed, and Refusal if a bound was met before there was anything."""
        start = time.perf_counter()
        if self._as_drawn and isinstance(engine.text, LocalText):
            stops = [stop for stop in self.sampler.decoding.on(engine).stop if isinstance(stop, str)]
            self._safe = SafeText(engine.text.decode_now, stops)
        shown = self._safe is not None or deadline is not None or budget is not None
        self.watched = Watched(engine, self._take if shown else None, deadline=deadline, budget=budget, rows=rows)
        outcome = await draw_one(self.watched, self.sampler, self.prompt, self.place, seed, self._observe)
        if isinstance(outcome, Failure):
            if not isinstance(outcome.error, CutShort):
                raise outcome.error
            self.stopped = outcome.error.reason
            outcome = await self._where_it_stands(engine, self.watched, budget, time.perf_counter() - start)
        if outcome.text is None and engine.text is not None:
            raise Refusal(503, "the text of a completion could not be had: ask again", kind="server_error")
        self.completion, self.text = outcome, outcome.text or ""
        self._changed()

    async def _where_it_stands(
        self, engine: Engine, watched: Watched, budget: int | None, seconds: float
    ) -> Completion:
        """The completion that a bound ended: the text after the last event, or as far as the first extension came."""
        trace = Trace.join(self._begun)[:budget] if self._standing is None else self._standing
        if not len(trace) or isinstance(self.sampler, Rejection):  # what it has rejected is no draw
            what = f"the {self.stopped} was met before there was a completion: give more, or another sampler"
            kind, field = "sampler_error", "deadline_s" if self.stopped == "deadline" else self.stopped
            raise Refusal(504, what, kind=kind, code=self.stopped, param=field, headers=NO_RETRY)
        text, sampler = None, self.sampler
        if engine.text is not None:
            stop = sampler.decoding.on(engine).stop
            text = await completion_text(engine.text, trace.tokens.tolist(), stop, sampler.min_new_tokens)
        satisfied = None
        if isinstance(sampler, Restricted) and sampler.require is not None:
            assert isinstance(sampler.require, str), "a request has no functions"
            satisfied = trace.finished and re.search(sampler.require, text or "") is not None
        stats = Stats.of(
            self.steps,
            tokens_decoded=watched.decoded,
            tokens_prefilled=watched.prefilled,
            seconds=seconds,
            satisfied=satisfied,
        )
        return Completion(trace, stats, tuple(self.steps), text, *self.place)

    def _observe(self, event: Event) -> None:
        self.event = event
        self.events += 1
        if event.step is not None:
            self.steps.append(event.step)
        best = self._standing if isinstance(self.sampler, BestOfN) else None
        if best is None or self.sampler.score(event.trace) > self.sampler.score(best):  # type: ignore[attr-defined]
            self._standing = event.trace
        self._changed()

    def _take(self, request: Request, piece: Trace) -> None:
        """A new piece; those of the first extension are all there is before the first event."""
        if self._standing is not None or request.lane:
            return
        if request is not self._request and not len(request.generated):
            self._begun.clear()  # drawn again, for want of what is required
        self._request = request
        self._begun.append(piece)
        if self._safe is not None:
            self._safe.add(piece.tokens.tolist())
            self.text = self._safe.text
            self._changed()
