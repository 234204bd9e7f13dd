"""Continuous batching over a cache's slots: a request joins the batch when one is free, and leaves it when it ends.

All bookkeeping happens in the callers' event loop; torch runs in a thread beside it, one pass at a time.
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
import torch

from powercut.engines.laws import Drawn, draw, next_token_law
from powercut.engines.protocol import Chain, Usage
from powercut.engines.sequence import Sequence
from powercut.engines.transformers.choose_cache import out_of_memory
from powercut.engines.transformers.native_cache import NativeCaches
from powercut.engines.transformers.slots import Slots
from powercut.errors import EngineError, one_line
from powercut.trace import Rows, Trace

T = TypeVar("T")

PATIENCE = 0.01
"""Most seconds for which a pass waits for chains that are about to ask: what else they do must not hold up the others.

A sampler asks again within a millisecond. A pass of a small model takes about as long as this, a large one's longer.
"""

HANDOVER = 0.1
"""Seconds for which an event loop that runs keeps the engine after its last request: a run has gaps between chains."""

AT_WORK = "this engine is at work in another event loop: wait for it, or load a second engine"


class Member:
    """One request in the batch: where it decodes, the token it drew last, and who waits for its outcome."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.outcome: asyncio.Future[Trace] = asyncio.get_running_loop().create_future()
        self.left = False  # nobody waits any more
        # Noise from the seed alone: token t uses noise[t], whoever else is in the batch.
        self.noise = np.random.default_rng(sequence.request.seed).random(sequence.request.max_new_tokens)
        self.slot: Any = None
        self.drawn: Drawn
        self.nothing_left = False  # to draw: all that the model may say are stops, and it is too early for one

    async def trace(self) -> Trace:
        """What it drew. Raises EngineError when the model fails; cancelling takes it out of the batch."""
        try:
            return await self.outcome
        finally:
            self.left = True
            self.sequence.close()


class Batch:
    """The requests of one event loop: those that decode now, in the slots of ``cache``, and those that wait for one.

    Passes run in ``thread``, which has one worker; what they compute is added to ``usage``.
    """

    def __init__(self, cache: Slots | NativeCaches, usage: Usage, thread: ThreadPoolExecutor) -> None:
        self._cache, self._usage, self._thread = cache, usage, thread
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
                    ready = await self._in_thread(self._open, admitted)
                elif self._active:
                    await self._in_thread(self._decode_all)
                    ready = list(self._active)
                else:
                    return
                with self._cache_ours():
                    self._deliver(ready)
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
        self._pass = self._thread.submit(job, *args)
        over = asyncio.wrap_future(self._pass)
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
            request = member.sequence.rest()
            context, top_k = request.context, request.top_k
            member.slot, shared = self._cache.open(request)
            likely = self._cache.likely(member.slot, shared - 1, top_k) if shared == len(context) and top_k else None
            if likely is not None:
                self._draw([member], likely[0][None], likely[1][None])
                ready.append(member)
            else:
                shared = min(shared, len(context) - 1)  # the last token is fed by the next decode
                self._cache.rewind(member.slot, shared)
                if shared < len(context) - 1:
                    self._cache.prefill(member.slot, context[shared:-1])
            computed = len(context) - member.sequence.count - shared  # a token drawn already is fed like any other
            member.sequence.prefilled = max(0, computed)
            self._usage.prefilled += max(0, computed)
            self._usage.reused += shared
        return ready

    def _decode_all(self) -> None:
        """One token more for every active request."""
        # Requests with one top_k are computed together; most often there is one group.
        members = sorted(self._active, key=lambda member: member.sequence.request.top_k or 0)
        self._active = members
        logits = self._cache.decode([m.slot for m in members], np.array([m.sequence.last_token for m in members]))
        start = 0
        for top_k, same in groupby(members, key=lambda member: member.sequence.request.top_k):
            group = list(same)
            scores, ids = logits[start : start + len(group)], None
            start += len(group)
            if top_k is not None:
                scores, ids = torch.topk(scores, top_k, dim=-1)
                self._cache.remember([m.slot for m in group], scores, ids)
            self._draw(group, scores, ids)

    @torch.inference_mode()
    def _draw(self, members: list[Member], scores: torch.Tensor, ids: torch.Tensor | None) -> None:
        """Draw each request's next token from its scores ``[members, K]``; ``ids`` None: all tokens, in order."""
        device = scores.device
        temperature = [m.sequence.request.temperature for m in members]
        noise = [m.noise[m.sequence.count] for m in members]
        scores = _without_barred(members, scores, ids)
        law = next_token_law(scores.double(), torch.tensor(temperature, dtype=torch.float64, device=device))
        rows: list[Rows | None] = [None] * len(members)
        if ids is not None and any(member.sequence.request.rows for member in members):
            all_ids, all_logp = ids.int().cpu().numpy(), law.logp.float().cpu().numpy()
            rows = [Rows(all_ids[i : i + 1], all_logp[i : i + 1]) for i in range(len(members))]
        drawn = draw(law.logq, torch.tensor(noise, dtype=torch.float64, device=device))[:, None]
        drawn.clamp_(max=scores.shape[1] - 1)  # NaN rows draw past the end
        tokens = (drawn if ids is None else ids.gather(1, drawn)).cpu().numpy()
        laws = torch.stack((law.logp.gather(1, drawn)[:, 0], law.logq.gather(1, drawn)[:, 0], law.entropy))
        for member, token, column, row in zip(members, tokens, laws.T.cpu().numpy(), rows, strict=True):
            member.drawn = Drawn(token, column[:, None], row)
        self._usage.decoded += len(members)

    def _deliver(self, members: list[Member]) -> None:
        """Show each request its new token, and end those that are done."""
        for member in members:
            if member.left:  # cancelled while it decoded
                continue
            if member.nothing_left:
                self._end(member, member.sequence.nothing_left())
                continue
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


def _without_barred(members: list[Member], scores: torch.Tensor, ids: torch.Tensor | None) -> torch.Tensor:
    """The scores with -inf for tokens that a request bars; a copy, since the cache remembers what it is given."""
    rows = [(row, barred) for row, member in enumerate(members) if (barred := member.sequence.barred)]
    if rows:
        scores = scores.clone()
    for row, barred in rows:
        if ids is None:
            scores[row, [token for token in barred if token < scores.shape[1]]] = -torch.inf
        else:
            scores[row, torch.isin(ids[row], torch.tensor(list(barred), device=ids.device))] = -torch.inf
        members[row].nothing_left = bool(scores[row].isneginf().all())
    return scores


async def _until_done(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


def explained(error: BaseException) -> EngineError:
    """Word a failure while decoding; each caller gets an error of its own."""
    if isinstance(error, EngineError):
        return EngineError(str(error))
    if out_of_memory(error):
        return EngineError("out of memory while decoding: lower slots or context_length")
    return EngineError(f"decoding failed: {type(error).__name__}: {one_line(error)}")
