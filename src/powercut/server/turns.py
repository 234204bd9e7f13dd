"""Which chains may decode: as many as fill the engine, the requests' chains by turns."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from powercut.server.refusals import Refusal


class Turns:
    """Lets chains of several requests run, ``capacity`` engine requests at once.

    Where more want to, each request's next chain comes in turn, whatever the number of its chains. A chain that is
    wider than the engine runs alone. At most ``most_waiting`` requests wait.
    """

    def __init__(self, capacity: int, most_waiting: int) -> None:
        self.capacity, self.most_waiting = capacity, most_waiting
        self.running = 0
        self._used = 0
        self._waiting: OrderedDict[object, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()
        self._coming: set[object] = set()
        self._seconds = 1.0

    @property
    def waiting(self) -> int:
        """Chains that wait for their turn."""
        return sum(map(len, self._waiting.values()))

    def check_room(self) -> None:
        """Raise Refusal, with the seconds after which to come again, where too many requests wait already."""
        waiting = len(self._waiting) + max(0, len(self._coming) - max(0, self.capacity - self._used))
        if waiting >= self.most_waiting:
            raise Refusal(
                429,
                f"{waiting} requests wait already: come again later",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": str(max(1, min(60, round(self._seconds))))},
            )

    def expect(self, owner: object) -> None:
        """A request was let in: it counts from now on, as many may come before the first has asked for its turn."""
        self._coming.add(owner)

    def forget(self, owner: object) -> None:
        """It will ask for no more turns."""
        self._coming.discard(owner)

    @asynccontextmanager
    async def turn(self, owner: object, width: int) -> AsyncIterator[None]:
        """Wait for the turn of one of the chains of ``owner``, which makes ``width`` engine requests at once."""
        width = min(width, self.capacity)
        await self._enter(owner, width)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += 0.1 * (time.perf_counter() - start - self._seconds)
            self._leave(width)

    async def _enter(self, owner: object, width: int) -> None:
        self._coming.discard(owner)
        ready = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append((width, ready))
        self._admit()
        try:
            await ready
        except asyncio.CancelledError:
            if ready.cancelled() or not ready.done():
                self._forget(owner, ready)
            else:  # its turn had come
                self._leave(width)
            raise

    def _leave(self, width: int) -> None:
        self.running -= 1
        self._used -= width
        self._admit()

    def _forget(self, owner: object, ready: asyncio.Future[None]) -> None:
        queue = self._waiting.get(owner, deque())
        left = deque(each for each in queue if each[1] is not ready)
        if left:
            self._waiting[owner] = left
        else:
            self._waiting.pop(owner, None)
        self._admit()  # a wide one may have stood before others

    def _admit(self) -> None:
        while self._waiting:
            owner, queue = next(iter(self._waiting.items()))
            width, ready = queue[0]
            if self._used and self._used + width > self.capacity:
                return
            queue.popleft()
            del self._waiting[owner]
            if queue:
                self._waiting[owner] = queue  # behind the others
            if not ready.cancelled():
                self.running += 1
                self._used += width
                ready.set_result(None)
