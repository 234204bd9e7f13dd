"""A request that is being answered: its choices, who waits for them, and how long it outlives its client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from powercut.engines.protocol import Engine
from powercut.server.choice import Choice
from powercut.server.metrics import Metrics
from powercut.server.order import Order
from powercut.server.refusals import NO_RETRY, Refusal
from powercut.server.shape import Shape
from powercut.server.turns import Turns
from powercut.text import Text

GRACE = 0.7
"""Seconds for which chains go on after their client has gone: OpenAI's clients try again after half a second."""


class Ongoing:
    """Draws the choices of ``order``, each when its turn has come.

    ``choices`` are in the order in which they are answered; ``failed`` is why there will be none. It is cancelled
    GRACE seconds after the last of those who ``read`` it has gone.
    """

    def __init__(self, order: Order, shape: Shape, engine: Engine, turns: Turns, metrics: Metrics) -> None:
        self.order, self.shape = order, shape
        self.failed: BaseException | None = None
        self.done = False
        self._engine, self._turns, self._metrics = engine, turns, metrics
        self._readers = 0
        self._version = 0
        self._news = asyncio.Event()
        places = ((i, j) for i in range(len(order.prompts)) for j in range(order.n))
        self.choices = [
            Choice(order.sampler, order.prompts[i], (i, j), self._changed, as_drawn=order.stream and not order.logprobs)
            for i, j in places
        ]
        self.task = asyncio.create_task(self._draw_all())

    async def changed(self, seen: int, by: float | None = None) -> int:
        """Wait until there is something newer than version ``seen``; TimeoutError if there is not ``by`` that time."""
        while self._version == seen:
            async with asyncio.timeout_at(by):
                await self._news.wait()
        return self._version

    async def complete(self) -> None:
        """Wait until all choices are drawn. Raises what failed."""
        seen = 0
        while not self.done:
            seen = await self.changed(seen)
        if self.failed is not None:
            raise self.failed

    @property
    def text(self) -> Text:
        """The engine's."""
        assert self._engine.text is not None, "checked when the server starts"
        return self._engine.text

    @contextmanager
    def read(self) -> Iterator[None]:
        """Within it somebody waits for the answer."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                asyncio.get_running_loop().call_later(GRACE, self._leave)

    def end(self, why: BaseException) -> None:
        """Give it up: everybody who waits is told ``why``."""
        if not self.done:
            self.failed = self.failed or why
            self.task.cancel()

    def _leave(self) -> None:
        if not self._readers:
            self.end(Refusal(499, "the client has gone", kind="client_error", headers=NO_RETRY))

    def _changed(self) -> None:
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _draw_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for choice in self.choices:
                    group.create_task(self._draw(choice))
        except* Exception as errors:
            self.failed = self.failed or errors.exceptions[0]
        finally:
            self.done = True
            self._changed()

    async def _draw(self, choice: Choice) -> None:
        order = self.order
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(order.deadline):
                    await stack.enter_async_context(self._turns.turn(self, choice.sampler.width))
            except TimeoutError:
                what = "the deadline was met in the queue: give more, or come again later"
                headers, param = NO_RETRY, "deadline_s"
                raise Refusal(
                    504, what, kind="rate_limit_error", code="deadline", param=param, headers=headers
                ) from None
            try:
                await choice.draw(
                    *(self._engine, order.seed),
                    deadline=order.deadline,
                    budget=order.budget,
                    rows=order.top_logprobs > 0,
                )
            finally:
                self._metrics.drawn(choice)


class Answering:
    """All requests that are being answered, by one engine."""

    def __init__(self, engine: Engine, turns: Turns, metrics: Metrics) -> None:
        self._engine, self._turns, self._metrics = engine, turns, metrics
        self._ongoing: dict[bytes, Ongoing] = {}
        self._closed: Refusal | None = None

    def join(self, key: bytes) -> Ongoing | None:
        """What is being drawn, or was just now, for a request that was the same to the last byte."""
        found = self._ongoing.get(key)
        if found is None or found.failed is not None:
            return None
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
        ongoing = Ongoing(order, shape, self._engine, self._turns, self._metrics)
        self._ongoing[key] = ongoing
        loop = asyncio.get_running_loop()
        ongoing.task.add_done_callback(lambda _: loop.call_later(GRACE, self._forget, key, ongoing))
        return ongoing

    def close(self) -> None:
        """Begin no more."""
        self._closed = Refusal(503, "the server is about to end", kind="server_error", headers={"Retry-After": "5"})

    def end(self) -> None:
        """Give up what is being drawn."""
        self.close()
        assert self._closed is not None
        for ongoing in self._ongoing.values():
            ongoing.end(self._closed)

    def _forget(self, key: bytes, ongoing: Ongoing) -> None:
        if self._ongoing.get(key) is ongoing:
            del self._ongoing[key]
