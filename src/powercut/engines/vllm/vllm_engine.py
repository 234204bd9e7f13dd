"""The vllm engine: an unpatched vLLM beside this process, token ids in, raw top-k log-probabilities out.

vLLM's AsyncLLM lives in one event loop, in a thread of its own. ``extend`` may be called from any loop: outputs travel
there in batches, are turned into laws all at once (``mailbox.py``), and ``keep_going`` is called there, in the
caller's thread. vLLM schedules the requests, caches prefixes and draws the tokens; each request brings its seed. Tokens
follow from the request alone as far as vLLM's arithmetic does not depend on the batch.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

from powercut.engines.background import BackgroundLoop
from powercut.engines.protocol import Chain, KeepGoing, Request, Usage, check_request
from powercut.engines.sequence import Sequence
from powercut.engines.vllm.launch import (
    TEMPERATURES,
    Capacity,
    check_main_guard,
    decode_error,
    sampling_params,
    shut_down,
    start,
)
from powercut.engines.vllm.mailbox import Mailbox, Ticket, first_row
from powercut.errors import EngineError, SettingError
from powercut.text import Text, TokenizerText, special_tokens
from powercut.trace import Trace


class VllmEngine:
    """Serves requests with ``llm``, a vLLM ``AsyncLLM`` that lives in ``background``; ``load`` makes both.

    ``aclose`` ends vLLM's processes; so does the end of the program, and of the last reference to the engine.
    """

    def __init__(
        self,
        llm: Any,
        background: BackgroundLoop,
        capacity: Capacity,
        *,
        text: TokenizerText | None = None,
        stop_tokens: Collection[int] = (),
        name: str = "vllm",
        about: str = "",
    ) -> None:
        self.name, self.capacity = name, capacity
        self.text: Text | None = text
        self._decode_now = None if text is None else text.decode_now
        self.stop_tokens = frozenset(stop_tokens)
        self.concurrency = capacity.slots * capacity.ranks
        self.usage = Usage()
        self._llm, self._background, self._about = llm, background, about
        self._ids = itertools.count()
        # A chain stays on one data-parallel rank, where its prefixes are cached.
        self._ranks: weakref.WeakKeyDictionary[Chain, int] = weakref.WeakKeyDictionary()
        self._active: Counter[int] = Counter()  # requests by rank
        self._mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()  # of the three above: callers may be in several threads
        self._shut_down = weakref.finalize(self, shut_down, llm, background)

    @classmethod
    def load(cls, model: str | None = None, /, **options: Any) -> VllmEngine:
        """Start vLLM on a hub id, a local folder or (None, ``smollm2``) the bundled model; half a minute or more.

        ``options`` are fields of vLLM's AsyncEngineArgs (``tensor_parallel_size``, ``data_parallel_size``, ``dtype``,
        ``gpu_memory_utilization``, ...); ``slots`` is its ``max_num_seqs``, ``context_length`` its ``max_model_len``,
        and ``yarn`` extends the model's context by that factor (arXiv 2309.00071).
        Defaults are vLLM's but for ``max_logprobs`` 1024 and, on the CPU, dtype float32, 32 slots, a cache of a quarter
        of the free memory (at most 8 GiB), no compilation and no chunked prefill.

        Raises EngineError when vLLM is missing, cannot start or does not give raw log-probabilities, SettingError for
        an unusable option.
        """
        check_main_guard()
        background = BackgroundLoop("powercut-vllm")
        try:
            llm, capacity, described = start(background, model, options)
        except BaseException:
            background.close()
            raise
        engine = cls(llm, background, capacity, **described)
        try:
            engine.probe()
        except BaseException:
            engine._shut_down()
            raise
        return engine

    @property
    def idle(self) -> int:
        """How many more requests it could decode at once with those it has now."""
        return max(0, self.concurrency - self._active.total())

    def describe(self) -> str:
        """One line: the model, where it runs, and the room in its cache."""
        return f"{self.name}{self._about}"

    def check(self, request: Request) -> None:
        """Raise SettingError if ``request`` cannot fit, or asks for what vLLM does not give."""
        capacity = self.capacity
        check_request(
            request,
            reads_text=self.text is not None,
            special=special_tokens(self.text),
            context_length=capacity.context_length,
            vocab_size=capacity.vocab_size,
            whole_vocabulary=False,
            temperatures=TEMPERATURES,
        )
        if request.top_k is not None and request.top_k > capacity.max_logprobs:
            raise SettingError(
                f"top_k={request.top_k} exceeds max_logprobs={capacity.max_logprobs} of this vllm engine: lower it, or "
                f"load with max_logprobs={request.top_k}"
            )

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False (see ``Engine.extend``)."""
        self.check(request)
        if not self._shut_down.alive:
            raise EngineError("this vllm engine is closed: load it again")
        sequence = Sequence(request, keep_going, self.stop_tokens, self._decode_now)
        loop = asyncio.get_running_loop()
        with self._lock:
            rank = self._rank_of(request.chain)
            self._active[rank] += 1
            mailbox = self._mailboxes.get(loop)
            if mailbox is None:
                mailbox = self._mailboxes[loop] = Mailbox(self._abort)
        try:
            while True:
                if sequence.done:  # with the first token, which was drawn already
                    return sequence.trace()
                ticket = Ticket(f"powercut-{next(self._ids)}", sequence)
                stream = self._background.submit(self._stream(ticket, rank, mailbox))
                try:
                    trace = await ticket.result
                finally:
                    stream.cancel()  # where it has not ended, vLLM drops the request
                if sequence.done or not ticket.replaced:
                    return trace
        finally:
            with self._lock:
                self._active[rank] -= 1
            sequence.close()

    async def aclose(self) -> None:
        """End vLLM and free its memory, within a minute. Requests that still run fail with EngineError."""
        await asyncio.to_thread(self._shut_down)

    def _rank_of(self, chain: Chain | None) -> int:
        """The chain's rank; a new chain's is the idlest."""
        rank = None if chain is None else self._ranks.get(chain)
        if rank is None:
            rank = min(range(self.capacity.ranks), key=lambda r: self._active[r])
            if chain is not None:
                self._ranks[chain] = rank
        return rank

    async def _stream(self, ticket: Ticket, rank: int, mailbox: Mailbox) -> None:
        """Send on what vLLM streams, and count it. Runs in vLLM's event loop."""
        request, started = ticket.sequence.rest(), False
        pinned = {"data_parallel_rank": rank} if self.capacity.ranks > 1 else {}
        try:
            params = sampling_params(request, self.stop_tokens)
            async for output in self._llm.generate(_prompt(request), params, ticket.name, **pinned):
                if not started:
                    started, cached = True, output.num_cached_tokens or 0
                    ticket.sequence.prefilled += len(request.context) - cached
                    self.usage.prefilled += len(request.context) - cached
                    self.usage.reused += cached
                self.usage.decoded += len(output.outputs[0].token_ids)
                mailbox.post(ticket, output)
        except asyncio.CancelledError:
            mailbox.post(ticket, EngineError("this vllm engine was closed while it decoded"))
            raise
        except Exception as error:
            mailbox.post(ticket, decode_error(error, cpu=self.capacity.cpu))

    def _abort(self, ticket: Ticket) -> None:
        """Have vLLM drop a request. What it has ready by now still comes, then the end: every token is counted."""
        self._background.submit(self._llm.abort(ticket.name))

    def probe(self) -> None:
        """Raise EngineError unless vLLM's log-probabilities are raw: a law's, and the same at two temperatures."""
        capacity = self.capacity
        laws = []
        for temperature in (1.0, 0.1):
            request = Request(
                context=np.arange(1, 4) % capacity.vocab_size,
                max_new_tokens=1,
                temperature=temperature,
                top_k=min(8, capacity.vocab_size, capacity.max_logprobs),
            )
            laws.append(self._background.run(self._first_law(request)))
        shared = sorted(laws[0].keys() & laws[1].keys(), key=lambda token: -laws[0][token])
        raw, again = (np.array([law[token] - law[shared[0]] for token in shared]) for law in laws)
        if np.abs(raw - again).max() > 0.1 + 0.1 * np.abs(raw).max():  # processed ones would be 10 times as far apart
            raise EngineError(
                "vLLM's log-probabilities change with the temperature, so they are not the base model's: load with "
                "logprobs_mode='raw_logprobs'"
            )

    async def _first_law(self, request: Request) -> dict[int, float]:
        """Log-probabilities of the first token's most likely values. Raises EngineError for what cannot be such."""
        params, name = sampling_params(request, ()), f"probe-{next(self._ids)}"
        law: dict[int, float] = {}
        try:
            async for output in self._llm.generate(_prompt(request), params, name):
                if output.outputs[0].logprobs is not None:
                    law |= first_row(output.outputs[0], request.top_k or 1)
        except Exception as error:
            raise decode_error(error, cpu=self.capacity.cpu) from error
        if not law:
            raise EngineError("vLLM gave no log-probabilities: load with a max_logprobs of at least top_k")
        return law


def _prompt(request: Request) -> dict[str, Any]:
    """The context as vLLM's TokensInput: what its renderer makes of a prompt, so that it has nothing left to do."""
    return {"type": "token", "prompt_token_ids": request.context.tolist()}
