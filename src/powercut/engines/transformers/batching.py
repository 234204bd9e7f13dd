"""Continuous batching over a cache's lanes: a request joins the batch when one is free, and leaves it when it ends.

All bookkeeping happens in the callers' event loop; torch runs in a thread beside it, one pass at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch

from powercut.engines.next_token import draw, next_token_law
from powercut.engines.protocol import KeepGoing, Request, Usage
from powercut.engines.stops import StopWatch
from powercut.engines.transformers.native_cache import NativeCaches
from powercut.engines.transformers.slots import Slots
from powercut.errors import EngineError, one_line
from powercut.trace import Trace

T = TypeVar("T")


class Decode:
    """One request on its way: its tokens so far, and where it decodes."""

    def __init__(self, request: Request, keep_going: KeepGoing | None, watch: StopWatch) -> None:
        self.request, self.keep_going, self.watch = request, keep_going, watch
        self.result: asyncio.Future[Trace] = asyncio.get_running_loop().create_future()
        size = request.max_new_tokens
        # Noise from the seed alone: token t uses noise[t], whoever else is in the batch.
        self.noise = np.random.default_rng(request.seed).random(size)
        self.tokens = np.empty(size, dtype=np.int64)
        self.laws = np.empty((3, size))  # logp, logq, entropy
        self.count = self.prefilled = 0
        self.finished = False
        self.wanted = True
        self.lane: Any = None

    @property
    def last_token(self) -> int:
        """The token that the next pass is given."""
        return int(self.tokens[self.count - 1] if self.count else self.request.context[-1])

    def trace(self, start: int = 0) -> Trace:
        """The tokens from ``start`` on."""
        part = slice(start, self.count)
        prefilled = 0 if start else self.prefilled
        logp, logq, entropy = self.laws[:, part]
        return Trace(self.tokens[part], logp, logq, entropy, finished=self.finished, prefilled=prefilled)


class Batch:
    """The requests that decode now, in the lanes of ``cache``, and those that wait for one; work goes to ``usage``."""

    def __init__(self, cache: Slots | NativeCaches, usage: Usage) -> None:
        self._cache, self._usage = cache, usage
        self._waiting: deque[Decode] = deque()
        self._active: list[Decode] = []
        self._pump: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="powercut-decode")

    def __len__(self) -> int:
        return len(self._active) + len(self._waiting)

    async def serve(self, request: Request, keep_going: KeepGoing | None, watch: StopWatch) -> Trace:
        """Decode one request together with whatever else is there. Raises EngineError when the model fails."""
        work = Decode(request, keep_going, watch)
        self._waiting.append(work)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        elif self._pump.get_loop() is not asyncio.get_running_loop():
            self._waiting.remove(work)
            raise EngineError("this engine is at work in another event loop: wait for it, or load a second engine")
        try:
            return await work.result
        finally:
            work.result.cancel()  # if it is still pending, nobody waits for it any more: the pump drops it

    async def _run(self) -> None:
        """Serve requests until none are left. Torch runs in a thread of its own; all bookkeeping happens here."""
        try:
            while True:
                # Whoever got a result just now may ask for more, and joins the next pass if it does.
                for _ in range(4):
                    await asyncio.sleep(0)
                self._drop_cancelled()
                if admitted := self._admit():
                    self._deliver(await self._in_thread(self._open, admitted))
                elif self._active:
                    await self._in_thread(self._decode_all)
                    self._deliver(list(self._active))
                else:
                    return
        except BaseException as error:
            self._fail_all(error)
            if not isinstance(error, Exception):
                raise

    async def _in_thread(self, job: Callable[..., T], *args: Any) -> T:
        """Run a job beside the event loop. A cancellation waits for it: no bookkeeping is left half done."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, job, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def _admit(self) -> list[Decode]:
        """Take as many waiting requests as there are free lanes."""
        # Sessions first that already have a lane, lest a newcomer takes it between two of their requests.
        order = sorted(self._waiting, key=lambda work: not self._cache.knows(work.request.session))
        admitted = order[: self._cache.free()]
        for work in admitted:
            self._waiting.remove(work)
        self._active += admitted
        return admitted

    def _open(self, works: Sequence[Decode]) -> list[Decode]:
        """Give lanes to new requests; returns those that could draw their first token from what is cached."""
        ready = []
        for work in works:
            context, top_k = work.request.context, work.request.top_k
            work.lane, shared = self._cache.open(context, work.request.session)
            head = self._cache.head(work.lane, shared - 1, top_k) if shared == len(context) and top_k else None
            if head is not None:
                self._draw([work], head[0][None], head[1][None])
                ready.append(work)
            else:
                shared = min(shared, len(context) - 1)  # the last token is fed by the next decode
                self._cache.rewind(work.lane, shared)
                if shared < len(context) - 1:
                    self._cache.prefill(work.lane, context[shared:-1])
            work.prefilled = len(context) - shared
            self._usage.prefilled += work.prefilled
            self._usage.reused += shared
        return ready

    def _decode_all(self) -> None:
        """One token more for every active request."""
        # Requests with one top_k are computed together; most often there is one group.
        works = sorted(self._active, key=lambda work: work.request.top_k or 0)
        self._active = works
        logits = self._cache.decode([w.lane for w in works], np.array([w.last_token for w in works]))
        start = 0
        for top_k, members in groupby(works, key=lambda work: work.request.top_k):
            group = list(members)
            scores, ids = logits[start : start + len(group)], None
            start += len(group)
            if top_k is not None:
                scores, ids = torch.topk(scores, top_k, dim=-1)
                self._cache.remember([w.lane for w in group], scores, ids)
            self._draw(group, scores, ids)

    @torch.inference_mode()
    def _draw(self, works: Sequence[Decode], scores: torch.Tensor, ids: torch.Tensor | None) -> None:
        """Draw each request's next token from its scores ``[works, K]``; ``ids`` None: all tokens, in order."""
        device = scores.device
        temperature = torch.tensor([w.request.temperature for w in works], dtype=torch.float64, device=device)
        noise = torch.tensor([w.noise[w.count] for w in works], dtype=torch.float64, device=device)
        law = next_token_law(scores.double(), temperature)
        drawn = draw(law.logq, noise)[:, None].clamp_(max=scores.shape[1] - 1)  # NaN rows draw past the end
        tokens = (drawn if ids is None else ids.gather(1, drawn))[:, 0]
        values = torch.stack((law.logp.gather(1, drawn)[:, 0], law.logq.gather(1, drawn)[:, 0], law.entropy))
        for work, token, column in zip(works, tokens.tolist(), values.cpu().numpy().T, strict=True):
            work.tokens[work.count] = token
            work.laws[:, work.count] = column
            work.count += 1
            self._usage.decoded += 1

    def _deliver(self, works: Sequence[Decode]) -> None:
        """Show each request its new token, and end those that are done."""
        for work in works:
            if work.result.done():  # cancelled while it decoded
                continue
            try:
                if np.isnan(work.laws[2, work.count - 1]):
                    self._cache.forget(work.lane)
                    raise EngineError(
                        f"the model's logits are NaN or infinite after {len(work.request.context) + work.count - 1} "
                        "tokens: try dtype float32, or check the weights"
                    )
                work.finished = work.watch.completes(work.last_token)
                if work.keep_going is not None:
                    work.wanted = bool(work.keep_going(work.trace(work.count - 1)))
            except Exception as error:
                self._end(work, error)
                continue
            if work.finished or work.count == work.request.max_new_tokens or not work.wanted:
                self._end(work, None)

    def _end(self, work: Decode, error: Exception | None) -> None:
        self._active.remove(work)
        self._cache.close(work.lane, len(work.request.context), work.wanted and error is None)
        if error is not None:
            work.result.set_exception(error)
        elif not work.result.done():
            work.result.set_result(work.trace())

    def _drop_cancelled(self) -> None:
        for work in [w for w in self._active if w.result.cancelled()]:
            work.wanted = False
            self._end(work, None)
        self._waiting = deque(w for w in self._waiting if not w.result.cancelled())

    def _fail_all(self, error: BaseException) -> None:
        """The model failed, or the loop is closing: nobody is left waiting, and the lanes are free again."""
        failed = isinstance(error, Exception)
        for work in self._active:
            if work.lane is not None:
                if failed:
                    self._cache.forget(work.lane)
                self._cache.close(work.lane, len(work.request.context), wanted=False)
        for work in (*self._active, *self._waiting):
            if not failed:
                work.result.cancel()
            elif not work.result.done():
                work.result.set_exception(_explain(error))
        self._active.clear()
        self._waiting.clear()


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, which torch says on the CPU, and cuBLAS on a GPU, in the text of a RuntimeError only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "allocate memory", "enough memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(some in str(error) for some in words)


def _explain(error: BaseException) -> EngineError:
    if out_of_memory(error):
        return EngineError("out of memory while decoding: lower slots or context_length")
    return EngineError(f"decoding failed: {type(error).__name__}: {one_line(error)}")
