"""The vllm engine: an unpatched vLLM beside this process, token ids in, raw top-k log-probabilities out.

vLLM's AsyncLLM lives in one event loop, in a thread of its own. ``extend`` may be called from any loop: outputs travel
there in batches, are turned into traces all at once (``outputs.py``), and ``keep_going`` is called there, in the
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
from contextlib import suppress
from typing import Any

import numpy as np

from powercut.engines.background import BackgroundLoop
from powercut.engines.pins import Pins
from powercut.engines.protocol import KeepGoing, Request, Usage, check_request
from powercut.engines.stops import StopWatch
from powercut.engines.vllm.launch import TEMPERATURES, Limits, check_main_guard, decode_error, sampling_params, start
from powercut.engines.vllm.mailbox import Decode, Mailbox
from powercut.errors import EngineError, SettingError
from powercut.text import Text
from powercut.trace import Trace


class VllmEngine:
    """Serves requests with ``llm``, a vLLM ``AsyncLLM`` that lives in ``background``; ``load`` makes both.

    ``close`` ends vLLM's processes; so does the end of the program, and of the last reference to the engine.
    """

    def __init__(
        self,
        llm: Any,
        background: BackgroundLoop,
        limits: Limits,
        *,
        text: Text | None = None,
        stop_tokens: Collection[int] = (),
        name: str = "vllm",
        about: str = "",
    ) -> None:
        self.name, self.text, self.limits = name, text, limits
        self.stop_tokens = frozenset(stop_tokens)
        self.concurrency = limits.slots * limits.ranks
        self.usage = Usage()
        self._llm, self._background, self._about = llm, background, about
        self._ids = itertools.count()
        self._ranks: Pins[int] = Pins()  # data-parallel ranks by chain
        self._active: Counter[int] = Counter()  # requests by rank
        self._mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()  # of the three above: callers may be in several threads
        self._shut_down = weakref.finalize(self, _shut_down, llm, background)

    @classmethod
    def load(cls, model: str | None = None, /, **options: Any) -> VllmEngine:
        """Start vLLM on a hub id, a local folder or (None, ``smollm2``) the bundled model; half a minute or more.

        ``options`` are fields of vLLM's AsyncEngineArgs (``tensor_parallel_size``, ``data_parallel_size``, ``dtype``,
        ``gpu_memory_utilization``, ...); ``slots`` is its ``max_num_seqs``, ``context_length`` its ``max_model_len``.
        Defaults are vLLM's but for ``max_logprobs`` 1024 and, on the CPU, dtype float32, 32 slots, a cache of a quarter
        of the free memory (at most 8 GiB), no compilation and no chunked prefill.

        Raises EngineError when vLLM is missing, cannot start or does not give raw log-probabilities, SettingError for
        an unusable option.
        """
        check_main_guard()
        background = BackgroundLoop("powercut-vllm")
        try:
            llm, limits, described = start(background, model, options)
        except BaseException:
            background.close()
            raise
        engine = cls(llm, background, limits, **described)
        try:
            engine.probe()
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def idle(self) -> int:
        """How many more requests it could decode at once with those it has now."""
        return max(0, self.concurrency - self._active.total())

    def describe(self) -> str:
        """One line: the model, where it runs, and the room in its cache."""
        return f"{self.name}{self._about}"

    def close(self) -> None:
        """End vLLM and free its memory. Requests that still run fail with EngineError."""
        self._shut_down()

    def check(self, request: Request) -> None:
        """Raise SettingError if ``request`` cannot fit, or asks for what vLLM does not give."""
        limits = self.limits
        check_request(
            request,
            text=self.text,
            context_length=limits.context_length,
            vocab_size=limits.vocab_size,
            whole_vocabulary=False,
            temperatures=TEMPERATURES,
        )
        if request.top_k is not None and request.top_k > limits.max_logprobs:
            raise SettingError(
                f"top_k={request.top_k} exceeds max_logprobs={limits.max_logprobs} of this vllm engine: lower it, or "
                f"load with max_logprobs={request.top_k}"
            )

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False (see ``Engine.extend``)."""
        self.check(request)
        if not self._shut_down.alive:
            raise EngineError("this vllm engine is closed: load it again")
        params = sampling_params(request, self.stop_tokens)
        watch = StopWatch(request, self.stop_tokens, self.text)
        decode = Decode(f"powercut-{next(self._ids)}", request, keep_going, watch)
        with self._lock:
            rank = self._ranks.get(request.session)
            if rank is None:  # a new chain's is the idlest
                rank = min(range(self.limits.ranks), key=lambda r: self._active[r])
            self._ranks.put(request.session, rank)
            self._active[rank] += 1
            mailbox = self._mailboxes.get(decode.loop)
            if mailbox is None:
                mailbox = self._mailboxes[decode.loop] = Mailbox(self._abort)
        try:
            stream = self._background.submit(self._stream(decode, params, rank, mailbox))
            try:
                return await decode.result
            finally:
                stream.cancel()  # where it has not ended, vLLM drops the request
        finally:
            with self._lock:
                self._active[rank] -= 1

    async def _stream(self, decode: Decode, params: Any, rank: int, mailbox: Mailbox) -> None:
        """Send on what vLLM streams, and count it. Runs in vLLM's event loop."""
        context = decode.request.context
        pinned = {"data_parallel_rank": rank} if self.limits.ranks > 1 else {}
        outputs = self._llm.generate(_prompt(decode.request), params, decode.name, **pinned)
        try:
            async for output in outputs:
                if decode.prefilled is None:
                    decode.prefilled = len(context) - (output.num_cached_tokens or 0)
                    self.usage.prefilled += decode.prefilled
                    self.usage.reused += len(context) - decode.prefilled
                self.usage.decoded += len(output.outputs[0].token_ids)
                mailbox.post(decode, output)
        except asyncio.CancelledError:
            mailbox.post(decode, EngineError("this vllm engine was closed while it decoded"))
            raise
        except Exception as error:
            mailbox.post(decode, decode_error(error, cpu=self.limits.cpu))

    def _abort(self, decode: Decode) -> None:
        """Have vLLM drop a request. What it has ready by now still comes, then the end: every token is counted."""
        self._background.submit(self._llm.abort(decode.name))

    def probe(self) -> None:
        """Raise EngineError unless vLLM's log-probabilities are raw: the same at two temperatures."""
        limits = self.limits
        laws = []
        for temperature in (1.0, 0.1):
            request = Request(
                context=np.arange(1, 4) % limits.vocab_size,
                max_new_tokens=1,
                temperature=temperature,
                top_k=min(8, limits.vocab_size, limits.max_logprobs),
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
        """Log-probabilities of the first token's most likely values."""
        law: dict[int, float] = {}
        params, name = sampling_params(request, ()), f"probe-{next(self._ids)}"
        try:
            async for output in self._llm.generate(_prompt(request), params, name):
                if (rows := output.outputs[0].logprobs) is not None:
                    law.update(zip(rows.token_ids, rows.logprobs, strict=True))
        except Exception as error:
            raise decode_error(error, cpu=self.limits.cpu) from error
        if not law:
            raise EngineError("vLLM gave no log-probabilities: load with a max_logprobs of at least top_k")
        return law


def _prompt(request: Request) -> dict[str, Any]:
    """The context as vLLM's TokensInput: what its renderer makes of a prompt, so that it has nothing left to do."""
    return {"type": "token", "prompt_token_ids": request.context.tolist()}


def _shut_down(llm: Any, background: BackgroundLoop) -> None:
    async def shut_down() -> None:
        llm.shutdown()

    with suppress(Exception):  # it has died already, or hangs; its processes are daemons, and end with this one
        background.submit(shut_down()).result(timeout=30)
    with suppress(AttributeError):
        llm.shutdown = _nothing  # its __del__ shuts down once more, when Python may have ended half way
    background.close()


def _nothing(timeout: float | None = None) -> None:
    """Nothing."""
