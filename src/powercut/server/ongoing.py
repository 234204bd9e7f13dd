"""A request that is being answered: its choices, who waits for them, and how long it outlives its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from powercut.engines.protocol import Engine
from powercut.engines.with_rows import WithRows
from powercut.server.choice import Choice
from powercut.server.metrics import Metrics
from powercut.server.order import Order
from powercut.server.refusals import NO_RETRY, Refusal
from powercut.server.shape import Shape
from powercut.server.turns import Turns
from powercut.server.views import View, Views
from powercut.text import Text

MARGIN = 0.2
"""Seconds for which a client that tries again may be late."""


def patience(retries: int) -> float:
    """Seconds for which an answer outlives a client that has come back ``retries`` times.

    OpenAI's clients try again after half a second, then after twice as long each time, at most 8 seconds.
    """
    return min(0.5 * 2.0 ** min(retries, 4), 8.0) + MARGIN


class Ongoing:
    """Draws the choices of ``order``, each when its turn has come.

    ``choices`` are in the order in which they are answered; ``failed`` is why there will be none. Where a bound is met
    before a choice has anything, that is so only if it is met for all of them: else its text is empty. When the last of
    those who ``read`` it has gone, and has not come again in time, it is given up if it is not done, and ``forget`` is
    called. ``told``: whether one of them was sent all of it. ``view`` keeps the steps.
    """

    def __init__(
        self,
        order: Order,
        shape: Shape,
        engine: Engine,
        turns: Turns,
        metrics: Metrics,
        forget: Callable[[], None],
        view: View | None = None,
    ) -> None:
        self.order, self.shape, self.view = order, shape, view
        self.readers = self.retries = 0
        self.told = False
        self.failed: BaseException | None = None
        self._engine, self._turns, self._metrics = engine, turns, metrics
        self._forget = forget
        self._leaving: asyncio.TimerHandle | None = None
        self._version = 0
        self._news, self._ended = asyncio.Event(), asyncio.Event()
        changed = (self._changed, self._changed) if order.progress else (self._changed,)
        as_drawn = order.stream and not order.logprobs
        self.choices = [
            Choice(order.sampler, prompt, (i, j), *changed, as_drawn=as_drawn, view=None if view is None else view.add)
            for i, prompt in enumerate(order.prompts)
            for j in range(order.n)
        ]
        turns.expect(self)
        self.task = asyncio.create_task(self._draw_all())

    async def changed(self, seen: int, by: float | None = None) -> int:
        """Wait until there is something newer than version ``seen``; TimeoutError if there is not ``by`` that time."""
        while self._version == seen:
            async with asyncio.timeout_at(by):
                await self._news.wait()
        return self._version

    async def complete(self) -> None:
        """Wait until all choices are drawn. Raises what failed."""
        await self._ended.wait()
        if self.failed is not None:
            raise self.failed

    @property
    def done(self) -> bool:
        """Whether nothing is drawn any more."""
        return self._ended.is_set()

    @property
    def text(self) -> Text:
        """The engine's."""
        assert self._engine.text is not None, "checked when the server starts"
        return self._engine.text

    @contextmanager
    def read(self) -> Iterator[None]:
        """Within it somebody waits for the answer."""
        self.readers += 1
        if self._leaving is not None:
            self._leaving.cancel()
        try:
            yield
        finally:
            self.readers -= 1
            if not self.readers:
                self._leaving = asyncio.get_running_loop().call_later(patience(self.retries), self._leave)

    def end(self, why: BaseException) -> None:
        """Give it up: everybody who waits is told ``why``."""
        if not self.done:
            self.failed = self.failed or why
            self.task.cancel()

    def _leave(self) -> None:
        self.end(Refusal(499, "the client has gone", kind="client_error", headers=NO_RETRY))
        self._forget()

    def _changed(self) -> None:
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _draw_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for choice in self.choices:
                    group.create_task(self._draw(choice))
            self._settle()
        except* Exception as errors:
            self.failed = self.failed or errors.exceptions[0]
        finally:
            self._turns.forget(self)
            if self.view is not None:
                self.view.close()
            self._ended.set()
            self._changed()

    def _settle(self) -> None:
        """Choices for which a bound left nothing are empty beside others; Refusal if there is no other."""
        refusals = [choice.refusal for choice in self.choices if choice.refusal is not None]
        if len(refusals) == len(self.choices):
            raise refusals[0]
        for choice in self.choices:
            if choice.refusal is not None:
                choice.leave_empty()

    async def _draw(self, choice: Choice) -> None:
        order = self.order
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(order.deadline):
                    await stack.enter_async_context(self._turns.turn(self, choice.sampler.width))
            except TimeoutError:
                what = "the deadline was met in the queue: give more, or come again later"
                choice.refuse("deadline", what, kind="rate_limit_error")
                return
            try:
                await choice.draw(
                    *(self._engine if self.view is None else WithRows(self._engine), order.seed),
                    deadline=order.deadline,
                    budget=order.budget,
                    rows=order.top_logprobs > 0,
                )
                if self.view is not None:
                    self.view.end(choice)
            finally:
                self._metrics.drawn(choice)


class Answering:
    """All requests that are being answered, by one engine; ``views`` keeps the steps of the last ones."""

    def __init__(self, engine: Engine, turns: Turns, metrics: Metrics, views: Views) -> None:
        self._engine, self._turns, self._metrics, self._views = engine, turns, metrics, views
        self._ongoing: dict[bytes, list[Ongoing]] = {}
        self._closed: Refusal | None = None

    def join(self, key: bytes, retries: int) -> Ongoing | None:
        """What is drawn for a request that was the same to the last byte, and whose client went before it was told.

        Never what somebody waits for or was told: of several who ask the same, to have several draws, one may come back
        that had been refused. ``retries`` says how many times the client has come back, this time included.
        """
        left = (each for each in self._ongoing.get(key, ()) if not (each.readers or each.told or each.failed))
        if (found := next(left, None)) is None:
            return None
        found.retries = max(found.retries, retries)
        self._metrics.joined += 1
        return found

    @property
    def closed(self) -> bool:
        """Whether no more is begun."""
        return self._closed is not None

    def check_room(self) -> None:
        """Raise Refusal where the queue is full, or the server about to end."""
        if self._closed is not None:
            raise self._closed
        self._turns.check_room()

    def begin(self, order: Order, shape: Shape, key: bytes) -> Ongoing:
        """Start to draw an answer. Raises Refusal as ``check_room`` does."""
        self.check_room()

        def forget() -> None:
            self._ongoing[key].remove(ongoing)
            if not self._ongoing[key]:
                del self._ongoing[key]

        view = self._views.begin(shape.id, order, self._engine)
        ongoing = Ongoing(order, shape, self._engine, self._turns, self._metrics, forget, view)
        self._ongoing.setdefault(key, []).append(ongoing)
        return ongoing

    def close(self) -> None:
        """Begin no more."""
        self._closed = Refusal(503, "the server is about to end", kind="server_error", headers={"Retry-After": "5"})

    def end(self) -> None:
        """Give up what is being drawn."""
        self.close()
        assert self._closed is not None
        for same in self._ongoing.values():
            for ongoing in same:
                ongoing.end(self._closed)
