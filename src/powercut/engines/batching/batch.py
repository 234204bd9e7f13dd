"""Continuous batching over a cache's slots: a request joins the batch when one is free, and leaves it when it ends.

All bookkeeping happens in the callers' event loop; the model runs in a thread beside it, one pass at a time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from powercut.engines.batching.cache import Cache
from powercut.engines.batching.member import Member, draw_for
from powercut.engines.batching.next_pass import Pace, next_pass
from powercut.engines.batching.slots import common_length
from powercut.engines.protocol import Chain, Usage
from powercut.engines.sequence import Sequence
from powercut.errors import EngineError, one_line

T = TypeVar("T")

PATIENCE = 0.01
"""Most seconds for which a pass waits for chains that are about to ask: what else they do must not hold up the others.

A sampler asks again within a millisecond. A pass of a small model takes about as long as this, a large one's longer.
"""

HANDOVER = 0.1
"""Seconds for which an event loop that runs keeps the engine after its last request: a run has gaps between chains."""

AT_WORK = "this engine is at work in another event loop: wait for it, or load a second engine"


class Batch:
    """The requests of one event loop: those that decode now, in the slots of ``cache``, and those that wait for one.

    Passes run in ``thread``, which has one worker; what they compute is added to ``usage``, how long they take to
    ``pace``.
    """

    def __init__(self, cache: Cache, usage: Usage, pace: Pace, thread: ThreadPoolExecutor) -> None:
        self._cache, self._usage, self._pace, self._thread = cache, usage, pace, thread
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Member] = []
        self._active: list[Member] = []
        self._served: set[Chain] = set()  # chains that got a result since the last pass
        self._pump: asyncio.Task[None] | None = None
        self._pass: Future[Any] | None = None
        self._rests_since = 0.0
        self._end_reason: str | None = None
        self._lock = threading.Lock()  # of members and their slots: other loops look at them, and may free the slots

    def __len__(self) -> int:
        return len(self._active) + len(self._waiting)

    @property
    def here(self) -> bool:
        """Whether it belongs to the event loop that runs in this thread."""
        return self._loop is asyncio.get_running_loop()

    def join(self, sequence: Sequence) -> Member:
        """Take in a request; its ``trace`` is to be awaited."""
        member = Member(sequence)
        self._waiting.append(member)
        if self._pump is None or self._pump.done():
            self._pump = self._loop.create_task(self._run())
        return member

    def give_way(self, reason: str) -> bool:
        """Whether another event loop may have the cache now: then what is left here fails, should its loop go on.

        False if this loop runs and had a request within HANDOVER. Raises EngineError while it is at work.
        """
        with self._lock:
            if self._loop.is_running():
                if self:
                    raise EngineError(AT_WORK)
                if time.monotonic() < self._rests_since + HANDOVER:
                    return False
            self._end_reason = reason
            self._free_slots(spoilt=False)
            return True

    async def end(self, reason: str) -> None:
        """Fail what it still has, once the pass in progress is over; in whatever event loop this is called."""
        self._end_reason = reason
        if self._pump is None or self._pump.done():
            return
        if self.here:
            await asyncio.wait([self._pump])
        elif self._loop.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_until_done(self._pump), self._loop))
        else:
            self.give_way(reason)

    async def _run(self) -> None:
        """Serve requests until none are left."""
        try:
            while True:
                await self._let_chains_ask()
                with self._cache_ours():
                    self._drop_left()
                    admitted = self._admit()
                if admitted:
                    drawn = await self._in_thread(self._open, admitted)
                elif self._active:
                    drawn = await self._in_thread(self._advance)
                else:
                    return
                with self._cache_ours():
                    self._deliver(drawn)
        except BaseException as error:
            self._fail_all(error)
            if not isinstance(error, Exception):
                raise

    async def _let_chains_ask(self) -> None:
        """Whoever got a result just now may ask for more, and joins the next pass if it does so in time."""
        late = self._loop.time() + PATIENCE
        await asyncio.sleep(0)
        while any(chain.due for chain in self._served) and self._loop.time() < late:
            await asyncio.sleep(0)
        self._served.clear()

    async def _in_thread(self, job: Callable[..., T], *args: Any) -> T:
        """Run a job beside the event loop. A cancellation waits for it: no bookkeeping is left half done."""
        self._pass = future = self._thread.submit(job, *args)
        over = asyncio.wrap_future(future)
        cancelled = None
        while not over.done():
            try:
                await asyncio.wait([over])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            over.exception()  # asyncio logs those that nobody looks at
            raise cancelled
        return over.result()

    @contextmanager
    def _cache_ours(self) -> Iterator[None]:
        """Nobody takes the cache away meanwhile. Raises EngineError once it is another loop's, or the engine closed."""
        with self._lock:
            if self._end_reason is not None:
                raise EngineError(self._end_reason)
            yield

    def _admit(self) -> list[Member]:
        """Take as many waiting requests as there are free slots."""
        # Those first that have a slot already: a newcomer must not take it between two of their requests.
        order = sorted(self._waiting, key=lambda member: not self._cache.knows(member.sequence.request))
        admitted = order[: self._cache.free()]
        for member in admitted:
            self._waiting.remove(member)
        self._active += admitted
        return admitted

    def _open(self, members: list[Member]) -> list[Member]:
        """Give slots to new requests; returns those that could draw their first token from what is cached."""
        ready = []
        for member in members:
            context, top_k = member.rest.context, member.rest.top_k
            before = [other for other in self._active if other.slot is not None and other.drawn is None]
            member.slot, shared = self._cache.open(member.rest)
            likely = self._cache.likely(member.slot, shared - 1, top_k) if shared == len(context) and top_k else None
            if likely is not None:
                self._draw([member], likely[0][None], likely[1][None])
                self._usage.reused += shared
                ready.append(member)
            else:
                self._hold(member, shared)
                self._usage.reused += member.cached
                if self._cache.shares:
                    # Less the last token of each: when it is fed depends on who decodes.
                    alike = ((other, common_length(other.rest.context[:-1], context[:-1])) for other in before)
                    member.after = [(other, common) for other, common in alike if common > member.cached]
        return ready

    def _hold(self, member: Member, shared: int) -> None:
        """Its slot holds ``shared`` tokens of its context; the last is fed in any case, to draw what follows."""
        member.hold(self._cache.rewind(member.slot, min(shared, len(member.rest.context) - 1)))

    def _advance(self) -> list[Member]:
        """One forward pass; returns those who drew a token."""
        for member in self._active:
            if any(common <= other.cached for other, common in member.after):
                before = member.cached
                self._hold(member, self._cache.borrow(member.slot, member.rest.context))
                self._usage.reused += member.cached - before
        parts = next_pass(self._active, self._pace, whole_contexts=self._cache.whole_contexts)
        # Those who draw first; of these, requests with one top_k are computed together: most often there is one group.
        parts.sort(key=lambda part: (not part.draws, part.member.rest.top_k or 0))
        newcomers = [part for part in parts if part.member.drawn is None]
        members = [part.member for part in parts]
        drawing = [part.member for part in parts if part.draws]
        pieces = sum(part.size for part in parts if len(part.member.to_feed) > 1)  # else it costs what a decoder does
        start = time.perf_counter()
        tokens = [part.member.to_feed[: part.size] for part in parts]
        logits = self._cache.advance([member.slot for member in members], tokens, len(drawing))
        self._usage.prefilled += sum(part.member.fed(part.size) for part in newcomers)
        first = 0
        for top_k, same in groupby(drawing, key=lambda member: member.rest.top_k):
            group = list(same)
            scores, ids = logits[first : first + len(group)], None
            first += len(group)
            if top_k is not None:
                scores, ids = self._cache.most_likely(scores, top_k)
                self._cache.remember([m.slot for m in group], scores, ids)
            self._draw(group, scores, ids)
        if len(newcomers) < len(parts):
            self._pace.took(time.perf_counter() - start, pieces)
        return drawing

    def _draw(self, members: list[Member], scores: Any, ids: Any) -> None:
        draw_for(members, scores, ids)
        self._usage.decoded += len(members)

    def _deliver(self, members: list[Member]) -> None:
        """Show each request its new token, and end those that are done."""
        for member in members:
            if member.left:  # cancelled while it decoded
                continue
            if member.nothing_left:
                self._end(member, member.sequence.nothing_left())
                continue
            assert member.drawn is not None
            if not np.isfinite(member.drawn.laws).all():
                self._cache.forget(member.slot)
            try:
                member.sequence.take(*member.drawn)
            except Exception as error:
                self._end(member, error)
                continue
            if member.sequence.done:
                self._end(member, None)

    def _end(self, member: Member, error: Exception | None) -> None:
        sequence = member.sequence
        wanted = sequence.wanted and error is None and not member.left
        self._cache.close(member.slot, len(sequence.request.context), wanted)
        self._active.remove(member)
        if sequence.request.chain is not None:
            self._served.add(sequence.request.chain)
        self._settle(member, error)

    def _settle(self, member: Member, error: BaseException | None) -> None:
        """Hand over the outcome; an error that is no Exception cancels whoever waits for it."""
        self._rests_since = time.monotonic()
        member.sequence.close()
        if member.outcome.done() or self._loop.is_closed():
            return
        if error is None:
            member.outcome.set_result(member.sequence.trace())
        elif isinstance(error, Exception):
            member.outcome.set_exception(error)
        else:
            member.outcome.cancel()

    def _drop_left(self) -> None:
        for member in [m for m in self._active if m.left]:
            self._end(member, None)
        self._waiting = [m for m in self._waiting if not m.left]

    def _fail_all(self, error: BaseException) -> None:
        """The model failed, or the batch ends: nobody is left waiting, and the slots are free again."""
        failed = isinstance(error, Exception)
        with self._lock:
            self._free_slots(spoilt=failed)
        for member in (*self._active, *self._waiting):
            self._settle(member, explained(error) if failed else error)
        self._active, self._waiting = [], []

    def _free_slots(self, *, spoilt: bool) -> None:
        if self._pass is not None:
            wait([self._pass])  # it is over already, unless the loop was stopped in the middle
        for member in self._active:
            if member.slot is not None:
                if spoilt:
                    self._cache.forget(member.slot)
                self._cache.close(member.slot, len(member.sequence.request.context), wanted=False)
                member.slot = None


async def _until_done(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, which torch says on the CPU, and cuBLAS on a GPU, in the text of a RuntimeError only."""
    words = ("out of memory", "allocate memory", "enough memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(some in str(error) for some in words)
    )


def explained(error: BaseException) -> EngineError:
    """Word a failure while decoding; each caller gets an error of its own."""
    if isinstance(error, EngineError):
        return EngineError(str(error))
    if out_of_memory(error):
        return EngineError("out of memory while decoding: lower slots or context_length")
    return EngineError(f"decoding failed: {type(error).__name__}: {one_line(error)}")
